"""Catalogue columns as integer codes: equal codes are equal values, -1 is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lib.errors import IntegrityError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

STRONG_EQUAL = 2
"""So many equal known attributes within one category make a strong positive."""


def codes_of(column: pd.Series[Any]) -> IntArray:
    """(n,) codes in the sorted order of the values; None is -1.

    >>> codes_of(pd.Series(["wool", None, "denim", "wool"])).tolist()
    [1, -1, 0, 1]
    """
    codes: IntArray = pd.factorize(column, sort=True)[0].astype(np.int64)
    return codes


def attribute_codes(meta: pd.DataFrame, names: Sequence[str]) -> IntArray:
    """(n, n_names) codes, -1 unknown."""
    return np.stack([codes_of(meta[name]) for name in names], axis=1).reshape(len(meta), len(names))


def category_codes(meta: pd.DataFrame, pattern_only: Sequence[str]) -> IntArray:
    """(n,) codes of category2; -1 where it is unknown or says something about the pattern only.

    A catalogue in which nobody has a category is one of a single category: all codes are 0.
    """
    column = meta["category2"]
    if column.isna().all():
        return np.zeros(len(meta), dtype=np.int64)
    return codes_of(column.where(~column.isin(pattern_only), None))


def equal_known(left: IntArray, right: IntArray) -> BoolArray:
    """Elementwise: both known and equal."""
    equal: BoolArray = (left == right) & (left >= 0)
    return equal


def different_known(left: IntArray, right: IntArray) -> BoolArray:
    """Elementwise: both known and different."""
    different: BoolArray = (left != right) & (left >= 0) & (right >= 0)
    return different


def group_pairs(groups: Mapping[str, Sequence[str]], item_ids: Sequence[str]) -> tuple[IntArray, IntArray]:
    """Every unordered pair of catalogue rows within a group: two (n_pairs,) arrays, the first smaller.

    Raises:
        IntegrityError: a group names an item that the catalogue does not have.
    """
    place = {item: row for row, item in enumerate(item_ids)}
    left, right = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    triangles: dict[int, tuple[IntArray, IntArray]] = {}  # by size: there are far fewer sizes than groups
    for product in sorted(groups):
        missing = [item for item in groups[product] if item not in place]
        if missing:
            raise IntegrityError(
                f"groups: product {product!r} names {missing[0]!r}, which is not in the catalogue; "
                "re-run stage build_groups"
            )
        rows = np.sort(np.array([place[item] for item in groups[product]], dtype=np.int64))
        if len(rows) not in triangles:
            triangles[len(rows)] = np.triu_indices(len(rows), k=1)
        first, second = triangles[len(rows)]
        left.append(rows[first])
        right.append(rows[second])
    return np.concatenate(left), np.concatenate(right)
