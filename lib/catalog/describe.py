"""What is known of an item: its attributes, from columns and text, and its caption; and how well that went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lib.catalog.attributes import AttributeSchema
from lib.catalog.captions import compose_caption
from lib.catalog.schema import SOURCED, RawRow

MAX_LISTED = 50


@dataclass
class AttributeTally:
    """How one attribute was found, over the rows whose cells could be read."""

    from_column: int = 0
    from_text: int = 0
    ambiguous: int = 0
    not_applicable: int = 0
    both: int = 0
    agree: int = 0
    values: Counter[str] = field(default_factory=Counter)
    outside_schema: Counter[str] = field(default_factory=Counter)

    def report(self, n_rows: int) -> dict[str, Any]:
        """Counts and shares; `agreement` is over rows with a column value and a plain or weak text value."""
        known = self.from_column + self.from_text
        return {
            "known": known,
            "coverage": round(known / n_rows, 4) if n_rows else "skipped: no rows",
            "from_column": self.from_column,
            "from_text": self.from_text,
            "ambiguous_text": self.ambiguous,
            "not_applicable": self.not_applicable,
            "column_and_text": self.both,
            "agreement": round(self.agree / self.both, 4) if self.both else "skipped: no row has both",
            "values": _listed(self.values),
            "outside_schema": _listed(self.outside_schema),
        }


class Describer:
    """Turns raw rows into the descriptive columns of a processed row, and counts on the way.

    Args:
        schema: see `load_attribute_schema`.
        pattern_only_categories: `category2` names that say something about the pattern and nothing else.
    """

    def __init__(self, schema: AttributeSchema, pattern_only_categories: Sequence[str]) -> None:
        self._schema = schema
        self._pattern_only = frozenset(name.lower() for name in pattern_only_categories)
        self.tallies = {name: AttributeTally() for name in SOURCED}
        self.n_rows = 0

    def describe(self, row: RawRow) -> dict[str, str | None]:
        """Categories, text, attribute values with their sources, and the caption of a row.

        A column value wins over the text. The text gives nothing for an attribute that the item's categories
        do not have (the neckline of a shoe).
        """
        self.n_rows += 1
        pattern_only = (row.category2 or "").lower() in self._pattern_only
        columns = dict(row.attributes)
        if pattern_only and row.category2 and columns.get("pattern") is None:
            implied, known = self._schema["pattern"].canonical(row.category2)
            columns["pattern"] = implied if known else None
        found: dict[str, str | None] = {}
        for name in SOURCED:
            value, source = self._attribute(name, columns.get(name), row)
            found |= {name: value, f"{name}_source": source}
        return {
            "category1": row.category1,
            "category2": row.category2,
            "category3": row.category3,
            "text": row.text,
            "caption": compose_caption(found, category=None if pattern_only else row.category2, text=row.text),
            **found,
        }

    def report(self) -> dict[str, Any]:
        """Per attribute, what `AttributeTally.report` says."""
        return {name: tally.report(self.n_rows) for name, tally in self.tallies.items()}

    def _attribute(self, name: str, cell: str | None, row: RawRow) -> tuple[str | None, str | None]:
        rule, tally = self._schema[name], self.tallies[name]
        applies = rule.applies_to((row.category1, row.category2, row.category3))
        extraction = rule.extract(row.text) if row.text and applies else None
        said = extraction.value if extraction is not None else None
        tally.ambiguous += extraction is not None and bool(extraction.ambiguous)
        tally.not_applicable += not applies
        if cell is not None:
            value, known = rule.canonical(cell)
            tally.from_column += 1
            tally.values[value] += 1
            if not known:
                tally.outside_schema[value] += 1
            # A generic word ("printed") does not contradict a particular value ("floral print").
            if extraction is not None and said is not None and extraction.level < 2:
                tally.both += 1
                tally.agree += said == value
            return value, "column"
        if said is not None:
            tally.from_text += 1
            tally.values[said] += 1
            return said, "text"
        return None, None


def _listed(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_LISTED])
