"""Candidates of a search: the best so far by a fast score, and the items that a query may not return."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from lib.retrieval.scores import each
from lib.retrieval.top_k import IntArray

Float32Array = npt.NDArray[np.float32]
Found = tuple[npt.NDArray[np.int32], IntArray, Float32Array]
"""Query, gallery row and fast score of candidates."""

_THREAD_CELLS = 1 << 18
"""Numbers to look through from where on another thread pays."""


class Candidates:
    """Items whose fast score exceeds `least`, query by query: the `width`-th highest of the groups' maxima so far.

    So the highest maxima stand for what is kept, without a selection among all scores, and `width` items or more
    score at least `least`.

    Args:
        n_queries: how many.
        width: of the maxima that are kept, at least 1.
    """

    def __init__(self, n_queries: int, width: int) -> None:
        self._maxima = np.full((n_queries, width), -np.inf, dtype=np.float32)
        # kept in memory that is asked for once: small pieces among what is given back would tear it
        self._found = _room(2 * self._maxima.size)
        self._n_found = 0

    @property
    def width(self) -> int:
        """How many maxima are kept."""
        return self._maxima.shape[1]

    @property
    def least(self) -> Float32Array:
        """(n_queries,) fast score that no item exceeds that is not a candidate; -inf: every item is one."""
        least: Float32Array = self._maxima.min(axis=1)
        return least

    def offer(self, first_query: int, scores: torch.Tensor, *, first: int, n_groups: int) -> None:
        """Take what is among the best of some queries so far.

        Group j is the columns j, j + n_groups, …: its maximum is then taken along a vectorised axis.

        Args:
            first_query: the query of the first row.
            scores: (n, n_groups * group) of gallery rows from `first` on; -inf for what may not be returned.
            first: the gallery row of the first column.
            n_groups: of the columns.
        """
        grouped = scores.view(len(scores), -1, n_groups)
        maxima = grouped.amax(dim=1).float().numpy()
        kept = self._maxima[first_query : first_query + len(maxima)]
        hits = each(lambda part: _exceeding(maxima[part], kept[part], part.start), _parts(*maxima.shape))
        query, group, least = (np.concatenate(parts) for parts in zip(*hits, strict=True))
        members = grouped.transpose(1, 2)[torch.from_numpy(query), torch.from_numpy(group)].float().numpy()

        def found_in(part: slice) -> Found:
            place = np.flatnonzero(members[part] > least[part, None])
            hit, member = np.divmod(place, members.shape[1])
            rows = first + group[part][hit] + n_groups * member
            return (first_query + query[part][hit]).astype(np.int32), rows, members[part].reshape(-1)[place]

        for part in each(found_in, _parts(*members.shape)):
            self._keep(part)

    def table(self) -> tuple[IntArray, Float32Array]:
        """(n_queries, most) rows in ascending order, then -1, and their fast scores, then -inf."""
        self._forget()
        here = slice(self._n_found)
        query, row, score = self._found[0][here], self._found[1][here], self._found[2][here]
        order = np.argsort(query * (row.max(initial=0) + 1) + row)
        query = query[order]
        counts = np.bincount(query, minlength=len(self._maxima))
        place = np.arange(len(query)) - np.repeat(counts.cumsum() - counts, counts)
        rows = np.full((len(counts), counts.max(initial=0)), -1)
        scores = np.full(rows.shape, -np.inf, dtype=np.float32)
        rows[query, place], scores[query, place] = row[order], score[order]
        return rows, scores

    def _keep(self, found: Found) -> None:
        n = len(found[0])
        if self._n_found + n > len(self._found[0]):
            self._forget()
        if self._n_found + n > len(self._found[0]):
            kept, self._found = self._found, _room(2 * (self._n_found + n))
            self._write(0, kept, self._n_found)
        self._write(self._n_found, found, n)
        self._n_found += n

    def _write(self, first: int, found: Found, n: int) -> None:
        here = slice(first, first + n)
        query, row, score = self._found
        query[here], row[here], score[here] = found[0][:n], found[1][:n], found[2][:n]

    def _forget(self) -> None:
        """Drop what is no candidate any more."""
        here = slice(self._n_found)
        query, row, score = self._found[0][here], self._found[1][here], self._found[2][here]
        still = np.flatnonzero(score > self.least[query])
        self._write(0, (query[still], row[still], score[still]), len(still))
        self._n_found = len(still)


@dataclass(frozen=True)
class Excluded:
    """Gallery rows grouped by product: those of query i are `rows[first[i] : last[i]]`."""

    rows: IntArray
    first: IntArray
    last: IntArray

    @classmethod
    def of(cls, query_products: IntArray | None, gallery_products: IntArray | None) -> Excluded | None:
        if query_products is None or gallery_products is None:
            return None
        rows = np.argsort(gallery_products, kind="stable")
        codes = gallery_products[rows]
        first = np.searchsorted(codes, query_products, side="left")
        return cls(rows, first, np.searchsorted(codes, query_products, side="right"))

    def of_queries(self, queries: IntArray) -> Excluded:
        """The same of some queries."""
        return Excluded(self.rows, self.first[queries], self.last[queries])

    def of_query(self, query: int) -> IntArray:
        """Gallery rows of a query's own product."""
        return self.rows[self.first[query] : self.last[query]]

    def cells(self, queries: range, items: range) -> tuple[IntArray, IntArray]:
        """(query within `queries`, item within `items`) of every cell to leave out."""
        counts = self.last[queries.start : queries.stop] - self.first[queries.start : queries.stop]
        query = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        row = self.rows[self.first[queries.start + query] + place]
        inside = (row >= items.start) & (row < items.stop)
        return query[inside], row[inside] - items.start


def _cells(chosen: npt.NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Row and column of every chosen cell of a matrix, in a fifth of the time of `numpy.nonzero`."""
    cells = np.flatnonzero(chosen)
    ends = np.searchsorted(cells, chosen.shape[1] * np.arange(len(chosen) + 1))
    rows = np.repeat(np.arange(len(chosen)), np.diff(ends))
    return rows, cells - chosen.shape[1] * rows


def _room(n: int) -> Found:
    """Memory for n candidates."""
    return np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.float32)


def _exceeding(maxima: Float32Array, kept: Float32Array, first_query: int) -> tuple[IntArray, IntArray, Float32Array]:
    """Merge maxima of new groups, (n, n_groups), into the (n, width) that are kept; which exceed the least of them.

    Returns:
        Query and group of each, and that query's least.
    """
    n_groups = maxima.shape[1]
    both = np.concatenate([kept, maxima], axis=1)
    both.partition(n_groups, axis=1)
    kept[:] = both[:, n_groups:]
    least = kept[:, 0]
    query, group = _cells(maxima > least[:, None])
    return first_query + query, group, least[query]


def _parts(n: int, width: int) -> list[slice]:
    """Slices of n rows for as many threads as pay."""
    count = max(min(torch.get_num_threads(), n * width // _THREAD_CELLS), 1)
    ends = np.linspace(0, n, count + 1).astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(ends)]


def group_size(n_items: int, width: int) -> int:
    """About the size that balances the number of groups against the values in the chosen ones.

    At most 16: the maximum of more columns at a time takes twice as long as all that it saves.
    """
    return int(np.clip(2 ** round(np.log2(max(n_items / width, 1.0)) / 2), 1, 16))
