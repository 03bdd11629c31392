"""An answer as one HTML file with its pictures inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from lib.catalog.images import normalise_image
from lib.report.page import render, shorten, thumbnails
from lib.serving.catalogue import FACETS, ServedCatalogue
from lib.serving.query import Answer, Query
from lib.serving.query_encoder import MAX_PIXELS, MAX_SIDE

SIDE = 240
_GIVEN = "query"


def contact_sheet(query: Query, answer: Answer, catalogue: ServedCatalogue) -> str:
    """A page that loads nothing: the query, and each result with its picture, score and matched values."""
    ids = [str(result.item["item_id"]) for result in answer.results]
    pictures = {item_id: catalogue.picture(item_id) for item_id in ids}
    if query.item is not None:
        pictures[query.item] = catalogue.picture(query.item)
    shown = thumbnails(pictures, side=SIDE)
    given = None
    if query.image is not None:
        upright = normalise_image(query.image, max_side=MAX_SIDE, max_pixels=MAX_PIXELS).data
        given = thumbnails({_GIVEN: upright}, side=SIDE)[_GIVEN]
    results = [
        {
            "rank": result.rank,
            "score": f"{result.score:.3f}",
            "id": str(result.item["item_id"]),
            "picture": shown[str(result.item["item_id"])],
            "caption": shorten(result.item["caption"] or ""),
            "values": [
                {"name": name, "value": result.item[name], "matched": name in result.matched}
                for name in FACETS
                if result.item[name]
            ],
        }
        for result in answer.results
    ]
    how = f"Model {answer.model}, index {answer.index}, re-ranked by {answer.rerank}; {answer.total} items allowed."
    return _sheet(
        results, how, picture=given if query.item is None else shown[query.item], text=query.text, item=query.item
    )


def picture_sheet(image: bytes, found: Sequence[tuple[str, float]], pictures: Mapping[str, bytes], how: str) -> str:
    """A page that loads nothing: a picture that was searched by, and what was found.

    Args:
        image: encoded.
        found: names and scores, best first.
        pictures: encoded, by name; one that is not there gets an empty frame.
        how: a sentence on what was searched.
    """
    shown = thumbnails(pictures, side=SIDE)
    results: list[dict[str, Any]] = [
        {"rank": rank, "score": f"{score:.3f}", "id": name, "picture": shown.get(name), "caption": "", "values": []}
        for rank, (name, score) in enumerate(found, start=1)
    ]
    return _sheet(results, how, picture=thumbnails({_GIVEN: image}, side=SIDE)[_GIVEN])


def _sheet(
    results: Sequence[Mapping[str, Any]],
    how: str,
    *,
    picture: Markup | None,
    text: str | None = None,
    item: str | None = None,
) -> str:
    values = {"text": text, "item": item, "picture": picture, "results": results, "how": how}
    return render("contact_sheet.html.j2", {"title": "Search results", **values})
