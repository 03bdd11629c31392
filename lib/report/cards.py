"""Pictures with their values, as the page templates show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from lib.report.page import LABELS


@dataclass(frozen=True)
class Chip:
    """A value beside a picture; `kind` is `own`, `hit`, `miss` or `unknown`."""

    label: str
    value: str
    kind: str


@dataclass(frozen=True)
class Card:
    """A picture, its id, its values, and its score when it is a result."""

    item_id: str
    picture: Markup | None
    alt: str
    chips: tuple[Chip, ...]
    score: float


@dataclass(frozen=True)
class Deck:
    """All that is needed to show an item.

    Attributes:
        items: a row per item, indexed by id: the columns of `LABELS` and `text`.
        pictures: `data:` addresses by item id; an item without one gets an empty frame.
    """

    items: pd.DataFrame
    pictures: Mapping[str, Markup]

    def text(self, item_id: str) -> str:
        """The item's text, empty when there is none."""
        return str(self.items.at[item_id, "text"] or "")

    def query(self, item_id: str) -> Card:
        """A query with its known values."""
        values = self.items.loc[item_id]
        chips = tuple(Chip(label, str(values[c]), "own") for label, c in LABELS.items() if values[c])
        return self._card(item_id, chips, 0.0)

    def result(self, item_id: str, query_id: str, score: float) -> Card:
        """A result with, for each value that the query has, whether it matches."""
        own, values = self.items.loc[query_id], self.items.loc[item_id]
        chips = []
        for label, column in LABELS.items():
            if own[column]:
                kind = "hit" if values[column] == own[column] else "miss" if values[column] else "unknown"
                chips.append(Chip(label, str(values[column] or "?"), kind))
        return self._card(item_id, tuple(chips), score)

    def results(self, query: pd.Series, *, shown: int) -> list[Card]:
        """The first results of a row of `per_query`."""
        pairs: Sequence[tuple[str, float]] = list(zip(query["retrieved_ids"], query["scores"], strict=True))
        return [self.result(item_id, str(query["query_id"]), float(score)) for item_id, score in pairs[:shown]]

    def _card(self, item_id: str, chips: tuple[Chip, ...], score: float) -> Card:
        alt = ", ".join(chip.value for chip in chips) or "item"
        return Card(item_id, self.pictures.get(item_id), alt, chips, score)


def make_deck(items: pd.DataFrame, pictures: Mapping[str, Markup]) -> Deck:
    """Index a table with `item_id`, `text` and the columns of `LABELS`, for the items to show."""
    table = items.set_index("item_id")[[*LABELS.values(), "text"]].astype(object)
    return Deck(table.where(table.notna(), None), pictures)
