"""The linear probe reads what is there and says when it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from lib.evaluation import probe
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
        assert low <= found.splits["test"]["accuracy"] <= high
        majority = np.bincount(train[1]).argmax()
        assert found.splits["test"]["chance"] == pytest.approx((test[1] == majority).mean())
        assert found.splits["test"]["n"] == 200


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
    assert found[0] == found[1]
    assert found[0].splits["a"]["n"] == (values >= 0).sum()
