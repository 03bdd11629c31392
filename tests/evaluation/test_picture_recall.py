"""Recall of one side's photos by the other's, by hand and against loops."""

from __future__ import annotations

import numpy as np
import pytest

from lib.base.params import Bootstrap
from lib.evaluation.picture_recall import METRICS, PictureTask, measure_recall, per_query_table, validation_recall


def unit(rng: np.random.Generator, n: int, dim: int = 6) -> np.ndarray:
    rows = rng.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_against_loops() -> None:
    rng = np.random.default_rng(0)
    candidates = np.array([9, 3, 7, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 1])  # 1 is a query too
    truths = np.array([[1, 3], [0, 9], [1, 20], [2, 7], [2, 9], [2, 21]])
    task = PictureTask.of(truths, candidates)
    assert task.queries.tolist() == [0, 1, 2] and task.n_relevant.tolist() == [1, 2, 3]
    assert task.n_allowed.tolist() == [14, 13, 14]
    queries, gallery = unit(rng, 3), unit(rng, 14)
    gallery[13] = queries[1]  # its own picture would be first
    scores = task.scores(task.rank(queries, gallery))
    for i, query in enumerate(task.queries):
        wanted = {candidate for q, candidate in truths.tolist() if q == query}
        ranked = [candidates[j] for j in np.argsort(-(gallery @ queries[i]), kind="stable") if candidates[j] != query]
        for column, name in enumerate(METRICS):
            kind, k = name.split("@")
            hits = len(wanted & set(ranked[: int(k)]))
            assert scores[i, column] == pytest.approx(hits / len(wanted) if kind == "recall" else float(hits > 0)), (
                name
            )


def test_clusters_are_the_products_that_are_asked_for() -> None:
    truths = np.array([[5, 9], [4, 9], [6, 8]])
    task = PictureTask.of(truths, np.array([8, 9]))
    assert task.queries.tolist() == [4, 5, 6]
    assert task.clusters[0] == task.clusters[1] != task.clusters[2]


def test_figures_of_a_perfect_and_a_useless_model() -> None:
    rng = np.random.default_rng(1)
    n = 60
    truths = np.column_stack([np.arange(n), 100 + np.arange(n)])
    task = PictureTask.of(truths, 100 + np.arange(n))
    rows = unit(rng, n)
    tops = {"trained": task.rank(rows, rows), "frozen": task.rank(rows, unit(rng, n))}
    figures = measure_recall(task, tops, bootstrap=Bootstrap(resamples=300, seed=0))
    assert list(figures) == list(METRICS)
    row = figures["recall@5"]
    assert row["trained"] == row["trained_low"] == row["trained_high"] == row["ceiling"] == 1
    assert row["frozen_low"] <= row["frozen"] <= row["frozen_high"] < 0.3
    assert row["delta"] == pytest.approx(1 - row["frozen"]) and row["chance"] == pytest.approx(5 / 60)
    table = per_query_table(task, tops, [f"p{number}" for number in range(200)])
    assert len(table) == 2 * n and table["retrieved"].map(len).eq(10).all()
    assert table.iloc[0]["truths"] == ["p100"] and table.iloc[0]["retrieved"][0] == "p100"
    assert table[table["model"] == "frozen"]["recall@5"].mean() == pytest.approx(row["frozen"])


def test_validation_asks_each_tower_for_its_side() -> None:
    rows = unit(np.random.default_rng(2), 30)
    task = PictureTask.of(np.column_stack([np.arange(15), 15 + np.arange(15)]), 15 + np.arange(15))

    def encode(side: str, numbers: np.ndarray) -> np.ndarray:
        return rows[numbers + 15] if side == "query" else rows[numbers]

    assert validation_recall(task)(encode) == dict.fromkeys(METRICS, 1.0)
