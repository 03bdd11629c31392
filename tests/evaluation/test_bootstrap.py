"""The vectorised bootstrap against a slow loop over the same draws."""

from __future__ import annotations

import numpy as np
import pytest

from lib.base.errors import ConfigError
from lib.evaluation import bootstrap
from lib.evaluation.bootstrap import cluster_sums, clustered_intervals


def slow_intervals(values, clusters, *, resamples, rng):
    """Draw products, gather their queries, take the mean: one resample after the other."""
    names = np.unique(clusters)
    low, high = [], []
    draws = rng.integers(0, len(names), size=(resamples, len(names)))
    for column in values.T:
        means = []
        for draw in draws:
            drawn = np.concatenate([column[clusters == names[c]] for c in draw])
            if not np.isnan(drawn).all():
                means.append(np.nanmean(drawn))
        low.append(np.percentile(means, 2.5))
        high.append(np.percentile(means, 97.5))
    return np.array(low), np.array(high)


def example(rng: np.random.Generator):
    values = rng.random((60, 3))
    values[rng.random((60, 3)) < 0.3] = np.nan
    return values, rng.integers(0, 17, 60) * 3


def test_equals_the_slow_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    values, clusters = example(np.random.default_rng(0))
    found = clustered_intervals(values, clusters, resamples=400, rng=np.random.default_rng(5))
    low, high = slow_intervals(values, clusters, resamples=400, rng=np.random.default_rng(5))
    np.testing.assert_allclose(found.low, low, atol=1e-12)
    np.testing.assert_allclose(found.high, high, atol=1e-12)
    monkeypatch.setattr(bootstrap, "_BLOCK_CELLS", 100)
    blocked = clustered_intervals(values, clusters, resamples=400, rng=np.random.default_rng(5))
    np.testing.assert_allclose(blocked.low, low, atol=1e-12)


def test_sums_by_hand() -> None:
    values = np.array([[1.0, np.nan], [2.0, 3.0], [4.0, 5.0]])
    sums, counts = cluster_sums(values, np.array([7, 7, 2]))
    assert sums.tolist() == [[4.0, 5.0], [3.0, 3.0]]
    assert counts.tolist() == [[1.0, 1.0], [2.0, 1.0]]


def test_clusters_widen_the_interval() -> None:
    """Twenty copies of ten values hold ten facts, not two hundred."""
    rng = np.random.default_rng(1)
    values = np.repeat(rng.random(10), 20)[:, None]
    apart = clustered_intervals(values, np.arange(200), resamples=1000, rng=np.random.default_rng(0))
    together = clustered_intervals(values, np.repeat(np.arange(10), 20), resamples=1000, rng=np.random.default_rng(0))
    assert together.high[0] - together.low[0] > 3 * (apart.high[0] - apart.low[0])


def test_coverage_is_about_95_percent() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        products = rng.normal(size=60)
        values = np.repeat(products, 2) + 0.1 * rng.normal(size=120)
        found = clustered_intervals(
            values[:, None], np.repeat(np.arange(60), 2), resamples=400, rng=np.random.default_rng(3)
        )
        inside += bool(found.low[0] <= 0.0 <= found.high[0])
    assert 0.89 <= inside / 200 <= 0.99


def test_deterministic_and_paired_zero() -> None:
    values, clusters = example(np.random.default_rng(3))
    one = clustered_intervals(values, clusters, resamples=100, rng=np.random.default_rng(9))
    two = clustered_intervals(values, clusters, resamples=100, rng=np.random.default_rng(9))
    np.testing.assert_array_equal(one.low, two.low)
    delta = clustered_intervals(values - values, clusters, resamples=100, rng=np.random.default_rng(9))
    assert delta.low.tolist() == delta.high.tolist() == [0.0, 0.0, 0.0]


def test_nothing_counted_and_empty() -> None:
    found = clustered_intervals(np.full((4, 1), np.nan), np.arange(4), resamples=100, rng=np.random.default_rng(0))
    assert np.isnan(found.low).all()
    empty = clustered_intervals(np.empty((0, 2)), np.empty(0, np.int64), resamples=100, rng=np.random.default_rng(0))
    assert np.isnan(empty.high).all()
    with pytest.raises(ConfigError, match="clusters"):
        clustered_intervals(np.ones((3, 1)), np.arange(4), resamples=10, rng=np.random.default_rng(0))
