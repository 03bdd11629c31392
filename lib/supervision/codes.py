"""Catalogue columns as integer codes: equal codes are equal values, -1 is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lib.base.errors import IntegrityError

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
    products = sorted(groups)
    named = [item for product in products for item in groups[product]]
    rows = pd.Index(np.array(item_ids, dtype=object)).get_indexer(pd.Index(np.array(named, dtype=object)))
    sizes = np.array([len(groups[product]) for product in products], dtype=np.int64)
    ends = np.cumsum(sizes)
    if (rows < 0).any():
        missing = int(np.argmax(rows < 0))
        product = products[int(np.searchsorted(ends, missing, side="right"))]
        raise IntegrityError(
            f"groups: product {product!r} names {named[missing]!r}, which is not in the catalogue; "
            "re-run stage build_groups"
        )
    members = rows[np.lexsort((rows, np.repeat(np.arange(len(products)), sizes)))].astype(np.int64)
    n_pairs = sizes * (sizes - 1) // 2
    pair_ends = np.cumsum(n_pairs)
    left, right = np.empty((2, int(n_pairs.sum())), dtype=np.int64)
    for size in np.unique(sizes).tolist():  # there are far fewer sizes than groups
        first, second = np.triu_indices(size, k=1)
        of_size = sizes == size
        starts = (ends - sizes)[of_size][:, None]
        places = (pair_ends - n_pairs)[of_size][:, None] + np.arange(len(first))
        left[places], right[places] = members[starts + first], members[starts + second]
    return left, right
