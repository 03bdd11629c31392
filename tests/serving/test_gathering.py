"""Searches that are answered together find what each would find alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lib.base.errors import IntegrityError
from lib.retrieval.search import BoolArray, exact_top_k
from lib.retrieval.top_k import TopK
from lib.serving.gathering import GatheringIndex

RNG = np.random.default_rng(3)
GALLERY = RNG.normal(size=(300, 8)).astype(np.float32)
GALLERY /= np.linalg.norm(GALLERY, axis=1, keepdims=True)


class Slow:
    """An exact index that says how many queries came together, and waits for `go` in its first search."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def search(self, queries: np.ndarray, *, k: int, allowed: BoolArray | None = None) -> TopK:
        self.sizes.append(len(queries))
        if not np.isfinite(queries).all():
            raise IntegrityError("a query is NaN")
        if len(self.sizes) == 1:
            self.begun.set()
            assert self.go.wait(10)
        masks = None if allowed is None else {"allowed": allowed}
        return next(iter(exact_top_k(queries, GALLERY, k=k, masks=masks).values()))


def test_what_comes_while_it_works_is_answered_together_by_k() -> None:
    slow = Slow()
    index = GatheringIndex(slow)
    asked = [(GALLERY[[row]], 5 if row % 3 else 7) for row in range(12)]
    with ThreadPoolExecutor(len(asked)) as pool:
        first = pool.submit(index.search, asked[0][0], k=asked[0][1])
        assert slow.begun.wait(10)
        others = [pool.submit(index.search, query, k=k) for query, k in asked[1:]]
        while len(index._waiting) < len(others):
            assert not any(other.done() for other in others)
        slow.go.set()
        found = [first.result(10), *(other.result(10) for other in others)]
    assert slow.sizes[0] == 1 and sorted(slow.sizes[1:]) == [3, 8]
    for (query, k), top in zip(asked, found, strict=True):
        alone = exact_top_k(query, GALLERY, k=k)["all"]
        np.testing.assert_array_equal(top.rows, alone.rows)
        np.testing.assert_array_equal(top.scores, alone.scores)


def test_one_bad_query_spoils_nobody_elses() -> None:
    slow = Slow()
    index = GatheringIndex(slow)
    queries = [GALLERY[[row]] for row in range(4)]
    queries[2] = np.full((1, 8), np.nan, dtype=np.float32)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(index.search, GALLERY[[9]], k=3)
        assert slow.begun.wait(10)
        others = [pool.submit(index.search, query, k=3) for query in queries]
        while len(index._waiting) < len(others):
            pass
        slow.go.set()
        assert first.result(10).rows[0, 0] == 9
        for row, other in enumerate(others):
            if row == 2:
                with pytest.raises(IntegrityError, match="NaN"):
                    other.result(10)
            else:
                assert other.result(10).rows[0, 0] == row
    assert slow.sizes == [1, 4, 1, 1, 1, 1]


def test_a_filter_is_kept_and_the_next_search_goes_on_after_an_error() -> None:
    slow = Slow()
    slow.go.set()
    index = GatheringIndex(slow)
    allowed = np.arange(300) >= 100
    assert index.search(GALLERY[[5]], k=4, allowed=allowed).rows.min() >= 100
    with pytest.raises(IntegrityError):
        index.search(np.full((1, 8), np.nan, dtype=np.float32), k=3)
    assert index.search(GALLERY[[5]], k=1).rows.tolist() == [[5]]
