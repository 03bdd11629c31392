"""Fast scores stay within their bounds, and searches that they do not settle are searched again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.base.errors import IntegrityError
from lib.retrieval import fast_scores, scores, search
from lib.retrieval.candidates import Candidates
from lib.retrieval.fast_scores import BFloat16, Buffers, Float32, at_least, at_most, bfloat16_pays
from lib.retrieval.search import exact_top_k
from tests.retrieval.test_search import naive, unit_rows

KINDS = [Float32, BFloat16]


def fast(kind: type[Float32], queries: np.ndarray, chunks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All fast scores, as they are stored, and their bounds."""
    products = kind(queries, np.arange(len(queries)))
    parts, first = [], 0
    for chunk in chunks:
        assert products.load(chunk, np.arange(first, first + len(chunk)))
        out = Buffers().take("products", (len(queries), len(chunk) + 3), kind.dtype)
        products.multiply(range(len(queries)), out)
        parts.append(out[:, : len(chunk)].double().numpy())
        first += len(chunk)
    return np.concatenate(parts, axis=1), products.bounds()[:, None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["unit", "aligned", "long and short", "nearly equal", "whole numbers", "zero"])
def test_fast_scores_are_within_their_bounds(kind: type[Float32], case: str) -> None:
    rng = np.random.default_rng(1)
    queries, gallery = unit_rows(rng, 40, 96), unit_rows(rng, 500, 96)
    if case == "aligned":  # all that rounding loses adds up; nothing in the last chunk, which is shorter, too
        queries, gallery = (
            np.full(rows.shape, 0.125 + 2.0**-11 - 2.0**-18, np.float32) for rows in (queries, gallery)
        )
        gallery[300:] = 2.0**-6
    elif case == "long and short":
        queries *= rng.choice([1e-3, 1.0, 500.0], size=(40, 1)).astype(np.float32)
        gallery *= rng.choice([1e-12, 1.0, 300.0], size=(500, 1)).astype(np.float32)
    elif case == "nearly equal":
        gallery = (queries[:1] + 1e-4 * gallery).astype(np.float32)
    elif case == "whole numbers":  # nothing is lost by rounding them
        queries, gallery = (rng.integers(-3, 4, size=rows.shape).astype(np.float32) for rows in (queries, gallery))
    elif case == "zero":
        gallery[::2] = 0.0
    exact = queries.astype(np.float64) @ gallery.astype(np.float64).T
    stored, bounds = fast(kind, queries, [gallery[:300], gallery[300:]])
    assert (exact <= at_most(stored, kind.rounding) + bounds).all()
    assert (exact >= at_least(stored, kind.rounding) - bounds).all()
    if case == "unit":  # and the bounds are of use
        assert bounds.max() < (0.005 if kind is BFloat16 else 1e-5)
    if case == "aligned" and kind is BFloat16:
        assert (exact - at_most(stored, kind.rounding)).max() > 0.4 * bounds.max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_bound_is_for_all_chunks_whatever_their_order(kind: type[Float32]) -> None:
    rng = np.random.default_rng(7)
    queries, short = unit_rows(rng, 5, 64), np.full((9, 64), 2.0**-9, dtype=np.float32)
    long = 3.0 * unit_rows(rng, 9, 64)
    bounds = [fast(kind, queries, chunks)[1].tolist() for chunks in ([short, long], [long, short], [long])]
    assert bounds[0] == bounds[1] == bounds[2]


def test_what_was_stored_brackets_what_was_summed() -> None:
    summed = np.concatenate([np.linspace(-2, 2, 4001), [0.0, 1.0 + 2.0**-8, -1.0 - 2.0**-8]]).astype(np.float32)
    stored = torch.from_numpy(summed).to(torch.bfloat16).double().numpy()
    assert (at_least(stored, BFloat16.rounding) <= summed).all()
    assert (summed <= at_most(stored, BFloat16.rounding)).all()
    assert np.isneginf(at_most(np.array([-np.inf]), BFloat16.rounding)).all()
    assert np.isneginf(at_least(np.array([-np.inf]), BFloat16.rounding)).all()


def runs_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """Kind and queries of every run of a search from now on."""
    said: list[tuple[str, list[int]]] = []
    run = search._Search.run

    def noted(self, chosen, kind):
        said.append((kind.__name__, chosen.tolist()))
        return run(self, chosen, kind)

    monkeypatch.setattr(search._Search, "run", noted)
    monkeypatch.setattr(search, "bfloat16_pays", lambda n_queries, dim: True)
    return said


