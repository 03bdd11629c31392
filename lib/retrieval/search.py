"""Exact top-k search of unit rows: fast products in float32 or bfloat16 choose candidates, float64 decides.

A score is what `lib.retrieval.scores` says; higher is better and equal scores are ordered by gallery row. The
result equals a full float64 search: fast scores are used only to discard items that provably cannot win.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from lib.base.artifacts import FloatArray
from lib.base.errors import ConfigError
from lib.retrieval.candidates import Candidates, Excluded, blocks_of, offer_chunk
from lib.retrieval.fast_scores import BFloat16, Buffers, Float32, at_least, at_most, bfloat16_pays
from lib.retrieval.scores import DECIMALS, UNIT, GalleryRows, pair_scores
from lib.retrieval.threads import each
from lib.retrieval.top_k import IntArray, ScoreArray, TopK

BoolArray = npt.NDArray[np.bool_]

_TRIAL = 1 << 14
"""Queries that are searched in bfloat16 first, where there are more."""
_SELDOM = 0.25
"""Share of them that may have to be searched again: above it the others are not tried in bfloat16."""


def exact_top_k(
    queries: FloatArray,
    gallery: FloatArray,
    *,
    k: int,
    query_products: IntArray | None = None,
    gallery_products: IntArray | None = None,
    masks: Mapping[str, BoolArray] | None = None,
    among: IntArray | None = None,
) -> dict[str, TopK]:
    """Find the k highest-scoring gallery items of every query, for several restrictions at once.

    Args:
        queries: (n_queries, dim) float32, unit rows (other lengths work too).
        gallery: (n_items, dim) float32, may be memory-mapped.
        k: items per query, at least 1.
        query_products: (n_queries,) product codes; a query's own product is left out of its results.
            None leaves nothing out.
        gallery_products: (n_items,) product codes of the same coding; required with `query_products`.
        masks: name -> (n_items,) True where an item may be returned; all share one matrix product.
            None means `{"all": every item}`.
        among: ascending gallery rows; no others are looked at, which takes their share of the time. None: all.

    Returns:
        Name of mask -> `TopK`. Ties go to the smaller row; a query with fewer than k allowed items is
        padded with row -1 and score -inf; no query gives arrays of shape (0, k).

    Raises:
        ConfigError: k < 1, or shapes that do not fit.
        IntegrityError: NaN or infinity in an embedding.

    >>> gallery = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    >>> exact_top_k(gallery[:1], gallery, k=2)["all"].rows
    array([[0, 2]])
    """
    masks = {"all": np.ones(len(gallery), dtype=np.bool_)} if masks is None else masks
    _check_shapes(queries, gallery, k, query_products, gallery_products, masks, among)
    if among is not None:
        masks = {name: mask[among] for name, mask in masks.items()}
        gallery_products = None if gallery_products is None else gallery_products[among]
    search = _Search(
        queries,
        gallery,
        GalleryRows(gallery, among),
        k=k,
        excluded=Excluded.of(query_products, gallery_products),
        masks=masks,
    )
    waiting = np.arange(len(queries))
    if bfloat16_pays(*queries.shape):
        unproven = search.run(waiting[:_TRIAL], BFloat16)
        rest = waiting[_TRIAL:]
        if len(unproven) <= _SELDOM * min(_TRIAL, len(waiting)):
            rest = search.run(rest, BFloat16)
        waiting = np.concatenate([unproven, rest])
    search.scan(search.run(waiting, Float32))
    return search.found


class _Search:
    """What is searched, and what was found so far.

    Attributes:
        found: name of mask -> the k best of every query.
    """

    def __init__(
        self,
        queries: FloatArray,
        gallery: FloatArray,
        items: GalleryRows,
        *,
        k: int,
        excluded: Excluded | None,
        masks: Mapping[str, BoolArray],
    ) -> None:
        self._queries, self._gallery, self._items, self._k, self._excluded = queries, gallery, items, k, excluded
        self._masks, alias = _without_repeats(masks)
        self._of_masks = {name: _Found.none(len(queries), k) for name in self._masks}
        self._longest = 0.0
        self.found = {name: self._of_masks[alias[name]].top for name in masks}

    def run(self, chosen: IntArray, arithmetic: type[Float32]) -> IntArray:
        """Search for chosen queries; those of which fast scores of this kind do not prove every result."""
        if not len(chosen):
            return chosen
        queries, excluded = self._queries, self._excluded
        if len(chosen) < len(queries):
            queries = queries[chosen]
            excluded = None if excluded is None else excluded.of_queries(chosen)
        blocks = blocks_of(len(queries), min(self._items.step, len(self._items)))
        width = arithmetic.width(self._k)
        candidates = {name: [Candidates(len(block), width) for block in blocks] for name in self._masks}
        products, buffers = arithmetic(queries, chosen), Buffers()
        starts = range(0, len(self._items), self._items.step)
        bar = tqdm(starts, desc="exact search", mininterval=1, delay=2)
        for start, chunk in zip(bar, self._items.chunks(), strict=True):
            items = range(start, start + len(chunk))
            if not products.load(chunk, self._items.numbers(np.arange(items.start, items.stop))):
                return chosen
            offer_chunk(products, blocks, items, excluded, self._masks, candidates, buffers)
        del buffers
        self._longest = products.longest
        bounds = products.bounds() + 10.0**-DECIMALS

        def decide_block(task: tuple[str, int]) -> None:
            name, number = task
            part = slice(blocks[number].start, blocks[number].stop)
            self._decide(
                chosen[part],
                queries[part],
                candidates[name][number],
                bounds[part],
                rounding=products.rounding,
                found=self._of_masks[name],
            )

        each(decide_block, [(name, number) for name in self._masks for number in range(len(blocks))])
        unproven: IntArray = chosen[np.any([~found.proven[chosen] for found in self._of_masks.values()], axis=0)]
        return unproven

    def _decide(
        self,
        chosen: IntArray,
        queries: FloatArray,
        candidates: Candidates,
        bounds: ScoreArray,
        *,
        rounding: float,
        found: _Found,
    ) -> None:
        """Score what may be among the k best of a block exactly, and see whether anything else may be."""
        k, score = self._k, partial(pair_scores, queries, self._gallery, longest=self._longest)
        least, bound = candidates.least.astype(np.float64)[:, None], bounds[:, None]
        places, fast = candidates.table()
        rows, scores = self._items.numbers(places), fast.astype(np.float64)
        reached = at_least(least, rounding) - bound  # k items do
        exact, waits = np.full(rows.shape, -np.inf), np.ones(rows.shape, dtype=np.bool_)
        n = rows.shape[1]
        if n > k:
            likely = np.argpartition(fast, n - k, axis=1)[:, n - k :]
            of_likely = score(np.take_along_axis(rows, likely, axis=1))
            np.put_along_axis(exact, likely, of_likely, axis=1)
            np.put_along_axis(waits, likely, False, axis=1)
            reached = np.maximum(reached, of_likely.min(axis=1, keepdims=True))
        possible = waits & (at_most(scores, rounding) + bound >= reached)
        np.maximum(exact, score(np.where(possible, rows, -1)), out=exact)
        top = _best(rows, exact, k=k)
        found.top.rows[chosen], found.top.scores[chosen] = top.rows, top.scores
        last = top.scores[:, -1:]
        # at most: the score of anything that is no candidate
        found.proven[chosen] = ((least == -np.inf) | (last > at_most(least, rounding) + bound))[:, 0]
        found.limit[chosen] = (np.maximum(reached, last) - bound)[:, 0]

    def scan(self, chosen: IntArray) -> None:
        """Score all that may be among the k best exactly, for chosen queries of which that was not proven.

        Reached when the margin was too small, for example with many copies of one image.
        """
        for name, found in self._of_masks.items():
            for number in chosen[~found.proven[chosen]].tolist():
                query = self._queries[number]
                places = _possible_winners(self._items, query, found.limit[number], self._masks[name])
                if self._excluded is not None:
                    places = np.setdiff1d(places, self._excluded.of_query(number), assume_unique=True)
                rows = self._items.numbers(places[None])
                best = decide(query[None], self._gallery, rows, k=self._k, longest=self._longest)
                found.top.rows[number], found.top.scores[number] = best.rows[0], best.scores[0]


@dataclass(frozen=True)
class _Found:
    """Of every query under one mask: the best so far, whether that is proven, the least fast score of a winner."""

    top: TopK
    proven: BoolArray
    limit: ScoreArray

    @classmethod
    def none(cls, n_queries: int, k: int) -> _Found:
        shape = (n_queries, k)
        top = TopK(np.full(shape, -1), np.full(shape, -np.inf))
        return cls(top, np.zeros(n_queries, dtype=np.bool_), np.full(n_queries, -np.inf))


def decide(queries: FloatArray, gallery: FloatArray, rows: IntArray, *, k: int, longest: float = UNIT) -> TopK:
    """The exact k best of (n_queries, n) candidate rows, -1 meaning none; ties to the smaller row.

    `longest`: see `lib.retrieval.scores.pair_scores`.
    """
    rows = np.sort(rows, axis=1)
    return _best(rows, pair_scores(queries, gallery, rows, longest=longest), k=k)


def _best(rows: IntArray, scores: ScoreArray, *, k: int) -> TopK:
    """The k best of (n_queries, n) rows in ascending order, by their scores."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    missing = k - rows.shape[1]
    if missing > 0:
        rows = np.pad(rows, ((0, 0), (0, missing)), constant_values=-1)
        scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf)
    return TopK(rows, scores)


