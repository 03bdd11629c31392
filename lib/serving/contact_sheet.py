"""An answer as one HTML file with its pictures inside."""

from __future__ import annotations

from lib.report.page import render, shorten, thumbnails
from lib.serving.catalogue import FACETS, ServedCatalogue
from lib.serving.query import Answer, Query

SIDE = 240
_GIVEN = "query"


def contact_sheet(query: Query, answer: Answer, catalogue: ServedCatalogue) -> str:
    """A page that loads nothing: the query, and each result with its picture, score and matched values."""
    ids = [str(result.item["item_id"]) for result in answer.results]
    pictures = {item_id: catalogue.picture(item_id) for item_id in ids}
    if query.item is not None:
        pictures[query.item] = catalogue.picture(query.item)
    shown = thumbnails(pictures, side=SIDE)
    given = thumbnails({_GIVEN: query.image}, side=SIDE)[_GIVEN] if query.image is not None else None
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
    return render(
        "contact_sheet.html.j2",
        {
            "title": "Search results",
            "text": query.text,
            "item": query.item,
            "picture": given if query.item is None else shown[query.item],
            "results": results,
            "answer": answer,
        },
    )
