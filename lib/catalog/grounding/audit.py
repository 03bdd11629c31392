"""The grounding audit of a processed catalogue: what is looked at, and what can be said without looking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib.base.params import Audit
from lib.catalog.attributes import AttributeSchema
from lib.catalog.grounding.choice import category_names, choose_items, with_claims
from lib.catalog.grounding.claims import state_claims
from lib.catalog.grounding.coverage import attribute_coverage


@dataclass(frozen=True)
class GroundingAudit:
    """What a reviewer gets.

    Attributes:
        claims: what `state_claims` returned: a row per chosen item and known attribute.
        report: counts of items and claims, in all and per category, and `attribute_coverage`.
    """

    claims: pd.DataFrame
    report: dict[str, Any]

    def item_ids(self) -> list[str]:
        """The items to look at, in order."""
        return list(dict.fromkeys(self.claims["item_id"]))


def draw_audit(
    rows: pd.DataFrame,
    schema: AttributeSchema,
    params: Audit,
    *,
    pattern_only_categories: Sequence[str],
    rng: np.random.Generator,
) -> GroundingAudit:
    """Choose items for review and state what the catalogue claims about them.

    Args:
        rows: of the processed catalogue (`read_rows`).
        schema: that it was processed with.
        params: how many items.
        pattern_only_categories: `data.pattern_only_categories`.
        rng: source of randomness.

    Raises:
        IntegrityError: the catalogue was processed with another schema.
    """
    chosen = choose_items(rows, n_items=params.n_items, min_per_category=params.min_per_category, rng=rng)
    claims = state_claims(chosen, schema, pattern_only_categories=pattern_only_categories)
    counts = [category_names(part).value_counts() for part in (rows, with_claims(rows), chosen)]
    categories = {
        str(name): {
            key: int(count.get(name, 0))
            for key, count in zip(("items", "with_known_attribute", "audited"), counts, strict=True)
        }
        for name in sorted(counts[0].index)
    }
    attributes = claims["attribute"].value_counts()
    report = {
        "items": len(rows),
        "audited_items": len(chosen),
        "claims": len(claims),
        "claims_by_attribute": {name: int(attributes.get(name, 0)) for name in schema},
        "categories_left_out": [name for name, count in categories.items() if not count["audited"]],
        "categories": categories,
        "attributes": attribute_coverage(rows, schema),
    }
    return GroundingAudit(claims, report)
