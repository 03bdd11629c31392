"""Pairs of the items of a group."""

from __future__ import annotations

import pytest

from lib.base.errors import IntegrityError
from lib.supervision.codes import group_pairs

ITEMS = ["a", "b", "c", "d", "e", "f", "g"]


def test_every_pair_once_group_after_group_the_smaller_row_first() -> None:
    groups = {"p2": ["f", "a"], "p1": ["e", "b", "d"], "p0": ["c"], "p3": []}
    left, right = group_pairs(groups, ITEMS)
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == [(1, 3), (1, 4), (3, 4), (0, 5)]
    left, right = group_pairs({}, ITEMS)
    assert left.tolist() == right.tolist() == []


def test_a_stranger_is_named_with_its_group() -> None:
    for groups in ({"p0": ["a"], "p1": [], "p2": ["zz", "b"]}, {"p2": ["a", "zz"], "p3": ["b"]}):
        with pytest.raises(IntegrityError, match="product 'p2' names 'zz'"):
            group_pairs(groups, ITEMS)
