"""Exact search against the naive float64 definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.base.errors import ConfigError, IntegrityError
from lib.retrieval import candidates, scores, search
from lib.retrieval.fast_scores import Float32
from lib.retrieval.search import exact_top_k


def pair_scores(queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return scores.pair_scores(queries, gallery, rows, longest=float(np.linalg.norm(gallery, axis=1).max()))


def unit_rows(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    rows = rng.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=["float32", "bfloat16"], autouse=True)
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test with either kind of fast scores: what is found must not depend on it."""
    monkeypatch.setattr(search, "bfloat16_pays", lambda n_queries, dim: request.param == "bfloat16")
    return request.param


def naive(queries, gallery, *, k, query_products=None, gallery_products=None, mask=None):
    """Slow and plain: every score in float64, one sort per query."""
    rows, scores = np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf)
    for i, query in enumerate(queries):
        values = [round(float(np.sum(query.astype(np.float64) * item.astype(np.float64))), 9) for item in gallery]
        allowed = [
            j
            for j in range(len(gallery))
            if (mask is None or mask[j]) and (query_products is None or query_products[i] != gallery_products[j])
        ]
        best = sorted(allowed, key=lambda j: (-values[j], j))[:k]
        rows[i, : len(best)] = best
        scores[i, : len(best)] = [values[j] for j in best]
    return rows, scores


def test_hand_worked() -> None:
    gallery = np.array([[1, 0], [0.6, 0.8], [0, 1], [-1, 0]], dtype=np.float32)
    top = exact_top_k(gallery[[0, 2]], gallery, k=3)["all"]
    assert top.rows.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert top.scores.tolist() == [[1.0, 0.600000024, 0.0], [1.0, 0.800000012, 0.0]]


def test_ties_go_to_the_smaller_row_even_beyond_the_margin() -> None:
    rng = np.random.default_rng(0)
    one = unit_rows(rng, 1, 16)
    gallery = np.concatenate([unit_rows(rng, 50, 16), np.repeat(one, 200, axis=0), unit_rows(rng, 50, 16)])
    top = exact_top_k(one, gallery, k=5)["all"]
    assert top.rows.tolist() == [[50, 51, 52, 53, 54]]
    assert len(set(top.scores[0].tolist())) == 1


def test_own_product_is_left_out_with_every_sibling() -> None:
    gallery = unit_rows(np.random.default_rng(1), 12, 4)
    products = np.repeat(np.arange(4), 3)
    top = exact_top_k(gallery, gallery, k=12, query_products=products, gallery_products=products)["all"]
    for i, rows in enumerate(top.rows):
        assert sorted(rows[rows >= 0].tolist()) == [j for j in range(12) if products[j] != products[i]]
        assert (rows[9:] == -1).all() and np.isneginf(top.scores[i, 9:]).all()


def test_k_beyond_the_gallery_and_empty_sides() -> None:
    gallery = unit_rows(np.random.default_rng(2), 3, 4)
    top = exact_top_k(gallery[:2], gallery, k=50, masks={"none": np.zeros(3, bool), "one": np.eye(3, dtype=bool)[1]})
    assert (top["none"].rows == -1).all()
    assert top["one"].rows[:, 0].tolist() == [1, 1] and (top["one"].rows[:, 1:] == -1).all()
    assert exact_top_k(gallery[:0], gallery, k=2)["all"].rows.shape == (0, 2)
    assert (exact_top_k(gallery, gallery[:0], k=2)["all"].rows == -1).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    n_items=st.integers(1, 90),
    dim=st.integers(1, 9),
    k=st.integers(1, 30),
    distinct=st.integers(1, 40),
)
def test_equals_the_naive_definition(seed: int, n_items: int, dim: int, k: int, distinct: int) -> None:
    rng = np.random.default_rng(seed)
    prototypes = unit_rows(rng, distinct, dim)
    gallery = prototypes[rng.integers(0, distinct, n_items)]  # duplicates on purpose
    queries = np.concatenate([unit_rows(rng, 3, dim), prototypes[:2]])
    query_products, gallery_products = rng.integers(0, 5, len(queries)), rng.integers(0, 5, n_items)
    masks = {"all": np.ones(n_items, bool), "some": rng.random(n_items) < 0.4, "same": np.ones(n_items, bool)}
    among = np.flatnonzero(rng.random(n_items) < 0.6) if seed % 2 else None
    found = exact_top_k(
        queries,
        gallery,
        k=k,
        query_products=query_products,
        gallery_products=gallery_products,
        masks=masks,
        among=among,
    )
    assert list(found) == list(masks)
    for name, mask in masks.items():
        if among is not None:
            mask = mask & np.isin(np.arange(n_items), among)
        rows, scores = naive(
            queries, gallery, k=k, query_products=query_products, gallery_products=gallery_products, mask=mask
        )
        np.testing.assert_array_equal(found[name].rows, rows)
        np.testing.assert_array_equal(found[name].scores, scores)


