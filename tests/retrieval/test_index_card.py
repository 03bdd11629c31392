"""The index card: what recall counts, what a query costs, and that nothing in it depends on the clock."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl
from tiny_gallery import clustered, embedded, index_params

from lib.base.params import IndexCard
from lib.embeddings import EmbeddingSet
from lib.retrieval.index import build_indexes, load_indexes
from lib.retrieval.index_card import (
    ann_recall_at_k,
    card_queries,
    efforts,
    index_card,
    index_speed,
    measure_latency,
)
from lib.retrieval.search import exact_top_k
from lib.retrieval.top_k import TopK

SMALL = {"hnsw": {"m": 8, "ef_construction": 40, "ef_search": 48}}


@pytest.fixture(scope="module")
def own() -> EmbeddingSet:
    return embedded(clustered(np.random.default_rng(0), 2000), clustered(np.random.default_rng(1), 60))


def card_of(folder: Path, own: EmbeddingSet, **changes: object) -> dict[str, object]:
    params = index_params(**SMALL, **changes)
    rng = np.random.default_rng(0)
    plan = build_indexes(folder, own, params, rng=rng).plan
    queries = card_queries(own.queries, params.card, rng=rng)
    return index_card(folder, load_indexes(folder, own), own.catalog.images, queries, plan=plan, k=10)


def test_recall_counts_ties_and_only_what_there_is() -> None:
    def top(rows: list[list[int]], scores: list[list[float]]) -> TopK:
        return TopK(np.array(rows), np.array(scores))

    inf = np.inf
    exact = top([[3, 1, 2], [4, -1, -1], [5, 6, 7]], [[0.9, 0.8, 0.7], [0.5, -inf, -inf], [0.4, 0.3, 0.3]])
    assert ann_recall_at_k(exact, exact) == 1.0
    found = top([[3, 2, 8], [7, -1, -1], [5, 9, 7]], [[0.9, 0.7, 0.1], [0.2, -inf, -inf], [0.4, 0.3, 0.3]])
    assert ann_recall_at_k(found, exact) == pytest.approx((2 / 3 + 0 + 1) / 3), "row 9 ties with the third nearest"


def test_queries_are_test_images_and_distinct_captions(own: EmbeddingSet) -> None:
    queries = card_queries(own.queries, IndexCard(queries=500, k=10), rng=np.random.default_rng(0))
    test = own.queries.of_split("test")
    np.testing.assert_array_equal(queries["image"], test.images)
    distinct = test.meta["caption"][test.meta["caption"] != ""].drop_duplicates().index
    assert len(distinct) < len(test)
    np.testing.assert_array_equal(queries["text"], test.texts[distinct])
    few = card_queries(own.queries, IndexCard(queries=7, k=10), rng=np.random.default_rng(0))
    assert few["image"].shape == few["text"].shape == (7, 16)


def test_the_card_is_the_same_on_every_run(tmp_path: Path, own: EmbeddingSet) -> None:
    first = card_of(tmp_path / "a", own)
    with threadpoolctl.threadpool_limits(2):
        assert card_of(tmp_path / "b", own) == first
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert "second" not in json.dumps(first)


def test_what_the_card_says(tmp_path: Path, own: EmbeddingSet) -> None:
    card = card_of(tmp_path, own)
    assert {name: card[name] for name in ("rows", "dim", "k", "serves")} == {
        "rows": 2000, "dim": 16, "k": 10, "serves": "flat",
    }  # fmt: skip
    assert card["queries"] == {"image": 30, "text": 15} and card["skipped"] == {}
    kinds = card["kinds"]
    assert list(kinds) == ["flat", "hnsw", "ivf_pq"]
    for kind, numbers in kinds.items():
        assert numbers["bytes"] == (tmp_path / f"{kind}.faiss").stat().st_size
        assert numbers["bytes_per_item"] == pytest.approx(numbers["bytes"] / 2000, abs=0.1)
    assert kinds["flat"]["image"] == {
        "ann_recall@10": 1.0, "distances_per_query": 2000, "kilobytes_per_query": 128.0,
    }  # fmt: skip
    for modality in ("image", "text"):
        hnsw, lists = kinds["hnsw"][modality], kinds["ivf_pq"][modality]
        assert [row["ef_search"] for row in hnsw["sweep"]] == [32, 48, 64, 128, 256, 512]
        assert hnsw["sweep"][1] == {"ef_search": 48, **{name: hnsw[name] for name in hnsw if name != "sweep"}}
        for sweep in (hnsw["sweep"], lists["sweep"]):
            costs = [row["distances_per_query"] for row in sweep]
            assert costs == sorted(set(costs)) and costs[0] > 10
            assert sweep[-1]["ann_recall@10"] >= sweep[0]["ann_recall@10"] and sweep[-1]["ann_recall@10"] > 0.98
        assert 48 < hnsw["distances_per_query"] < 2000
        nlist = kinds["ivf_pq"]["settings"]["nlist"]
        every = lists["sweep"][-1]
        assert every["nprobe"] == max(e for e in (1, 2, 4, 8, 16, 32, 64) if e <= nlist)
        assert nlist + 100 < every["distances_per_query"] <= nlist + 100 + 2000
        codes = every["distances_per_query"] - nlist - 100
        assert every["kilobytes_per_query"] == pytest.approx(((nlist + 100) * 64 + codes * 16) / 1e3, rel=0.02)


def test_texts_and_images_are_measured_apart(tmp_path: Path, own: EmbeddingSet) -> None:
    """Texts far from every image: the same index, another figure."""
    rng = np.random.default_rng(2)
    noise = rng.normal(size=own.queries.texts.shape)
    texts = (noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)
    far = EmbeddingSet(own.catalog, type(own.queries)(own.queries.images, texts, own.queries.meta), own.fingerprint)
    lists = card_of(tmp_path, far)["kinds"]["ivf_pq"]
    index = load_indexes(tmp_path, far)["ivf_pq"]
    found = {}
    for name, queries in card_queries(far.queries, IndexCard(queries=500, k=10), rng=rng).items():
        exact = exact_top_k(queries, far.catalog.images, k=10)["all"]
        found[name] = round(ann_recall_at_k(index.search(queries, k=10, effort=1), exact), 4)
    assert {name: lists[name]["sweep"][0]["ann_recall@10"] for name in found} == found
    assert found["text"] != found["image"]


def test_a_modality_without_queries_is_skipped_with_the_reason(tmp_path: Path, own: EmbeddingSet) -> None:
    silent = own.queries.meta.assign(caption=None)
    without = EmbeddingSet(
        own.catalog, type(own.queries)(own.queries.images, own.queries.texts, silent), own.fingerprint
    )
    card = card_of(tmp_path, without)
    assert card["skipped"] == {"text": "the test split has none"} and card["queries"] == {"image": 30, "text": 0}
    assert "image" in card["kinds"]["flat"] and "text" not in card["kinds"]["flat"]
    indexes = load_indexes(tmp_path, without)
    queries = {"image": own.queries.images[:3], "text": own.queries.images[:0]}
    speed = index_speed(indexes, queries, seconds={}, k=5, rng=np.random.default_rng(0))
    assert set(speed["milliseconds"]) == {"image"} and set(speed["milliseconds"]["image"]) == set(indexes)


def test_searches_take_turns() -> None:
    asked: list[tuple[str, int]] = []
    searches = {name: lambda query, name=name: asked.append((name, int(query[0, 0]))) for name in ("a", "b")}
    queries = np.arange(20, dtype=np.float32)[:, None]
    milliseconds = measure_latency(searches, queries, rng=np.random.default_rng(0))
    turns = [asked[start : start + 2] for start in range(2, 42, 2)]  # the first two warm up
    assert [sorted(turn) for turn in turns] == [[("a", row), ("b", row)] for row in range(20)]
    assert {turn[0][0] for turn in turns} == {"a", "b"}
    assert set(milliseconds) == {"a", "b"} and all(value >= 0 for value in milliseconds.values())


def test_flat_has_no_effort(tmp_path: Path, own: EmbeddingSet) -> None:
    build_indexes(tmp_path, own, index_params(**SMALL), rng=np.random.default_rng(0))
    indexes = load_indexes(tmp_path, own)
    assert efforts(indexes["flat"]) == [] and 16 in efforts(indexes["ivf_pq"])