def _possible_winners(items: GalleryRows, query: FloatArray, limit: float, allowed: BoolArray) -> IntArray:
    """Every allowed item whose float32 score reaches `limit`: all that could be among the k best.

    Reached when the margin was too small, for example with many copies of one image.
    """
    parts = [np.empty(0, dtype=np.int64)]
    for start, chunk in zip(range(0, len(items), items.step), items.chunks(), strict=True):
        parts.append(start + np.flatnonzero((chunk @ query >= limit) & allowed[start : start + len(chunk)]))
    return np.concatenate(parts)


def _without_repeats(masks: Mapping[str, BoolArray]) -> tuple[dict[str, BoolArray], dict[str, str]]:
    """Masks that differ, and for every name the one that stands for it."""
    seen: dict[bytes, str] = {}
    alias = {name: seen.setdefault(np.packbits(mask).tobytes(), name) for name, mask in masks.items()}
    return {name: masks[name] for name in sorted(set(alias.values()))}, alias


def _check_shapes(
    queries: FloatArray,
    gallery: FloatArray,
    k: int,
    query_products: IntArray | None,
    gallery_products: IntArray | None,
    masks: Mapping[str, BoolArray],
    among: IntArray | None,
) -> None:
    if k < 1:
        raise ConfigError(f"k: expected at least 1, got {k}")
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ConfigError(f"embeddings: expected matrices of one dim, got {queries.shape}, {gallery.shape}")
    if (query_products is None) != (gallery_products is None):
        raise ConfigError("products: give the codes of both queries and gallery, or of neither")
    if query_products is not None and query_products.shape != (len(queries),):
        raise ConfigError(f"query_products: expected {len(queries)} codes, got {query_products.shape}")
    if gallery_products is not None and gallery_products.shape != (len(gallery),):
        raise ConfigError(f"gallery_products: expected {len(gallery)} codes, got {gallery_products.shape}")
    for name, mask in masks.items():
        if mask.shape != (len(gallery),) or mask.dtype != np.bool_:
            raise ConfigError(f"mask '{name}': expected {len(gallery)} booleans, got {mask.shape}")
    edges = np.concatenate([[-1], [] if among is None else among, [len(gallery)]])
    if not (np.diff(edges) > 0).all():
        raise ConfigError(f"among: expected ascending rows of {len(gallery)}, each once")
