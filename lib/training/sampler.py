"""From pairs to training examples, and from examples to balanced batches.

An example is (anchor, positive, negative) by catalogue row. Boosts and caps look at the anchor: positives share
its class, and hard negatives its category.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lib.base.errors import ConfigError, DataError, IntegrityError
from lib.base.params import PAIR_KINDS, Boost, Cap, Sampler

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SELF = -1
"""Kind of the positive of an example whose anchor has only negatives: the anchor itself."""
PLACED_SHARE = 0.95
"""Capped values are drawn up to this part of their cap: chance then rarely leaves one without a place."""


@dataclass(frozen=True)
class Examples:
    """Training examples; all arrays are (n_examples,) int64.

    Attributes:
        anchors: catalogue rows.
        positives: catalogue rows; the anchor itself where `positive_kinds` is `SELF`.
        negatives: catalogue rows, -1 where the anchor has no negative pair (other examples' candidates serve).
        positive_kinds: index into `PAIR_KINDS`, or `SELF`.
        negative_kinds: index into `PAIR_KINDS`, -1 where there is none.
    """

    anchors: IntArray
    positives: IntArray
    negatives: IntArray
    positive_kinds: IntArray
    negative_kinds: IntArray

    def __len__(self) -> int:
        return len(self.anchors)


def build_examples(pairs: pd.DataFrame, item_ids: Sequence[str]) -> Examples:
    """Combine each anchor's positive pairs with its negative pairs, cyclically, so that every pair appears.

    A positive pair belongs to its `a_id`. A negative pair belongs to its `a_id`, or to its `b_id` if only that
    one has positives. An anchor with p positives and q negatives makes max(p, q) examples, example t with
    positive t mod p and negative t mod q. Where p is 0 the anchor is its own positive (SimCSE, Gao et al. 2021),
    so that its negatives still reach the loss; two dropout masks are the difference, where the two stand in
    different groups of `lib.training.heads.GROUP_ROWS`, else there is none.

    Args:
        pairs: columns a_id, b_id, kind, label.
        item_ids: the catalogue's ids in row order.

    Returns:
        Examples ordered by anchor row.

    Raises:
        IntegrityError: a pair names an item that the catalogue does not have.
        DataError: there is no pair.
    """
    if not len(pairs):
        raise DataError("pairs: none to train on; see pairs_stats.json for the reasons")
    index = pd.Index(list(item_ids), dtype=object)
    a, b = (index.get_indexer(pd.Index(pairs[end], dtype=object)) for end in ("a_id", "b_id"))
    if min(a.min(), b.min()) < 0:
        missing = pairs.loc[(a < 0) | (b < 0), ["a_id", "b_id"]].iloc[0].tolist()
        raise IntegrityError(f"pairs: {missing} is not in the catalogue; re-run stage build_pairs")
    kinds = pd.Index(PAIR_KINDS, dtype=object).get_indexer(pd.Index(pairs["kind"], dtype=object))
    positive = pairs["label"].to_numpy() == 1
    n_positive = np.bincount(a[positive], minlength=len(index))
    anchor = np.where(~positive & (n_positive[a] == 0) & (n_positive[b] > 0), b, a)
    other = np.where(anchor == a, b, a)
    positives = _Lists.of(anchor[positive], other[positive], kinds[positive], n_items=len(index))
    negatives = _Lists.of(anchor[~positive], other[~positive], kinds[~positive], n_items=len(index))
    counts = np.maximum(positives.counts, negatives.counts)
    anchors = np.repeat(np.arange(len(index)), counts)
    turn = np.arange(len(anchors)) - np.repeat(np.cumsum(counts) - counts, counts)
    positive_rows, positive_kinds = positives.take(anchors, turn)
    negative_rows, negative_kinds = negatives.take(anchors, turn)
    own = positive_kinds < 0
    return Examples(
        anchors.astype(np.int64),
        np.where(own, anchors, positive_rows),
        negative_rows,
        np.where(own, SELF, positive_kinds),
        negative_kinds,
    )


@dataclass(frozen=True)
class _Lists:
    """A list of (row, kind) per anchor, stored end to end."""

    rows: IntArray
    kinds: IntArray
    starts: IntArray
    counts: IntArray

    @classmethod
    def of(cls, anchors: IntArray, rows: IntArray, kinds: IntArray, *, n_items: int) -> _Lists:
        order = np.argsort(anchors, kind="stable")
        counts = np.bincount(anchors, minlength=n_items).astype(np.int64)
        return cls(rows[order].astype(np.int64), kinds[order].astype(np.int64), np.cumsum(counts) - counts, counts)

    def take(self, anchors: IntArray, turn: IntArray) -> tuple[IntArray, IntArray]:
        """Entry `turn` (cyclic) of each anchor's list; -1, -1 where it is empty."""
        counts = self.counts[anchors]
        if not len(self.rows):
            return np.full(len(anchors), -1, dtype=np.int64), np.full(len(anchors), -1, dtype=np.int64)
        place = np.where(counts > 0, self.starts[anchors] + turn % np.maximum(counts, 1), 0)
        return np.where(counts > 0, self.rows[place], -1), np.where(counts > 0, self.kinds[place], -1)


class BalancedBatches:
    """Batches of one epoch after another, drawn with boosts and under caps.

    An epoch draws as many examples as there are, by systematic sampling: an example of weight w is drawn
    floor or ceil of n·w / sum(w) times, so that equal weights give every example exactly once. Boost
    weights multiply. A capped group whose expected share is above its cap is scaled down to it, and no batch
    holds more than `floor(max_share * batch)` of it; a draw without room waits for a later batch, and one
    without room at the end is replaced by an uncapped draw (or dropped where none exists).
    """

    def __init__(
        self, examples: Examples, meta: pd.DataFrame, *, params: Sampler, batch_size: int, seed: int
    ) -> None:
        """Prepare weights; `meta` is the catalogue's, in row order."""
        self.examples = examples
        self.batch_size = batch_size
        self.seed = seed
        self._boosted = {boost_name(b): _matches(meta, b, examples.anchors) for b in params.boosts}
        self._capped = {boost_name(c): _matches(meta, c, examples.anchors) for c in params.caps}
        self._max_shares = [cap.max_share for cap in params.caps]
        weights = np.ones(len(examples))
        for boost in params.boosts:
            weights[self._boosted[boost_name(boost)]] *= boost.weight
        self._weights = _under_caps(weights, list(self._capped.values()), self._max_shares)

    def epoch(self, number: int) -> list[IntArray]:
        """Batches of example numbers for one epoch; the same for the same (seed, number)."""
        rng = np.random.default_rng([self.seed, number])
        drawn = _systematic(self._weights, n=len(self.examples), rng=rng)
        capped = np.array(list(self._capped.values()), dtype=bool).reshape(len(self._capped), len(self.examples))
        free = np.flatnonzero(~capped.any(axis=0))
        spare = np.empty(0, dtype=np.int64)
        if len(free):
            spare = free[_systematic(self._weights[free], n=len(drawn), rng=rng)]
        return _arrange(drawn, spare, capped, self._max_shares, batch_size=self.batch_size)

    def distribution(self, batches: Sequence[IntArray]) -> dict[str, float]:
        """What an epoch holds: share of anchors per boost and cap, share of examples per kind of pair."""
        drawn = np.concatenate(batches) if batches else np.empty(0, dtype=np.int64)
        n = max(len(drawn), 1)
        shares = {f"boost {name}": mask[drawn].sum() / n for name, mask in self._boosted.items()}
        shares |= {f"cap {name}": mask[drawn].sum() / n for name, mask in self._capped.items()}
        positive, negative = self.examples.positive_kinds[drawn], self.examples.negative_kinds[drawn]
        for number, kind in enumerate(PAIR_KINDS):
            shares[f"kind {kind}"] = ((positive == number) | (negative == number)).sum() / n
        shares["kind self"] = (positive == SELF).sum() / n
        return {name: round(float(share), 6) for name, share in shares.items()}


def boost_name(rule: Boost | Cap) -> str:
    """How a boost or cap is called in the log, e.g. `category2=cardigans|shorts`."""
    return f"{rule.column}={'|'.join(rule.values) or 'known'}"


def _matches(meta: pd.DataFrame, rule: Boost | Cap, anchors: IntArray) -> BoolArray:
    if rule.column not in meta.columns:
        raise ConfigError(f"train.sampler: no column '{rule.column}'; the catalogue has {', '.join(meta.columns)}")
    column = meta[rule.column]
    matched = column.isin(rule.values) if rule.values else column.notna()
    chosen: BoolArray = matched.to_numpy(dtype=bool)[anchors]
    return chosen


def _under_caps(
    weights: npt.NDArray[np.float64], groups: Sequence[BoolArray], max_shares: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Scale groups down until each one's share of the weight is at most its cap; groups may overlap."""
    weights = weights.copy()
    for _ in range(20):  # scaling one group raises the share of the others; this settles geometrically
        for group, max_share in zip(groups, max_shares, strict=True):
            inside, total = weights[group].sum(), weights.sum()
            allowed = PLACED_SHARE * max_share
            if allowed * total < inside < total:
                weights[group] *= allowed * (total - inside) / ((1.0 - allowed) * inside)
    return weights


def _systematic(weights: npt.NDArray[np.float64], *, n: int, rng: np.random.Generator) -> IntArray:
    """n draws in random order; entry i is drawn floor or ceil of n * weights[i] / sum(weights) times."""
    order = rng.permutation(len(weights))
    cumulative = np.cumsum(weights[order])
    points = (np.arange(n) + rng.random()) / n * cumulative[-1]
    places = np.minimum(np.searchsorted(cumulative, points, side="right"), len(weights) - 1)
    drawn: IntArray = rng.permutation(order[places]).astype(np.int64)
    return drawn


def _arrange(
    drawn: IntArray, spare: IntArray, capped: BoolArray, max_shares: Sequence[float], *, batch_size: int
) -> list[IntArray]:
    """Cut draws into batches that respect every cap; see `BalancedBatches`."""
    groups: dict[int, list[int]] = {}
    for group, members in enumerate(capped):
        for member in np.flatnonzero(members).tolist():
            groups.setdefault(member, []).append(group)
    waiting: list[int] = []
    coming = iter(drawn.tolist())
    replacements = iter(spare.tolist())
    batches: list[IntArray] = []
    left = len(drawn)
    while left > 0:
        size = min(batch_size, left)
        room = [int(share * size) for share in max_shares]
        batch: list[int] = []
        still: list[int] = []
        queue = iter(waiting)
        while len(batch) < size:
            example = next(queue, None)
            if example is None:
                example = next(coming, None)
            if example is None:
                example = next(replacements, None)
            if example is None:
                break
            inside = groups.get(example)
            if not inside:
                batch.append(example)
            elif all(room[group] > 0 for group in inside):
                for group in inside:
                    room[group] -= 1
                batch.append(example)
            else:
                still.append(example)
        waiting = still + list(queue)
        left -= size
        if batch:
            batches.append(np.array(batch, dtype=np.int64))
    return batches
