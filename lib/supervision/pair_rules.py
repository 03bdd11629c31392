"""Which pair is of which kind: the rules of `build_pairs` over coded items, whole arrays at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from lib.base.params import ATTRIBUTES, PairKind
from lib.supervision.availability import combined, exact_agreements, pairs_within
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

POSITIVE_KINDS: tuple[PairKind, ...] = ("strong", "medium", "weak")
MATERIAL = ATTRIBUTES.index("material")
PATTERN = ATTRIBUTES.index("pattern")
TAGS = [column for column in range(len(ATTRIBUTES)) if column != MATERIAL]


@dataclass(frozen=True)
class PairRows:
    """Pairs by catalogue row: two (n_pairs,) int64 arrays, `a` being the item that proposed."""

    a: IntArray
    b: IntArray

    def __len__(self) -> int:
        return len(self.a)

    def take(self, places: IntArray) -> PairRows:
        """The pairs at some places."""
        return PairRows(self.a[places], self.b[places])

    def take_first(self, n: int) -> PairRows:
        """The first n pairs, or all."""
        return PairRows(self.a[:n], self.b[:n])

    @classmethod
    def none(cls) -> PairRows:
        """No pair."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))

    @classmethod
    def joined(cls, parts: Sequence[PairRows]) -> PairRows:
        """Several lists of pairs in a row."""
        return cls(np.concatenate([part.a for part in parts]), np.concatenate([part.b for part in parts]))


@dataclass(frozen=True)
class Items:
    """A catalogue in codes, -1 unknown.

    Attributes:
        category: (n,), -1 also for pattern-only items.
        attributes: (n, 4) in the order of `ATTRIBUTES`.
        colour: (n,).
        products: (n,).
        pattern_only: (n,) True where the category says something about the pattern only.
        weights: (n,) 1/sqrt(size of the item's category).
    """

    category: IntArray
    attributes: IntArray
    colour: IntArray
    products: IntArray
    pattern_only: BoolArray
    weights: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.category)

    @classmethod
    def of(cls, meta: pd.DataFrame, pattern_only: Sequence[str]) -> Items:
        """Code the columns of a catalogue."""
        classes = codes_of(meta["category2"])
        sizes = np.bincount(classes + 1, minlength=1)
        return cls(
            category_codes(meta, pattern_only),
            attribute_codes(meta, ATTRIBUTES),
            codes_of(meta["color"]),
            codes_of(meta["product_id"]),
            meta["category2"].isin(pattern_only).to_numpy(dtype=bool),
            1.0 / np.sqrt(sizes[classes + 1]),
        )

    def keys(self, pairs: PairRows) -> IntArray:
        """One number per unordered pair."""
        keys: IntArray = np.minimum(pairs.a, pairs.b) * len(self) + np.maximum(pairs.a, pairs.b)
        return keys

    def equal(self, pairs: PairRows) -> BoolArray:
        """(n_pairs, 4) in which attributes both are known and equal."""
        return equal_known(self.attributes[pairs.a], self.attributes[pairs.b])

    def known_different(self, pairs: PairRows) -> BoolArray:
        """(n_pairs,) whether any attribute is known to differ."""
        different = different_known(self.attributes[pairs.a], self.attributes[pairs.b])
        return np.asarray(different.any(axis=1), dtype=np.bool_)

    def of_kind(self, kind: PairKind, pairs: PairRows) -> BoolArray:
        """(n_pairs,) whether the columns alone make the pair this kind; an item with itself never is."""
        equal = self.equal(pairs)
        same_category = equal_known(self.category[pairs.a], self.category[pairs.b])
        if kind == "strong":
            fits = same_category & (equal.sum(axis=1) >= STRONG_EQUAL)
        elif kind == "medium":
            fits = same_category & equal[:, MATERIAL]
        elif kind == "weak":
            either = self.pattern_only[pairs.a] | self.pattern_only[pairs.b]
            fits = (same_category & equal[:, TAGS].any(axis=1)) | (either & equal[:, PATTERN])
        elif kind == "easy":
            fits = different_known(self.category[pairs.a], self.category[pairs.b]) & ~equal.any(axis=1)
            fits &= ~equal_known(self.colour[pairs.a], self.colour[pairs.b])
            fits &= self.products[pairs.a] != self.products[pairs.b]
        else:
            raise ValueError(f"kind: expected strong, medium, weak or easy, got {kind!r}; hard pairs are mined")
        return np.asarray(fits & (pairs.a != pairs.b), dtype=np.bool_)

    def sharings(self, kind: PairKind) -> Sharings:
        """What two items may share to be of a positive kind."""
        sets: Mapping[PairKind, list[tuple[int, ...]]] = {
            "strong": list(combinations(range(len(ATTRIBUTES)), STRONG_EQUAL)),
            "medium": [(MATERIAL,)],
            "weak": [(column,) for column in TAGS],
        }
        shared = []
        for columns in sets[kind]:
            key = self.category
            for column in columns:
                key = combined(key, self.attributes[:, column])
            shared.append((key, key >= 0))
        if kind == "weak":  # a pattern-only item proposes to anything of its pattern
            shared.append((self.attributes[:, PATTERN], self.pattern_only))
        return Sharings.of(shared)

    def reasons(self, kind: PairKind, pairs: PairRows, in_group: IntArray) -> list[str]:
        """Why each pair has its kind, e.g. `category+material+neckline`; empty for the mined."""
        if kind == "hard":
            return []
        if kind == "easy":
            return ["other category"] * len(pairs)
        equal = self.equal(pairs)
        category = equal_known(self.category[pairs.a], self.category[pairs.b])
        names = np.array(["category", *ATTRIBUTES])
        shown = np.concatenate([category[:, None], equal & (category[:, None] | (np.arange(4) == PATTERN))], axis=1)
        grouped = np.isin(self.keys(pairs), in_group)
        return ["group" if own else "+".join(names[row]) for own, row in zip(grouped, shown, strict=True)]


