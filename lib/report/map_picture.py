"""`embedding_map.png`: a column per label, a row per model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from lib.report.map_values import (
    COLOURS,
    OTHER,
    OTHER_COLOUR,
    UNKNOWN,
    UNKNOWN_COLOUR,
    Coloured,
    DrawnMap,
    colour_labels,
    other_name,
)
from lib.report.plots import INK, SOFT, png

_DPI = 110
_LEGEND_LENGTH = 20


def plot_map(items: pd.DataFrame, maps: Mapping[str, DrawnMap], figures: Mapping[str, Any]) -> bytes:
    """Both maps, coloured by every label that somebody knows.

    Args:
        items: a row per item, with the columns of `LABELS`.
        maps: model -> its map.
        figures: those of `map_embeddings`.

    Returns:
        PNG bytes without metadata, of at most 256 colours; without maps a picture that says why.
    """
    labels = colour_labels(items, figures)
    if not maps or not labels:
        figure = Figure(figsize=(7, 2), dpi=_DPI, facecolor="white")
        reason = figures.get("skipped", "no label is known")
        figure.text(0.5, 0.5, f"no map: {reason}", ha="center", va="center", color=SOFT)
        return _few_colours(png(figure))
    panels = 0.5 + 2.6 * len(labels)
    width, height = max(panels + 0.1, 6.0), 2.95 * len(maps) + 2.8  # inches: legends of ten lines lie below
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    figure.subplots_adjust(
        left=0.5 / width, right=panels / width, top=1 - 0.75 / height, bottom=2.2 / height, wspace=0.05, hspace=0.12
    )
    grid = figure.subplots(len(maps), len(labels), squeeze=False)
    for row, (name, drawn) in zip(grid, maps.items(), strict=True):
        believed, kept = figures["models"][name], 100 * figures["models"][name]["neighbours_kept"]
        for axes, (label, coloured) in zip(row, labels.items(), strict=True):
            _scatter(axes, drawn, coloured)
            numbers = figures["labels"][label]
            shares = f"@10 {100 * numbers[name]['embedding']:.1f}, on the map {100 * numbers[name]['map']:.1f}"
            axes.set_xlabel(shares, fontsize=8, color=SOFT)
        row[0].set_ylabel(
            f"{name}\ntrustworthiness {believed['trustworthiness']:.3f}, kept {kept:.0f} %",
            fontsize=9,
            color=INK,
        )
    for axes, label in zip(grid[0], labels, strict=True):
        numbers = figures["labels"][label]
        title = f"{label}  (n {numbers['n_items']}, chance {100 * numbers['chance']:.1f})"
        axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK)
    for axes, coloured in zip(grid[-1], labels.values(), strict=True):
        axes.legend(
            handles=_legend(coloured),
            loc="upper left",
            bbox_to_anchor=(0, -0.09),
            frameon=False,
            fontsize=8,
            labelcolor=INK,
            handletextpad=0.2,
            borderpad=0,
        )
    title = f"{figures['n_items']} test images, each model's embeddings by t-SNE"
    figure.text(0.01, 1 - 0.12 / height, title, va="top", fontsize=11, fontweight="bold", color=INK)
    note = "Kept: of the ten nearest by the embedding, those among the ten nearest on the map."
    figure.text(0.01, 1 - 0.34 / height, note, va="top", fontsize=8.5, color=SOFT)
    return _few_colours(png(figure))


def _scatter(axes: Axes, drawn: DrawnMap, coloured: Coloured) -> None:
    """The rare and the unknown first, so that they lie below."""
    for code in (UNKNOWN, OTHER, *range(len(coloured.values))):
        chosen = coloured.codes == code
        axes.scatter(
            drawn.places[chosen, 0],
            1 - drawn.places[chosen, 1],
            s=5 if code in (UNKNOWN, OTHER) else 8,
            color=_colour(code),
            linewidths=0,
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(UNKNOWN_COLOUR)


def _colour(code: int) -> str:
    return {OTHER: OTHER_COLOUR, UNKNOWN: UNKNOWN_COLOUR}.get(code) or COLOURS[code]


def _legend(coloured: Coloured) -> list[Line2D]:
    def entry(text: str, count: int, code: int) -> Line2D:
        short = text if len(text) <= _LEGEND_LENGTH else text[: _LEGEND_LENGTH - 1] + "…"
        # matplotlib would read dollars as formulas
        label = f"{short} {count}".replace("$", r"\$")
        return Line2D([], [], ls="", marker="o", ms=5, color=_colour(code), label=label)

    handles = [
        entry(value, n, code) for code, (value, n) in enumerate(zip(coloured.values, coloured.counts, strict=True))
    ]
    if coloured.n_other[0]:
        handles.append(entry(other_name(coloured), coloured.n_other[0], OTHER))
    if coloured.n_unknown:
        handles.append(entry("not known", coloured.n_unknown, UNKNOWN))
    return handles


def _few_colours(data: bytes) -> bytes:
    """The same picture with a palette: a third of the bytes."""
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    small.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
