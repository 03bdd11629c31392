"""The linear probe reads what is there and says when it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from lib.base.params import Bootstrap
from lib.evaluation import probe
from lib.evaluation.bootstrap import draw_counts
from lib.evaluation.measure import Measured, summarise_balanced
from lib.evaluation.probe import linear_probe


def example(rng: np.random.Generator, n: int, *, signal: float) -> tuple[np.ndarray, np.ndarray]:
    values = rng.integers(0, 3, n)
    rows = rng.normal(size=(n, 12)) + signal * 3 * np.eye(12)[values]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), values


def test_reads_a_signal_and_not_noise() -> None:
    rng = np.random.default_rng(0)
    for signal, low, high in ((1.0, 0.85, 1.0), (0.0, 0.2, 0.5)):
        train, test = example(rng, 300, signal=signal), example(rng, 200, signal=signal)
        found = linear_probe(*train, {"test": test}, rng=np.random.default_rng(1))
        measured = found.splits["test"]
        assert low <= measured.value.mean() <= high
        majority = np.bincount(train[1]).argmax()
        assert measured.chance.mean() == pytest.approx((test[1] == majority).mean())
        assert len(measured.value) == 200 and measured.ceiling.mean() == 1.0


def test_a_value_that_train_does_not_have_lowers_the_ceiling() -> None:
    rng = np.random.default_rng(0)
    images, values = example(rng, 100, signal=1.0)
    found = linear_probe(images, values, {"test": (images[:10], np.array([*values[:8], 7, -1]))}, rng=rng)
    measured = found.splits["test"]
    assert measured.ceiling[:9].tolist() == [1] * 8 + [0] and measured.value[8] == 0
    assert np.isnan([measured.value[9], measured.chance[9], measured.ceiling[9]]).all()


def test_says_why_not() -> None:
    rng = np.random.default_rng(0)
    images, values = example(rng, 60, signal=1.0)
    one = linear_probe(images, np.zeros(60, np.int64), {"test": (images, values)}, rng=rng)
    assert one.splits == {} and "only one value" in one.skipped["test"]
    few = linear_probe(images, np.where(np.arange(60) < 5, values, -1), {"test": (images, values)}, rng=rng)
    assert "5 train items" in few.skipped["test"]
    none = linear_probe(images, values, {"test": (images, np.full(60, -1))}, rng=rng)
    assert none.skipped == {"test": "no query with a known value"}


def test_unknown_left_out_and_sample_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MAX_ITEMS", 50)
    rng = np.random.default_rng(0)
    images, values = example(rng, 200, signal=0.5)
    values[::3] = -1
    found = [linear_probe(images, values, {"a": (images, values)}, rng=np.random.default_rng(2)) for _ in range(2)]
    one, two = (probe_.splits["a"].value for probe_ in found)
    np.testing.assert_array_equal(one, two)
    assert (~np.isnan(one)).sum() == (values >= 0).sum()


def test_balanced_accuracy_counts_every_value_alike_also_in_the_interval() -> None:
    rng = np.random.default_rng(4)
    values = np.array([*[0] * 30, *[1] * 6, *[2] * 2, 3, -1])
    predicted = np.where(rng.random(40) < 0.6, values, 0)
    clusters = np.repeat(np.arange(20), 2)
    hits, majority = ((found == values).astype(float) for found in (predicted, np.zeros(40)))
    measured = Measured(*np.where(values < 0, np.nan, [hits, majority, np.ones(40)]))
    found = summarise_balanced(measured, values, clusters, Bootstrap(resamples=500, seed=3))
    assert found["value"] == pytest.approx(balanced_accuracy_score(values[:39], predicted[:39]))
    assert found["chance"] == pytest.approx(1 / 4) and found["ceiling"] == 1.0 and found["n_queries"] == 39

    share = {value: 1 / (values == value).sum() for value in range(4)}
    drawn = []
    for weights in draw_counts(20, 500, np.random.default_rng(3)):
        rows = [row for row in range(39) for _ in range(int(weights[clusters[row]]))]
        drawn.append(np.average([hits[row] for row in rows], weights=[share[values[row]] for row in rows]))
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
    assert found["low"] < found["value"] < found["high"]


def test_balanced_accuracy_where_hardly_anything_is_known() -> None:
    """Most resamples then hold no query that counts."""
    value = np.array([1.0, *[np.nan] * 29])
    found = summarise_balanced(
        Measured(value, value, value), np.zeros(30, np.int64), np.arange(30), Bootstrap(resamples=200, seed=1)
    )
    assert found == dict.fromkeys(("value", "low", "high", "chance", "ceiling"), 1.0) | {"n_queries": 1}


def test_a_value_that_the_draw_misses_is_learnt_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """One odd item among many: a draw without it would hold one value, which no classifier can be fitted to."""
    monkeypatch.setattr(probe, "MAX_ITEMS", 30)
    rng = np.random.default_rng(0)
    images, values = rng.normal(size=(2000, 4)).astype(np.float32), np.zeros(2000, dtype=np.int64)
    values[7], images[7] = 1, 9.0
    found = linear_probe(images, values, {"test": (images[:20], values[:20])}, rng=np.random.default_rng(42))
    assert not found.skipped
    measured = found.splits["test"]
    assert measured.ceiling.tolist() == [1.0] * 20 and measured.value[7] == 1.0
