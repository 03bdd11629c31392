"""From rankings to metrics: per query a value, a chance level and a ceiling; over queries a mean with interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lib.base.params import Bootstrap
from lib.evaluation import metrics
from lib.evaluation.bootstrap import clustered_intervals, percentile_interval, resampled_means
from lib.retrieval.top_k import TopK

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
ScoreArray = npt.NDArray[np.float64]

DECIMALS = 10
"""Written numbers are rounded: the last bits of a sum depend on the number of threads."""


@dataclass(frozen=True)
class Measured:
    """One metric per query: value, chance and ceiling, each (n_queries,); NaN = the query does not count."""

    value: ScoreArray
    chance: ScoreArray
    ceiling: ScoreArray

    def of_queries(self, rows: IntArray) -> Measured:
        """The same metric of some of the queries."""
        return Measured(self.value[rows], self.chance[rows], self.ceiling[rows])


@dataclass(frozen=True)
class Codes:
    """A column of gallery and queries as integers of one coding; -1 = unknown."""

    gallery: IntArray
    queries: IntArray

    def of_queries(self, rows: IntArray) -> Codes:
        """The same gallery with some of the queries."""
        return Codes(self.gallery, self.queries[rows])


def column_codes(gallery: pd.DataFrame, queries: pd.DataFrame, column: str, *, unknown: Sequence[str] = ()) -> Codes:
    """Code a column of two tables together; None and the values of `unknown` become -1.

    >>> column_codes(pd.DataFrame({"a": ["x", None]}), pd.DataFrame({"a": ["y", "x"]}), "a").queries
    array([1, 0])
    """
    values = pd.concat([gallery[column], queries[column]], ignore_index=True).astype(object)
    values = values.where(~values.isin(list(unknown)), None)
    codes = pd.factorize(values, sort=True)[0].astype(np.int64)
    return Codes(codes[: len(gallery)], codes[len(gallery) :])


def measure_precision(top: TopK, label: Codes, products: Codes, *, allowed: BoolArray) -> Measured | str:
    """`<label>@k` of one search, or why it cannot be measured.

    Args:
        top: what was retrieved among the `allowed` items outside each query's own product.
        label: value codes of gallery and queries.
        products: product codes of gallery and queries.
        allowed: (n_items,) the items that the search could return.
    """
    if not (label.queries >= 0).any():
        return "no query with a known value"
    if not (label.gallery >= 0).any():
        return "no gallery item with a known value"
    k = top.rows.shape[1]
    known = label.queries >= 0
    relevant = metrics.count_matching(
        label.queries,
        np.where(allowed, label.gallery, -1),
        query_products=products.queries,
        gallery_products=products.gallery,
    )
    n_allowed = metrics.count_allowed(products.queries, products.gallery, allowed)
    return Measured(
        metrics.attribute_precision_at_k(label.queries, _codes_at(label.gallery, top.rows)),
        np.where(known, metrics.precision_chance(relevant, n_allowed, k=k), np.nan),
        np.where(known, metrics.precision_ceiling(relevant, k=k), np.nan),
    )


Ranking = Callable[[BoolArray, IntArray, IntArray], Measured]


def _hit_rate(relevant: BoolArray, n_relevant: IntArray, n_allowed: IntArray) -> Measured:
    return Measured(
        metrics.hit_rate_at_k(relevant, n_relevant),
        metrics.hit_rate_chance(n_relevant, n_allowed, k=relevant.shape[1]),
        metrics.full_ceiling(n_relevant),
    )


def _recall(relevant: BoolArray, n_relevant: IntArray, n_allowed: IntArray) -> Measured:
    return Measured(
        metrics.recall_at_k(relevant, n_relevant),
        metrics.recall_chance(n_relevant, n_allowed, k=relevant.shape[1]),
        metrics.recall_ceiling(n_relevant, k=relevant.shape[1]),
    )


def _average_precision(relevant: BoolArray, n_relevant: IntArray, n_allowed: IntArray) -> Measured:
    return Measured(
        metrics.average_precision_at_k(relevant, n_relevant),
        metrics.average_precision_chance(n_relevant, n_allowed, k=relevant.shape[1]),
        metrics.recall_ceiling(n_relevant, k=relevant.shape[1]),
    )


def _ndcg(relevant: BoolArray, n_relevant: IntArray, n_allowed: IntArray) -> Measured:
    return Measured(
        metrics.ndcg_at_k(relevant, n_relevant),
        metrics.ndcg_chance(n_relevant, n_allowed, k=relevant.shape[1]),
        metrics.full_ceiling(n_relevant),
    )


RANKINGS: Mapping[str, Ranking] = {
    "hit_rate": _hit_rate,
    "recall": _recall,
    "map": _average_precision,
    "ndcg": _ndcg,
}


def measure_rankings(
    top: TopK, relevance: Codes, n_relevant: IntArray, n_allowed: IntArray, *, wanted: Sequence[tuple[str, int]]
) -> dict[str, Measured]:
    """Ranking metrics of one search, where an item is relevant when it bears the query's code.

    Args:
        top: at least as many results as the largest k wanted.
        relevance: codes of what is searched and of the queries; -1 is relevant to nothing.
        n_relevant: (n_queries,) relevant items each query could retrieve; 0 = it does not count.
        n_allowed: (n_queries,) items each query could retrieve.
        wanted: (name in `RANKINGS`, k).

    Returns:
        `"<name>@<k>"` -> `Measured`.
    """
    relevant = (_codes_at(relevance.gallery, top.rows) == relevance.queries[:, None]) & (top.rows >= 0)
    relevant &= relevance.queries[:, None] >= 0
    return {f"{name}@{k}": RANKINGS[name](relevant[:, :k], n_relevant, n_allowed) for name, k in wanted}


def summarise(
    measured: Mapping[str, Measured], clusters: IntArray, bootstrap: Bootstrap
) -> dict[str, dict[str, float]]:
    """Means over the queries that count, with intervals; a metric that no query counts for is left out.

    Args:
        measured: metric -> values of the same queries.
        clusters: (n_queries,) product codes.
        bootstrap: resamples and seed.

    Returns:
        metric -> `{"value", "low", "high", "n_queries", "chance", "ceiling"}`.
    """
    names = [name for name, metric in measured.items() if not np.isnan(metric.value).all()]
    if not names:
        return {}
    values = np.column_stack([measured[name].value for name in names])
    rng = np.random.default_rng(bootstrap.seed)
    intervals = clustered_intervals(values, clusters, resamples=bootstrap.resamples, rng=rng)
    summary = {}
    for column, name in enumerate(names):
        metric = measured[name]
        summary[name] = {
            "value": rounded(np.nanmean(metric.value)),
            "low": rounded(intervals.low[column]),
            "high": rounded(intervals.high[column]),
            "n_queries": int((~np.isnan(metric.value)).sum()),
            "chance": rounded(np.nanmean(metric.chance)),
            "ceiling": rounded(np.nanmean(metric.ceiling)),
        }
    return summary


def summarise_balanced(
    measured: Measured, values: IntArray, clusters: IntArray, bootstrap: Bootstrap
) -> dict[str, float]:
    """Mean over the values of each value's mean: for hits of a classifier its balanced accuracy.

    Every value counts the same, however few queries have it (Brodersen et al. 2010, "The balanced accuracy and its
    posterior distribution"). The interval is of the mean with these weights: a rare value that a resample misses
    altogether would otherwise drop out of its mean, and most resamples would come to more than all queries do.

    Args:
        measured: one metric, of at least one query that counts.
        values: (n_queries,) value codes; those of queries that do not count do not matter.
        clusters: (n_queries,) product codes.
        bootstrap: resamples and seed.

    Returns:
        The keys of `summarise`.
    """
    counted = ~np.isnan(measured.value)
    present, place, counts = np.unique(values[counted], return_inverse=True, return_counts=True)
    weights = np.full(len(values), np.nan)
    weights[counted] = 1.0 / (len(present) * counts[place])
    rng = np.random.default_rng(bootstrap.seed)
    columns = np.column_stack([weights * measured.value, weights])
    sums, weight = resampled_means(columns, clusters, resamples=bootstrap.resamples, rng=rng).T
    low, high = percentile_interval(sums / weight)
    return {
        "value": rounded(np.nansum(weights * measured.value)),
        "low": rounded(low),
        "high": rounded(high),
        "n_queries": int(counted.sum()),
        "chance": rounded(np.nansum(weights * measured.chance)),
        "ceiling": rounded(np.nansum(weights * measured.ceiling)),
    }


def rounded(value: float | np.floating) -> float:
    """A plain float of `DECIMALS` decimals, without negative zero."""
    return round(float(value), DECIMALS) + 0.0


def _codes_at(codes: IntArray, rows: IntArray) -> IntArray:
    """Codes of retrieved rows; -1 where the row is -1."""
    return np.asarray(np.where(rows >= 0, codes[rows], -1), dtype=np.int64)
