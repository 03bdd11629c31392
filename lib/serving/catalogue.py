"""The catalogue that is served: items by id, filters with counts, pictures, and why a result matches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from lib.base.errors import PipelineError
from lib.catalog.attributes import AttributeSchema
from lib.catalog.captions import compose_caption
from lib.catalog.normal_text import normalise_text, singular
from lib.catalog.partner_kinds import Kind
from lib.catalog.processed import read_images
from lib.embeddings import EmbeddingSet

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Codes = TypeVar("Codes", int, IntArray)

FACETS: Mapping[str, str] = {
    "department": "category1",
    "category": "category2",
    "color": "color",
    "neckline": "neckline",
    "sleeve": "sleeve",
    "pattern": "pattern",
    "material": "material",
}
"""What can be filtered by: name -> column of the items."""
PICTURES_KEPT = 512


class UnknownQuery(PipelineError):
    """A query names an item or a filter value that the catalogue does not have."""

    exit_code = 2


class UnknownItem(UnknownQuery):
    """A query names an item that the catalogue does not have."""


@dataclass(frozen=True)
class FacetValue:
    """A value that items can be filtered by, and how many items the other filters leave of it."""

    value: str
    count: int


class ServedCatalogue:
    """Items of an embedded catalogue: the gallery is searched, the queries' items can be asked for by id too.

    Args:
        embedded: gallery and queries; only their meta is read.
        processed: folder of the processed catalogue, for pictures.
        schema: names attribute values in texts.
    """

    def __init__(self, embedded: EmbeddingSet, processed: Path, schema: AttributeSchema) -> None:
        self.gallery = embedded.catalog.meta
        self._others = embedded.queries.meta
        self._schema = schema
        self._rows = {item_id: row for row, item_id in enumerate(self.gallery["item_id"])}
        self._other_rows = {item_id: row for row, item_id in enumerate(self._others["item_id"])}
        self.products, _ = pd.factorize(self.gallery["product_id"])
        shown = {"item_id": "item_id", "product_id": "product_id", "caption": "caption", **FACETS}
        # plain arrays: pandas takes longer to look up one row than a search does
        self._shown = {
            side: {name: meta[column].to_numpy(dtype=object) for name, column in shown.items()}
            for side, meta in (("catalog", self.gallery), ("queries", self._others))
        }
        coded = {name: pd.factorize(self.gallery[column], sort=True) for name, column in FACETS.items()}
        self._codes: dict[str, IntArray] = {name: codes.astype(np.int64) for name, (codes, _) in coded.items()}
        self._values: dict[str, list[str]] = {name: [str(v) for v in values] for name, (_, values) in coded.items()}
        # department and category as one number; 0 stands for what is not known of either
        self._kinds = (
            (self._codes["department"] + 1) * (len(self._values["category"]) + 1) + self._codes["category"] + 1
        )
        self._all_facets: dict[str, list[FacetValue]] = {}  # without filters; most answers need just these
        self._picture = lru_cache(maxsize=PICTURES_KEPT)(lambda item_id: read_images(processed, [item_id])[item_id])

    def __len__(self) -> int:
        return len(self.gallery)

    @property
    def facet_names(self) -> list[str]:
        """Names of all facets."""
        return list(FACETS)

    def kind(self, item_id: str) -> Kind:
        """Department and category of an item."""
        item = self.describe(item_id)
        return item["department"], item["category"]

    def kind_of_rows(self, rows: IntArray) -> Kind:
        """The most frequent department and category of some gallery rows, of which there must be one."""
        department, category = divmod(int(np.bincount(self._kinds[rows]).argmax()), len(self._values["category"]) + 1)
        return (
            self._values["department"][department - 1] if department else None,
            self._values["category"][category - 1] if category else None,
        )

    def of_kinds(self, kinds: Iterable[Kind]) -> BoolArray:
        """(n_items,) True where an item is of one of some kinds."""
        numbers = [
            self._kind_number(self._code("department", department), self._code("category", category))
            for department, category in kinds
            if self._has("department", department) and self._has("category", category)
        ]
        return np.isin(self._kinds, numbers)

    def of_category(self, category: str | None) -> BoolArray:
        """(n_items,) True where an item is of a category; no item is of an unknown one."""
        if category is None or not self._has("category", category):
            return np.zeros(len(self), dtype=np.bool_)
        found: BoolArray = self._codes["category"] == self._code("category", category)
        return found

    def place(self, item_id: str) -> tuple[str, int]:
        """`catalog` or `queries`, and the row there.

        Raises:
            UnknownItem: no such item.
        """
        if item_id in self._rows:
            return "catalog", self._rows[item_id]
        if item_id in self._other_rows:
            return "queries", self._other_rows[item_id]
        raise UnknownItem(f"no item '{item_id[:100]}' in this catalogue")

    def describe(self, item_id: str) -> dict[str, str | None]:
        """What is known of an item, facets by name."""
        return self._row(*self.place(item_id))

    def describe_row(self, row: int) -> dict[str, str | None]:
        """What is known of the item in a gallery row; as `describe`."""
        return self._row("catalog", row)

    def product_rows(self, item_id: str) -> IntArray:
        """Gallery rows of an item's own product."""
        product_id = self.describe(item_id)["product_id"]
        return np.flatnonzero(self._shown["catalog"]["product_id"] == product_id)

    def picture(self, item_id: str) -> bytes:
        """An item's encoded picture; the last `PICTURES_KEPT` stay in memory."""
        self.place(item_id)
        return self._picture(item_id)

    def allowed(self, filters: Mapping[str, Sequence[str]]) -> BoolArray:
        """Items that bear, of every filter, one of its values; (n_items,).

        Raises:
            UnknownQuery: no such filter or no such value.
        """
        mask = np.ones(len(self), dtype=np.bool_)
        for name, values in filters.items():
            mask &= self._bearing(name, values)
        return mask

    def facets(
        self, filters: Mapping[str, Sequence[str]], *, within: BoolArray | None = None
    ) -> dict[str, list[FacetValue]]:
        """Values of every facet with their number of items under the other facets' filters, most frequent first.

        Args:
            filters: facet -> values, any of which will do.
            within: (n_items,) True for the items that are counted at all; None: all.
        """
        plain = not filters and within is None
        if plain and self._all_facets:
            return self._all_facets
        counted = {}
        for name, codes in self._codes.items():
            others = self.allowed({other: values for other, values in filters.items() if other != name})
            others = others if within is None else others & within
            counts = np.bincount(codes[others & (codes >= 0)], minlength=len(self._values[name]))
            found = [FacetValue(value, int(n)) for value, n in zip(self._values[name], counts, strict=True)]
            counted[name] = sorted(found, key=lambda facet: (-facet.count, facet.value))
        if plain:
            self._all_facets = counted
        return counted

    def wishes(self, text: str) -> dict[str, str]:
        """Facet values that a text names: attributes and colours by the schema, categories by their words."""
        found = {}
        for name in FACETS:
            if name in self._schema:
                value = self._schema[name].extract(text).value
                if value is not None:
                    found[name] = value
        words = {singular(word) for word in normalise_text(text).split()}
        for name in ("department", "category"):
            for value in self._values[name]:
                own = {singular(word) for word in normalise_text(value).split()}
                if own and own <= words:
                    found[name] = value
        return found

    def as_caption(self, text: str) -> str:
        """A text in the form of the captions that the models know: what it names first, then itself."""
        named = self.wishes(text)
        return compose_caption(named, category=named.get("category"), text=text)

    def matched(self, row: int, wanted: Mapping[str, str | None]) -> list[str]:
        """Facets in which a gallery row bears what is wanted."""
        item = self._shown["catalog"]
        return [name for name, value in wanted.items() if value is not None and item[name][row] == value]

    def _kind_number(self, department: Codes, category: Codes) -> Codes:
        """Codes of department and category as one number; an unknown one's is -1."""
        return (department + 1) * (len(self._values["category"]) + 1) + category + 1

    def _has(self, name: str, value: str | None) -> bool:
        return value is None or value in self._values[name]

    def _code(self, name: str, value: str | None) -> int:
        return -1 if value is None else self._values[name].index(value)

    def _row(self, side: str, row: int) -> dict[str, str | None]:
        return {name: values[row] for name, values in self._shown[side].items()}

    def _bearing(self, name: str, values: Sequence[str]) -> BoolArray:
        if name not in self._codes:
            raise UnknownQuery(f"no filter '{name[:50]}'; there are {', '.join(FACETS)}")
        known = self._values[name]
        unknown = [value for value in values if value not in known]
        if unknown:
            raise UnknownQuery(f"no {name} '{unknown[0][:50]}' in this catalogue; there are {', '.join(known[:50])}")
        return np.isin(self._codes[name], [known.index(value) for value in values])