@dataclass(frozen=True)
class Sharings:
    """Buckets of items that share something; several ways of sharing side by side.

    Attributes:
        order: (n_ways, n) item rows sorted by bucket.
        starts: (n_ways, n) where the item's bucket begins in `order`.
        sizes: (n_ways, n) members of the item's bucket; 0 where the item proposes nobody this way.
    """

    order: IntArray
    starts: IntArray
    sizes: IntArray

    @classmethod
    def of(cls, shared: Sequence[tuple[IntArray, BoolArray]]) -> Sharings:
        """From (bucket code per item, whether the item proposes) per way."""
        orders, starts, sizes = [], [], []
        for key, proposes in shared:
            order = np.argsort(key, kind="stable")
            start = np.searchsorted(key[order], key, side="left")
            size = np.searchsorted(key[order], key, side="right") - start
            orders.append(order)
            starts.append(start)
            sizes.append(np.where(proposes & (key >= 0) & (size >= 2), size, 0))
        return cls(np.stack(orders), np.stack(starts), np.stack(sizes))

    def any_partner(self) -> BoolArray:
        """(n,) whether the item shares anything with another."""
        return np.asarray((self.sizes > 0).any(axis=0), dtype=np.bool_)

    def partners(self, anchors: IntArray, *, rng: np.random.Generator) -> IntArray:
        """One partner per anchor: a way of sharing at random, then a member of that bucket at random.

        May be the anchor itself, which the rules of the kind then refuse.
        """
        sizes = self.sizes[:, anchors]
        way = np.where(sizes > 0, rng.random(sizes.shape), -1.0).argmax(axis=0)
        size = np.maximum(self.sizes[way, anchors], 1)
        place = self.starts[way, anchors] + rng.integers(0, size)
        return np.asarray(self.order[way, place], dtype=np.int64)


def count_available(items: Items, kind: PairKind, *, taken: PairRows) -> int:
    """Exact number of pairs of a kind by the columns alone, less those `taken` already (distinct pairs)."""
    if kind == "easy":
        total = _count_easy(items)
    else:
        total = 0
        for subset, count in exact_agreements(items.category, items.attributes).items():
            strong = len(subset) >= STRONG_EQUAL
            fits = {"strong": strong, "medium": MATERIAL in subset, "weak": bool(subset & set(TAGS))}
            total += count * fits[kind]
        if kind == "weak":
            pattern = items.attributes[:, PATTERN]
            total += pairs_within(pattern) - pairs_within(np.where(items.pattern_only, -1, pattern))
    return total - int(items.of_kind(kind, taken).sum())


def _count_easy(items: Items) -> int:
    """Pairs of different categories that share neither attribute nor colour nor product."""
    nothing: frozenset[int] = frozenset()
    columns = np.concatenate([items.attributes, items.colour[:, None]], axis=1)
    has_category = items.category >= 0
    everyone = np.where(has_category, 0, -1)
    products = np.where(has_category, items.products, -1)

    def sharing_nothing(keys: IntArray) -> int:
        return exact_agreements(keys, columns)[nothing]

    apart = sharing_nothing(everyone) - sharing_nothing(items.category)
    own = sharing_nothing(products) - sharing_nothing(combined(items.category, products))
    return apart - own
