"""Candidates of a search: the best so far by a fast score, and the items that a query may not return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lib.retrieval.fast_scores import Buffers, Float32
from lib.retrieval.threads import each, slices
from lib.retrieval.top_k import IntArray

Float32Array = npt.NDArray[np.float32]
Found = tuple[npt.NDArray[np.int32], IntArray, Float32Array]
"""Query, gallery row and fast score of candidates."""

_BLOCK_CELLS = 1 << 24
"""Scores held at once (64 MiB of float32): 1,024 queries by `CHUNK_ITEMS`; larger blocks multiply no faster."""
_MASKED_CELLS = 1 << 21
"""The same of scores under a mask (8 MiB), which are only looked through."""
_THREAD_CELLS = 1 << 18
"""Numbers to look through from where on another thread pays."""
_FULL = 8
"""Chosen cells of a row, on average, from where on it pays to look for the ends of rows."""


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
        maxima = grouped.amax(dim=1)
        kept = self._maxima[first_query : first_query + len(maxima)]
        both = np.empty((len(maxima), n_groups + self.width), dtype=np.float32)
        torch.from_numpy(both)[:, :n_groups] = maxima
        both[:, n_groups:] = kept
        parts = slices(len(both), both.size, least=_THREAD_CELLS)
        each(lambda part: both[part].partition(n_groups, axis=1), parts)
        kept[:] = both[:, n_groups:]
        least = torch.from_numpy(both[:, [n_groups]]).to(scores.dtype)  # nothing is lost: a score is one of that type
        query, group = _cells((maxima > least).numpy())
        hits = torch.from_numpy(query)
        members = grouped.transpose(1, 2)[hits, torch.from_numpy(group)]
        hit, member = _cells((members > least[hits]).numpy())
        found = members[torch.from_numpy(hit), torch.from_numpy(member)].float().numpy()
        self._keep(((first_query + query[hit]).astype(np.int32), first + group[hit] + n_groups * member, found))

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


def blocks_of(n_queries: int, n_items: int) -> list[range]:
    """Queries whose scores of n items are held at once, in equal parts: a small last one would multiply slowly."""
    n_blocks = max(-(-n_queries * n_items // _BLOCK_CELLS), 1)
    size = -(-n_queries // n_blocks)
    return [range(first, min(first + size, n_queries)) for first in range(0, n_queries, size)]


def offer_chunk(
    products: Float32,
    blocks: Sequence[range],
    items: range,
    excluded: Excluded | None,
    masks: Mapping[str, npt.NDArray[np.bool_]],
    found: Mapping[str, Sequence[Candidates]],
    buffers: Buffers,
) -> None:
    """Offer every item of the loaded gallery chunk to the candidates of every query."""
    group = group_size(len(items), next(iter(found.values()))[0].width)
    # a row of 4 * odd groups: rows at a power of two apart fall on the same lines of the cache, and multiply slower
    n_groups = 4 * (-(-len(items) // (4 * group)) | 1)
    cells = n_groups * group
    biases: dict[str, torch.Tensor | None] = {}
    for name, mask in masks.items():
        allowed = torch.from_numpy(mask[items.start : items.stop])
        bias = torch.full((cells,), -torch.inf, dtype=products.dtype)
        bias[: len(items)][allowed] = 0.0
        biases[name] = None if allowed.all() else bias
    kept = buffers.take("products", (len(blocks[0]), cells), products.dtype)
    kept[:, len(items) :] = -torch.inf
    for number, block in enumerate(blocks):
        scores = kept[: len(block)]
        products.multiply(block, scores)
        if excluded is not None:
            query, item = excluded.cells(block, items)
            scores[torch.from_numpy(query), torch.from_numpy(item)] = -torch.inf
        for name, bias_of in biases.items():
            if bias_of is None:
                found[name][number].offer(0, scores, first=items.start, n_groups=n_groups)
                continue
            step = max(_MASKED_CELLS // cells, 1)
            for begin in range(0, len(block), step):
                few = scores[begin : begin + step]
                masked = buffers.take("masked", (len(few), cells), products.dtype)
                torch.add(few, bias_of, out=masked)
                found[name][number].offer(begin, masked, first=items.start, n_groups=n_groups)


def _cells(chosen: npt.NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Row and column of every chosen cell of a matrix, in a fraction of the time of `numpy.nonzero`."""
    width = chosen.shape[1]

    def of_part(part: slice) -> tuple[IntArray, IntArray]:
        cells = np.flatnonzero(chosen[part])
        n_rows = part.stop - part.start
        if len(cells) < _FULL * n_rows:
            rows = cells // width
        else:  # to look for where a row ends takes less than to divide every number
            rows = np.repeat(np.arange(n_rows), np.diff(np.searchsorted(cells, width * np.arange(n_rows + 1))))
        return part.start + rows, cells - width * rows

    found = each(of_part, slices(len(chosen), chosen.size, least=_THREAD_CELLS))
    return np.concatenate([rows for rows, _ in found]), np.concatenate([columns for _, columns in found])


def _room(n: int) -> Found:
    """Memory for n candidates."""
    return np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.float32)


def group_size(n_items: int, width: int) -> int:
    """About the size that balances the number of groups against the values in the chosen ones.

    At most 16: the maximum of more columns at a time takes twice as long as all that it saves.
    """
    return int(np.clip(2 ** round(np.log2(max(n_items / width, 1.0)) / 2), 1, 16))