def test_queries_that_bfloat16_does_not_settle_are_searched_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two queries have their nearest 60 items within the error of bfloat16, not within that of float32."""
    rng = np.random.default_rng(2)
    queries = unit_rows(rng, 20, 64)
    crowd = queries[:1] + 2e-3 * rng.normal(size=(60, 64)) + 0.2 * unit_rows(rng, 1, 64)
    gallery = np.concatenate([unit_rows(rng, 200, 64), crowd.astype(np.float32)])
    queries[7] = queries[0] + np.float32(1e-2)
    products = np.arange(20), np.concatenate([np.arange(200) % 30, np.full(60, 99)])
    said = runs_of(monkeypatch)
    found = exact_top_k(queries, gallery, k=5, query_products=products[0], gallery_products=products[1])["all"]
    assert said[:2] == [("BFloat16", list(range(20))), ("BFloat16", [])]
    assert said[2][0] == "Float32" and {0, 7} <= set(said[2][1]) and len(said[2][1]) <= 5
    rows, values = naive(queries, gallery, k=5, query_products=products[0], gallery_products=products[1])
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.scores, values)


@pytest.mark.parametrize(("crowded", "expected"), [(2, "BFloat16"), (9, "Float32")])
def test_the_first_queries_tell_whether_the_others_are_tried(
    crowded: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    gallery = unit_rows(rng, 400, 64)
    centre = unit_rows(rng, 1, 64)
    gallery[:300] = centre + 1e-4 * rng.normal(size=(300, 64))
    queries = unit_rows(rng, 30, 64)
    queries[:crowded] = centre + 1e-2 * rng.normal(size=(crowded, 64))
    monkeypatch.setattr(search, "_TRIAL", 20)
    said = runs_of(monkeypatch)
    found = exact_top_k(queries, gallery, k=4)["all"]
    assert said[0] == ("BFloat16", list(range(20)))
    others = [kind for kind, chosen in said[1:] if 25 in chosen]
    assert others[0] == expected and len(said) == (3 if expected == "BFloat16" else 2)
    np.testing.assert_array_equal(found.rows, naive(queries, gallery, k=4)[0])


def test_rows_too_long_for_a_bound_are_searched_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number beyond the largest of bfloat16 would be infinity."""
    rng = np.random.default_rng(4)
    for side in (0, 1):
        sides = unit_rows(rng, 50, 64), unit_rows(rng, 3, 64)
        said = runs_of(monkeypatch)
        sides[side][1] = 0.0
        sides[side][1, 0] = 3.4e38
        found = exact_top_k(sides[1], sides[0], k=4)["all"]
        assert said[0][0] == "BFloat16" and said[-1] == ("Float32", [0, 1, 2])
        np.testing.assert_array_equal(found.rows, naive(sides[1], sides[0], k=4)[0])


class OneCandidate:
    """In place of `Candidates`: one, and what no other item exceeds."""

    least = np.array([0.5], dtype=np.float32)

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([[1]]), np.array([[0.52]], dtype=np.float32)


@pytest.mark.parametrize(("exact", "proven"), [(0.505, False), (0.511, False), (0.5121, True)])
def test_a_result_is_proven_beyond_bound_and_rounding(exact: float, proven: bool) -> None:
    """Whatever is no candidate scores at most 0.5 · (1 + 2^-8) + 0.01."""
    gallery = np.array([[0.0], [exact]], dtype=np.float32)
    one = np.ones((1, 1), dtype=np.float32)
    masks = {"all": np.ones(2, dtype=np.bool_)}
    searched = search._Search(one, gallery, scores.GalleryRows(gallery), k=1, excluded=None, masks=masks)
    found = searched._of_masks["all"]
    arguments = {"rounding": BFloat16.rounding, "found": found}
    searched._decide(np.arange(1), one, OneCandidate(), np.array([0.01]), **arguments)
    assert found.proven.tolist() == [proven]
    assert found.top.rows.tolist() == [[1]]
    assert found.limit[0] == pytest.approx(exact - 0.01)


def test_copies_of_one_item_are_no_candidates_each() -> None:
    """Of a gallery without differences nothing is kept, where every item of every query would be too much."""
    candidates = Candidates(3, 2)
    equal = torch.full((3, 40), 0.25)
    for first in (0, 40):
        candidates.offer(0, equal, first=first, n_groups=20)
    assert candidates.table()[0].shape == (3, 0) and candidates.least.tolist() == [0.25] * 3
    assert candidates._n_found == 0
    better = equal.clone()
    better[1, 7] = 0.5
    candidates.offer(0, better, first=80, n_groups=20)
    assert candidates.table()[0].tolist() == [[-1], [87], [-1]]


