"""Fast scores that choose a search's candidates, in float32 or in bfloat16, and how far they are from exact ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from lib.base.artifacts import FloatArray
from lib.retrieval.scores import SHORT, finite_norms, summing_error
from lib.retrieval.top_k import IntArray, ScoreArray

MARGIN = 16
"""Candidates of a search beyond the k best, in float32."""

_MANY_QUERIES = 256
"""From there on converting the gallery is little beside its products."""
_LONG_ROWS = 64
"""Dimensions: products of shorter rows take less than looking through the scores."""
_LONGEST = 1e6
"""Length of a row up to which numbers that a bfloat16 unit takes for zero, below 1.2e-38, change no score."""
_CONVERTED_CELLS = 1 << 18
"""Numbers converted at once (1 MiB): they stay in a core's second-level cache."""
_HALF_ULP = 2.0**-8
"""Of bfloat16, relative: 8 significant bits."""


class Buffers:
    """Memory that every block of scores uses anew.

    By numpy, which asks for large pages; a fresh buffer for every product cost half as much as the product.
    """

    def __init__(self) -> None:
        self._kept: dict[str, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
        """(rows, columns) of a type, C-contiguous, holding anything."""
        size = shape[0] * shape[1] * dtype.itemsize
        if name not in self._kept or self._kept[name].nbytes < size:
            self._kept[name] = np.empty(size, dtype=np.uint8)
        return torch.from_numpy(self._kept[name][:size]).view(dtype).view(shape)


class Float32:
    """Products in float32.

    By numpy: its library multiplies half as fast again as torch's on processors that are not Intel's.

    Attributes:
        rounding: by how much of itself a score may be off for having been stored, besides `bounds`.
        longest: a length that no gallery row loaded so far exceeds.

    Raises:
        IntegrityError: NaN or infinity in a query.
    """

    dtype: ClassVar[torch.dtype] = torch.float32
    rounding: ClassVar[float] = 0.0

    def __init__(self, queries: FloatArray, numbers: IntArray) -> None:
        self._queries = queries
        self._lengths = finite_norms(queries, name="queries", numbers=numbers)
        self._chunk: FloatArray = np.empty((0, queries.shape[1]), dtype=np.float32)
        self.longest = 0.0

    def load(self, chunk: FloatArray, numbers: IntArray) -> bool:
        """Take the gallery rows, (n_items, dim), that the next products are with; whether these can be bounded.

        Raises:
            IntegrityError: NaN or infinity in an embedding; names the row by its number.
        """
        self.longest = max(self.longest, float(finite_norms(chunk, name="gallery", numbers=numbers).max()))
        self._chunk = chunk
        return True

    def multiply(self, part: range, out: torch.Tensor) -> None:
        """Write the scores of some queries and the loaded rows to the first columns of (n_queries, cells)."""
        embeddings = np.ascontiguousarray(self._queries[part.start : part.stop], dtype=np.float32)
        np.matmul(embeddings, self._chunk.T, out=out.numpy()[:, : len(self._chunk)])

    @classmethod
    def width(cls, k: int) -> int:
        """How many of the best by fast score are looked at; too few only cost time: the query is searched again."""
        return k + MARGIN

    def bounds(self) -> ScoreArray:
        """(n_queries,) bound on |score before it is stored - exact score| for the rows loaded so far."""
        bounds: ScoreArray = summing_error(self._queries.shape[1]) * self.longest * self._lengths
        return bounds


class BFloat16(Float32):
    """Products of rows rounded to bfloat16, summed in float32 and stored in bfloat16.

    Processors that have instructions for it multiply two to eight times as fast as in float32.
    """

    dtype: ClassVar[torch.dtype] = torch.bfloat16
    rounding: ClassVar[float] = _HALF_ULP

    def __init__(self, queries: FloatArray, numbers: IntArray) -> None:
        super().__init__(queries, numbers)
        self._usable = bool(self._lengths.max(initial=0.0) <= _LONGEST)
        self._rows = torch.empty(queries.shape, dtype=torch.bfloat16)
        self._lost = _round(queries, out=self._rows) if self._usable else self._lengths
        self._kept = self._rows_of_chunk = torch.empty((0, queries.shape[1]), dtype=torch.bfloat16)
        self._most_lost = 0.0

    def load(self, chunk: FloatArray, numbers: IntArray) -> bool:
        """As `Float32.load`; rows of more than a million's length cannot be bounded."""
        super().load(chunk, numbers)
        self._usable &= self.longest <= _LONGEST
        if self._usable:
            if len(self._kept) < len(chunk):
                self._kept = torch.empty((len(chunk), chunk.shape[1]), dtype=torch.bfloat16)
            self._rows_of_chunk = self._kept[: len(chunk)]
            self._most_lost = max(self._most_lost, float(_round(chunk, out=self._rows_of_chunk).max()))
        return self._usable

    def multiply(self, part: range, out: torch.Tensor) -> None:
        """As `Float32.multiply`."""
        torch.mm(self._rows[part.start : part.stop], self._rows_of_chunk.T, out=out[:, : len(self._rows_of_chunk)])

    @classmethod
    def width(cls, k: int) -> int:
        """As `Float32.width`."""
        return k + max(MARGIN, k // 2)

    def bounds(self) -> ScoreArray:
        """As `Float32.bounds`: of q·g - q'·g' = (q - q')·g + q'·(g - g') by Cauchy and Schwarz, and of the sum."""
        lengths = self._lengths + self._lost
        summed = summing_error(self._queries.shape[1]) * (self.longest + self._most_lost) * lengths
        return self._lost * self.longest + lengths * self._most_lost + 2.0 * summed  # units differ in how they round


def at_most(scores: ScoreArray, rounding: float) -> ScoreArray:
    """The most that stored fast scores were before they were stored; -inf stays."""
    return scores * np.where(scores > 0, 1.0 + rounding, 1.0 - rounding)


def at_least(scores: ScoreArray, rounding: float) -> ScoreArray:
    """The least that stored fast scores were before they were stored; -inf stays."""
    return scores * np.where(scores > 0, 1.0 - rounding, 1.0 + rounding)


def bfloat16_pays(n_queries: int, dim: int) -> bool:
    """Whether products in bfloat16 are faster here: by the processor and by how many there are."""
    native = torch.cpu.get_capabilities().get("avx512_bf16", False) and torch.backends.mkldnn.is_available()
    return bool(native) and n_queries >= _MANY_QUERIES and dim >= _LONG_ROWS


def _round(rows: FloatArray, *, out: torch.Tensor) -> ScoreArray:
    """Round (n, dim) rows to bfloat16; a bound on the length of what each lost, which is a float32 number exactly."""
    lost = np.empty(len(rows))
    step = max(_CONVERTED_CELLS // max(rows.shape[1], 1), 1)
    whole, rounded = np.empty((2, min(step, len(rows)), rows.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), step):
        n = min(step, len(rows) - start)
        here = slice(start, start + n)
        np.copyto(whole[:n], rows[here])
        out[here] = torch.from_numpy(whole[:n])
        torch.from_numpy(rounded[:n]).copy_(out[here])
        whole[:n] -= rounded[:n]
        squares = np.einsum("ij,ij->i", whole[:n], whole[:n]).astype(np.float64)
        lost[here] = np.sqrt(np.maximum(squares * (1.0 + (rows.shape[1] + 1) * 2.0**-22), SHORT))
    return lost
