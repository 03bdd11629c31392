"""Exact top-k search of unit rows: fast float32 products choose candidates, float64 decides.

A score is what `lib.retrieval.scores` says; higher is better and equal scores are ordered by gallery row. The
result equals a full float64 search: float32 is used only to discard items that provably cannot win.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from lib.base.artifacts import FloatArray
from lib.base.errors import ConfigError
from lib.retrieval.candidates import Candidates, Excluded, group_size
from lib.retrieval.scores import DECIMALS, GalleryRows, error_bounds, pair_scores
from lib.retrieval.top_k import IntArray, TopK

BoolArray = npt.NDArray[np.bool_]

MARGIN = 16
"""Candidates beyond k. Too few would only cost time: the rare unproven query is searched again."""

_BLOCK_CELLS = 1 << 24
"""float32 scores held at once (64 MiB): 1,024 queries by `CHUNK_ITEMS`, which multiply as fast as larger blocks."""
_MASKED_CELLS = 1 << 21
"""The same of scores under a mask (8 MiB), which are only looked through."""


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
    items = GalleryRows(gallery, among)
    width = k + MARGIN
    unique, alias = _without_repeats(masks)
    found = {name: Candidates.none(len(queries), width) for name in unique}
    excluded = Excluded.of(query_products, gallery_products)
    bounds = error_bounds(queries, items)
    buffers = _Buffers()
    starts = range(0, len(items), items.step)
    for start, chunk in zip(tqdm(starts, desc="exact search", mininterval=1, delay=2), items.chunks(), strict=True):
        _search_chunk(queries, chunk, start, excluded=excluded, masks=unique, found=found, buffers=buffers)
    results = {}
    for name, candidates in found.items():
        allowed = masks[name]
        top = decide(queries, gallery, items.numbers(candidates.possible(k, bounds)), k=k)
        others = candidates.scores[:, -1]  # no item that is not a candidate has a higher float32 score
        unproven = (others > -np.inf) & (top.scores[:, -1] <= others + bounds + 10.0**-DECIMALS)
        for query in np.flatnonzero(unproven).tolist():
            limit = top.scores[query, -1] - bounds[query] - 10.0**-DECIMALS
            rows = _possible_winners(items, queries[query], limit, allowed)
            if excluded is not None:
                rows = np.setdiff1d(rows, excluded.of_query(query), assume_unique=True)
            best = decide(queries[query : query + 1], gallery, items.numbers(rows[None, :]), k=k)
            top.rows[query], top.scores[query] = best.rows[0], best.scores[0]
        results[name] = top
    return {name: results[alias[name]] for name in masks}


class _Buffers:
    """Scores of a block, and the same under a mask, in memory that every chunk uses anew.

    By numpy, which asks for large pages; a fresh buffer for every product cost half as much as the product.
    """

    def __init__(self) -> None:
        self._kept: dict[str, FloatArray] = {}

    def take(self, name: str, shape: tuple[int, int]) -> FloatArray:
        """(rows, columns) float32, C-contiguous, holding anything."""
        cells = shape[0] * shape[1]
        if name not in self._kept or self._kept[name].size < cells:
            self._kept[name] = np.empty(cells, dtype=np.float32)
        return self._kept[name][:cells].reshape(shape)


def _search_chunk(
    queries: FloatArray,
    chunk: FloatArray,
    start: int,
    *,
    excluded: Excluded | None,
    masks: Mapping[str, BoolArray],
    found: dict[str, Candidates],
    buffers: _Buffers,
) -> None:
    """Offer every item of one gallery chunk, the items from `start` on, to the candidates of every query."""
    items = range(start, start + len(chunk))
    width = next(iter(found.values())).rows.shape[1]
    group = group_size(len(items), width)
    # a row of 4 * odd groups: rows at a power of two apart fall on the same lines of the cache, and multiply slower
    n_groups = 4 * (-(-len(items) // (4 * group)) | 1)
    cells = n_groups * group
    blocked: dict[str, torch.Tensor | None] = {}
    for name, mask in masks.items():
        allowed_here = mask[items.start : items.stop]
        bias = np.full(cells, -np.inf, dtype=np.float32)
        bias[: len(items)][allowed_here] = 0.0
        blocked[name] = None if allowed_here.all() else torch.from_numpy(bias)
    n_blocks = max(-(-len(queries) * cells // _BLOCK_CELLS), 1)
    block = -(-len(queries) // n_blocks)  # of about equal size: a small last one would multiply slowly
    products = buffers.take("products", (block, cells))
    products[:, len(items) :] = -np.inf
    for first in range(0, len(queries), max(block, 1)):
        part = range(first, min(first + block, len(queries)))
        embeddings = np.ascontiguousarray(queries[part.start : part.stop], dtype=np.float32)
        # by numpy: its library multiplies half as fast again as torch's on processors that are not Intel's
        np.matmul(embeddings, chunk.T, out=products[: len(part), : len(items)])
        scores = torch.from_numpy(products[: len(part)])
        if excluded is not None:
            query, item = excluded.cells(part, items)
            scores[torch.from_numpy(query), torch.from_numpy(item)] = -torch.inf
        for name, bias_tensor in blocked.items():
            if bias_tensor is None:
                found[name].offer(slice(part.start, part.stop), scores, first=items.start, n_groups=n_groups)
                continue
            step = max(_MASKED_CELLS // cells, 1)
            for begin in range(0, len(part), step):
                few = scores[begin : begin + step]
                masked = torch.from_numpy(buffers.take("masked", (len(few), cells)))
                torch.add(few, bias_tensor, out=masked)
                of = part[begin : begin + len(few)]
                found[name].offer(slice(of.start, of.stop), masked, first=items.start, n_groups=n_groups)


def decide(queries: FloatArray, gallery: FloatArray, rows: IntArray, *, k: int) -> TopK:
    """The exact k best of (n_queries, n) candidate rows, -1 meaning none; ties to the smaller row."""
    rows = np.sort(rows, axis=1)
    scores = pair_scores(queries, gallery, rows)
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