def test_more_candidates_than_there_is_room_for_are_all_kept() -> None:
    """Fewer maxima than are kept: every item is a candidate, ten where there was room for eight."""
    candidates = Candidates(1, 4)
    for first in (0, 5):
        candidates.offer(0, torch.arange(first, first + 5.0)[None], first=first, n_groups=1)
    rows, values = candidates.table()
    assert rows.tolist() == [list(range(10))] == values.tolist() and np.isneginf(candidates.least).all()


def test_candidates_that_others_replace_are_forgotten() -> None:
    """Every chunk is better than the ones before: what is kept stays as large as what one chunk adds."""
    rng = np.random.default_rng(8)
    candidates = Candidates(6, 3)
    rooms = []
    for chunk in range(60):
        candidates.offer(
            0, torch.from_numpy(chunk + rng.random((6, 64), dtype=np.float32)), first=64 * chunk, n_groups=8
        )
        rooms.append(len(candidates._found[0]))
    assert rooms[-1] == rooms[3] <= 6 * 64
    rows, values = candidates.table()
    assert (rows.max(axis=1) >= 59 * 64).all() and (values[:, 0] > 59.0).all()
    assert (values[rows < 0] == -np.inf).all() and rows.shape[1] >= 3


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_what_is_wrong_is_named_by_its_row(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "bfloat16_pays", lambda n_queries, dim: kind == "bfloat16")
    monkeypatch.setattr(search, "_TRIAL", 4)
    gallery = unit_rows(np.random.default_rng(5), 9, 64)
    queries = gallery.copy()
    queries[6, 2] = np.inf
    with pytest.raises(IntegrityError, match="queries: row 6"):
        exact_top_k(queries, gallery, k=2)


def test_bfloat16_is_for_processors_that_have_it_and_for_many_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert bfloat16_pays(1000, 512) and not bfloat16_pays(8, 512) and not bfloat16_pays(1000, 8)
    for lacking in ({"avx512_bf16": False}, {}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda lacking=lacking: lacking)
        assert not bfloat16_pays(1000, 512)


@pytest.mark.parametrize("columns", [1, 40])
def test_another_order_of_summation_does_not_show(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums that are off by as much as another order may put them off; every hundredth then rounds otherwise."""
    rng = np.random.default_rng(6)
    dim = 512
    queries, gallery = 40.0 * unit_rows(rng, 500, dim), 40.0 * unit_rows(rng, 900, dim)
    rows = rng.integers(900, size=(500, columns))
    rows[rng.random(rows.shape) < (0.1 if columns > 1 else 0.6)] = -1  # both ways to add up
    longest = float(np.linalg.norm(gallery.astype(np.float64), axis=1).max())
    expected = [
        [round(float((query * item).sum()), 9) if row >= 0 else -np.inf for row, item in zip(of, items, strict=True)]
        for query, of, items in zip(queries.astype(np.float64), rows, gallery[rows].astype(np.float64), strict=True)
    ]
    error = (dim + 1) * 2.0**-53 * longest**2

    for name in ("_sums_of_rows", "_sums_of_pairs"):
        plain = getattr(scores, name)

        def other(*arguments, out, plain=plain):
            plain(*arguments, out=out)
            here = arguments[-1]
            out[here] += 0.9 * error * rng.choice([-1.0, 1.0], size=out[here].shape)

        monkeypatch.setattr(scores, name, other)
    found = scores.pair_scores(queries, gallery, rows, longest=longest)
    np.testing.assert_array_equal(found, expected)


def test_a_score_of_nothing_has_no_sign() -> None:
    one, other = np.array([[1.0, 0.0]], dtype=np.float32), np.array([[-1e-11, 1.0]], dtype=np.float32)
    score = scores.pair_scores(one, other, np.zeros((1, 1), np.int64), longest=1.0)
    assert score.tolist() == [[0.0]] and not np.signbit(score).any()


def test_a_table_in_buffers_is_used_anew() -> None:
    buffers = Buffers()
    first = buffers.take("a", (4, 6), torch.float32)
    first.fill_(7.0)
    again = buffers.take("a", (3, 8), torch.bfloat16)
    assert again.shape == (3, 8) and again.is_contiguous() and again.data_ptr() == first.data_ptr()
    assert buffers.take("a", (40, 6), torch.float32).shape == (40, 6)
    assert buffers.take("b", (4, 6), torch.float32).data_ptr() != first.data_ptr()
    assert fast_scores.MARGIN < Float32.width(100) <= BFloat16.width(100)
