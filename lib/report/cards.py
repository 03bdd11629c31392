"""A query beside its results, attribute by attribute, as the page templates show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from markupsafe import Markup

from lib.report.page import LABELS, shorten

MarkKind = Literal["hit", "miss", "unknown", "unjudged"]


@dataclass(frozen=True)
class Mark:
    """What a result bears for one label: `hit` and `miss` are known values, `unjudged` has nothing to match."""

    value: str
    kind: MarkKind


@dataclass(frozen=True)
class Shown:
    """A picture with its id, the item's text, and its score when it is a result."""

    item_id: str
    picture: Markup | None
    alt: str
    text: str
    score: float


@dataclass(frozen=True)
class Line:
    """One label of a comparison: the query's own value (empty when unknown) and a mark per result."""

    label: str
    own: str
    marks: tuple[Mark, ...]

    @property
    def judged(self) -> bool:
        """Whether the query has a value to match."""
        return not any(mark.kind == "unjudged" for mark in self.marks)

    @property
    def hits(self) -> int:
        """Results that bear the query's value."""
        return sum(mark.kind == "hit" for mark in self.marks)


@dataclass(frozen=True)
class Comparison:
    """A query, its results (best first) and a line per label that the query or a result knows."""

    query: Shown
    results: tuple[Shown, ...]
    lines: tuple[Line, ...]

    def mark(self, place: int, label: str) -> Mark:
        """The mark of one result."""
        return next(line for line in self.lines if line.label == label).marks[place]


@dataclass(frozen=True)
class Deck:
    """All that is needed to show items.

    Attributes:
        items: a row per item, indexed by id: the columns of `LABELS` and `text`.
        pictures: `data:` addresses by item id; an item without one gets an empty frame.
        pattern_only: categories that say nothing about the category: never a match, never judged.
    """

    items: pd.DataFrame
    pictures: Mapping[str, Markup]
    pattern_only: Sequence[str]

    def compare(self, query_id: str, ids: Sequence[str], scores: Sequence[float]) -> Comparison:
        """A query beside results with their scores."""
        results = tuple(self._shown(item_id, float(score)) for item_id, score in zip(ids, scores, strict=True))
        lines = (self._line(label, query_id, ids) for label in LABELS)
        told = tuple(line for line in lines if line.own or any(mark.value for mark in line.marks))
        return Comparison(self._shown(query_id, 0.0), results, told)

    def _line(self, label: str, query_id: str, ids: Sequence[str]) -> Line:
        own = self._value(query_id, label)
        judged = own and not self._says_nothing(label, own)
        marks = []
        for item_id in ids:
            value = self._value(item_id, label)
            known = value and not self._says_nothing(label, value)
            kind: MarkKind = "unjudged" if not judged else "unknown" if not known else "miss"
            marks.append(Mark(value, "hit" if judged and value == own else kind))
        return Line(label, own, tuple(marks))

    def _value(self, item_id: str, label: str) -> str:
        return str(self.items.at[item_id, LABELS[label]] or "")

    def _says_nothing(self, label: str, value: str) -> bool:
        return label == "category" and value in self.pattern_only

    def _shown(self, item_id: str, score: float) -> Shown:
        values = [value for label in LABELS if (value := self._value(item_id, label))]
        text = shorten(str(self.items.at[item_id, "text"] or ""))
        return Shown(item_id, self.pictures.get(item_id), ", ".join(values) or item_id, text, score)


def make_deck(
    items: pd.DataFrame, ids: Sequence[str], pictures: Mapping[str, Markup], *, pattern_only: Sequence[str]
) -> Deck:
    """Index a table with `item_id`, `text` and the columns of `LABELS` for the items to show."""
    table = items[items["item_id"].isin(set(ids))].set_index("item_id")[[*LABELS.values(), "text"]].astype(object)
    return Deck(table.where(table.notna(), None), pictures, pattern_only)
