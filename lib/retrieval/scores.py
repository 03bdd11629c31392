"""What a score is, exactly, and how far a fast float32 score can be from it.

The score of a query and an item is the float64 dot product of their float32 rows, rounded to 9 decimals; higher
is better.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from lib.base.artifacts import FloatArray
from lib.base.errors import IntegrityError
from lib.retrieval.top_k import IntArray, ScoreArray

DECIMALS = 9
CHUNK_ITEMS = 16_000
"""Gallery rows looked at in one step: bounds memory, of a gallery that is a memory map and of what is computed."""
COPIED_ITEMS = 8192
"""The same of rows that do not stand together: 16 MB of 512 dimensions, twice."""
SHORT = 1e-30
"""Squared length below which a sum in float32 may have lost what it adds up."""
_PAIR_CELLS = 1 << 16  # numbers per exact re-scoring step: stays in a core's second-level cache
_THREAD_PAIRS = 1 << 12  # below this a thread costs more than it saves
_MANY_PAIRS = 64  # of one query: from there on it is cheaper to take its row once


@dataclass(frozen=True)
class GalleryRows:
    """Items of a gallery that a search looks at: all, or those of the ascending `rows`, copied a few at a time."""

    gallery: FloatArray
    rows: IntArray | None = None

    @property
    def step(self) -> int:
        """Items of a chunk."""
        return CHUNK_ITEMS if self.rows is None else min(CHUNK_ITEMS, COPIED_ITEMS)

    def __len__(self) -> int:
        return len(self.gallery if self.rows is None else self.rows)

    def chunks(self) -> Iterator[FloatArray]:
        """Their embeddings, (up to `step`, dim) float32 at a time."""
        for start in range(0, len(self), self.step):
            here = slice(start, start + self.step)
            yield np.asarray(self.gallery[here if self.rows is None else self.rows[here]], dtype=np.float32)

    def numbers(self, places: IntArray) -> IntArray:
        """Gallery rows of places among these items; -1 stays -1."""
        return places if self.rows is None else np.append(self.rows, -1)[places]


def pair_scores(queries: FloatArray, gallery: FloatArray, rows: IntArray) -> ScoreArray:
    """Score given gallery rows exactly, as defined at the top of this module.

    A score depends on nothing but its two rows: the products of float32 numbers are exact in float64 and
    are summed in one fixed order, so that exact duplicates tie wherever they stand.

    Args:
        queries: (n_queries, dim) float32.
        gallery: (n_items, dim) float32.
        rows: (n_queries, n) gallery rows; -1 means none.

    Returns:
        (n_queries, n) float64; -inf where the row is -1.
    """
    scores = np.full(rows.shape, -np.inf)
    query, place = np.nonzero(rows >= 0)
    item, exact = rows[query, place], np.empty(len(query))
    threads = max(min(torch.get_num_threads(), len(query) // _THREAD_PAIRS), 1)

    def score(first: int, last: int) -> None:
        step = min(max(_PAIR_CELLS // max(queries.shape[1], 1), 1), last - first)
        # buffers for all steps: fresh ones, given back to the system every time, cost more than the products
        left, right = np.empty((2, step, queries.shape[1]), dtype=np.float32)
        products = np.empty(left.shape, dtype=np.float64)
        for start in range(first, last, step):
            n = min(step, last - start)
            here = slice(start, start + n)
            np.take(queries, query[here], axis=0, out=left[:n], mode="clip")
            np.take(gallery, item[here], axis=0, out=right[:n], mode="clip")
            np.multiply(left[:n], right[:n], out=products[:n], dtype=np.float64)
            products[:n].sum(axis=-1, out=exact[here])

    def score_queries(first: int, last: int) -> None:
        step = max(_PAIR_CELLS // max(queries.shape[1], 1), 1)
        right = np.empty((step, queries.shape[1]), dtype=np.float32)
        products = np.empty(right.shape, dtype=np.float64)
        for number in range(first, last):
            left = queries[number].astype(np.float64)
            for start in range(ends[number], ends[number + 1], step):
                n = min(step, int(ends[number + 1]) - start)
                here = slice(start, start + n)
                np.take(gallery, item[here], axis=0, out=right[:n], mode="clip")
                products[:n] = right[:n]
                products[:n] *= left
                products[:n].sum(axis=-1, out=exact[here])

    many = rows.shape[1] >= _MANY_PAIRS
    ends = np.concatenate([[0], np.cumsum((rows >= 0).sum(axis=1))]) if many else np.zeros(1, np.int64)
    work, n_parts = (score_queries, len(rows)) if many else (score, len(query))
    if threads > 1:  # numpy lets go of the interpreter in every step
        parts = np.linspace(0, n_parts, threads + 1).astype(int).tolist()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, parts[:-1], parts[1:]))
    elif len(query):
        work(0, n_parts)
    scores[query, place] = np.round(exact, DECIMALS) + 0.0  # no negative zero
    return scores


def error_bounds(queries: FloatArray, items: GalleryRows) -> ScoreArray:
    """(n_queries,) bound on |float32 score - exact score|, for any order of summation.

    Higham, Accuracy and Stability of Numerical Algorithms, eq. 3.5: n·u / (1 - n·u) · |x|·|y|.
    """
    largest, first = 0.0, 0
    for chunk in items.chunks():
        numbers = items.numbers(np.arange(first, first + len(chunk)))
        largest = max(largest, float(_finite_norms(chunk, name="gallery", numbers=numbers).max()))
        first += len(chunk)
    return error_bounds_up_to(queries, largest)


def error_bounds_up_to(queries: FloatArray, largest: float) -> ScoreArray:
    """`error_bounds` for gallery rows that are known to be no longer than `largest`."""
    relative = (queries.shape[1] + 1) * 2.0**-24
    bounds: ScoreArray = (
        largest
        * relative
        / (1.0 - relative)
        * _finite_norms(queries, name="queries", numbers=np.arange(len(queries)))
    )
    return bounds


def _finite_norms(rows: FloatArray, *, name: str, numbers: IntArray) -> ScoreArray:
    """Lengths of rows, or a little more: sums in float32 take a quarter of the time."""
    squares: ScoreArray = np.einsum("ij,ij->i", rows, rows).astype(np.float64)
    squares *= 1.0 + (rows.shape[1] + 1) * 2.0**-22
    if not (np.isfinite(squares) & (squares > SHORT)).all():  # or too long, or too short, for a float32
        squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    if not np.isfinite(squares).all():
        row = int(numbers[np.flatnonzero(~np.isfinite(squares))[0]])
        raise IntegrityError(f"{name}: row {row} holds NaN or infinity; embed it again")
    return np.sqrt(squares)
