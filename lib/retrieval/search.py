"""Exact top-k search of unit rows: fast float32 products choose candidates, float64 decides.

The score of a query and an item is the float64 dot product of their float32 rows, rounded to 9 decimals;
higher is better and equal scores are ordered by gallery row. The result equals a full float64 search:
float32 is used only to discard items that provably cannot win.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from lib.artifacts import FloatArray
from lib.errors import ConfigError, IntegrityError

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
ScoreArray = npt.NDArray[np.float64]

DECIMALS = 9
MARGIN = 16
"""Candidates beyond k. Too few would only cost time: the rare unproven query is searched again."""

_CHUNK_ITEMS = 65_536  # gallery rows per product: bounds memory when the gallery is a memory map
_BLOCK_CELLS = 1 << 24  # float32 scores held at once (64 MiB)
_PAIR_CELLS = 1 << 17  # numbers per exact re-scoring step: stays in a core's second-level cache


@dataclass(frozen=True)
class TopK:
    """The best items of each query, best first.

    Attributes:
        rows: (n_queries, k) int64 gallery rows; -1 where fewer than k items are allowed.
        scores: (n_queries, k) float64; -inf where the row is -1.
    """

    rows: IntArray
    scores: ScoreArray


def exact_top_k(
    queries: FloatArray,
    gallery: FloatArray,
    *,
    k: int,
    query_products: IntArray | None = None,
    gallery_products: IntArray | None = None,
    masks: Mapping[str, BoolArray] | None = None,
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
    _check_shapes(queries, gallery, k, query_products, gallery_products, masks)
    width = k + MARGIN
    unique, alias = _without_repeats(masks)
    found = {name: _Candidates.none(len(queries), width) for name in unique}
    excluded = _Excluded.of(query_products, gallery_products)
    bounds = _error_bounds(queries, gallery)
    chunks = range(0, len(gallery), _CHUNK_ITEMS)
    for start in tqdm(chunks, desc="exact search", mininterval=1, delay=2):
        _search_chunk(queries, gallery, start, excluded=excluded, masks=unique, found=found)
    results = {}
    for name, candidates in found.items():
        allowed = masks[name]
        top = _decide(queries, gallery, candidates.rows, k=k)
        others = candidates.scores[:, -1]  # no item that is not a candidate has a higher float32 score
        unproven = (others > -np.inf) & (top.scores[:, -1] <= others + bounds + 10.0**-DECIMALS)
        for query in np.flatnonzero(unproven).tolist():
            limit = top.scores[query, -1] - bounds[query] - 10.0**-DECIMALS
            rows = _possible_winners(gallery, queries[query], limit, allowed)
            if excluded is not None:
                rows = np.setdiff1d(rows, excluded.of_query(query), assume_unique=True)
            best = _decide(queries[query : query + 1], gallery, rows[None, :], k=k)
            top.rows[query], top.scores[query] = best.rows[0], best.scores[0]
        results[name] = top
    return {name: results[alias[name]] for name in masks}


def pair_scores(queries: FloatArray, gallery: FloatArray, rows: IntArray) -> ScoreArray:
    """Score given gallery rows exactly, as defined at the top of this module.

    A score depends on nothing but its two rows: the products of float32 numbers are exact in float64 and
    are summed in one fixed order, so that exact duplicates tie wherever they stand.

    Args:
        queries: (n_queries, dim) float32.
        gallery: (n_items, dim) float32.
        rows: (n_queries, n) gallery rows; -1 means none.

    Returns:
        (n_queries, n) float64; -inf where the row is -1.
    """
    scores = np.full(rows.shape, -np.inf)
    if not len(gallery):
        return scores
    dim = max(queries.shape[1], 1)
    step = max(_PAIR_CELLS // dim, 1)
    for query in range(len(queries)):
        embedding = queries[query].astype(np.float64)
        for start in range(0, rows.shape[1], step):
            part = np.asarray(gallery[rows[query, start : start + step]])
            scores[query, start : start + step] = np.multiply(part, embedding).sum(axis=-1)
    scores = np.round(scores, DECIMALS) + 0.0  # no negative zero
    scores[rows < 0] = -np.inf
    return scores


@dataclass
class _Candidates:
    """The `width` best items so far by float32 score; every other item scored at most the last one."""

    rows: IntArray
    scores: npt.NDArray[np.float32]

    @classmethod
    def none(cls, n_queries: int, width: int) -> _Candidates:
        shape = (n_queries, width)
        return cls(np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32))

    def add(self, queries: slice, rows: torch.Tensor, scores: torch.Tensor) -> None:
        """Merge (n, m) new candidates of a slice of queries and keep the best, in descending order."""
        all_scores = torch.cat([torch.from_numpy(self.scores[queries]), scores], dim=1)
        all_rows = torch.cat([torch.from_numpy(self.rows[queries]), rows], dim=1)
        best = all_scores.topk(self.rows.shape[1], dim=1)
        self.scores[queries] = best.values.numpy()
        kept = all_rows.gather(1, best.indices).numpy()
        self.rows[queries] = np.where(np.isneginf(best.values.numpy()), -1, kept)


@dataclass(frozen=True)
class _Excluded:
    """Gallery rows grouped by product: those of query i are `rows[first[i] : last[i]]`."""

    rows: IntArray
    first: IntArray
    last: IntArray

    @classmethod
    def of(cls, query_products: IntArray | None, gallery_products: IntArray | None) -> _Excluded | None:
        if query_products is None or gallery_products is None:
            return None
        rows = np.argsort(gallery_products, kind="stable")
        codes = gallery_products[rows]
        first = np.searchsorted(codes, query_products, side="left")
        return cls(rows, first, np.searchsorted(codes, query_products, side="right"))

    def of_query(self, query: int) -> IntArray:
        """Gallery rows of a query's own product."""
        return self.rows[self.first[query] : self.last[query]]

    def cells(self, queries: range, items: range) -> tuple[IntArray, IntArray]:
        """(query within `queries`, item within `items`) of every cell to leave out."""
        counts = self.last[queries.start : queries.stop] - self.first[queries.start : queries.stop]
        query = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        row = self.rows[self.first[queries.start + query] + place]
        inside = (row >= items.start) & (row < items.stop)
        return query[inside], row[inside] - items.start


