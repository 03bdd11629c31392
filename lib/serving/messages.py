"""Bodies of requests and answers: what OpenAPI shows and pydantic checks."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lib.serving.query import MAX_RESULTS, Query

MAX_TEXT = 1000
MAX_VECTOR = 8192
MAX_FILTER_VALUES = 100

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT, examples=["a red v-neck cardigan"])]
ItemId = Annotated[str, Field(min_length=1, max_length=512, examples=["S00012_A"])]
Values = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=MAX_FILTER_VALUES)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Choices(BaseModel):
    """What a search can be asked besides its query."""

    model_config = ConfigDict(extra="forbid")

    model: Literal["baseline", "protocol"] = "protocol"
    rerank: Annotated[
        Literal["none", "protocol", "compatibility"],
        Field(description="order what was found anew; compatibility: what goes with it, not what resembles it"),
    ] = "none"
    index: Annotated[str | None, Field(max_length=20, description="a kind of index; left out: the default")] = None
    image_weight: Annotated[float | None, Field(ge=0, le=1, description="of the picture beside a text")] = None
    k: Annotated[int, Field(ge=1, le=MAX_RESULTS, description="results of a page")] = 20
    offset: Annotated[int, Field(ge=0, lt=MAX_RESULTS, description="results to leave out before the page")] = 0
    one_per_product: bool = True


class SearchBody(Choices):
    """A search by text, item or vector; a text may stand beside an item."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"text": "a red v-neck cardigan", "k": 10},
                {"item": "S00012_A", "rerank": "compatibility", "filters": {"color": ["navy", "white"]}},
            ]
        },
    )

    text: Text | None = None
    item: ItemId | None = None
    vector: Annotated[list[Number] | None, Field(max_length=MAX_VECTOR, description="an embedding of `model`")] = None
    filters: Annotated[dict[Annotated[str, Field(max_length=50)], Values], Field(max_length=20)] = {}


class ResultBody(BaseModel):
    """A found item."""

    rank: int
    score: float
    item_id: str
    product_id: str | None
    caption: str | None
    department: str | None
    category: str | None
    color: str | None
    neckline: str | None
    sleeve: str | None
    pattern: str | None
    material: str | None
    matched: list[str]


class FacetBody(BaseModel):
    """A value to filter by, and how many items the other filters leave of it."""

    value: str
    count: int


class AnswerBody(BaseModel):
    """A page of results."""

    results: list[ResultBody]
    total: int
    has_more: bool
    wanted: dict[str, str | None]
    facets: dict[str, list[FacetBody]]
    model: str
    rerank: str
    index: str


class ErrorBody(BaseModel):
    """Why a request was not answered."""

    detail: str


def as_query(body: Choices, *, image: bytes | None = None) -> Query:
    """The search that a body describes."""
    own = body if isinstance(body, SearchBody) else SearchBody(**body.model_dump())
    return Query(
        text=own.text,
        item=own.item,
        image=image,
        vector=None if own.vector is None else np.asarray(own.vector, dtype=np.float32),
        model=own.model,
        rerank=own.rerank,
        index=own.index,
        image_weight=own.image_weight,
        filters={name: values for name, values in own.filters.items() if values},
        offset=own.offset,
        limit=own.k,
        one_per_product=own.one_per_product,
    )
