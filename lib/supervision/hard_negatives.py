"""Attribute-controlled hard negatives from the baseline's own mistakes, with an audit of false negatives.

A hard negative looks like its anchor to the baseline, has its category, and is *known* to differ in an
attribute. It must score clearly below a true positive of the anchor (NV-Retriever, Moreira et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lib.base.artifacts import FloatArray, release_memory
from lib.base.params import ATTRIBUTES, Mine
from lib.embeddings import Embeddings
from lib.retrieval.search import exact_top_k
from lib.retrieval.threads import each, slices
from lib.retrieval.top_k import ScoreArray, TopK
from lib.supervision.codes import (
    STRONG_EQUAL,
    BoolArray,
    IntArray,
    attribute_codes,
    category_codes,
    codes_of,
    different_known,
    equal_known,
)

COLUMNS = ("anchor_id", "negative_id", "score", "positive_score", "rank", "differs_in", "suspect")
READ = ("item_id", "product_id", "category2", *ATTRIBUTES)
_SIBLINGS = 512
"""Pairs scored at once: their float64 rows stay in the processor's cache."""


def mine_hard_negatives(
    catalog: Embeddings,
    siblings: tuple[IntArray, IntArray],
    *,
    params: Mine,
    pattern_only: Sequence[str],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Mine hard negatives for a seeded choice of anchors.

    Anchors have a known category (not a pattern-only one) and a known value of a mined attribute; where there
    are more than `max_anchors`, rare values are preferred (`choose_anchors`). The positive score of an anchor
    is the best score of its group siblings; without siblings, the best among its `depth` nearest items that
    share category and two attribute values and differ in nothing mined (a positive further away scores less
    than every candidate, so none could be accepted).

    A candidate has the anchor's category and is one of the `depth` nearest items of other products: of the whole
    catalogue, or with `within: category` of the anchor's category, and nothing else is searched then. It is accepted
    when it is known to differ in at least one of `attributes` (unknown is not different) and scores at most
    `max_positive_ratio` times the positive score (None: whatever it scores, with or without a positive); the best
    `per_anchor` are kept, ties to the smaller row. Suspected false negatives are listed for review and never trained
    on: candidates that are known to differ but score above that bound (is the label right?), and those that differ
    in nothing known and outscore the positive (is it the same product?). One per anchor, those furthest above the
    positive first, `suspects` in all.

    Args:
        catalog: the train split with baseline embeddings; of its columns, `READ` are looked at.
        siblings: rows of every pair of items of one kept group; see `group_pairs`.
        params: the section `mine`.
        pattern_only: categories that never make a category positive or negative.

    Returns:
        A table with `COLUMNS` (accepted rows by anchor and rank, then suspects; rank counts from 1 among the
        items of other products that were searched) and statistics. No eligible anchor gives an empty table.
    """
    meta = catalog.meta
    category = category_codes(meta, pattern_only)
    mined = attribute_codes(meta, params.attributes)
    eligible = (category >= 0) & (mined >= 0).any(axis=1)
    anchors = choose_anchors(mined, np.flatnonzero(eligible), params=params)
    images = np.asarray(catalog.images)
    products = codes_of(meta["product_id"])
    release_memory()  # of reading the groups
    parts = category if params.within == "category" else None
    top = _nearest(images, anchors, products, parts=parts, k=max(min(params.depth, len(meta)), 1))
    sibling = sibling_scores(images, *siblings)[anchors]
    chosen = _choose(
        top,
        anchors,
        category=category,
        mined=mined,
        every=attribute_codes(meta, ATTRIBUTES),
        sibling=sibling,
        params=params,
    )
    table = pd.concat(
        [
            _rows(chosen.accepted, chosen, top, anchors, meta, params, suspect=False),
            _rows(chosen.suspect, chosen, top, anchors, meta, params, suspect=True),
        ],
        ignore_index=True,
    )
    return table, _statistics(
        table, chosen, n_items=len(meta), n_eligible=int(eligible.sum()), sibling=sibling, params=params
    )


def _nearest(images: FloatArray, anchors: IntArray, products: IntArray, *, parts: IntArray | None, k: int) -> TopK:
    """The k nearest items of other products, of every anchor among the items of its part; -1 where there are fewer.

    Args:
        images: (n_items, dim).
        anchors: (n_anchors,) rows.
        products: (n_items,) codes.
        parts: (n_items,) codes; anchors have one. None: all items are of one part.
        k: at least 1.
    """

    def search(asked: IntArray, among: IntArray | None) -> TopK:
        return exact_top_k(
            images[asked],
            images,
            k=k,
            query_products=products[asked],
            gallery_products=products,
            among=among,
        )["all"]

    if parts is None:
        return search(anchors, None)
    top = TopK(np.full((len(anchors), k), -1, dtype=np.int64), np.full((len(anchors), k), -np.inf))
    for part in np.unique(parts[anchors]).tolist():
        places = np.flatnonzero(parts[anchors] == part)
        found = search(anchors[places], np.flatnonzero(parts == part))
        top.rows[places], top.scores[places] = found.rows, found.scores
    return top


def choose_anchors(codes: IntArray, eligible: IntArray, *, params: Mine) -> IntArray:
    """At most `max_anchors` of the eligible rows, sorted.

    Drawn without replacement with weight `1/sqrt(f)`, where f is the frequency of the rarest of the item's
    known values: rare values keep nearly all their items, frequent ones fill the rest.

    Args:
        codes: (n_items, n_attributes), -1 unknown.
        eligible: rows to choose from.
        params: the section `mine`.
    """
    if len(eligible) <= params.max_anchors:
        return eligible.astype(np.int64)
    rarest = np.full(len(codes), np.inf)
    for column in codes.T:
        counts = np.bincount(column[column >= 0], minlength=1)
        rarest = np.where(column >= 0, np.minimum(rarest, counts[np.maximum(column, 0)]), rarest)
    rng = np.random.default_rng(params.seed)
    weights = 1.0 / np.sqrt(rarest[eligible])
    # the largest of u^(1/w) is a weighted draw without replacement (Efraimidis and Spirakis 2006)
    keys = np.log(rng.random(len(eligible))) / weights
    kept: IntArray = np.sort(eligible[np.argsort(-keys, kind="stable")[: params.max_anchors]])
    return kept


def sibling_scores(images: FloatArray, left: IntArray, right: IntArray) -> ScoreArray:
    """(n_items,) best score of each item with its group siblings, -inf where it has none."""
    scores = np.empty(len(left))

    def score(part: slice) -> None:
        for start in range(part.start, part.stop, _SIBLINGS):
            here = slice(start, min(start + _SIBLINGS, part.stop))
            a, b = images[left[here]].astype(np.float64), images[right[here]].astype(np.float64)
            # e: embedding axis is summed, p: pairs stay
            np.einsum("pe,pe->p", a, b, out=scores[here])

    each(score, slices(len(left), len(left), least=_SIBLINGS))
    best = np.full(len(images), -np.inf)
    np.maximum.at(best, left, scores)
    np.maximum.at(best, right, scores)
    return best


@dataclass(frozen=True)
class _Chosen:
    """Masks over (n_anchors, depth), and what they were chosen by."""

    accepted: BoolArray
    suspect: BoolArray
    differs: npt.NDArray[np.bool_]  # (n_anchors, depth, n_mined)
    positive: ScoreArray  # (n_anchors,), -inf where there is none
    same_category: BoolArray
    known_different: BoolArray


def _choose(
    top: TopK,
    anchors: IntArray,
    *,
    category: IntArray,
    mined: IntArray,
    every: IntArray,
    sibling: ScoreArray,
    params: Mine,
) -> _Chosen:
    category, mined, every = _small(category), _small(mined), _small(every)
    rows = np.maximum(top.rows, 0)
    same_category = (top.rows >= 0) & (category[rows] == category[anchors][:, None])
    # attribute by attribute: to sum over a short last axis takes as long as all of this
    differs = np.empty((mined.shape[1], *rows.shape), dtype=np.bool_)
    for place, column in enumerate(mined.T):
        differs[place] = different_known(column[rows], column[anchors][:, None])
    known_different = same_category & differs.any(axis=0)
    n_equal = np.zeros(rows.shape, dtype=np.int8)
    for column in every.T:
        n_equal += equal_known(column[rows], column[anchors][:, None])
    alike = same_category & ~known_different & (n_equal >= STRONG_EQUAL)
    has_sibling = np.isfinite(sibling)
    positive = np.where(has_sibling, sibling, np.where(alike, top.scores, -np.inf).max(axis=1, initial=-np.inf))
    has_positive = np.isfinite(positive)[:, None]
    below = np.ones_like(known_different)
    if params.max_positive_ratio is not None:
        below = has_positive & (top.scores <= params.max_positive_ratio * positive[:, None])
    accepted = known_different & below
    accepted &= np.cumsum(accepted, axis=1) <= params.per_anchor
    above = known_different & has_positive & ~below
    above |= same_category & ~known_different & has_positive & (top.scores > positive[:, None])
    margin = np.where(above, top.scores, -np.inf) - np.where(has_positive, positive[:, None], 0.0)
    return _Chosen(
        accepted,
        _furthest(margin, limit=params.suspects),
        np.moveaxis(differs, 0, 2),
        positive,
        same_category,
        known_different,
    )


def _small(codes: IntArray) -> IntArray:
    """The same codes in the smallest type that holds them: there are a hundred of each for every anchor."""
    return codes.astype(np.min_scalar_type(-1 - int(codes.max(initial=0))))


def _furthest(margin: ScoreArray, *, limit: int) -> BoolArray:
    """The cell of highest margin of the `limit` rows where it is highest; ties to the earlier row and rank."""
    chosen = np.zeros(margin.shape, dtype=bool)
    if margin.size:
        best = margin.argmax(axis=1)
        values = margin[np.arange(len(margin)), best]
        rows = np.argsort(-values, kind="stable")[:limit]
        rows = rows[np.isfinite(values[rows])]
        chosen[rows, best[rows]] = True
    return chosen


def _rows(
    mask: BoolArray,
    chosen: _Chosen,
    top: TopK,
    anchors: IntArray,
    meta: pd.DataFrame,
    params: Mine,
    *,
    suspect: bool,
) -> pd.DataFrame:
    anchor, rank = np.nonzero(mask)
    ids = meta["item_id"].to_numpy()
    positive = chosen.positive[anchor]
    differs = chosen.differs[anchor, rank]
    bits = 1 << np.arange(differs.shape[1])
    ways, way = np.unique(differs @ bits, return_inverse=True)
    said = [",".join(name for name, bit in zip(params.attributes, bits, strict=True) if one & bit) for one in ways]
    differs_in = [said[number] for number in way.tolist()]
    return pd.DataFrame(
        {
            "anchor_id": ids[anchors[anchor]],
            "negative_id": ids[top.rows[anchor, rank]],
            "score": np.round(top.scores[anchor, rank], 9),
            "positive_score": np.round(np.where(np.isfinite(positive), positive, np.nan), 9),
            "rank": (rank + 1).astype(np.int64),
            "differs_in": pd.Series(differs_in, dtype=object),
            "suspect": np.full(len(anchor), suspect),
        },
        columns=list(COLUMNS),
    )


def _statistics(
    table: pd.DataFrame, chosen: _Chosen, *, n_items: int, n_eligible: int, sibling: ScoreArray, params: Mine
) -> dict[str, Any]:
    accepted = table[~table["suspect"]]
    n_positive = int(np.isfinite(chosen.positive).sum())
    n_sibling = int(np.isfinite(sibling).sum())
    ratios = (accepted["score"] / accepted["positive_score"]).dropna()
    differs = chosen.differs[chosen.accepted].sum(axis=0).tolist()
    return {
        "items": n_items,
        "eligible": n_eligible,
        "anchors": len(chosen.positive),
        "anchors_with_sibling": n_sibling,
        "anchors_with_alike_only": n_positive - n_sibling,
        "anchors_without_positive": len(chosen.positive) - n_positive,
        "anchors_with_negative": int(chosen.accepted.any(axis=1).sum()),
        "candidates_same_category": int(chosen.same_category.sum()),
        "candidates_known_different": int(chosen.known_different.sum()),
        "negatives": len(accepted),
        "suspects": int(table["suspect"].sum()),
        "differs_in": dict(zip(params.attributes, differs, strict=True)),
        "median_rank": float(accepted["rank"].median()) if len(accepted) else "skipped: no negative",
        "median_score_ratio": round(float(ratios.median()), 4) if len(ratios) else "skipped: no negative",
    }
