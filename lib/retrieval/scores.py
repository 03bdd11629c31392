"""What a score is, exactly, and how far a fast float32 score can be from it.

The score of a query and an item is the float64 dot product of their float32 rows, rounded to 9 decimals; higher
is better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lib.base.artifacts import FloatArray
from lib.base.errors import IntegrityError
from lib.retrieval.threads import each, slices
from lib.retrieval.top_k import IntArray, ScoreArray

DECIMALS = 9
CHUNK_ITEMS = 16_000
"""Gallery rows looked at in one step: bounds memory, of a gallery that is a memory map and of what is computed."""
COPIED_ITEMS = 8192
"""The same of rows that do not stand together: 16 MB of 512 dimensions, twice."""
SHORT = 1e-30
"""Squared length below which a sum in float32 may have lost what it adds up."""
UNIT = 1.001
"""Length of a row that passed as a unit row, at most."""
_PAIR_CELLS = 1 << 18  # numbers per exact re-scoring step: stays in a core's second-level cache
_THREAD_PAIRS = 1 << 12  # below this a thread costs more than it saves


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


def pair_scores(queries: FloatArray, gallery: FloatArray, rows: IntArray, *, longest: float) -> ScoreArray:
    """Score given gallery rows exactly, as defined at the top of this module.

    A score depends on nothing but its two rows: the products of float32 numbers are exact in float64 and
    are summed in one fixed order, so that exact duplicates tie wherever they stand. In fact they are summed in
    whatever order is fastest, and once more in the fixed one where that may round otherwise.

    Args:
        queries: (n_queries, dim) float32.
        gallery: (n_items, dim) float32.
        rows: (n_queries, n) gallery rows; -1 means none.
        longest: a length that no gallery row exceeds.

    Returns:
        (n_queries, n) float64; -inf where the row is -1.
    """
    scores = np.full(rows.shape, -np.inf)
    query, place = np.nonzero(rows >= 0)
    n_pairs = len(query)
    if 2 * n_pairs >= rows.size:  # the pairs that are none are little beside the others
        found = np.empty(rows.shape)
        parts = slices(len(rows), n_pairs, least=_THREAD_PAIRS)
        each(lambda part: _sums_of_rows(queries, gallery, rows, part, out=found), parts)
        sums = found[query, place]
    else:
        sums, item = np.empty(n_pairs), rows[query, place]
        parts = slices(n_pairs, n_pairs, least=_THREAD_PAIRS)
        each(lambda part: _sums_of_pairs(queries, gallery, query, item, part, out=sums), parts)
    lengths = finite_norms(queries, name="queries", numbers=np.arange(len(queries)))
    # twice a sum's error, as above but in float64, in units of the last decimal
    doubt = 2.0 * (queries.shape[1] + 1) * 2.0**-53 * longest * float(lengths.max(initial=0.0)) * 10.0**DECIMALS
    sums *= 10.0**DECIMALS
    rounded = np.rint(sums)
    from_middle = np.abs(np.abs(sums - rounded) - 0.5)  # of two numbers of 9 decimals
    unsure = np.flatnonzero(from_middle <= doubt + 2.0**-50 * np.abs(sums))
    again = query[unsure], place[unsure]
    rounded[unsure] = np.rint(_sums_in_order(queries, gallery, again[0], rows[again]) * 10.0**DECIMALS)
    rounded /= 10.0**DECIMALS
    rounded += 0.0  # no negative zero
    scores[query, place] = rounded
    return scores


def _sums_of_rows(queries: FloatArray, gallery: FloatArray, rows: IntArray, part: slice, *, out: ScoreArray) -> None:
    """Dot products of some queries and all their rows, in any order of summation; of -1 anything."""
    dim, n = queries.shape[1], rows.shape[1]
    width = max(min(_PAIR_CELLS // max(dim, 1), n), 1)
    height = max(_PAIR_CELLS // max(dim * width, 1), 1)
    # a buffer for all steps: fresh ones, given back to the system every time, cost more than the products
    kept = np.empty(height * width * dim, dtype=np.float32)
    for first in range(part.start, part.stop, height):
        some = slice(first, min(first + height, part.stop))
        left = queries[some].astype(np.float64)
        for start in range(0, n, width):
            here = some, slice(start, start + width)
            items = rows[here]
            right = kept[: items.size * dim].reshape(*items.shape, dim)
            np.take(gallery, items, axis=0, out=right, mode="clip")
            # e: embedding axis is summed, q: queries, r: rows
            np.einsum("qre,qe->qr", right, left, out=out[here])


def _sums_of_pairs(
    queries: FloatArray, gallery: FloatArray, query: IntArray, item: IntArray, part: slice, *, out: ScoreArray
) -> None:
    """Dot products of some pairs, in any order of summation."""
    step = max(_PAIR_CELLS // max(queries.shape[1], 1), 1)
    left, right = np.empty((2, min(step, part.stop - part.start), queries.shape[1]), dtype=np.float32)
    for start in range(part.start, part.stop, step):
        here = slice(start, min(start + step, part.stop))
        n = here.stop - here.start
        np.take(queries, query[here], axis=0, out=left[:n], mode="clip")
        np.take(gallery, item[here], axis=0, out=right[:n], mode="clip")
        # p: pairs
        np.einsum("pe,pe->p", left[:n], right[:n], out=out[here], dtype=np.float64)


def _sums_in_order(queries: FloatArray, gallery: FloatArray, query: IntArray, item: IntArray) -> ScoreArray:
    """Dot products of pairs in numpy's order of a sum, which is the same everywhere."""
    sums = np.empty(len(query))
    step = max(_PAIR_CELLS // max(queries.shape[1], 1), 1)
    for start in range(0, len(query), step):
        here = slice(start, start + step)
        products = queries[query[here]].astype(np.float64) * gallery[item[here]]
        sums[here] = products.sum(axis=-1)
    return sums


def summing_error(dim: int) -> float:
    """Bound on the error of a dot product that is summed in float32, in any order, relative to |x|·|y|.

    Higham, Accuracy and Stability of Numerical Algorithms, eq. 3.5: n·u / (1 - n·u).
    """
    relative = (dim + 1) * 2.0**-24
    return relative / (1.0 - relative)


def finite_norms(rows: FloatArray, *, name: str, numbers: IntArray) -> ScoreArray:
    """(n,) lengths of rows, or a little more: sums in float32 take a quarter of the time.

    Raises:
        IntegrityError: NaN or infinity; says which of `numbers` in `name`.
    """
    squares: ScoreArray = np.einsum("ij,ij->i", rows, rows).astype(np.float64)
    squares *= 1.0 + (rows.shape[1] + 1) * 2.0**-22
    if not (np.isfinite(squares) & (squares > SHORT)).all():  # or too long, or too short, for a float32
        squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    if not np.isfinite(squares).all():
        row = int(numbers[np.flatnonzero(~np.isfinite(squares))[0]])
        raise IntegrityError(f"{name}: row {row} holds NaN or infinity; embed it again")
    return np.sqrt(squares)
