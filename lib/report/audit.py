"""`grounding_audit.html`: the claims of an audit beside their pictures, for a reviewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from lib.report.page import render, thumbnails

TEMPLATE = "audit.html.j2"
PICTURE_SIDE = 320
"""Pixels: a collar has to be told from a neckline."""
NO_CATEGORY = "no category"


@dataclass(frozen=True)
class Segment:
    """A piece of a text and the attributes that it led to a value of; none for the rest of the text."""

    text: str
    attributes: tuple[str, ...]


def segments(text: str, spans: Mapping[str, Sequence[tuple[int, int]]]) -> list[Segment]:
    """Cut a text where the phrases of attributes begin and end; they may overlap ("denim blue").

    Args:
        text: the whole text.
        spans: attribute -> (start, end) of its phrases.

    >>> [(s.text, s.attributes) for s in segments("a denim blue", {"material": [(2, 7)], "color": [(2, 12)]})]
    [('a ', ()), ('denim', ('material', 'color')), (' blue', ('color',))]
    """
    borders = sorted({0, len(text), *(place for pairs in spans.values() for pair in pairs for place in pair)})
    return [
        Segment(text[start:end], tuple(name for name, pairs in spans.items() if _covers(pairs, start, end)))
        for start, end in pairwise(borders)
    ]


def audit_page(claims: pd.DataFrame, report: Mapping[str, Any], images: Mapping[str, bytes]) -> str:
    """The page as HTML; values are escaped, pictures are inside, nothing else is loaded.

    Args:
        claims: a row per item and attribute, those of an item together: `row`, `item_id`, `product_id`, `category`,
            `text`, `attribute`, `value`, `source`, `phrase`, `spans`.
        report: counts of the audit, with the coverage of every attribute.
        images: encoded pictures by item id; an item without one gets an empty frame.
    """
    pictures = thumbnails(images, side=PICTURE_SIDE)
    items = [_card(item, pictures.get(str(item_id))) for item_id, item in claims.groupby("item_id", sort=False)]
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        groups.setdefault(item["category"], []).append(item)
    values = {
        "title": "Grounding audit",
        "report": report,
        "attributes": [_attribute_row(name, counts) for name, counts in report["attributes"].items()],
        "disagreements": [
            {"attribute": name, **pair}
            for name, counts in report["attributes"].items()
            for pair in counts["disagreements"]
        ],
        "groups": [{"name": name, "cards": cards} for name, cards in groups.items()],
    }
    return render(TEMPLATE, values)


def _covers(pairs: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    return any(first <= start and end <= last for first, last in pairs)


def _card(item: pd.DataFrame, picture: str | None) -> dict[str, Any]:
    first = item.iloc[0]
    spans = dict(zip(item["attribute"], item["spans"], strict=True))
    return {
        "item_id": first["item_id"],
        "product_id": first["product_id"],
        "category": first["category"] or NO_CATEGORY,
        "picture": picture,
        "segments": segments(first["text"], spans) if first["text"] else [],
        "claims": item[["row", "attribute", "value", "source", "phrase"]].to_dict("records"),
    }


def _attribute_row(name: str, counts: Mapping[str, Any]) -> dict[str, str]:
    def percent(value: float | str) -> str:
        return "–" if isinstance(value, str) else f"{100 * value:.1f}"

    agreement = percent(counts["agreement"])
    if "agreement_low" in counts:
        agreement += f" [{percent(counts['agreement_low'])}, {percent(counts['agreement_high'])}]"
    return {
        "name": name,
        "coverage": percent(counts["coverage"]),
        "applicable": percent(counts["coverage_where_applicable"]),
        "agreement": agreement,
        **{key: str(counts[key]) for key in ("from_column", "from_text", "column_and_text", "ambiguous_text")},
    }
