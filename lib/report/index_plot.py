"""Recall of indexes against what a query costs, a panel per kind of query, as PNG with the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lib.report.plots import FAINT, INK, LINES, MARKERS, SOFT, png

_DPI = 130
_KINDS = ("flat", "hnsw", "ivf_pq")


@dataclass(frozen=True)
class Point:
    """One setting of an index: what a query costs, how much it finds of the exact nearest, and whether it serves."""

    cost: float
    recall: float
    label: str = ""
    serves: bool = False


def card_curves(card: Mapping[str, Any]) -> dict[str, dict[str, list[Point]]]:
    """Panels of an index card: modality -> kind -> its points, by kilobytes read per query."""
    recall = f"ann_recall@{card['k']}"
    panels: dict[str, dict[str, list[Point]]] = {}
    for modality in card["queries"]:
        for kind, numbers in card["kinds"].items():
            if modality not in numbers:
                continue
            served = numbers[modality]
            points = [
                Point(
                    cost=row["kilobytes_per_query"],
                    recall=row[recall],
                    label=next((str(row[name]) for name in ("ef_search", "nprobe") if name in row), ""),
                    serves=row["kilobytes_per_query"] == served["kilobytes_per_query"],
                )
                for row in served.get("sweep", [served])
            ]
            panels.setdefault(modality, {})[kind] = points
    return panels


def plot_recall(panels: Mapping[str, Mapping[str, Sequence[Point]]], *, title: str, cost: str, recall: str) -> bytes:
    """Draw a panel per modality and a line per kind; the setting that serves is filled.

    Args:
        panels: modality -> kind -> points in the order of their effort; none gives a picture that says so.
        title: over the panels.
        cost, recall: what the axes show.

    Returns:
        PNG bytes without metadata.
    """
    figure = Figure(figsize=(5.2 * max(len(panels), 1) + 0.6, 4.4), dpi=_DPI, facecolor="white")
    for axes, (modality, kinds) in zip(
        figure.subplots(1, max(len(panels), 1), squeeze=False)[0], panels.items() or [("", {})], strict=True
    ):
        _draw(axes, kinds)
        axes.set_title(f"{modality} queries" if modality else "", loc="left", fontsize=10.5, color=INK)
        axes.set_xlabel(cost)
        axes.set_ylabel(recall)
        axes.xaxis.label.set(color=SOFT, fontsize=9)
        axes.yaxis.label.set(color=SOFT, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    return png(figure)


def _draw(axes: Axes, kinds: Mapping[str, Sequence[Point]]) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.grid(color=FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK, labelsize=9)
    if not kinds:
        axes.text(0.5, 0.5, "no query was measured", transform=axes.transAxes, ha="center", color=SOFT)
        return
    for kind, points in kinds.items():
        place = _KINDS.index(kind)
        colour, marker = LINES[place], MARKERS[place]
        costs, recalls = [p.cost for p in points], [p.recall for p in points]
        axes.plot(costs, recalls, "-", marker=marker, ms=6, mfc="white", mew=1.5, lw=1.8, color=colour, label=kind)
        for point in points:
            if point.serves:
                axes.plot(point.cost, point.recall, marker, ms=6, color=colour)
            axes.annotate(
                point.label,
                (point.cost, point.recall),
                xytext=(7, -9) if kind == "ivf_pq" else (0, 7),  # steep curves lie on the left, level ones on top
                textcoords="offset points",
                ha="left" if kind == "ivf_pq" else "center",
                fontsize=7.5,
                color=colour,
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    lowest = min(point.recall for points in kinds.values() for point in points)
    axes.set_ylim(lowest - 0.12 * (1.02 - lowest) - 0.005, 1 + 0.1 * (1.02 - lowest))
    axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)
