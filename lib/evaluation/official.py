"""The official retrieval protocol of a data set that brings one: the literature's Recall@k.

Every image of the official query part searches the images of the official gallery part, and nothing else.
`official_hit_rate@k` is the share of the queries with an image of their own official item (`partition_item`) among
the top k. Literature calls it Recall@k or top-k retrieval accuracy (Liu et al., DeepFashion, CVPR 2016); here
`recall` is what trec_eval calls so. Nothing is left out of a query's results: the item sought is its own product.
Intervals are clustered by official item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.base.params import Bootstrap
from lib.embeddings import Embeddings
from lib.evaluation.measure import IntArray, column_codes, measure_rankings, summarise
from lib.retrieval.search import exact_top_k
from lib.retrieval.top_k import TopK

KS = (1, 5, 10, 20, 30, 50)
"""Those that papers on In-shop state."""


@dataclass(frozen=True)
class Search:
    """What the official queries found.

    Attributes:
        queries: meta rows of the official queries.
        gallery: meta rows of the official gallery.
        top: as many results as the largest k of `KS`.
        ranks: (n_queries,) Int64: rank of the first image of the query's item, from 1; 0 when `top` has none;
            null when the gallery has none, so that the query does not count.
    """

    queries: pd.DataFrame
    gallery: pd.DataFrame
    top: TopK
    ranks: pd.Series


@dataclass(frozen=True)
class Official:
    """`official_hit_rate@k` as `summarise` gives it; why others are missing; None where nothing could be searched."""

    metrics: dict[str, dict[str, float]]
    skipped: dict[str, str]
    search: Search | None


def measure_official(queries: Embeddings, bootstrap: Bootstrap) -> Official | None:
    """Measure the official protocol on the test split.

    Args:
        queries: validation and test, with `partition` and `partition_item`.
        bootstrap: resamples and seed.

    Returns:
        None where no test item belongs to an official query or gallery part. A k beyond the gallery, and a part
        without items, are skipped with a reason. A query whose item has no gallery image does not count.
    """
    part = queries.meta["partition"].where(queries.meta["split"] == "test")
    rows = {name: np.flatnonzero(part == name) for name in ("query", "gallery")}
    empty = [name for name, found in rows.items() if not len(found)]
    if len(empty) == 2:
        return None
    if empty:
        return Official({}, {"*": f"no item of the official {empty[0]} part in the test split"}, None)
    asked, searched = (queries.meta.iloc[found].reset_index(drop=True) for found in rows.values())
    items = column_codes(searched, asked, "partition_item")
    sizes = np.bincount(items.gallery[items.gallery >= 0], minlength=int(items.queries.max(initial=0)) + 1)
    n_relevant = np.where(items.queries >= 0, sizes[items.queries], 0)
    top = exact_top_k(
        np.ascontiguousarray(queries.images[rows["query"]]),
        np.ascontiguousarray(queries.images[rows["gallery"]]),
        k=max(KS),
    )["all"]
    search = Search(asked, searched, top, _first_ranks(top, items.gallery, items.queries, n_relevant))
    if not n_relevant.any():
        return Official({}, {"*": "no official query has an image of its item in the official gallery"}, search)
    n_allowed = np.full(len(asked), len(searched))
    wanted = [("hit_rate", k) for k in KS if k <= len(searched)]
    found = measure_rankings(top, items, n_relevant, n_allowed, wanted=wanted)
    measured = {f"official_{name}": metric for name, metric in found.items()}
    reason = f"the official gallery has {len(searched)} items"
    skipped = {f"official_hit_rate@{k}": reason for k in KS if k > len(searched)}
    return Official(summarise(measured, items.queries, bootstrap), skipped, search)


def _first_ranks(top: TopK, gallery: IntArray, queries: IntArray, n_relevant: IntArray) -> pd.Series:
    hits = (gallery[top.rows] == queries[:, None]) & (top.rows >= 0)
    ranks = pd.Series(np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)).astype("Int64")
    return ranks.mask(n_relevant == 0)
