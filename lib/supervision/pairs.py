"""Training pairs of five kinds under the graphic policy; quotas that data cannot fill are reported, not shifted.

Kinds are drawn one after the other, strongest first, and never share a pair: a pair that was not drawn as what it
could be may still be drawn as a weaker kind. No pair is both a positive and a negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.base.errors import DataError, IntegrityError
from lib.base.params import PAIR_KINDS, PairKind, Pairs
from lib.supervision.codes import IntArray, group_pairs
from lib.supervision.pair_rules import POSITIVE_KINDS, Items, PairRows, count_available

COLUMNS = ("a_id", "b_id", "kind", "label", "reason")
PATIENCE = 8
"""A draw ends after so many rounds in a row with (nearly) nothing new; a round is one proposal per item."""
MAX_ROUNDS = 400


def build_pairs(
    meta: pd.DataFrame,
    groups: Mapping[str, Sequence[str]],
    hard_negatives: pd.DataFrame,
    *,
    params: Pairs,
    pattern_only: Sequence[str],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Draw `n_pairs` unordered pairs of train items.

    Kinds (attributes are neckline, sleeve, pattern, material; only known values are equal or different):

    - `strong`: same kept group, or same category and at least two equal attributes;
    - `medium`: same category, equal material;
    - `weak`: same category and an equal design tag (pattern, neckline or sleeve), or equal pattern where one
      of the two is of a pattern-only category;
    - `hard`: mined, not suspect;
    - `easy`: different categories, no equal attribute, no equal colour, different products.

    A pattern-only item has no category: it pairs through its group or an equal pattern only, and is never
    in an easy or hard pair.

    Variety: hard pairs are taken rank by rank over all anchors. The other kinds are drawn in rounds: in the
    first every item proposes one partner, in later ones items propose with weight 1/sqrt(size of their
    category), so that large classes do not drown small ones; a proposal first picks which attributes to
    share, then a partner among the items that share them. Positives without any known difference are
    preferred; others (same material but another neckline) only fill what is left of the quota and are
    counted. Easy pairs start from items that have a positive, as far as possible. Group pairs come first
    among the strong.

    Args:
        meta: the train split: item_id, product_id, split, category2, color and the attributes.
        groups: kept groups, product_id -> item ids.
        hard_negatives: the mined table; rows with `suspect` are never used.
        params: the section `pairs`.
        pattern_only: categories that never make a category positive or negative.

    Returns:
        A table with `COLUMNS` in the order of the kinds (label 1 positive, 0 negative; `a_id` is the item
        that proposed the pair, for hard pairs the mined anchor), and statistics: wanted, made and available
        per kind, with the reason of a shortfall.

    Raises:
        DataError: a row is not of the train split.
        IntegrityError: groups or hard negatives name items that `meta` does not have.
    """
    strangers = meta.loc[meta["split"] != "train", "item_id"]
    if len(strangers):
        raise DataError(
            f"pairs: expected items of split train only, got {strangers.iloc[0]!r}; pass the catalog side"
        )
    items = Items.of(meta, pattern_only)
    wanted = {kind: round(getattr(params.shares, kind) * params.n_pairs) for kind in PAIR_KINDS}
    seeds = np.random.SeedSequence(params.seed).spawn(len(PAIR_KINDS))
    rngs = {kind: np.random.default_rng(seed) for kind, seed in zip(PAIR_KINDS, seeds, strict=True)}
    grouped = PairRows(*group_pairs(groups, meta["item_id"].tolist()))
    mined, differs_in = _mined_rows(meta, hard_negatives)
    made: dict[PairKind, PairRows] = {"hard": mined.take_first(wanted["hard"])}
    available: dict[PairKind, int] = {"hard": len(mined)}
    taken = PairRows.joined([grouped, mined])  # group pairs are strong or nothing, mined pairs negative or nothing
    for kind in POSITIVE_KINDS:
        own = grouped if kind == "strong" else PairRows.none()
        available[kind] = len(own) + count_available(items, kind, taken=taken)
        own = own.take(np.sort(rngs[kind].permutation(len(own))[: wanted[kind]]))
        drawn = _draw_positives(items, kind, wanted[kind] - len(own), taken, rng=rngs[kind])
        made[kind] = PairRows.joined([own, drawn])
        taken = PairRows.joined([taken, drawn])
    anchors = np.unique(np.concatenate([end for kind in POSITIVE_KINDS for end in (made[kind].a, made[kind].b)]))
    made["easy"] = _draw_easy(items, anchors, wanted["easy"], rng=rngs["easy"])
    available["easy"] = count_available(items, "easy", taken=PairRows.none())
    in_group = np.sort(items.keys(grouped))
    reasons = {kind: items.reasons(kind, made[kind], in_group) for kind in PAIR_KINDS}
    reasons["hard"] = [f"hard:{names}" for names in differs_in[: len(made["hard"])]]
    table = _table(meta, made, reasons)
    return table, _statistics(table, items, made, wanted=wanted, available=available)


