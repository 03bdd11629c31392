"""Product-clustered bootstrap of means over queries.

Queries of one product are not independent, so that whole products are drawn with replacement (Cameron,
Gelbach and Miller 2008, pairs cluster bootstrap) and the mean is taken over the queries of those drawn.

The intervals are about other queries, for the gallery and the models at hand. Measured on synthetic
catalogues, models that differ by chance: 95 % intervals of the delta held zero in 93 % of the cases with 28
query products and in 95 % with 280; with the gallery's embeddings shuffled as well, in 82 to 93 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lib.base.errors import ConfigError

IntArray = npt.NDArray[np.int64]
ScoreArray = npt.NDArray[np.float64]

LEVEL = 0.95
_BLOCK_CELLS = 1 << 22  # drawn clusters held at once (32 MiB)


@dataclass(frozen=True)
class Intervals:
    """Percentile intervals of several means.

    Attributes:
        low: (n_metrics,) lower ends; NaN for a metric that no query counts for.
        high: (n_metrics,) upper ends.
    """

    low: ScoreArray
    high: ScoreArray


def clustered_intervals(
    values: ScoreArray, clusters: IntArray, *, resamples: int, rng: np.random.Generator
) -> Intervals:
    """95 % percentile intervals of the column means, all from the same resamples.

    For a paired delta of two models pass the per-query differences: the same products are then drawn for
    both. A metric whose queries all belong to one product gets an interval of width zero: nothing can be
    said about other products.

    Args:
        values: (n_queries, n_metrics) float64; NaN = the query does not count for that metric.
        clusters: (n_queries,) code of the product of each query.
        resamples: number of draws.
        rng: source of randomness; the same state gives the same interval.

    Returns:
        `Intervals`. A resample that holds no counted query of a metric is left out of its percentiles.

    Raises:
        ConfigError: shapes that do not fit, or fewer than 1 resample.

    >>> rng = np.random.default_rng(0)
    >>> found = clustered_intervals(np.ones((4, 1)), np.array([0, 0, 1, 2]), resamples=100, rng=rng)
    >>> found.low, found.high
    (array([1.]), array([1.]))
    """
    means = resampled_means(values, clusters, resamples=resamples, rng=rng)
    ends = [percentile_interval(drawn) for drawn in means.T]
    low, high = np.array(ends, dtype=np.float64).reshape(len(ends), 2).T
    return Intervals(low, high)


def percentile_interval(drawn: ScoreArray) -> tuple[float, float]:
    """Ends of the 95 % percentile interval of what resamples came to; those that are NaN are left out."""
    counted = drawn[~np.isnan(drawn)]
    if not len(counted):
        return np.nan, np.nan
    low, high = np.quantile(counted, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return low, high


def resampled_means(
    values: ScoreArray, clusters: IntArray, *, resamples: int, rng: np.random.Generator
) -> ScoreArray:
    """Column means of every resample, (resamples, n_metrics): what `clustered_intervals` takes its percentiles of.

    Arguments and errors as there; NaN where a resample holds no counted query of a metric.
    """
    if values.ndim != 2 or clusters.shape != (len(values),):
        raise ConfigError(f"clusters: expected one code per row of {values.shape}, got shape {clusters.shape}")
    if resamples < 1:
        raise ConfigError(f"resamples: expected at least 1, got {resamples}")
    sums, counts = cluster_sums(values, clusters)
    n_clusters = len(sums)
    means = np.full((resamples, values.shape[1]), np.nan)
    step = max(_BLOCK_CELLS // max(n_clusters, 1), 1)
    for start in range(0, resamples if n_clusters else 0, step):
        size = min(step, resamples - start)
        weights = draw_counts(n_clusters, size, rng)
        drawn = weights @ counts
        with np.errstate(invalid="ignore", divide="ignore"):
            means[start : start + size] = np.where(drawn > 0, (weights @ sums) / drawn, np.nan)
    return means


def cluster_sums(values: ScoreArray, clusters: IntArray) -> tuple[ScoreArray, ScoreArray]:
    """Sum and number of the counted values per cluster and column: two (n_clusters, n_metrics) arrays."""
    _, codes = np.unique(clusters, return_inverse=True)
    n_clusters = int(codes.max(initial=-1)) + 1
    counted = ~np.isnan(values)
    sums, counts = np.zeros((n_clusters, values.shape[1])), np.zeros((n_clusters, values.shape[1]))
    for column in range(values.shape[1]):
        sums[:, column] = np.bincount(codes, np.where(counted[:, column], values[:, column], 0.0), n_clusters)
        counts[:, column] = np.bincount(codes, counted[:, column], n_clusters)
    return sums, counts


def draw_counts(n_clusters: int, size: int, rng: np.random.Generator) -> ScoreArray:
    """How often each cluster is drawn, (size, n_clusters): a multinomial with equal shares.

    Drawn as indices and counted: here four times as fast as `rng.multinomial` for 4,000 clusters.
    """
    drawn = rng.integers(0, n_clusters, size=(size, n_clusters))
    drawn += np.arange(size)[:, None] * n_clusters
    return np.bincount(drawn.ravel(), minlength=size * n_clusters).reshape(size, n_clusters).astype(np.float64)
