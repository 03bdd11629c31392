"""How far columns and texts tell the attributes of a processed catalogue, and whether they agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from lib.catalog.attributes import AttributeRule, AttributeSchema
from lib.catalog.grounding.proportions import DIGITS, proportion

CATEGORIES = ("category1", "category2", "category3")
MAX_DISAGREEMENTS = 10


@dataclass
class _Tally:
    from_column: int = 0
    from_text: int = 0
    ambiguous: int = 0
    not_applicable: int = 0
    both: int = 0
    disagreements: Counter[tuple[str, str]] = field(default_factory=Counter)


def attribute_coverage(rows: pd.DataFrame, schema: AttributeSchema) -> dict[str, dict[str, Any]]:
    """Coverage, ambiguity and the agreement of columns with texts, per attribute of the schema.

    The same counts as in the report of `process_data`, but over the items that got into the processed
    catalogue, with intervals, and with what columns and texts disagree about. A text is compared where it names
    one value, plain or weak: a generic word ("printed") does not contradict "floral print".

    Args:
        rows: of the processed catalogue: the categories, `text`, and each attribute with its source.
        schema: that the catalogue was processed with.

    Returns:
        Attribute → counts; `coverage` is over all items, `coverage_where_applicable` over those whose category
        can have the attribute; `agreement` has a Wilson interval, which takes items for independent (views of
        one product are not); `disagreements` lists the most frequent ones. What cannot be said is
        `skipped: reason`.
    """
    return {name: _report(_count(rows, rule), len(rows)) for name, rule in schema.items()}


def _count(rows: pd.DataFrame, rule: AttributeRule) -> _Tally:
    tally = _Tally()
    applicable: dict[tuple[str | None, ...], bool] = {}
    columns = [rows[name] for name in (*CATEGORIES, "text", rule.name, f"{rule.name}_source")]
    for *categories, text, value, source in zip(*columns, strict=True):
        kinds = tuple(categories)
        if kinds not in applicable:
            applicable[kinds] = rule.applies_to(kinds)
        tally.not_applicable += not applicable[kinds]
        tally.from_column += source == "column"
        tally.from_text += source == "text"
        if source == "text" or not text or not applicable[kinds]:
            continue  # a value from the text is one that the text names without ambiguity
        said = rule.extract(text)
        tally.ambiguous += bool(said.ambiguous)
        if source == "column" and said.value is not None and said.level < 2:
            tally.both += 1
            if said.value != value:
                tally.disagreements[value, said.value] += 1
    return tally


def _report(tally: _Tally, n_items: int) -> dict[str, Any]:
    known, can_have = tally.from_column + tally.from_text, n_items - tally.not_applicable
    agree = tally.both - tally.disagreements.total()
    frequent = sorted(tally.disagreements.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_DISAGREEMENTS]
    return {
        "items": n_items,
        "known": known,
        "coverage": round(known / n_items, DIGITS) if n_items else "skipped: no items",
        "coverage_where_applicable": (
            round(known / can_have, DIGITS) if can_have else "skipped: no category has the attribute"
        ),
        "from_column": tally.from_column,
        "from_text": tally.from_text,
        "ambiguous_text": tally.ambiguous,
        "not_applicable": tally.not_applicable,
        "column_and_text": tally.both,
        "agree": agree,
        **proportion(agree, tally.both, name="agreement", empty="no item has both"),
        "disagreements": [{"column": c, "text": t, "items": count} for (c, t), count in frequent],
    }
