"""Pictures for people: the scoreboard and the training curves, as PNG with the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

INK, SOFT, FAINT = "#1d2430", "#5d6675", "#e3e7ec"
TONES = {"rose": "#0a7d50", "fell": "#c0313c", "unchanged": "#5d6675"}
LINES = ("#2459a8", "#c2571a", "#0a7d50", "#8a3ea8", "#a88a10", "#1795a5", "#c0313c", "#5d6675")
MARKERS = ("o", "s", "^")
UNSEEN = "unseen_"
OFFICIAL = "official_"
PRODUCT = "product_"
BAND = "#f3f5f8"
_DPI = 130


class ShownRow(Protocol):
    """A scoreboard row: name, numbers as in `scoreboard.json`, tone of its delta (a key of `TONES`)."""

    @property
    def name(self) -> str: ...
    @property
    def numbers(self) -> Mapping[str, float]: ...
    @property
    def tone(self) -> str: ...
    @property
    def target_met(self) -> bool | None: ...


def plot_scoreboard(rows: Sequence[ShownRow], *, title: str, targets: Mapping[str, float]) -> bytes:
    """Levels on the left (baseline to protocol), paired deltas with their intervals on the right.

    The `known_`, `product_`, `unseen_` and `official_` rows are blocks; every other block stands on a band. A delta
    whose interval includes zero is hollow and its number grey, whichever way it points.

    Args:
        rows: in the order to show, from the top; none gives a picture that says so.
        title: over both panels.
        targets: row -> points declared for its delta.

    Returns:
        PNG bytes without metadata.
    """
    figure = Figure(figsize=(12.5, 1.9 + 0.34 * max(len(rows), 3)), dpi=_DPI, facecolor="white")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = range(len(rows), 0, -1)
    of_products = any(row.name.startswith((PRODUCT, OFFICIAL)) for row in rows)
    banded = _every_other_block([row.name for row in rows])
    for y, row in zip(places, rows, strict=True):
        colour = TONES[row.tone]
        value = {name: 100 * number for name, number in row.numbers.items()}
        if banded[row.name]:
            for axes in (left, right):
                axes.axhspan(y - 0.5, y + 0.5, color=BAND, lw=0, zorder=0)
        left.plot([value["chance"]] * 2, [y - 0.3, y + 0.3], color=SOFT, lw=1.6)
        left.plot([value["ceiling"]] * 2, [y - 0.3, y + 0.3], color=INK, lw=2.2)
        left.plot([value["baseline"], value["protocol"]], [y, y], color=colour, lw=2.4, alpha=0.55)
        left.plot(value["baseline"], y, "o", ms=7, mfc="white", mec=INK, mew=1.5)
        left.plot(value["protocol"], y, "o", ms=7, color=colour)
        unsure = value["delta_low"] <= 0 <= value["delta_high"]
        right.plot([value["delta_low"], value["delta_high"]], [y, y], color=colour, lw=2.4, alpha=0.55)
        right.plot(value["delta"], y, "o", ms=6, mec=colour, mew=1.6, mfc="white" if unsure else colour)
        if row.name in targets:
            right.plot(targets[row.name], y, marker="|", ms=12, mew=2.2, color=LINES[0])
        for points, text, ink in (
            (42, f"{value['delta']:+.1f}", SOFT if unsure else colour),
            (122, f"[{value['delta_low']:+.1f}, {value['delta_high']:+.1f}]", SOFT),
            (164, {True: "met", False: "missed", None: ""}[row.target_met], LINES[0]),
        ):
            right.annotate(
                text.replace("-", "\N{MINUS SIGN}"),
                (1, y),
                xycoords=("axes fraction", "data"),
                xytext=(points, 0),
                textcoords="offset points",
                va="center",
                ha="right",
                fontsize=9,
                color=ink,
            )
    left.set_yticks(list(places), [f"{row.name}   n {int(row.numbers['n_queries'])}" for row in rows], fontsize=9)
    left.set_ylim(0.3, len(rows) + 0.7)
    left.set_xlim(-2, 102)
    right.axvline(0, color=INK, lw=1)
    left.set_xlabel("precision (rows of products: as named), points" if of_products else "precision, points")
    right.set_xlabel("protocol − baseline, points, with 95 % interval")
    for axes in (left, right):
        _clean(axes, grid="x")
    if not rows:
        left.text(0.5, 0.5, "no row could be computed", transform=left.transAxes, ha="center", color=SOFT)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    figure.legend(
        handles=_scoreboard_legend(), loc="lower left", ncols=8, frameon=False, fontsize=8.5, labelcolor=INK
    )
    figure.tight_layout(rect=(0, 0.045 if len(rows) > 10 else 0.07, 0.985, 1))
    return png(figure)


def plot_training_curves(rows: Sequence[Mapping[str, Any]], *, kept: Sequence[int] = ()) -> bytes:
    """Loss parts and validation metrics by epoch.

    A row and its `unseen_` twin have one colour; the twin is dashed. Losses are drawn on a logarithmic axis, as long
    as none is 0 or less: on a linear one only the total would be seen.

    Args:
        rows: of `train_log.jsonl`: `epoch`, `loss` (part -> value), `validation` (row -> fraction); other
            keys are not drawn. A part that some epochs lack is drawn where it is.
        kept: the epoch that was kept, or those whose mean was; marked in both panels.

    Returns:
        PNG bytes without metadata.
    """
    figure = Figure(figsize=(11.5, 4.6), dpi=_DPI, facecolor="white")
    losses, metrics = figure.subplots(1, 2)
    _draw_curves(losses, rows, "loss", scale=1.0, kept=kept)
    _draw_curves(metrics, rows, "validation", scale=100.0, kept=kept)
    losses.set_title("Training loss", loc="left", fontsize=11, fontweight="bold", color=INK)
    metrics.set_title("Validation, points", loc="left", fontsize=11, fontweight="bold", color=INK)
    values = [value for row in rows for value in row.get("loss", {}).values()]
    if values and min(values) > 0:
        losses.set_yscale("log")
        losses.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        losses.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        losses.yaxis.set_minor_locator(NullLocator())
    for axes in (losses, metrics):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _clean(axes, grid="y")
    figure.tight_layout()
    return png(figure)


def _draw_curves(
    axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, *, scale: float, kept: Sequence[int]
) -> None:
    names = sorted({name for row in rows for name in row.get(key, {})})
    if not names:
        axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center", color=SOFT)
        return
    families = sorted({name.removeprefix(UNSEEN) for name in names})
    colours = {name: LINES[place % len(LINES)] for place, name in enumerate(families)}
    markers = {name: MARKERS[place // len(LINES) % len(MARKERS)] for place, name in enumerate(families)}
    for name in names:
        points = [(row["epoch"], scale * row[key][name]) for row in rows if name in row.get(key, {})]
        epochs, values = zip(*points, strict=True)
        family, style = name.removeprefix(UNSEEN), "--" if name.startswith(UNSEEN) else "-"
        axes.plot(epochs, values, style, marker=markers[family], ms=3.5, lw=1.8, color=colours[family])
    handles = [Line2D([], [], marker=markers[name], ms=3.5, color=colours[name], label=name) for name in families]
    if kept:
        words = "epoch kept" if len(kept) == 1 else "epochs whose\nmean was kept"
        handles.append(Line2D([], [], color=SOFT, lw=1, ls=":", label=words))
    if any(name.startswith(UNSEEN) for name in names):
        handles += [
            Line2D([], [], color=SOFT, ls="-", label="gallery: train split"),
            Line2D([], [], color=SOFT, ls="--", label=f"{UNSEEN}…: nothing in\nit was trained on"),
        ]
    for epoch in kept:
        axes.axvline(epoch, color=SOFT, lw=1, ls=":", zorder=0)
    axes.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8.5, labelcolor=INK
    )


def _every_other_block(names: Sequence[str]) -> dict[str, bool]:
    """Whether a row stands on a band: those of one prefix, and what lies between them, take turns.

    >>> _every_other_block(["neckline@10", "known_neckline@10", "denim@10", "unseen_neckline@10"])
    {'neckline@10': False, 'known_neckline@10': True, 'denim@10': False, 'unseen_neckline@10': True}
    """
    prefixes = [next((p for p in ("known_", PRODUCT, UNSEEN, OFFICIAL) if name.startswith(p)), "") for name in names]
    turns = accumulate(here != before for before, here in pairwise(["", *prefixes]))
    return {name: turn % 2 == 1 for name, turn in zip(names, turns, strict=True)}


def _clean(axes: Axes, *, grid: str) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.grid(axis="x" if grid == "x" else "y", color=FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK, labelsize=9)
    axes.xaxis.label.set(color=SOFT, fontsize=9)


def _scoreboard_legend() -> list[Line2D]:
    def dot(label: str, face: str, edge: str) -> Line2D:
        return Line2D([], [], ls="", marker="o", ms=7, mfc=face, mec=edge, mew=1.5, label=label)

    def tick(label: str, colour: str) -> Line2D:
        return Line2D([], [], ls="", marker="|", ms=11, mew=2.2, color=colour, label=label)

    return [
        dot("baseline", "white", INK),
        dot("protocol, rose", TONES["rose"], TONES["rose"]),
        dot("protocol, fell", TONES["fell"], TONES["fell"]),
        dot("interval includes zero", "white", SOFT),
        tick("chance", SOFT),
        tick("ceiling", INK),
        tick("target", LINES[0]),
    ]


def png(figure: Figure) -> bytes:
    """PNG bytes of a figure: the same for the same picture."""
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    # matplotlib would write its version; nothing but the picture may decide the bytes.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
