"""What an embedding map colours: the most frequent values of a label, the other values, the unknown ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from lib.report.page import LABELS

IntArray = npt.NDArray[np.int64]
Places = npt.NDArray[np.float64]

COLOURS = ("#2459a8", "#d9641c", "#0a8a58", "#c0313c", "#8a3ea8", "#a88a10", "#1795a5", "#d45aa0")
"""As many values of a label have a colour of their own."""
OTHER, UNKNOWN = len(COLOURS), len(COLOURS) + 1
OTHER_COLOUR, UNKNOWN_COLOUR = "#8f98a6", "#d3d8df"


class DrawnMap(Protocol):
    """One model's map, as `lib.evaluation.embedding_map` makes it."""

    @property
    def places(self) -> Places: ...
    @property
    def neighbours(self) -> IntArray: ...


@dataclass(frozen=True)
class Coloured:
    """A label of every item.

    Attributes:
        values: those with a colour of their own, the most frequent first.
        counts: how many items bear each.
        n_other: items with a rarer value, and how many such values there are.
        n_unknown: items whose value is not known.
        codes: (n_items,) places in `values`, `OTHER` or `UNKNOWN`.
    """

    values: tuple[str, ...]
    counts: tuple[int, ...]
    n_other: tuple[int, int]
    n_unknown: int
    codes: IntArray


def colour_labels(items: pd.DataFrame, figures: Mapping[str, Any]) -> Mapping[str, Coloured]:
    """The labels that `figures` measured, in the order of `LABELS`; equally frequent values go by name.

    A category that says something about the pattern only counts for nothing, and may be the only one that is known.
    """
    found, measured = {}, figures.get("labels", {})
    for label, column in LABELS.items():
        counts = items[column].value_counts().sort_index().sort_values(ascending=False, kind="stable")
        if counts.empty or label not in measured:
            continue
        kept = counts.iloc[: len(COLOURS)]
        places = {value: place for place, value in enumerate(kept.index)}
        known = items[column].notna()
        codes = np.array([places.get(v, OTHER) if k else UNKNOWN for v, k in zip(items[column], known, strict=True)])
        rest = (int(counts.iloc[len(kept) :].sum()), len(counts) - len(kept))
        values = tuple(str(value) for value in kept.index)
        found[label] = Coloured(
            values, tuple(int(n) for n in kept), rest, int((~known).sum()), codes.astype(np.int64)
        )
    return found


def other_name(coloured: Coloured) -> str:
    """What the legend calls the rarer values."""
    return "1 other value" if coloured.n_other[1] == 1 else f"{coloured.n_other[1]} other values"
