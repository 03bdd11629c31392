"""What goes with what in the sample shop: pairs of items with a label, drawn from a rule that pictures can carry.

Two items of one gender go together when their kinds complement each other and nothing clashes:

- kind: a top, a bottom, a layer to wear over them, or a dress; two of one kind never go together, nor does a dress
  with a top or a bottom.
- colour: black, white and grey go with everything. The others have a place on the painters' wheel (red 0°, yellow
  120°, blue 240°) and must lie near each other (up to 45°) or opposite (from 150°).
- season: `WARMTH` of material, category and bare arms, added up, may differ by 1.
- occasion: `FORMALITY` of material and category, added up, may differ by 1.
- pattern: one of the two is plain, or both have the same.

A pair that does not go together is made of two that do, (a, b) and (c, d), by exchanging partners: (a, d) and (c, b).
So every item stands as often, and as often first, in pairs of either label: one item alone says nothing about the
label. Half of the exchanges give hard pairs (right kinds, one clash), others clash in more or are two of one kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

TOP, BOTTOM, LAYER, DRESS = range(4)
KINDS: Mapping[str, int] = {
    "tees": TOP,
    "graphic": TOP,
    "shirts": TOP,
    "blouses": TOP,
    "sweaters": TOP,
    "hoodies": TOP,
    "pants": BOTTOM,
    "skirts": BOTTOM,
    "shorts": BOTTOM,
    "jackets": LAYER,
    "cardigans": LAYER,
    "dresses": DRESS,
}
COMPLEMENTS = ((TOP, BOTTOM), (LAYER, TOP), (LAYER, BOTTOM), (LAYER, DRESS))
HUES: Mapping[str, int] = {  # degrees; brown and beige are dark and pale orange
    "red": 0,
    "burgundy": 0,
    "brown": 45,
    "beige": 60,
    "yellow": 120,
    "olive": 150,
    "green": 180,
    "blue": 240,
    "navy blue": 240,
    "purple": 300,
    "pink": 345,
}
NEAR, OPPOSITE = 45, 150
WARMTH: Mapping[str, int] = {
    "linen": -1,
    "chiffon": -1,
    "lace": -1,
    "silk": -1,
    "wool": 1,
    "fleece": 1,
    "leather": 1,
    "shorts": -1,
    "sweaters": 1,
    "hoodies": 1,
    "sleeveless": -1,
}
FORMALITY: Mapping[str, int] = {
    "silk": 1,
    "chiffon": 1,
    "lace": 1,
    "denim": -1,
    "fleece": -1,
    "blouses": 1,
    "dresses": 1,
    "tees": -1,
    "graphic": -1,
    "hoodies": -1,
    "shorts": -1,
}
PLAIN = "solid"
NOISE = 0.05
"""Share of the labels of either kind that are exchanged: stylists differ."""

_GOES, _HARD, _SEVERAL, _SAME_KIND, _NEITHER = range(5)
_SHARES = {_HARD: 0.5, _SEVERAL: 0.35, _SAME_KIND: 0.15}
_SURPLUS = 3  # pairs that go together per one that is used: not every pair finds another to exchange partners with
_DRAWS = 300


class Garment(NamedTuple):
    """What the rule knows of an item; `sleeve` is empty where there is none."""

    item_id: str
    product: str
    gender: str
    category: str
    material: str
    pattern: str
    sleeve: str
    colour: str


class Outfit(NamedTuple):
    """A row of `outfits.csv`; the label is 1 when the two go together, 0 when not."""

    a_id: str
    b_id: str
    label: int


class _Stock:
    """The garments as arrays, and the rule on pairs of their positions."""

    def __init__(self, garments: Sequence[Garment]) -> None:
        self.ids = [garment.item_id for garment in garments]
        self._product = _codes([garment.product for garment in garments])
        self._gender = _codes([garment.gender for garment in garments])
        self._kind = np.array([KINDS[garment.category] for garment in garments], dtype=np.int64)
        self._hue = np.array([HUES.get(garment.colour, -1) for garment in garments], dtype=np.int64)
        self._warmth = np.array([_total(WARMTH, g.material, g.category, g.sleeve) for g in garments], dtype=np.int64)
        self._formality = np.array([_total(FORMALITY, g.material, g.category) for g in garments], dtype=np.int64)
        self._pattern = _codes([garment.pattern for garment in garments])
        self._plain = np.array([garment.pattern == PLAIN for garment in garments], dtype=bool)
        self._complement = np.zeros((4, 4), dtype=bool)
        for one, other in COMPLEMENTS:
            self._complement[one, other] = self._complement[other, one] = True

    def judge(self, a: IntArray, b: IntArray) -> IntArray:
        """(n,) what each pair is: `_GOES`, a kind of pair that does not, or `_NEITHER`, which nobody would ask of."""
        clashes = self._clashes(a, b)
        complementary = self._complement[self._kind[a], self._kind[b]]
        what = np.where(complementary, np.minimum(clashes, _SEVERAL), _NEITHER)
        what[self._kind[a] == self._kind[b]] = _SAME_KIND
        what[(self._gender[a] != self._gender[b]) | (self._product[a] == self._product[b])] = _NEITHER
        return what

    def _clashes(self, a: IntArray, b: IntArray) -> IntArray:
        angle = np.abs(self._hue[a] - self._hue[b])
        angle = np.minimum(angle, 360 - angle)
        coloured = (self._hue[a] >= 0) & (self._hue[b] >= 0)
        clashes: IntArray = np.sum(
            [
                coloured & (angle > NEAR) & (angle < OPPOSITE),
                np.abs(self._warmth[a] - self._warmth[b]) > 1,
                np.abs(self._formality[a] - self._formality[b]) > 1,
                ~self._plain[a] & ~self._plain[b] & (self._pattern[a] != self._pattern[b]),
            ],
            axis=0,
            dtype=np.int64,
        )
        return clashes


def draw_outfits(garments: Sequence[Garment], *, n_pairs: int, rng: np.random.Generator) -> list[Outfit]:
    """Draw labelled pairs, half of either label; see the module for the rule.

    Args:
        garments: all items of the shop.
        n_pairs: how many pairs; a small shop gives fewer, none where no exchange of partners is possible.
        rng: source of randomness.

    Returns:
        Pairs in random order; no two of them hold the same two items.
    """
    if len(garments) < 4 or n_pairs < 4:
        return []
    stock = _Stock(garments)
    going = _going_together(stock, n_pairs // 2 * _SURPLUS, rng)
    one, other = _exchanges(stock, going, n_pairs // 4, rng).T
    (a, b), (c, d) = going[one].T, going[other].T
    pairs = np.stack([np.concatenate([a, c, a, c]), np.concatenate([b, d, d, b])], axis=1)
    labels = np.repeat([1, 0], 2 * len(one))
    n_wrong = round(NOISE * 2 * len(one))
    for label in (1, 0):
        wrong = rng.choice(2 * len(one), size=n_wrong, replace=False) + (0 if label else 2 * len(one))
        labels[wrong] = 1 - label
    order = rng.permutation(len(pairs))
    return [
        Outfit(stock.ids[i], stock.ids[j], int(label))
        for (i, j), label in zip(pairs[order], labels[order], strict=True)
    ]


def _going_together(stock: _Stock, n: int, rng: np.random.Generator) -> IntArray:
    """At most n different pairs that go together, (n, 2)."""
    n_items, found = len(stock.ids), np.zeros((0, 2), dtype=np.int64)
    for _ in range(_DRAWS):
        drawn = rng.integers(n_items, size=(4 * n, 2))
        found = _first_ones(np.concatenate([found, drawn[stock.judge(*drawn.T) == _GOES]]), n_items)
        if len(found) >= n:
            break
    return found[:n]


def _exchanges(stock: _Stock, going: IntArray, n: int, rng: np.random.Generator) -> IntArray:
    """About n pairs of rows of `going`, no row twice: exchanging partners gives two new pairs of one sort."""
    quotas = {sort: round(share * n) for sort, share in _SHARES.items()}
    used = set(_keys(going, len(stock.ids)).tolist())
    left, chosen = np.arange(len(going)), [np.zeros((0, 2), dtype=np.int64)]
    for _ in range(_DRAWS):
        if len(left) < 2 or not any(quotas.values()):
            break
        left = rng.permutation(left)
        half = len(left) // 2
        one, other = left[:half], left[half : 2 * half]
        new = [np.stack([going[p, 0], going[q, 1]], axis=1) for p, q in ((one, other), (other, one))]
        keys = np.stack([_keys(pairs, len(stock.ids)) for pairs in new], axis=1)
        sorts = _sort_of_both(stock.judge(*new[0].T), stock.judge(*new[1].T))
        taken = np.zeros(half, dtype=bool)
        for sort in quotas:
            for place in np.flatnonzero(sorts == sort).tolist():
                both = set(keys[place].tolist())
                if quotas[sort] and len(both) == 2 and not both & used:
                    used |= both
                    quotas[sort] -= 1
                    taken[place] = True
        chosen.append(np.stack([one[taken], other[taken]], axis=1))
        left = np.concatenate([one[~taken], other[~taken], left[2 * half :]])
    return np.concatenate(chosen)


def _sort_of_both(first: IntArray, second: IntArray) -> IntArray:
    """What an exchange gives: `_SEVERAL` already when one of the two clashes in several things."""
    clashing = [(what == _HARD) | (what == _SEVERAL) for what in (first, second)]
    both = np.where(clashing[0] & clashing[1], np.maximum(first, second), _NEITHER)
    both[(first == _SAME_KIND) & (second == _SAME_KIND)] = _SAME_KIND
    return both


def _keys(pairs: IntArray, n_items: int) -> IntArray:
    """A number per pair, the same whichever item stands first."""
    keys: IntArray = pairs.min(axis=1) * n_items + pairs.max(axis=1)
    return keys


def _first_ones(pairs: IntArray, n_items: int) -> IntArray:
    """The pairs without those that were there before, in order."""
    _, first = np.unique(_keys(pairs, n_items), return_index=True)
    return pairs[np.sort(first)]


def _codes(values: Sequence[str]) -> IntArray:
    return np.unique(np.array(values), return_inverse=True)[1].astype(np.int64)


def _total(points: Mapping[str, int], *names: str) -> int:
    return sum(points.get(name, 0) for name in names)
