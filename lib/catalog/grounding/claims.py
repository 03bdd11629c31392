"""What the catalogue claims about the items of an audit, with the words that led to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lib.base.errors import IntegrityError
from lib.catalog.attributes import AttributeSchema
from lib.catalog.extraction import Evidence
from lib.catalog.schema import SOURCED

CLAIM_COLUMNS = (
    "row", "item_id", "product_id", "category", "text", "attribute", "value", "source", "phrase", "rule",
)  # fmt: skip
SEPARATOR = "; "
"""Between phrases, and between rules, where several led to one value; neither can contain it."""
CATEGORY_RULE = "category name"
"""The rule of a pattern that a pattern-only category implies."""


def state_claims(
    chosen: pd.DataFrame, schema: AttributeSchema, *, pattern_only_categories: Sequence[str]
) -> pd.DataFrame:
    """One row per chosen item and known attribute.

    Args:
        chosen: rows of the processed catalogue.
        schema: that the catalogue was processed with.
        pattern_only_categories: `data.pattern_only_categories`; their names state a pattern.

    Returns:
        A frame of `CLAIM_COLUMNS`, in the order of `chosen` and then of the attributes, and `spans`. `row` counts
        from 1. Empty strings stand for an unknown category or text. `phrase` is what the text says in its own
        words and `rule` the entry of the schema, both empty for a value from a column; `spans` are the
        characters of the phrases in the text, as (start, end).

    Raises:
        IntegrityError: a text does not say what it is given as the source of.
    """
    pattern_only = frozenset(name.lower() for name in pattern_only_categories)
    claims: list[dict[str, Any]] = []
    for item in chosen.to_dict("records"):
        text = item["text"] or ""
        for name in SOURCED:
            value, source = item[name], item[f"{name}_source"]
            if value is None:
                continue
            found: tuple[Evidence, ...] = ()
            if source == "text":
                found = schema[name].evidence(text)
                if {evidence.value for evidence in found} != {value}:
                    raise IntegrityError(
                        f"item '{item['item_id']}': {name} is '{value}' from its text, but by this attribute schema "
                        f"the text says {sorted({e.value for e in found}) or 'nothing'}; run `dvc repro process_data`"
                    )
            phrases = [text[evidence.start : evidence.end] for evidence in found]
            rules = [evidence.entry for evidence in found]
            category = item["category2"] or ""
            implied = name == "pattern" and source == "column" and category.lower() in pattern_only
            # Where a column says the same, the category's name does so as well.
            if implied and schema[name].canonical(category)[0] == value:
                phrases, rules = [category], [CATEGORY_RULE]
            claims.append(
                {
                    "row": str(len(claims) + 1),
                    "item_id": item["item_id"],
                    "product_id": item["product_id"],
                    "category": category,
                    "text": text,
                    "attribute": name,
                    "value": value,
                    "source": source,
                    "phrase": SEPARATOR.join(dict.fromkeys(phrases)),
                    "rule": SEPARATOR.join(dict.fromkeys(rules)),
                    "spans": tuple((evidence.start, evidence.end) for evidence in found),
                }
            )
    return pd.DataFrame(claims, columns=[*CLAIM_COLUMNS, "spans"], dtype=object)
