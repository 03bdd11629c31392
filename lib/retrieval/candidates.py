"""Candidates of a search: the best so far by a fast score, and the items that a query may not return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lib.retrieval.scores import DECIMALS
from lib.retrieval.top_k import IntArray, ScoreArray

_MANY = 16
"""Values per wanted one from where on a maximum over groups pays before a selection."""


@dataclass
class Candidates:
    """The `width` best items so far by float32 score; every other item scored at most the last one."""

    rows: IntArray
    scores: npt.NDArray[np.float32]

    @classmethod
    def none(cls, n_queries: int, width: int) -> Candidates:
        shape = (n_queries, width)
        return cls(np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32))

    def offer(self, queries: slice, scores: torch.Tensor, *, first: int, n_groups: int) -> None:
        """Take what is among the best of a slice of queries so far, in descending order.

        Args:
            queries: which.
            scores: (n, n_groups * group) of gallery rows from `first` on; -inf for what may not be returned.
            first: the gallery row of the first column.
            n_groups: see `promising`.
        """
        known = torch.from_numpy(self.scores[queries])
        width = known.shape[1]
        groups, values = promising(scores, n_groups=n_groups, most=width, least=known[:, -1])
        wanted = groups.shape[1]
        if not wanted:
            return
        best = torch.cat([known, values], dim=1).topk(width, dim=1)
        rows = columns_of(groups, (best.indices - width).clamp_(min=0), n_groups=n_groups)
        before = torch.from_numpy(self.rows[queries]).gather(1, best.indices.clamp(max=width - 1))
        rows = torch.where(best.indices < width, before, rows.add_(first))
        self.scores[queries] = best.values.numpy()
        self.rows[queries] = rows.masked_fill_(best.values.isneginf(), -1).numpy()

    def possible(self, k: int, bounds: ScoreArray) -> IntArray:
        """The rows, -1 for those that cannot be among the k best: float32 scores are off by at most `bounds`."""
        least = self.scores[:, min(k, self.scores.shape[1]) - 1] - 2.0 * bounds - 10.0**-DECIMALS
        return np.where(self.scores < least[:, None], -1, self.rows)


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


def promising(
    scores: torch.Tensor, *, n_groups: int, most: int, least: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Groups of (n, group * n_groups) scores among which are the `most` highest above `least`, and their values.

    The groups with the highest maxima hold them: no value outside of `most` such groups exceeds `most` values inside.
    A slow selection over a whole row becomes a fast maximum and a selection over a few groups; fewer and fewer, as
    what is known already, `least`, (n,), leaves less to be found. Group j is the columns j, j + n_groups, …: its
    maximum is then taken along a vectorised axis.

    Returns:
        Group numbers, (n, wanted) in no order, and values, (n, group * wanted), all first members first. `wanted` is
        the same for all rows, and 0 where no value is above.
    """
    grouped = scores.view(len(scores), -1, n_groups)
    maxima = grouped.amax(dim=1)
    wanted = min(int((maxima > least[:, None]).sum(dim=1).max()), most)
    groups = highest(maxima, wanted)
    return groups, _members(grouped, groups)


def highest(values: torch.Tensor, n: int) -> torch.Tensor:
    """Columns of the n highest of each row, (rows, n) in no order; by groups of four where there are many times n."""
    if values.shape[1] % 4 or values.shape[1] < _MANY * n:
        return values.topk(n, dim=1, sorted=False).indices
    grouped = values.view(len(values), 4, -1)
    groups = grouped.amax(dim=1).topk(n, dim=1, sorted=False).indices
    best = _members(grouped, groups).topk(n, dim=1, sorted=False).indices
    return columns_of(groups, best, n_groups=grouped.shape[2])


def _members(grouped: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Values of chosen groups, (rows, group * wanted): the first members of all, then the second ones, …."""
    return grouped.gather(2, groups[:, None, :].expand(-1, grouped.shape[1], -1)).flatten(1)


def columns_of(groups: torch.Tensor, places: torch.Tensor, *, n_groups: int) -> torch.Tensor:
    """Columns of places among the values of chosen groups."""
    wanted = groups.shape[1]
    return groups.gather(1, places % wanted) + n_groups * places.div(wanted, rounding_mode="floor")


def group_size(n_items: int, width: int) -> int:
    """About the size that balances the number of groups against the values in the chosen ones.

    At most 16: the maximum of more columns at a time takes twice as long as all that it saves.
    """
    return int(np.clip(2 ** round(np.log2(max(n_items / width, 1.0)) / 2), 1, 16))
