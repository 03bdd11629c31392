"""The picture of pair scores: where pairs that go together lie, and where the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.report.plots import FAINT, INK, LINES, SOFT, png

BINS = 40
SIDES = (("baseline", "cosine of the embeddings"), ("head", "cosine of the head's outputs"))
LABELS = ((1, "go together", LINES[0]), (0, "do not", LINES[1]))


def plot_pair_scores(shown: Mapping[str, Mapping[str, Any]], figures: Mapping[str, Any]) -> bytes:
    """Histograms of cosines of held-out pairs by label: a row per split, embeddings on the left, head on the right.

    Bars are shares of the pairs of their label, so that labels of different size compare.

    Args:
        shown: split -> `labels` (n_pairs,), `baseline` and `head` (n_pairs,) cosines.
        figures: split -> `auc` and `baseline_auc`; what was skipped says so under `skipped`.

    Returns:
        PNG bytes without metadata.
    """
    rows = max(len(shown), 1)
    figure = Figure(figsize=(10.5, 0.9 + 2.9 * rows), dpi=130, facecolor="white")
    grid = figure.subplots(rows, 2, squeeze=False)
    if not shown:
        _say(figure, grid, str(figures.get("skipped", "no split has pairs of both labels")))
    for (split, scores), line in zip(shown.items(), grid, strict=False):
        areas = (figures[split]["baseline_auc"], figures[split]["auc"])
        for axes, (side, name), area in zip(line, SIDES, areas, strict=True):
            _draw(axes, np.asarray(scores[side]), np.asarray(scores["labels"]))
            axes.set_title(f"{split}: AUC {area:.3f}", loc="left", fontsize=11, fontweight="bold", color=INK)
            axes.set_xlabel(name, fontsize=9, color=SOFT)
        # beside the title: inside, bars may stand anywhere
        line[-1].legend(
            frameon=False,
            fontsize=9,
            labelcolor=INK,
            ncols=2,
            loc="lower right",
            bbox_to_anchor=(1, 1),
            borderpad=0,
            borderaxespad=0.3,
            handlelength=1.2,
            columnspacing=1.2,
        )
    figure.tight_layout()
    return png(figure)


def _draw(axes: Axes, scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    edges = np.linspace(min(float(scores.min()), 0.0), 1.0, BINS + 1)
    for label, name, colour in LABELS:
        own = scores[labels == label]
        shares = np.histogram(own, bins=edges)[0] / len(own)
        axes.stairs(shares, edges, fill=True, alpha=0.25, color=colour)
        axes.stairs(shares, edges, color=colour, lw=1.6, label=f"{name} ({len(own)})")
        axes.axvline(float(own.mean()), color=colour, lw=1, ls=":")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.grid(axis="y", color=FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK, labelsize=9)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")


def _say(figure: Figure, grid: np.ndarray[Any, Any], what: str) -> None:
    for axes in grid.flat:
        axes.set_axis_off()
    figure.text(0.5, 0.5, f"nothing to show: {what}", ha="center", color=SOFT)
