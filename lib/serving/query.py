"""What is searched for, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lib.base.artifacts import FloatArray
from lib.base.errors import ConfigError
from lib.serving.catalogue import FacetValue

Model = Literal["baseline", "protocol"]
Rerank = Literal["none", "protocol", "compatibility"]
MAX_RESULTS = 100


class BadQuery(ConfigError):
    """A query that cannot be answered as it stands."""


@dataclass(frozen=True)
class Query:
    """What is searched for, in exactly one or two ways: text and picture together are weighed.

    Attributes:
        text, image, item, vector: a text, an encoded picture, an item's id, an embedding of `model`.
        image_weight: of the picture beside a text, 0 to 1; None: as the model learnt it, or one half.
        index: a kind that is loaded, or `exact`; None: the default.
        filters: facet -> values, any of which will do.
        one_per_product: only the best item of a product is shown.
    """

    text: str | None = None
    image: bytes | None = None
    item: str | None = None
    vector: FloatArray | None = None
    model: Model = "protocol"
    rerank: Rerank = "none"
    index: str | None = None
    image_weight: float | None = None
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    offset: int = 0
    limit: int = 20
    one_per_product: bool = True


@dataclass(frozen=True)
class Result:
    """A found item: its rank from 1, its score, what is known of it, and what of the query it bears."""

    rank: int
    score: float
    item: Mapping[str, str | None]
    matched: Sequence[str]


@dataclass(frozen=True)
class Answer:
    """What a search found.

    Attributes:
        results: the page asked for.
        total: items that the filters allow; of what goes with an item, those of the kinds that do.
        has_more: whether there is another page.
        wanted: what the query names or its item bears, by facet; what `matched` is compared with.
        facets: values with counts, for the filters.
        model, rerank, index: what was really used.
    """

    results: Sequence[Result]
    total: int
    has_more: bool
    wanted: Mapping[str, str | None]
    facets: Mapping[str, Sequence[FacetValue]]
    model: str
    rerank: str
    index: str


def answer_dict(answer: Answer) -> dict[str, Any]:
    """An answer as plain values, for JSON."""
    return {
        "results": [{"rank": r.rank, "score": r.score, **r.item, "matched": list(r.matched)} for r in answer.results],
        "total": answer.total,
        "has_more": answer.has_more,
        "wanted": dict(answer.wanted),
        "facets": {
            name: [{"value": facet.value, "count": facet.count} for facet in values]
            for name, values in answer.facets.items()
        },
        "model": answer.model,
        "rerank": answer.rerank,
        "index": answer.index,
    }