def _mined_rows(meta: pd.DataFrame, hard_negatives: pd.DataFrame) -> tuple[PairRows, list[str]]:
    """Usable mined pairs, unique, every anchor's best one first; and the attributes each differs in."""
    usable = hard_negatives[~hard_negatives["suspect"].to_numpy(dtype=bool)]
    index = pd.Index(meta["item_id"].to_numpy(), dtype=object)
    a, b = index.get_indexer(usable["anchor_id"]), index.get_indexer(usable["negative_id"])
    if len(usable) and min(a.min(), b.min()) < 0:
        missing = usable.iloc[int(np.flatnonzero((a < 0) | (b < 0))[0])]
        raise IntegrityError(
            f"hard negatives: {missing.anchor_id!r} or {missing.negative_id!r} is not in the catalogue; "
            "re-run stage mine_hard_negatives"
        )
    turn = usable.groupby("anchor_id").cumcount().to_numpy()
    order = np.argsort(turn, kind="stable")
    keys = np.minimum(a, b) * len(meta) + np.maximum(a, b)
    first = np.sort(np.unique(keys[order], return_index=True)[1])
    kept = order[first]
    return PairRows(a[kept].astype(np.int64), b[kept].astype(np.int64)), usable["differs_in"].iloc[kept].tolist()


def _draw_positives(
    items: Items, kind: PairKind, wanted: int, taken: PairRows, *, rng: np.random.Generator
) -> PairRows:
    """Up to `wanted` pairs of one kind that are not in `taken`, those without a known difference first."""
    sharings = items.sharings(kind)
    weights = np.where(sharings.any_partner(), items.weights, 0.0)
    seen, found = np.unique(items.keys(taken)), [PairRows.none()]
    for allow_difference in (False, True):
        turn = _Rounds(wanted - sum(map(len, found)), n_items=len(items), weights=weights, rng=rng)
        while turn.goes_on():
            anchors = turn.anchors()
            proposed = PairRows(anchors, sharings.partners(anchors, rng=rng))
            fits = items.of_kind(kind, proposed)
            if not allow_difference:
                fits &= ~items.known_different(proposed)
            new = _unseen(items, proposed.take(np.flatnonzero(fits)), seen).take_first(turn.missing)
            turn.count(len(new))
            seen = np.union1d(seen, items.keys(new))
            found.append(new)
    return PairRows.joined(found)


def _draw_easy(items: Items, anchors: IntArray, wanted: int, *, rng: np.random.Generator) -> PairRows:
    """Up to `wanted` easy pairs, those that start from `anchors` first."""
    weights = np.where(items.category >= 0, items.weights, 0.0)
    preferred = np.zeros(len(items))
    preferred[anchors] = weights[anchors]
    seen, found = np.empty(0, dtype=np.int64), [PairRows.none()]
    for proposing in (preferred, weights):
        turn = _Rounds(wanted - sum(map(len, found)), n_items=len(items), weights=proposing, rng=rng)
        while turn.goes_on():
            a = turn.anchors()
            proposed = PairRows(a, weighted_draw(weights, n=len(a), rng=rng))
            fits = items.of_kind("easy", proposed)
            new = _unseen(items, proposed.take(np.flatnonzero(fits)), seen).take_first(turn.missing)
            turn.count(len(new))
            seen = np.union1d(seen, items.keys(new))
            found.append(new)
    return PairRows.joined(found)


