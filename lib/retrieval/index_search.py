"""Searching faiss indexes for candidates, among all rows or some; what wins is decided by exact scores.

Every kind ends in `lib.retrieval.search.decide`, so a score never depends on the kind and equal scores go to the
earlier row. Filters are kept exactly; how each kind looks at enough allowed rows stands at its function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np

from lib.base.artifacts import FloatArray
from lib.retrieval.fast_scores import MARGIN
from lib.retrieval.index_files import list_of_rows
from lib.retrieval.scores import DECIMALS, UNIT, finite_norms, summing_error
from lib.retrieval.search import BoolArray, decide, exact_top_k
from lib.retrieval.top_k import IntArray, TopK

_LOOKED_AT_PER_EF = 8
"""Rows that hnsw computes a score of per unit of breadth, about: 6 to 9 from breadth 128 on, of 50,000 rows."""


@dataclass(frozen=True)
class Rows:
    """The gallery and which of its rows may be found.

    Attributes:
        gallery: (n_items, dim) float32, unit rows; may be memory-mapped.
        allowed: (n_items,) which rows may be found; None: all.
        n_allowed: how many.
    """

    gallery: FloatArray
    allowed: BoolArray | None
    n_allowed: int

    @classmethod
    def of(cls, gallery: FloatArray, allowed: BoolArray | None) -> Rows:
        """Count the allowed rows."""
        count = len(gallery) if allowed is None else int(np.count_nonzero(allowed))
        return cls(gallery, None if count == len(gallery) else allowed, count)

    def selector(self) -> faiss.IDSelector | None:
        """The allowed rows as faiss wants them."""
        return None if self.allowed is None else faiss.IDSelectorBitmap(np.packbits(self.allowed, bitorder="little"))


def scan(index: faiss.IndexFlatIP, queries: FloatArray, rows: Rows, *, k: int) -> TopK:
    """Exact search: float32 scores of every allowed row choose candidates; equal to `exact_top_k`, ties included."""
    width = min(k + MARGIN, rows.n_allowed)
    scores, found = index.search(queries, width, params=faiss.SearchParameters(sel=rows.selector()))
    top = decide(queries, rows.gallery, found, k=k)
    if width == rows.n_allowed:
        return top
    # as in exact_top_k: no row that is not a candidate has a higher float32 score than the last one
    lengths = finite_norms(queries, name="queries", numbers=np.arange(len(queries)))
    bounds = UNIT * summing_error(queries.shape[1]) * lengths
    unproven = top.scores[:, -1] <= scores[:, -1] + bounds + 10.0**-DECIMALS
    if unproven.any():
        masks = None if rows.allowed is None else {"all": rows.allowed}
        again = exact_top_k(queries[unproven], rows.gallery, k=k, masks=masks)["all"]
        top.rows[unproven], top.scores[unproven] = again.rows, again.scores
    return top


def search_graph(index: faiss.IndexHNSWFlat, queries: FloatArray, rows: Rows, *, k: int, ef: int) -> TopK:
    """Search hnsw with breadth `ef`, or 2 k where that is more.

    With a filter the graph is searched as without one, the breadth being divided by the allowed share, and what is
    not allowed is dropped: a graph that only collects allowed rows returns some, not the nearest, where a query's
    whole neighbourhood is forbidden. A query is done when its last wanted row stands in the nearer half of what was
    seen; else its breadth is quadrupled. Where that would look at as many rows as are allowed, and where the graph
    returns too few, the rows stored in the index are scanned, which is exact.
    """
    n_items, wanted = len(rows.gallery), min(k, rows.n_allowed)
    top = TopK(np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf))
    waiting = np.arange(len(queries))
    breadth = max(ef, 2 * k)
    looked_at = _LOOKED_AT_PER_EF * 2 * k
    if rows.allowed is not None:
        breadth = math.ceil(breadth * n_items / max(rows.n_allowed, 1))
        looked_at = _LOOKED_AT_PER_EF * breadth
    while len(waiting) and looked_at <= rows.n_allowed:
        width = min(k + MARGIN, breadth) if rows.allowed is None else breadth
        found = index.search(queries[waiting], width, params=faiss.SearchParametersHNSW(efSearch=breadth))[1]
        candidates, last = _first_allowed(found, rows.allowed, wanted=wanted, width=k + MARGIN)
        done = last < (width if rows.allowed is None else breadth // 2)
        best = decide(queries[waiting[done]], rows.gallery, candidates[done], k=k)
        top.rows[waiting[done]], top.scores[waiting[done]] = best.rows, best.scores
        waiting = waiting[~done]
        breadth, looked_at = 4 * breadth, 4 * looked_at
        if rows.allowed is None:
            break
    if len(waiting):
        best = scan(faiss.downcast_index(index.storage), queries[waiting], rows, k=k)
        top.rows[waiting], top.scores[waiting] = best.rows, best.scores
    return top


def _first_allowed(
    found: IntArray, allowed: BoolArray | None, *, wanted: int, width: int
) -> tuple[IntArray, IntArray]:
    """The first `width` allowed of (n_queries, n) found rows, then -1; and where the `wanted`-th stands, or n."""
    keep = found >= 0 if allowed is None else (found >= 0) & allowed[found]
    rank = keep.cumsum(axis=1)
    last = np.where(rank[:, -1] >= wanted, (rank < wanted).sum(axis=1), found.shape[1])
    order = np.argsort(~keep, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(np.where(keep, found, -1), order, axis=1), last


class Lists:
    """ivf_pq: codes choose `rerank` times k candidates, exact scores of the gallery's own rows decide."""

    def __init__(self, index: faiss.IndexIVFPQ) -> None:
        self._index = index
        self._list_of_row = list_of_rows(index)

    def search(self, queries: FloatArray, rows: Rows, *, k: int, nprobe: int, rerank: int) -> TopK:
        """Search `nprobe` lists; a query that finds fewer than k rows there is searched as with a filter.

        With a filter a query looks into as many lists as hold as many allowed rows as `nprobe` lists hold rows on
        average, then into lists that hold four times as many, and so on until its k nearest stay the same: where its
        whole neighbourhood is forbidden, the nearest allowed rows stand in lists far apart. Where no more rows are
        allowed than would be scored again, all of them are: exact.
        """
        n_items, width = len(rows.gallery), max(rerank * k, k + MARGIN)
        if rows.n_allowed <= width:
            every = np.arange(n_items) if rows.allowed is None else np.flatnonzero(rows.allowed)
            return decide(queries, rows.gallery, np.tile(every, (len(queries), 1)), k=k)
        alike = math.ceil(n_items * nprobe / self._index.nlist)
        if rows.allowed is not None:
            return self._until_unchanged(queries, rows, k=k, width=width, holding=alike)
        top = decide(queries, rows.gallery, self._candidates(queries, rows, [nprobe] * len(queries), width), k=k)
        short = np.flatnonzero(top.rows[:, -1] < 0)
        if len(short):
            again = self._until_unchanged(queries[short], rows, k=k, width=width, holding=max(alike, k))
            top.rows[short], top.scores[short] = again.rows, again.scores
        return top

    def _until_unchanged(self, queries: FloatArray, rows: Rows, *, k: int, width: int, holding: int) -> TopK:
        """Look into lists that hold `holding` allowed rows, then four times as many, until nothing changes."""
        nlist = self._index.nlist
        nearest = self._index.quantizer.search(queries, nlist)[1]
        counted = self._list_of_row if rows.allowed is None else self._list_of_row[rows.allowed]
        held = np.bincount(counted, minlength=nlist)[nearest].cumsum(axis=1)  # (n_queries, nlist)
        top = TopK(np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf))
        waiting = np.arange(len(queries))
        while len(waiting):
            lists = np.minimum((held[waiting] < holding).sum(axis=1) + 1, nlist)
            found = self._candidates(queries[waiting], rows, lists.tolist(), width)
            best = decide(queries[waiting], rows.gallery, found, k=k)
            unchanged = (best.rows == top.rows[waiting]).all(axis=1) & (best.rows[:, min(k, rows.n_allowed) - 1] >= 0)
            top.rows[waiting], top.scores[waiting] = best.rows, best.scores
            waiting = waiting[~unchanged & (lists < nlist)]
            holding *= 4
        return top

    def _candidates(self, queries: FloatArray, rows: Rows, n_lists: Sequence[int], width: int) -> IntArray:
        """(n_queries, width) rows by code, nearest first, of each query's `n_lists` nearest lists; then -1."""
        found = np.full((len(queries), width), -1)
        selector = rows.selector()
        for number in sorted(set(n_lists)):
            chosen = np.flatnonzero(np.array(n_lists) == number)
            parameters = faiss.SearchParametersIVF(nprobe=number, sel=selector)
            found[chosen] = self._index.search(queries[chosen], width, params=parameters)[1]
        return found
