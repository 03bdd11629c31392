"""What a search of an index returns: flat as the exact search to the bit, the others nearly, filters always."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest
from tiny_gallery import clustered, embedded, index_params

from lib.base.errors import ConfigError, DataError, IntegrityError
from lib.base.params import INDEX_KINDS, IndexKind
from lib.retrieval import index_search
from lib.retrieval.index import SearchIndex, build_indexes, load_index, load_indexes
from lib.retrieval.index_card import ann_recall_at_k
from lib.retrieval.search import exact_top_k
from lib.retrieval.top_k import TopK

ITEMS = 3000
SMALL = {"hnsw": {"m": 16, "ef_construction": 80, "ef_search": 64}, "ivf_pq": {"nprobe": 8}}


@pytest.fixture(scope="module")
def gallery() -> np.ndarray:
    return clustered(np.random.default_rng(0), ITEMS)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return clustered(np.random.default_rng(1), 40)


@pytest.fixture(scope="module")
def indexes(gallery: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[IndexKind, SearchIndex]:
    folder = tmp_path_factory.mktemp("index")
    build_indexes(folder, embedded(gallery), index_params(**SMALL), rng=np.random.default_rng(0))
    return load_indexes(folder, embedded(gallery))


def opened(folder: Path, gallery: np.ndarray, kind: IndexKind, **changes: object) -> SearchIndex:
    build_indexes(folder, embedded(gallery), index_params(**changes), rng=np.random.default_rng(0))
    return load_index(folder, embedded(gallery), kind=kind)


def same(found: TopK, expected: TopK) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)


def check_promises(found: TopK, queries: np.ndarray, gallery: np.ndarray, allowed: np.ndarray, k: int) -> None:
    """What every kind promises: allowed rows only, as many as there are, each once, exact scores in order."""
    wanted = min(k, int(allowed.sum()))
    assert found.rows.shape == found.scores.shape == (len(queries), k)
    for query, rows, scores in zip(queries, found.rows, found.scores, strict=True):
        assert (rows[:wanted] >= 0).all() and (rows[wanted:] == -1).all() and np.isneginf(scores[wanted:]).all()
        assert allowed[rows[:wanted]].all() and len(set(rows[:wanted].tolist())) == wanted
        exact = np.round([np.dot(query.astype(float), gallery[row].astype(float)) for row in rows[:wanted]], 9)
        np.testing.assert_allclose(scores[:wanted], exact, atol=2e-9)
        pairs = list(zip((-scores[:wanted]).tolist(), rows[:wanted].tolist(), strict=True))
        assert pairs == sorted(pairs), "best first, equal scores by row"


@pytest.mark.parametrize("k", [1, 10, 90])
@pytest.mark.parametrize("share", [None, 0.6, 0.05, 0.001])
def test_flat_is_the_exact_search(
    indexes: dict[IndexKind, SearchIndex], gallery: np.ndarray, queries: np.ndarray, k: int, share: float | None
) -> None:
    allowed = None if share is None else np.random.default_rng(2).random(ITEMS) < share
    masks = None if allowed is None else {"all": allowed}
    same(
        indexes["flat"].search(queries, k=k, allowed=allowed), exact_top_k(queries, gallery, k=k, masks=masks)["all"]
    )


def test_flat_is_exact_where_float32_cannot_tell(tmp_path: Path) -> None:
    """Copies beyond the margin and rows within 1e-6 of each other: ties to the earlier row all the same."""
    rng = np.random.default_rng(3)
    rows = np.ones((900, 16)) + 1e-6 * rng.normal(size=(900, 16))
    close = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    gallery = np.concatenate([clustered(rng, 50), np.repeat(clustered(rng, 1), 200, axis=0), close])
    queries = np.concatenate([gallery[50:51], close[:5]])
    flat = opened(tmp_path, gallery, "flat", build=["flat"])
    found = flat.search(queries, k=5)
    same(found, exact_top_k(queries, gallery, k=5)["all"])
    assert found.rows[0].tolist() == [50, 51, 52, 53, 54]
    allowed = np.arange(len(gallery)) % 2 == 0
    same(
        flat.search(queries, k=5, allowed=allowed), exact_top_k(queries, gallery, k=5, masks={"all": allowed})["all"]
    )


@pytest.mark.parametrize("k", [1, 10, 60])
@pytest.mark.parametrize(("kind", "least"), [("hnsw", 0.98), ("ivf_pq", 0.97)])
def test_recall_without_a_filter(
    indexes: dict[IndexKind, SearchIndex],
    gallery: np.ndarray,
    queries: np.ndarray,
    kind: IndexKind,
    least: float,
    k: int,
) -> None:
    found = indexes[kind].search(queries, k=k)
    assert ann_recall_at_k(found, exact_top_k(queries, gallery, k=k)["all"]) >= least
    check_promises(found, queries, gallery, np.ones(ITEMS, bool), k)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.05, 0.004, 0.0])
@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_a_filter_is_kept_and_costs_no_recall(
    indexes: dict[IndexKind, SearchIndex], gallery: np.ndarray, queries: np.ndarray, kind: IndexKind, share: float
) -> None:
    allowed = np.random.default_rng(4).random(ITEMS) < share
    found = indexes[kind].search(queries, k=10, allowed=allowed)
    check_promises(found, queries, gallery, allowed, 10)
    if allowed.any():
        assert ann_recall_at_k(found, exact_top_k(queries, gallery, k=10, masks={"all": allowed})["all"]) >= 0.97


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_a_filter_that_forbids_the_whole_neighbourhood(
    indexes: dict[IndexKind, SearchIndex], gallery: np.ndarray, queries: np.ndarray, kind: IndexKind
) -> None:
    """Every query asks for anything but its own cluster: what is nearest then lies outside the nearest lists."""
    clusters = np.arange(ITEMS) % 12
    allowed = clusters[None, :] != (np.arange(len(queries)) % 12)[:, None]
    found = indexes[kind].search(queries, k=10, allowed=allowed)
    recalls = []
    for i, query in enumerate(queries):
        one = TopK(found.rows[[i]], found.scores[[i]])
        check_promises(one, query[None], gallery, allowed[i], 10)
        recalls.append(
            ann_recall_at_k(one, exact_top_k(query[None], gallery, k=10, masks={"all": allowed[i]})["all"])
        )
    assert np.mean(recalls) >= 0.97


def test_a_mask_per_query_leaves_out_its_own_product(
    indexes: dict[IndexKind, SearchIndex], gallery: np.ndarray
) -> None:
    products = np.arange(ITEMS) // 3
    asked = np.arange(0, 60, 7)
    expected = exact_top_k(gallery[asked], gallery, k=10, query_products=products[asked], gallery_products=products)[
        "all"
    ]
    found = indexes["flat"].search(gallery[asked], k=10, allowed=products[None, :] != products[asked][:, None])
    same(found, expected)


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_batches_and_single_queries_agree(
    indexes: dict[IndexKind, SearchIndex], queries: np.ndarray, kind: IndexKind
) -> None:
    allowed = np.random.default_rng(5).random(ITEMS) < 0.3
    for mask in (None, allowed):
        whole = indexes[kind].search(queries, k=10, allowed=mask)
        for i in range(0, len(queries), 9):
            one = indexes[kind].search(queries[[i]], k=10, allowed=mask)
            same(one, TopK(whole.rows[[i]], whole.scores[[i]]))


@pytest.mark.parametrize("kind", INDEX_KINDS)
@pytest.mark.parametrize("n_items", [1, 2, 30])
def test_few_rows_and_k_beyond_them(tmp_path: Path, kind: IndexKind, n_items: int) -> None:
    gallery = clustered(np.random.default_rng(6), n_items)
    index = opened(tmp_path, gallery, kind)
    queries = clustered(np.random.default_rng(7), 3)
    for k in (1, 5, 10**4):
        same(index.search(queries, k=k), exact_top_k(queries, gallery, k=k)["all"])
    nothing = index.search(queries, k=2, allowed=np.zeros(n_items, bool))
    assert (nothing.rows == -1).all() and np.isneginf(nothing.scores).all()
    assert index.search(queries[:0], k=4).rows.shape == (0, 4)
    assert len(index) == n_items and index.dim == 16 and list(index.ids) == [f"g{i}" for i in range(n_items)]


@pytest.mark.parametrize("kind", ["hnsw", "ivf_pq"])
def test_k_beyond_what_was_looked_at(
    tmp_path: Path, gallery: np.ndarray, queries: np.ndarray, kind: IndexKind
) -> None:
    """As many results as there are, also where the nearest lists or the breadth of the search hold fewer."""
    changes = SMALL | {"build": [kind], "ivf_pq": {"rerank": 1}}
    index = opened(tmp_path, gallery, kind, **changes)
    for k in (150, 1000):
        check_promises(index.search(queries, k=k, effort=1), queries, gallery, np.ones(ITEMS, bool), k)


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_copies_of_one_image_tie_by_row(tmp_path: Path, kind: IndexKind) -> None:
    rng = np.random.default_rng(8)
    gallery = np.concatenate([clustered(rng, 400), np.repeat(clustered(rng, 1), 8, axis=0), clustered(rng, 400)])
    index = opened(tmp_path, gallery, kind, **SMALL)
    found = index.search(gallery[400:401], k=8)
    assert found.rows.tolist() == [list(range(400, 408))] and len(set(found.scores[0].tolist())) == 1


def test_effort_buys_recall(indexes: dict[IndexKind, SearchIndex], gallery: np.ndarray, queries: np.ndarray) -> None:
    exact = exact_top_k(queries, gallery, k=10)["all"]
    for kind in ("hnsw", "ivf_pq"):
        low, high = (ann_recall_at_k(indexes[kind].search(queries, k=10, effort=e), exact) for e in (1, 512))
        assert low < high and high > 0.99, kind


def test_bad_queries_are_named(indexes: dict[IndexKind, SearchIndex], queries: np.ndarray) -> None:
    index = indexes["hnsw"]
    for value in (np.nan, np.inf, 0.0):
        broken = queries.copy()
        broken[3] = value
        with pytest.raises(IntegrityError, match="queries: row 3 has length"):
            index.search(broken, k=5)
    with pytest.raises(ConfigError, match="k and effort: expected at least 1, got 0"):
        index.search(queries, k=0)
    with pytest.raises(ConfigError, match=r"queries: expected \(n_queries, 16\), got \(40, 15\)"):
        index.search(queries[:, :15], k=1)
    for mask in (np.ones(ITEMS - 1, bool), np.ones((39, ITEMS), bool), np.ones(ITEMS, int)):
        with pytest.raises(ConfigError, match="allowed: expected booleans"):
            index.search(queries, k=1, allowed=mask)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_bad_row_is_refused_before_anything_is_written(tmp_path: Path, value: float) -> None:
    gallery = clustered(np.random.default_rng(9), 60)
    gallery[41] = value
    with pytest.raises(IntegrityError, match="catalog_img: row 41 has length"):
        build_indexes(tmp_path / "index", embedded(gallery), index_params(), rng=np.random.default_rng(0))
    assert not (tmp_path / "index").exists()


def test_an_empty_gallery_is_bad_data(tmp_path: Path) -> None:
    gallery = np.empty((0, 16), dtype=np.float32)
    with pytest.raises(DataError, match="nothing to index"):
        build_indexes(tmp_path, embedded(gallery), index_params(), rng=np.random.default_rng(0))


def test_the_graph_is_really_searched(
    indexes: dict[IndexKind, SearchIndex], queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither plain searches nor wide filters scan every row, and the breadth grows with what is forbidden."""
    scanned: list[int] = []
    breadths: list[int] = []
    scan, parameters = index_search.scan, faiss.SearchParametersHNSW
    monkeypatch.setattr(index_search, "scan", lambda *a, **kw: (scanned.append(len(a[1])), scan(*a, **kw))[1])
    monkeypatch.setattr(
        faiss, "SearchParametersHNSW", lambda efSearch: (breadths.append(efSearch), parameters(efSearch=efSearch))[1]
    )
    index = indexes["hnsw"]
    index.search(queries, k=10)
    index.search(queries, k=40)
    assert (scanned, breadths) == ([], [64, 80])
    index.search(queries, k=10, allowed=np.arange(ITEMS) % 7 < 5)
    assert (scanned, breadths[2:]) == ([], [90])
    index.search(queries, k=10, allowed=np.arange(ITEMS) % 100 == 3)
    assert (scanned, breadths[3:]) == ([len(queries)], [])


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_searches_at_the_same_time_do_not_disturb_each_other(
    indexes: dict[IndexKind, SearchIndex], queries: np.ndarray, kind: IndexKind
) -> None:
    masks = [np.arange(ITEMS) % n != 1 for n in (2, 3, 5, 70)]
    expected = [indexes[kind].search(queries, k=10, allowed=mask) for mask in masks]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda mask: indexes[kind].search(queries, k=10, allowed=mask), masks * 5))
    for number, top in enumerate(found):
        same(top, expected[number % len(masks)])