def _search_chunk(
    queries: FloatArray,
    gallery: FloatArray,
    start: int,
    *,
    excluded: _Excluded | None,
    masks: Mapping[str, BoolArray],
    found: dict[str, _Candidates],
) -> None:
    """Offer every item of one gallery chunk to the candidates of every query."""
    items = range(start, min(start + _CHUNK_ITEMS, len(gallery)))
    width = next(iter(found.values())).rows.shape[1]
    group = _group_size(len(items), width)
    n_groups = -(-len(items) // group)
    padded = np.zeros((n_groups * group, gallery.shape[1]), dtype=np.float32)
    padded[: len(items)] = gallery[items.start : items.stop]
    transposed = torch.from_numpy(padded).T
    blocked = {}
    for name, mask in masks.items():
        bias = np.full(len(padded), -np.inf, dtype=np.float32)
        bias[: len(items)][mask[items.start : items.stop]] = 0.0
        blocked[name] = torch.from_numpy(bias)
    block = max(_BLOCK_CELLS // len(padded), 1)
    for first in range(0, len(queries), block):
        part = range(first, min(first + block, len(queries)))
        embeddings = torch.from_numpy(np.array(queries[part.start : part.stop], dtype=np.float32))
        scores = embeddings @ transposed
        if excluded is not None:
            query, item = excluded.cells(part, items)
            scores[torch.from_numpy(query), torch.from_numpy(item)] = -torch.inf
        for name, bias_tensor in blocked.items():
            rows, best = _best_of_groups(scores + bias_tensor, n_groups=n_groups, width=width)
            found[name].add(slice(part.start, part.stop), rows + items.start, best)


def _best_of_groups(scores: torch.Tensor, *, n_groups: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `width` highest of (n, n_groups * group) scores, as columns and values, (n, <= width).

    The `width` groups with the highest maxima hold `width` values that no value outside them exceeds, so
    that a slow selection over a whole row becomes a fast maximum and a selection over a few groups. Group j
    is the columns j, j + n_groups, …: its maximum is then taken along a vectorised axis.
    """
    grouped = scores.view(len(scores), -1, n_groups)
    if n_groups > width:
        groups = grouped.amax(dim=1).topk(width, dim=1, sorted=False).indices  # (n, width)
        size = grouped.shape[1]
        columns = groups[:, None, :] + n_groups * torch.arange(size)[None, :, None]  # (n, group, width)
        columns = columns.reshape(len(scores), -1)
        values = scores.gather(1, columns)
        best = values.topk(width, dim=1, sorted=False)
        return columns.gather(1, best.indices), best.values
    best = scores.topk(min(width, scores.shape[1]), dim=1, sorted=False)
    return best.indices, best.values


def _group_size(n_items: int, width: int) -> int:
    """About the size that balances the number of groups against the values in the chosen ones."""
    return int(np.clip(2 ** round(np.log2(max(n_items / width, 1.0)) / 2), 1, 64))


def _decide(queries: FloatArray, gallery: FloatArray, rows: IntArray, *, k: int) -> TopK:
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


def _possible_winners(gallery: FloatArray, query: FloatArray, limit: float, allowed: BoolArray) -> IntArray:
    """Every allowed row whose float32 score reaches `limit`: all that could be among the k best.

    Reached when the margin was too small, for example with many copies of one image.
    """
    parts = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(gallery), _CHUNK_ITEMS):
        scores = gallery[start : start + _CHUNK_ITEMS] @ query
        parts.append(start + np.flatnonzero((scores >= limit) & allowed[start : start + _CHUNK_ITEMS]))
    return np.concatenate(parts)


def _error_bounds(queries: FloatArray, gallery: FloatArray) -> ScoreArray:
    """(n_queries,) bound on |float32 score - exact score|, for any order of summation.

    Higham, Accuracy and Stability of Numerical Algorithms, eq. 3.5: n·u / (1 - n·u) · |x|·|y|.
    """
    largest = 0.0
    for start in range(0, len(gallery), _CHUNK_ITEMS):
        norms = _finite_norms(gallery[start : start + _CHUNK_ITEMS], name="gallery", first=start)
        largest = max(largest, float(norms.max()))
    relative = (queries.shape[1] + 1) * 2.0**-24
    largest *= relative / (1.0 - relative)
    bounds: ScoreArray = largest * _finite_norms(queries, name="queries", first=0)
    return bounds


def _finite_norms(rows: FloatArray, *, name: str, first: int) -> ScoreArray:
    squares: ScoreArray = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    if not np.isfinite(squares).all():
        row = first + int(np.flatnonzero(~np.isfinite(squares))[0])
        raise IntegrityError(f"{name}: row {row} holds NaN or infinity; embed it again")
    return np.sqrt(squares)


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
