"""Columns of all rows in a few bytes each, where a list of Python strings takes a hundred."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_RECENT = 16_384


class TextColumn(Sequence[str | None]):
    """Texts one behind the other in one buffer, in the order in which they were appended.

    >>> column = TextColumn()
    >>> for text in ("a", None, "", "ä"): column.append(text)
    >>> list(column)
    ['a', None, '', 'ä']
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])
        self._unknown = bytearray()

    def append(self, text: str | None) -> None:
        """Add one; lone surrogates survive."""
        if text is not None:
            self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))
        self._unknown.append(text is None)

    def __len__(self) -> int:
        return len(self._unknown)

    @overload
    def __getitem__(self, place: int) -> str | None: ...

    @overload
    def __getitem__(self, place: slice) -> list[str | None]: ...

    def __getitem__(self, place: int | slice) -> str | list[str | None] | None:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if place < 0:
            place += len(self)
        if not 0 <= place < len(self):
            raise IndexError(f"row {place} of {len(self)}")
        if self._unknown[place]:
            return None
        return self._bytes[self._ends[place] : self._ends[place + 1]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str | None]:
        return (self[place] for place in range(len(self)))

    def codes(self) -> npt.NDArray[np.int64]:
        """(n,) a number for each text, counted in the order in which texts first occur; -1 for None and ''."""
        lengths = np.diff(np.frombuffer(self._ends, dtype=np.int64))
        encoded = self._array(lengths > 0).dictionary_encode()
        return np.asarray(pc.fill_null(encoded.indices, -1), dtype=np.int64)

    def ranks(self) -> npt.NDArray[np.int64]:
        """(n,) the place of each text in code point order, which is that of UTF-8; None comes last."""
        known = np.frombuffer(self._unknown, dtype=np.uint8) == 0
        order = np.asarray(pc.sort_indices(self._array(known)))
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.arange(len(order))
        return ranks

    def _array(self, known: npt.NDArray[np.bool_]) -> pa.Array:
        """The column as Arrow's, null where it is not `known`."""
        valid = np.packbits(known, bitorder="little").tobytes()
        buffers = [pa.py_buffer(valid), pa.py_buffer(self._ends.tobytes()), pa.py_buffer(bytes(self._bytes))]
        return pa.Array.from_buffers(pa.large_binary(), len(self), buffers)


def text_column(texts: Iterable[str | None]) -> TextColumn:
    """`texts` as a column; one that is a column already as it is."""
    if isinstance(texts, TextColumn):
        return texts
    column = TextColumn()
    for text in texts:
        column.append(text)
    return column


class FirstSeen:
    """Which texts of a growing column have come before, in 16 bytes a row instead of a dictionary's hundred."""

    def __init__(self) -> None:
        self._texts = TextColumn()
        self._recent: dict[str, int] = {}
        self._runs: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]] = []

    def add(self, text: str) -> int | None:
        """Where `text` was added first, counted from 0 over what was new; None when it is new."""
        found = self._find(text)
        if found is not None:
            return found
        self._recent[text] = len(self._texts)
        self._texts.append(text)
        if len(self._recent) == _RECENT:
            self._put_away()
        return None

    def _find(self, text: str) -> int | None:
        if text in self._recent:
            return self._recent[text]
        number = np.uint64(text_number(text))
        for numbers, places in self._runs:
            start = int(np.searchsorted(numbers, number))
            while start < len(numbers) and numbers[start] == number:
                if self._texts[int(places[start])] == text:
                    return int(places[start])
                start += 1
        return None

    def _put_away(self) -> None:
        """Sort the recent ones into a run, and runs of one size into one: there are never many."""
        numbers = np.fromiter(map(text_number, self._recent), dtype=np.uint64, count=len(self._recent))
        places = np.fromiter(self._recent.values(), dtype=np.int64, count=len(self._recent))
        self._recent.clear()
        while self._runs and len(self._runs[-1][0]) <= len(numbers):
            more, theirs = self._runs.pop()
            numbers, places = np.concatenate([more, numbers]), np.concatenate([theirs, places])
        order = np.argsort(numbers, kind="stable")
        self._runs.append((numbers[order], places[order]))


def text_number(text: str) -> int:
    """64 bits that stand for a text: two of a million texts have the same once in thirty million catalogues."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
