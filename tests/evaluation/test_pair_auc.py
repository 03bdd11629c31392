"""AUC of pairs: by hand, against scikit-learn and slow loops, and intervals that hold what they claim."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from lib.base.errors import ConfigError
from lib.base.params import Bootstrap
from lib.evaluation.compatibility import held_out_pairs, measure_head, summary
from lib.evaluation.pair_auc import auc_intervals, auc_within, pair_auc, weighted_aucs

seeds = st.integers(0, 10_000)


def drawn(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and labels of both kinds."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    labels[:2] = (0, 1)
    return rng.normal(size=n).round(1), labels


def slow_auc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    won = total = 0.0
    for i in np.flatnonzero(labels == 1):
        for j in np.flatnonzero(labels == 0):
            weight = weights[i] * weights[j]
            total += weight
            won += weight * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
    return won / total if total else math.nan


@settings(max_examples=60, deadline=None)
@given(seed=seeds, n=st.integers(2, 30))
def test_against_the_references(seed: int, n: int) -> None:
    scores, labels = drawn(seed, n)
    assert pair_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    weights = np.random.default_rng(seed).integers(0, 4, size=(3, n)).astype(float)
    expected = [slow_auc(scores, labels, row) for row in weights]
    np.testing.assert_allclose(weighted_aucs(scores, labels, weights), expected, atol=1e-12)


def test_one_label_has_no_area() -> None:
    assert math.isnan(pair_auc(np.array([0.1, 0.2]), np.array([1, 1])))
    assert math.isnan(pair_auc(np.zeros(0), np.zeros(0, dtype=np.int64)))


def test_within_groups_by_hand() -> None:
    scores, labels = np.array([0.9, 0.1, 0.2, 0.8, 0.5]), np.array([1, 0, 1, 0, 1])
    groups = np.array([0, 0, 1, 1, 2])
    assert auc_within(scores, labels, groups) == (
        0.5,
        2,
    )  # one right, one wrong; the third group has nothing to compare
    assert auc_within(scores, labels, np.zeros(5, dtype=np.int64))[0] == pytest.approx(roc_auc_score(labels, scores))
    assert math.isnan(auc_within(scores, labels, np.arange(5))[0])


def intervals(scores: np.ndarray, other: np.ndarray, labels: np.ndarray, products: np.ndarray, seed: int = 0):  # type: ignore[no-untyped-def]
    return auc_intervals(scores, other, labels, products, resamples=400, rng=np.random.default_rng(seed))


def test_a_model_against_itself_differs_by_nothing() -> None:
    scores, labels = drawn(1, 80)
    products = np.random.default_rng(0).integers(0, 30, size=(80, 2))
    found = intervals(scores, scores, labels, products)
    assert found.delta == (0.0, 0.0) and found.first == found.second
    assert found.first[0] < pair_auc(scores, labels) < found.first[1]
    assert intervals(scores, scores, labels, products) == found


def test_the_interval_is_that_of_the_wider_clustering() -> None:
    """Pairs whose second items are of two products only: whoever clusters by the first ones sees nothing of it."""
    rng = np.random.default_rng(0)
    n = 200
    second = rng.integers(0, 2, n)
    labels = rng.integers(0, 2, n)
    scores = rng.normal(size=n) + 3.0 * second * labels
    few = np.column_stack([np.arange(n), second])
    many = np.column_stack([np.arange(n), np.arange(n)])
    wide, narrow = (intervals(scores, scores, labels, products).first for products in (few, many))
    turned = intervals(scores, scores, labels, few[:, ::-1]).first
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])
    assert turned == pytest.approx(wide, abs=0.03)


def test_intervals_hold_the_true_value() -> None:
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        products = rng.integers(0, 80, size=(250, 2))
        labels = rng.integers(0, 2, 250)
        own = rng.normal(size=80)
        scores = own[products].sum(axis=1) + rng.normal(size=250) + 1.2 * labels
        low, high = intervals(scores, scores, labels, products, seed).first
        held += low <= 0.6876 <= high  # normal(1.2, 3): area Phi(1.2 / sqrt(6))
    assert 52 <= held <= 60


def test_shapes_that_do_not_fit() -> None:
    scores, labels = drawn(0, 10)
    with pytest.raises(ConfigError, match="two codes per pair"):
        intervals(scores, scores, labels, np.zeros((10, 1), dtype=np.int64))


class Turned:
    """Sees only the first axis."""

    def encode(self, embeddings: np.ndarray) -> np.ndarray:
        return np.sign(embeddings[:, :1]).astype(np.float32)


ITEMS = pd.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "product_id": ["p", "q", "r", "p"],
        "category2": ["tees", "skirts", None, "tees"],
    }
)
ROWS = {"a": (0.6, 0.8), "b": (-0.6, 0.8), "c": (1.0, 0.0), "d": (0.6, -0.8)}


def embed(item_ids, epoch: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    assert epoch == 0
    return np.array([ROWS[item] for item in item_ids], dtype=np.float32).reshape(-1, 2)


def test_pairs_are_looked_up_and_measured() -> None:
    pairs = pd.DataFrame(
        [("a", "b", 0), ("b", "a", 1), ("c", "d", 1), ("d", "b", 0)], columns=["a_id", "b_id", "label"]
    )
    held = held_out_pairs(pairs, ITEMS, embed)
    assert held.cosines(None).tolist() == pytest.approx([0.28, 0.28, 0.6, -1.0], abs=1e-6)
    assert held.cosines(Turned()).tolist() == [-1.0, -1.0, 1.0, -1.0]
    p, q, r = held.products[0, 0], held.products[0, 1], held.products[2, 0]
    assert held.products.tolist() == [[p, q], [q, p], [r, p], [p, q]] and len({p, q, r}) == 3
    assert held.categories[0] == held.categories[1] == held.categories[3] != held.categories[2]
    assert held.auc(Turned()) == 0.75
    empty = held_out_pairs(pairs.iloc[:0], ITEMS, embed)
    figures, shown = measure_head(
        {"validation": empty, "test": held}, Turned(), bootstrap=Bootstrap(resamples=100, seed=1)
    )
    assert figures["validation"] == {"skipped": "0 pairs go together and 0 do not; both are needed"}
    test = figures["test"]
    assert test["auc"] == 0.75 and test["baseline_auc"] == 0.875 and test["delta"] == -0.125
    assert test["within_categories_auc"] == 0.5 and test["comparisons_within_categories"] == 2
    assert (test["n_goes_together"], test["n_does_not"]) == (2, 2)
    assert test["mean_cosine_goes_together"] == 0.0 and test["mean_cosine_does_not"] == -1.0
    assert all(math.isfinite(value) for value in test.values())
    assert list(shown) == ["test"] and shown["test"]["head"].tolist() == [-1.0, -1.0, 1.0, -1.0]
    report = {"used": 4, "rows": 9, "across_splits": 5, "unusable": 0}
    assert "test AUC 0.875 -> 0.750 (-0.125, 95 % [" in summary(report, figures)
    last = summary(report, {"test": figures["validation"]}).splitlines()[-1]
    assert last == "test: skipped: 0 pairs go together and 0 do not; both are needed"
    assert summary({"skipped": "why"}, {}) == "nothing trained: why"


def test_pairs_of_one_label_are_skipped() -> None:
    held = held_out_pairs(pd.DataFrame([("a", "b", 1)], columns=["a_id", "b_id", "label"]), ITEMS, embed)
    assert held.auc(Turned()) is None and not held.has_both_labels
