"""Rates of all contenders as shares of the limit of their work, as PNG with the same bytes every time."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure as Picture

from benchmarks.figures import LIMIT, OURS, Figure, share_of_limit
from lib.report.plots import FAINT, INK, LINES, SOFT, png

_DPI = 130
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
"""A text's background: the line of the limit does not cross words."""


def draw_peers(figures: Sequence[Figure]) -> bytes:
    """Draw a block of bars per work that has a limit; a missing peer is a line of text in its place.

    Args:
        figures: of all parts; work without a limit is left out. None at all gives a picture that says so.

    Returns:
        PNG bytes without metadata.
    """
    works = list(dict.fromkeys(figure.work for figure in figures if figure.who == LIMIT and figure.rate))
    shown = [(work, [f for f in figures if f.work == work and f.who != LIMIT]) for work in works]
    n_lines = sum(len(bars) + 1.2 for _, bars in shown)
    picture = Picture(figsize=(8.6, 1.2 + 0.3 * max(n_lines, 3)), dpi=_DPI, facecolor="white")
    axes = picture.subplots()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=0, colors=INK, labelsize=8.5)
    axes.set_yticks([])
    if not shown:
        axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center", color=SOFT)
        return png(picture)
    y, largest = 0.0, 1.0
    for work, bars in shown:
        axes.text(0, y, work, fontsize=9, fontweight="bold", color=INK, va="center")
        for figure in bars:
            y += 1.0
            share = share_of_limit(figure, figures)
            if share is None:
                axes.text(
                    0.005, y, f"{figure.who}: not measured ({figure.note[:70]})", fontsize=8, color=SOFT, va="center"
                )
                continue
            largest = max(largest, share)
            axes.barh(y, share, height=0.72, color=LINES[0] if figure.who == OURS else "#c9d3e2")
            said = axes.text(share + 0.008, y, f"{share:.2f}  {figure.who}", fontsize=8, color=INK, va="center")
            said.set_bbox(BEHIND)
        y += 1.5
    axes.axvline(1.0, color=SOFT, lw=1)
    axes.text(1.0, -1.1, "limit", fontsize=8, color=SOFT, ha="center", va="center").set_bbox(BEHIND)
    axes.set_xlim(0, largest * 1.32)
    axes.set_ylim(y - 0.8, -1.5)
    axes.set_xlabel("share of the limit, measured in the same run", color=SOFT, fontsize=9)
    picture.tight_layout()
    return png(picture)
