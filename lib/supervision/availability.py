"""How many pairs of each kind a catalogue holds, counted without listing them.

Pairs that agree in a set of columns are counted from group sizes; inclusion-exclusion over the subsets of the
attributes then gives those that agree in exactly that set. Linear in the items.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lib.supervision.codes import IntArray

Subset = frozenset[int]


def exact_agreements(keys: IntArray, codes: IntArray) -> dict[Subset, int]:
    """Count unordered pairs with equal key by the exact set of attributes in which they are known to agree.

    Args:
        keys: (n,) codes; an item with -1 is in no pair.
        codes: (n, n_attributes) codes, -1 unknown (agrees with nothing).

    Returns:
        Every subset of the attribute numbers -> number of pairs (Möbius inversion of the subset counts).

    >>> keys, codes = np.array([0, 0, 0]), np.array([[1, 5], [1, 6], [-1, 5]])
    >>> counts = exact_agreements(keys, codes)
    >>> [counts[frozenset(s)] for s in ((), (0,), (1,), (0, 1))]
    [1, 1, 1, 0]
    """
    at_least = dict(_at_least(keys[keys >= 0], codes[keys >= 0], chosen=frozenset(), first=0))
    return {
        subset: sum(
            (-1) ** (len(larger) - len(subset)) * count for larger, count in at_least.items() if subset <= larger
        )
        for subset in at_least
    }


def pairs_within(keys: IntArray) -> int:
    """Unordered pairs of items with an equal key; an item with -1 is in no pair."""
    sizes = np.unique(keys[keys >= 0], return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())


def combined(left: IntArray, right: IntArray) -> IntArray:
    """(n,) codes that are equal where both inputs are; -1 where one of them is."""
    both = (left >= 0) & (right >= 0)
    result = np.full(len(left), -1, dtype=np.int64)
    if both.any():
        pairs = left[both] * (int(right.max()) + 1) + right[both]
        result[both] = np.unique(pairs, return_inverse=True)[1]
    return result


def _at_least(keys: IntArray, codes: IntArray, *, chosen: Subset, first: int) -> Iterator[tuple[Subset, int]]:
    """Pairs that agree in the key and at least in `chosen`, for every extension of it by later attributes."""
    yield chosen, pairs_within(keys)
    for attribute in range(first, codes.shape[1]):
        joined = combined(keys, codes[:, attribute])
        kept = joined >= 0
        yield from _at_least(joined[kept], codes[kept], chosen=chosen | {attribute}, first=attribute + 1)
