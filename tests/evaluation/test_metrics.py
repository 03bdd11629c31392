"""Metrics by hand, against ir-measures, and chance against simulation."""

from __future__ import annotations

import itertools
import math

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, R, Success, nDCG

from lib.evaluation import metrics


def test_attribute_precision_by_hand() -> None:
    #              v-neck, unknown query, a value nobody has
    queries = np.array([1, -1, 5])
    neighbours = np.array([[1, 1, -1, 2], [-1, -1, 1, 1], [1, 2, -1, -1]])
    np.testing.assert_array_equal(metrics.attribute_hits(queries, neighbours), [2, -1, 0])
    np.testing.assert_array_equal(metrics.attribute_precision_at_k(queries, neighbours), [0.5, np.nan, 0.0])


def test_unknown_neighbours_never_match_an_unknown_query() -> None:
    assert np.isnan(metrics.attribute_precision_at_k(np.array([-1]), np.array([[-1, -1]]))).all()


def random_rankings(rng: np.random.Generator, n_queries: int, n_items: int):
    order = np.argsort(rng.random((n_queries, n_items)), axis=1)
    relevant_items = rng.random((n_queries, n_items)) < rng.random((n_queries, 1)) * 0.5
    return order, relevant_items


@pytest.mark.parametrize("k", [1, 3, 10])
def test_equals_ir_measures(k: int) -> None:
    rng = np.random.default_rng(k)
    order, relevant_items = random_rankings(rng, 40, 15)
    n_relevant = relevant_items.sum(axis=1)
    relevant = np.take_along_axis(relevant_items, order, axis=1)[:, :k]
    qrels = {f"q{i}": {f"d{j}": int(relevant_items[i, j]) for j in range(15)} for i in range(40) if n_relevant[i] > 0}
    run = {f"q{i}": {f"d{j}": float(-place) for place, j in enumerate(order[i])} for i in range(40)}
    reference = {Success @ k: metrics.hit_rate_at_k, R @ k: metrics.recall_at_k}
    reference |= {AP @ k: metrics.average_precision_at_k, nDCG @ k: metrics.ndcg_at_k}
    for measure, function in reference.items():
        ours = function(relevant, n_relevant)
        theirs = {m.query_id: m.value for m in ir_measures.iter_calc([measure], qrels, run)}
        for i in range(40):
            if n_relevant[i]:
                assert ours[i] == pytest.approx(theirs[f"q{i}"], abs=1e-6), (str(measure), i)
            else:
                assert np.isnan(ours[i])


def test_attribute_precision_is_precision_of_ir_measures() -> None:
    rng = np.random.default_rng(1)
    gallery, queries = rng.integers(0, 4, 30), rng.integers(0, 4, 20)
    order = np.argsort(rng.random((20, 30)), axis=1)
    qrels = {f"q{i}": {f"d{j}": int(gallery[j] == queries[i]) for j in range(30)} for i in range(20)}
    run = {f"q{i}": {f"d{j}": float(-place) for place, j in enumerate(order[i])} for i in range(20)}
    theirs = {m.query_id: m.value for m in ir_measures.iter_calc([ir_measures.P @ 10], qrels, run)}
    ours = metrics.attribute_precision_at_k(queries, gallery[order[:, :10]])
    np.testing.assert_allclose(ours, [theirs[f"q{i}"] for i in range(20)], atol=1e-9)


@pytest.mark.parametrize(("n", "m", "k"), [(5, 2, 3), (5, 1, 1), (4, 4, 2), (6, 3, 6), (3, 1, 5), (1, 1, 2)])
def test_chance_is_the_mean_over_every_ranking(n: int, m: int, k: int) -> None:
    items = np.array([1] * m + [0] * (n - m), dtype=bool)
    rankings = np.array([items[list(order)] for order in itertools.permutations(range(n))])
    shown = np.zeros((len(rankings), k), dtype=bool)
    shown[:, : min(n, k)] = rankings[:, :k]
    n_relevant, one, allowed = np.full(len(rankings), m), np.array([m]), np.array([n])
    pairs = [
        (metrics.hit_rate_at_k, metrics.hit_rate_chance),
        (metrics.recall_at_k, metrics.recall_chance),
        (metrics.average_precision_at_k, metrics.average_precision_chance),
        (metrics.ndcg_at_k, metrics.ndcg_chance),
    ]
    for metric, chance in pairs:
        assert chance(one, allowed, k=k)[0] == pytest.approx(metric(shown, n_relevant).mean(), abs=1e-12)
    expected = shown.mean()
    assert metrics.precision_chance(one, allowed, k=k)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "m", "k"), [(5, 2, 3), (4, 4, 2), (6, 3, 6), (3, 1, 5)])
def test_ceiling_is_the_best_ranking(n: int, m: int, k: int) -> None:
    best = np.zeros((1, k), dtype=bool)
    best[0, : min(m, k)] = True
    count = np.array([m])
    assert metrics.recall_ceiling(count, k=k)[0] == pytest.approx(metrics.recall_at_k(best, count)[0])
    assert metrics.recall_ceiling(count, k=k)[0] == pytest.approx(metrics.average_precision_at_k(best, count)[0])
    assert metrics.full_ceiling(count)[0] == metrics.ndcg_at_k(best, count)[0] == 1.0
    assert metrics.precision_ceiling(count, k=k)[0] == best.mean()
    assert n >= m


def test_nothing_relevant_is_not_counted() -> None:
    none, shown = np.array([0]), np.zeros((1, 3), dtype=bool)
    for function in (metrics.hit_rate_at_k, metrics.recall_at_k, metrics.average_precision_at_k, metrics.ndcg_at_k):
        assert np.isnan(function(shown, none)).all()
    assert math.isnan(metrics.recall_ceiling(none, k=3)[0])


def test_counts_against_loops() -> None:
    rng = np.random.default_rng(2)
    gallery_values, query_values = rng.integers(-1, 4, 60), rng.integers(-1, 6, 25)
    gallery_products, query_products = rng.integers(0, 12, 60), rng.integers(0, 15, 25)
    allowed = rng.random(60) < 0.6
    matching = metrics.count_matching(
        query_values, gallery_values, query_products=query_products, gallery_products=gallery_products
    )
    possible = metrics.count_allowed(query_products, gallery_products, allowed)
    for i in range(25):
        other = gallery_products != query_products[i]
        assert possible[i] == (allowed & other).sum()
        expected = 0 if query_values[i] == -1 else ((gallery_values == query_values[i]) & other).sum()
        assert matching[i] == expected