def unproven(*_: object) -> None:
    """In place of the search that puts everything right, slowly: it would hide wrong candidates."""
    raise AssertionError("a result was not proven by its candidates")


@pytest.mark.parametrize("some", [False, True])
def test_chunks_and_blocks_do_not_show(some: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    gallery, queries = unit_rows(rng, 700, 8), unit_rows(rng, 40, 8)
    products = rng.integers(0, 50, 700), rng.integers(0, 50, 40)
    masks = {"all": np.ones(700, dtype=np.bool_), "half": rng.random(700) < 0.5}
    arguments = {"k": 7, "gallery_products": products[0], "query_products": products[1], "masks": masks}
    arguments["among"] = np.flatnonzero(rng.random(700) < 0.7) if some else None
    whole = exact_top_k(queries, gallery, **arguments)
    monkeypatch.setattr(scores, "CHUNK_ITEMS", 64)
    monkeypatch.setattr(scores, "COPIED_ITEMS", 40)
    monkeypatch.setattr(candidates, "_BLOCK_CELLS", 64 * 9)
    monkeypatch.setattr(candidates, "_MASKED_CELLS", 64 * 3)
    monkeypatch.setattr(scores, "_PAIR_CELLS", 24)
    monkeypatch.setattr(scores, "_THREAD_PAIRS", 8)
    monkeypatch.setattr(candidates, "_THREAD_CELLS", 16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(search, "_possible_winners", unproven)
    chunked = exact_top_k(queries, gallery, **arguments)
    for name in masks:
        np.testing.assert_array_equal(whole[name].rows, chunked[name].rows)
        np.testing.assert_array_equal(whole[name].scores, chunked[name].scores)


def test_large_enough_for_groups_and_nearly_collapsed() -> None:
    """All items within 1e-6 of each other: float32 cannot rank them, the fallback must."""
    rng = np.random.default_rng(4)
    rows = np.ones((900, 16)) + 1e-6 * rng.normal(size=(900, 16))
    gallery = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    expected = naive(gallery[:4], gallery, k=10)
    top = exact_top_k(gallery[:4], gallery, k=10)["all"]
    np.testing.assert_array_equal(top.rows, expected[0])
    np.testing.assert_array_equal(top.scores, expected[1])
    odd = np.arange(900) % 2 == 1
    expected = naive(gallery[:4], gallery, k=10, mask=odd)
    top = exact_top_k(gallery[:4], gallery, k=10, among=np.flatnonzero(odd))["all"]
    np.testing.assert_array_equal(top.rows, expected[0])
    np.testing.assert_array_equal(top.scores, expected[1])
    spread = unit_rows(rng, 3000, 16)
    np.testing.assert_array_equal(
        exact_top_k(spread[:5], spread, k=10)["all"].rows, naive(spread[:5], spread, k=10)[0]
    )


def test_float32_cannot_rank_the_best_but_tells_them_from_the_rest() -> None:
    """Nothing is searched again here: the candidates must keep all that may be among the k best."""
    rng = np.random.default_rng(10)
    centre = unit_rows(rng, 1, 64)
    near = (centre + 1e-7 * rng.normal(size=(14, 64))).astype(np.float32)
    queries = (centre + 1e-3 * rng.normal(size=(20, 64))).astype(np.float32)
    gallery = np.concatenate([unit_rows(rng, 100, 64), near, unit_rows(rng, 100, 64)])
    top = exact_top_k(queries, gallery, k=5)["all"]
    rows, exact = naive(queries, gallery, k=5)
    np.testing.assert_array_equal(top.rows, rows)
    np.testing.assert_array_equal(top.scores, exact)


@pytest.mark.parametrize("dim", [3, 700])
def test_scores_do_not_depend_on_how_many_a_query_has(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 64 on a query's row is taken once; some have none, and one has more than a step holds."""
    rng = np.random.default_rng(dim)
    queries, gallery = (rng.normal(size=(n, dim)).astype(np.float32) for n in (40, 500))
    rows = np.where(rng.random((40, 300)) < 0.5, rng.integers(500, size=(40, 300)), -1)
    rows[7], rows[8] = -1, rng.integers(500, size=300)
    expected = np.concatenate([pair_scores(queries, gallery, rows[:, [column]]) for column in range(300)], axis=1)
    monkeypatch.setattr(scores, "_THREAD_PAIRS", 64)
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert pair_scores(queries, gallery, rows).tobytes() == expected.tobytes()


def test_a_pair_score_depends_on_its_two_rows_only() -> None:
    rng = np.random.default_rng(5)
    gallery, queries = unit_rows(rng, 300, 37), unit_rows(rng, 3, 37)
    whole = pair_scores(queries, gallery, np.tile(np.arange(300), (3, 1)))
    single = [[pair_scores(queries[[i]], gallery[[j]], np.array([[0]]))[0, 0] for j in range(300)] for i in range(3)]
    np.testing.assert_array_equal(whole, single)


def test_threads_do_not_show_and_no_row_has_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    gallery, queries = unit_rows(rng, 60, 5), unit_rows(rng, 11, 5)
    rows = rng.integers(-1, 60, size=(11, 7))
    with monkeypatch.context() as patched:  # first: freed memory may hold what was computed before
        patched.setattr(scores, "_THREAD_PAIRS", 10)
        patched.setattr(scores, "_PAIR_CELLS", 15)
        patched.setattr(torch, "get_num_threads", lambda: 3)
        divided = pair_scores(queries, gallery, rows)
    alone = pair_scores(queries, gallery, rows)
    np.testing.assert_array_equal(divided, alone)
    np.testing.assert_array_equal(np.isneginf(alone), rows < 0)
    assert pair_scores(queries, gallery, np.full((11, 2), -1)).tolist() == [[-np.inf] * 2] * 11


def test_rows_too_long_for_a_square_in_float32() -> None:
    gallery = unit_rows(np.random.default_rng(9), 90, 6)
    gallery[::7] *= np.float32(3e19)
    top = exact_top_k(gallery[1:4], gallery, k=5)["all"]
    np.testing.assert_array_equal(top.rows, naive(gallery[1:4], gallery, k=5)[0])


def test_memory_mapped_gallery(tmp_path) -> None:
    gallery = unit_rows(np.random.default_rng(6), 100, 8)
    np.save(tmp_path / "g.npy", gallery)
    mapped = np.load(tmp_path / "g.npy", mmap_mode="r")
    top, expected = exact_top_k(mapped[:5], mapped, k=3)["all"], exact_top_k(gallery[:5], gallery, k=3)["all"]
    np.testing.assert_array_equal(top.rows, expected.rows)


def test_bad_input_is_named() -> None:
    gallery = unit_rows(np.random.default_rng(7), 5, 3)
    with pytest.raises(ConfigError, match="k: expected at least 1, got 0"):
        exact_top_k(gallery, gallery, k=0)
    with pytest.raises(ConfigError, match="one dim"):
        exact_top_k(gallery, gallery[:, :2], k=1)
    with pytest.raises(ConfigError, match="products"):
        exact_top_k(gallery, gallery, k=1, query_products=np.zeros(5, np.int64))
    with pytest.raises(ConfigError, match="mask 'known'"):
        exact_top_k(gallery, gallery, k=1, masks={"known": np.ones(4, bool)})
    broken = gallery.copy()
    broken[3, 1] = np.nan
    with pytest.raises(IntegrityError, match="gallery: row 3"):
        exact_top_k(gallery, broken, k=1)
    with pytest.raises(IntegrityError, match="gallery: row 3"):
        exact_top_k(gallery, broken, k=1, among=np.array([1, 3]))
    assert exact_top_k(gallery, broken, k=1, among=np.array([1, 2]))["all"].rows.min() >= 1
    for among in ([1, len(gallery)], [2, 1], [1, 1], [-1, 2]):
        with pytest.raises(ConfigError, match=f"among: expected ascending rows of {len(gallery)}"):
            exact_top_k(gallery, gallery, k=1, among=np.array(among))


def test_very_short_rows_keep_a_bound() -> None:
    """Their squares are nothing in float32; beside very long queries their scores are not."""
    gallery, queries = np.full((3, 8), 1e-24, dtype=np.float32), np.full((2, 8), 1e24, dtype=np.float32)
    exact = queries.astype(np.float64) @ gallery.astype(np.float64).T
    assert np.allclose(exact, 8.0) and (gallery[0] ** 2).sum() == 0
    products = Float32(queries, np.arange(2))
    products.load(gallery, np.arange(3))
    assert (products.bounds() >= 8.0 * 8 * 2.0**-24).all()
