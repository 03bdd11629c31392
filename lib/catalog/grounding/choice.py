"""Which items a reviewer looks at: every category in proportion, one view per product as far as that goes."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from lib.catalog.schema import SOURCED

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

UNKNOWN_CATEGORY = "(unknown)"


def allocate(sizes: Mapping[str, int], n: int, *, floor: int) -> dict[str, int]:
    """Share `n` places among strata in proportion to their sizes, each of them given `floor` places first.

    Places beyond the floor go one by one to the stratum with the highest size / (2 × places + 1) (the method of
    Webster, or Sainte-Laguë), so that strata below their share come first. No stratum gets more places than it
    has members. Where the floor alone needs more than `n` places it is lowered; where even one place each is too
    much, the largest strata get one. Ties go to the larger stratum, then by name.

    Args:
        sizes: stratum → members; strata without members are left out.
        n: places; fewer are given when there are not enough members.
        floor: places of every stratum, at least 1.

    Returns:
        Stratum → places, by name, of strata that got any.

    >>> allocate({"tees": 900, "hats": 99, "gloves": 1}, 12, floor=1)
    {'gloves': 1, 'hats': 1, 'tees': 10}
    """
    order = sorted((name for name, size in sizes.items() if size), key=lambda name: (-sizes[name], name))
    while sum(min(floor, sizes[name]) for name in order) > n and floor > 1:
        floor -= 1
    places = {name: min(floor, sizes[name]) for name in order[:n]}
    left = n - sum(places.values())
    queue = [(-sizes[name] / (2 * got + 1), rank, name) for rank, (name, got) in enumerate(places.items())]
    heapq.heapify(queue)
    while left > 0 and queue:
        _, rank, name = heapq.heappop(queue)
        if places[name] < sizes[name]:
            places[name] += 1
            left -= 1
            heapq.heappush(queue, (-sizes[name] / (2 * places[name] + 1), rank, name))
    return {name: places[name] for name in sorted(places)}


def category_names(rows: pd.DataFrame) -> pd.Series:
    """`category2` of each row; `(unknown)` where there is none."""
    return rows["category2"].where(rows["category2"].notna(), UNKNOWN_CATEGORY)


def with_claims(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of which at least one attribute is known."""
    return rows[rows[list(SOURCED)].notna().any(axis=1)]


def choose_items(
    rows: pd.DataFrame, *, n_items: int, min_per_category: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Draw items with at least one known attribute, stratified by `category2`.

    Views of a product share their labels, so that a second one tells hardly more: within a category each
    product gives one view, drawn at random, before any gives another. Where every item has a colour and few a
    neckline, blind chance would hardly ever ask about a neckline: so each place goes to an item that states the
    attribute with the fewest claims so far, drawn at random among those of its category.

    Args:
        rows: of the processed catalogue, in its order.
        n_items: to draw; all of them where there are fewer.
        min_per_category: the floor of `allocate`; the rest is in proportion to items.
        rng: source of randomness; the same state gives the same items.

    Returns:
        Rows drawn, by category name, within one in the order of the catalogue.
    """
    candidates = with_claims(rows)
    names = category_names(candidates)
    sizes = {str(name): int(size) for name, size in names.value_counts().items()}
    places = allocate(sizes, n_items, floor=min_per_category)
    shuffled = rng.permutation(len(candidates))
    known = candidates[list(SOURCED)].notna().to_numpy()
    views = candidates.iloc[shuffled].groupby([names.iloc[shuffled], "product_id"]).cumcount()
    turns = np.asarray(views, dtype=np.int64)
    members = names.to_numpy()[shuffled]
    claims = np.zeros(len(SOURCED), dtype=np.int64)
    chosen: list[int] = []
    for name, wanted in places.items():
        here = np.flatnonzero(members == name)
        drawn = _draw(known[shuffled[here]], turns[here], wanted, claims)
        chosen += sorted(shuffled[here[drawn]].tolist())
    return candidates.iloc[chosen]


def _draw(known: BoolArray, turns: IntArray, wanted: int, claims: IntArray) -> list[int]:
    """Rows of one category, in the order drawn; `claims` per attribute is counted on.

    Args:
        known: (n_rows, n_attributes) which row states which attribute, in random order; every row states one.
        turns: (n_rows,) the how-manieth view of its product a row is.
        wanted: rows to draw, at most n_rows.
        claims: (n_attributes,) claims drawn so far.
    """
    free = np.ones(len(known), dtype=np.bool_)
    drawn: list[int] = []
    while len(drawn) < wanted:
        open_rows = np.flatnonzero(free & (turns == turns[free].min()))
        stated = known[open_rows]
        found = np.flatnonzero(stated.any(axis=0))
        scarce = found[claims[found].argmin()]
        row = int(open_rows[stated[:, scarce].argmax()])
        free[row] = False
        claims += known[row]
        drawn.append(row)
    return drawn
