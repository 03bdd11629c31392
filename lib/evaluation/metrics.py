"""Retrieval metrics per query, in plain NumPy, each with its chance level and its ceiling.

Every function returns one float64 per query; NaN means "this query does not count" and is left out of
means, never taken for 0. *Chance* is the expected value under a uniformly random ranking of the items
that the query may retrieve; the *ceiling* is the value of the best possible ranking. Rankings are given
best first; how equal scores are ordered is decided by the search (smaller row first).

Value codes are integers; `UNKNOWN` (-1) stands for an unknown value and for padding.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
ScoreArray = npt.NDArray[np.float64]

UNKNOWN = -1


def attribute_hits(query_values: IntArray, neighbour_values: IntArray) -> IntArray:
    """Number of neighbours that bear the query's value; an unknown neighbour is no match.

    Args:
        query_values: (n_queries,) value codes.
        neighbour_values: (n_queries, k) value codes of the retrieved items, padded with -1.

    Returns:
        (n_queries,) counts; -1 where the query's value is unknown.
    """
    hits = (neighbour_values == query_values[:, None]).sum(axis=1)
    counts: IntArray = np.where(query_values == UNKNOWN, UNKNOWN, hits)
    return counts


def attribute_precision_at_k(query_values: IntArray, neighbour_values: IntArray) -> ScoreArray:
    """Share of the k results that bear the query's value: matches / k.

    The divisor is k even when fewer than k items could be retrieved. A query whose value is unknown gives
    NaN. Arguments as in `attribute_hits`; k is the number of columns.

    >>> attribute_precision_at_k(np.array([1, 2, -1]), np.array([[1, 1], [2, -1], [3, 3]]))
    array([1. , 0.5, nan])
    """
    hits = attribute_hits(query_values, neighbour_values)
    return np.where(hits < 0, np.nan, hits / neighbour_values.shape[1])


def precision_chance(n_relevant: IntArray, n_allowed: IntArray, *, k: int) -> ScoreArray:
    """Expected matches / k of a random ranking: min(k, n_allowed) / k * n_relevant / n_allowed.

    Args:
        n_relevant: (n_queries,) items that match, among those the query may retrieve.
        n_allowed: (n_queries,) items the query may retrieve; 0 gives 0.
        k: length of the ranking.

    >>> precision_chance(np.array([5, 1]), np.array([20, 1]), k=10)
    array([0.25, 0.1 ])
    """
    shown = np.minimum(n_allowed, k) / k
    return np.asarray(shown * n_relevant / np.maximum(n_allowed, 1), dtype=np.float64)


def precision_ceiling(n_relevant: IntArray, *, k: int) -> ScoreArray:
    """Highest possible matches / k: min(k, n_relevant) / k.

    >>> precision_ceiling(np.array([5, 30]), k=10)
    array([0.5, 1. ])
    """
    return np.asarray(np.minimum(n_relevant, k) / k, dtype=np.float64)


def hit_rate_at_k(relevant: BoolArray, n_relevant: IntArray) -> ScoreArray:
    """1 when any of the k results is relevant, else 0 (metric learning calls it Recall@k).

    Args:
        relevant: (n_queries, k) True where the result at that rank is relevant.
        n_relevant: (n_queries,) relevant items the query could retrieve; 0 gives NaN.

    >>> hit_rate_at_k(np.array([[False, True], [False, False]]), np.array([1, 0]))
    array([ 1., nan])
    """
    return _counted(np.asarray(relevant.any(axis=1), dtype=np.float64), n_relevant)


def recall_at_k(relevant: BoolArray, n_relevant: IntArray) -> ScoreArray:
    """Relevant results / all relevant items (trec_eval `recall_k`); arguments as in `hit_rate_at_k`.

    >>> recall_at_k(np.array([[False, True]]), np.array([4]))
    array([0.25])
    """
    return _counted(relevant.sum(axis=1) / np.maximum(n_relevant, 1), n_relevant)


def average_precision_at_k(relevant: BoolArray, n_relevant: IntArray) -> ScoreArray:
    """Mean over all relevant items of the precision at their rank, 0 beyond k (trec_eval `map_cut_k`).

    The divisor is the number of relevant items, not min(k, that). Arguments as in `hit_rate_at_k`.

    >>> average_precision_at_k(np.array([[True, False, True]]), np.array([2])).round(4)
    array([0.8333])
    """
    ranks = np.arange(1, relevant.shape[1] + 1)
    precision = np.cumsum(relevant, axis=1) / ranks
    return _counted((precision * relevant).sum(axis=1) / np.maximum(n_relevant, 1), n_relevant)


def ndcg_at_k(relevant: BoolArray, n_relevant: IntArray) -> ScoreArray:
    """Discounted gain (1 / log2(rank + 1) per relevant result) over that of the best ranking.

    Järvelin and Kekäläinen 2002 with binary gains (trec_eval `ndcg_cut_k`); arguments as in `hit_rate_at_k`.

    >>> ndcg_at_k(np.array([[False, True]]), np.array([1])).round(4)
    array([0.6309])
    """
    discounts = _discounts(relevant.shape[1])
    return _counted((relevant * discounts).sum(axis=1) / _ideal_gain(n_relevant, discounts), n_relevant)


def hit_rate_chance(n_relevant: IntArray, n_allowed: IntArray, *, k: int) -> ScoreArray:
    """Probability that a random ranking shows a relevant item: 1 - C(n - m, k) / C(n, k); NaN for m = 0.

    >>> hit_rate_chance(np.array([1]), np.array([4]), k=2)
    array([0.5])
    """
    missed = np.ones(len(n_relevant))
    for place in range(k):  # the product over ranks of "the next one is not relevant either"
        left = n_allowed - place
        missed *= np.where(left > 0, np.maximum(left - n_relevant, 0) / np.maximum(left, 1), 1.0)
    return _counted(1.0 - missed, n_relevant)


def recall_chance(n_relevant: IntArray, n_allowed: IntArray, *, k: int) -> ScoreArray:
    """Expected recall of a random ranking: min(k, n_allowed) / n_allowed; NaN where nothing is relevant."""
    return _counted(np.minimum(n_allowed, k) / np.maximum(n_allowed, 1), n_relevant)


def average_precision_chance(n_relevant: IntArray, n_allowed: IntArray, *, k: int) -> ScoreArray:
    """Expected `average_precision_at_k` of a random ranking; NaN where nothing is relevant.

    With m of n relevant, rank i is relevant with probability m / n, and then (i - 1)(m - 1) / (n - 1) of
    the ranks before it are: the mean is 1/n * sum over i of (1 + (i - 1)(m - 1) / (n - 1)) / i.

    >>> average_precision_chance(np.array([1]), np.array([2]), k=2)
    array([0.75])
    """
    total = np.zeros(len(n_relevant))
    for rank in range(1, k + 1):
        before = (rank - 1) * (n_relevant - 1) / np.maximum(n_allowed - 1, 1)
        total += np.where(rank <= n_allowed, (1.0 + before) / rank, 0.0)
    return _counted(total / np.maximum(n_allowed, 1), n_relevant)


def ndcg_chance(n_relevant: IntArray, n_allowed: IntArray, *, k: int) -> ScoreArray:
    """Expected `ndcg_at_k` of a random ranking; NaN where nothing is relevant."""
    discounts = _discounts(k)
    reached = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(n_allowed, k)]
    gain = reached * n_relevant / np.maximum(n_allowed, 1)
    return _counted(gain / _ideal_gain(n_relevant, discounts), n_relevant)


def recall_ceiling(n_relevant: IntArray, *, k: int) -> ScoreArray:
    """Highest possible recall, and average precision: min(k, n_relevant) / n_relevant; NaN where 0.

    >>> recall_ceiling(np.array([4, 1, 0]), k=2)
    array([0.5, 1. , nan])
    """
    return _counted(np.minimum(n_relevant, k) / np.maximum(n_relevant, 1), n_relevant)


def full_ceiling(n_relevant: IntArray) -> ScoreArray:
    """Highest possible hit rate, and nDCG: 1; NaN where nothing is relevant."""
    return _counted(np.ones(len(n_relevant)), n_relevant)


def count_matching(
    query_values: IntArray,
    gallery_values: IntArray,
    *,
    query_products: IntArray,
    gallery_products: IntArray,
) -> IntArray:
    """Items outside the query's own product that bear its value: the relevant ones of `<attribute>@k`.

    Args:
        query_values: (n_queries,) value codes; an unknown one has 0 matching items.
        gallery_values: (n_items,) value codes.
        query_products: (n_queries,) product codes, at least 0.
        gallery_products: (n_items,) product codes, at least 0.

    Returns:
        (n_queries,) counts.

    >>> product = np.array([0, 0, 1])
    >>> count_matching(np.array([7]), np.array([7, 3, 7]), query_products=product[:1], gallery_products=product)
    array([1])
    """
    known = gallery_values != UNKNOWN
    width = int(max(gallery_values.max(initial=0), query_values.max(initial=0))) + 1
    everywhere = np.bincount(gallery_values[known], minlength=width)
    cells, counts = np.unique(gallery_products[known] * width + gallery_values[known], return_counts=True)
    wanted = query_products * width + query_values
    place = np.searchsorted(cells, wanted)
    own = np.zeros(len(query_values), dtype=np.int64)
    inside = np.flatnonzero(place < len(cells))
    same = inside[cells[place[inside]] == wanted[inside]]
    own[same] = counts[place[same]]
    return np.where(query_values == UNKNOWN, 0, everywhere[query_values] - own)


def count_allowed(query_products: IntArray, gallery_products: IntArray, allowed: BoolArray) -> IntArray:
    """Items of `allowed` that a query may retrieve: all but those of its own product; (n_queries,)."""
    products = np.sort(gallery_products[allowed])
    first = np.searchsorted(products, query_products, side="left")
    last = np.searchsorted(products, query_products, side="right")
    return np.asarray(len(products) - (last - first), dtype=np.int64)


def _counted(values: ScoreArray, n_relevant: IntArray) -> ScoreArray:
    return np.where(n_relevant > 0, values, np.nan)


def _discounts(k: int) -> ScoreArray:
    return np.asarray(1.0 / np.log2(np.arange(2, k + 2)), dtype=np.float64)


def _ideal_gain(n_relevant: IntArray, discounts: ScoreArray) -> ScoreArray:
    gains = np.cumsum(discounts)
    return np.asarray(gains[np.clip(n_relevant, 1, len(gains)) - 1], dtype=np.float64)