class _Rounds:
    """Whose turn it is to propose, and when to stop."""

    def __init__(
        self, missing: int, *, n_items: int, weights: np.ndarray[Any, np.dtype[np.float64]], rng: np.random.Generator
    ) -> None:
        self.missing = missing
        self._n_items, self._weights, self._rng = n_items, weights, rng
        self._round = self._idle = 0

    def goes_on(self) -> bool:
        """Whether pairs are missing and there is hope of finding more."""
        patient = self._idle < PATIENCE and self._round < MAX_ROUNDS
        return self.missing > 0 and patient and bool((self._weights > 0).any())

    def anchors(self) -> IntArray:
        """Rows that propose in this round: everyone once in the first, then by weight."""
        self._round += 1
        if self._round == 1:
            return self._rng.permutation(np.flatnonzero(self._weights > 0)).astype(np.int64)
        return weighted_draw(self._weights, n=self._n_items, rng=self._rng)

    def count(self, found: int) -> None:
        """Note the pairs found in this round."""
        self.missing -= found
        self._idle = self._idle + 1 if found <= self._n_items // 1000 else 0


def weighted_draw(weights: np.ndarray[Any, np.dtype[np.float64]], *, n: int, rng: np.random.Generator) -> IntArray:
    """n rows drawn with replacement in proportion to `weights`."""
    cumulative = np.cumsum(weights)
    drawn = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
    return np.asarray(np.minimum(drawn, np.flatnonzero(weights > 0)[-1]), dtype=np.int64)


def _unseen(items: Items, pairs: PairRows, seen: IntArray) -> PairRows:
    """Pairs that are neither in the sorted `seen` nor repeated, in the order proposed."""
    keys = items.keys(pairs)
    first = np.sort(np.unique(keys, return_index=True)[1])
    return pairs.take(first[~np.isin(keys[first], seen)])


def _table(
    meta: pd.DataFrame, made: Mapping[PairKind, PairRows], reasons: Mapping[PairKind, list[str]]
) -> pd.DataFrame:
    ids = meta["item_id"].to_numpy(dtype=object)
    parts = [
        pd.DataFrame(
            {
                "a_id": ids[made[kind].a],
                "b_id": ids[made[kind].b],
                "kind": pd.Series([kind] * len(made[kind]), dtype=object),
                "label": np.full(len(made[kind]), int(kind in POSITIVE_KINDS), dtype=np.int64),
                "reason": pd.Series(reasons[kind], dtype=object),
            },
            columns=list(COLUMNS),
        )
        for kind in PAIR_KINDS
    ]
    return pd.concat(parts, ignore_index=True)


def _statistics(
    table: pd.DataFrame,
    items: Items,
    made: Mapping[PairKind, PairRows],
    *,
    wanted: Mapping[PairKind, int],
    available: Mapping[PairKind, int],
) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for kind in PAIR_KINDS:
        count = len(made[kind])
        row: dict[str, Any] = {"wanted": wanted[kind], "made": count, "available": available[kind]}
        row["share"] = round(count / max(len(table), 1), 4)
        if count < wanted[kind]:
            short = available[kind] < wanted[kind]
            row["reason"] = (
                f"the catalogue holds {available[kind]} such pairs" if short else "no more found by the seeded draw"
            )
        if kind in POSITIVE_KINDS:
            row["with_known_difference"] = int(items.known_different(made[kind]).sum())
        kinds[kind] = row
    counts = (table["kind"] + ": " + table["reason"]).value_counts().sort_index()
    positive = table[table["label"] == 1]
    used = pd.unique(pd.concat([table["a_id"], table["b_id"]]))
    covered = pd.unique(pd.concat([positive["a_id"], positive["b_id"]]))
    return {
        "pairs": len(table),
        "positives": len(positive),
        "negatives": len(table) - len(positive),
        "items": len(items),
        "items_used": len(used),
        "items_with_positive": len(covered),
        "kinds": kinds,
        "reasons": {str(reason): int(count) for reason, count in counts.items()},
    }
