"""Product keys, components and splits."""

import hashlib
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.base.errors import ConfigError
from lib.catalog.products import (
    assign_splits,
    compile_sku_pattern,
    find_sku,
    group_products,
    id_stem,
    url_stem,
)

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


@pytest.mark.parametrize(
    ("item_id", "stem"),
    [
        ("S00412_view1", "S00412"),
        ("S00731_front", "S00731"),
        ("S00731-Back", "S00731"),
        ("S01200_A", "S01200"),
        ("S00044-1", "S00044"),
        ("WOMEN_Blouses_id_00002558_02_1_front", "WOMEN_Blouses_id_00002558_02"),
        ("10003", "10003"),
        ("001", "001"),
        ("A-1", "A-1"),  # too little would be left
        ("shirt-2024", "shirt-2024"),  # a year, no view
        ("_1", "_1"),
    ],
)
def test_id_stem(item_id, stem):
    assert id_stem(item_id) == stem


def test_url_stem():
    assert url_stem("https://cdn.shop.com/p/1234_front.jpg?w=200") == url_stem("https://cdn.shop.com/p/1234_2.png")
    assert url_stem("https://cdn.shop.com/") is None
    for odd in ("http://[broken", "http://img.shop.cn\uff1a8080/p3.jpg", "https://x.y/.", "//"):
        assert url_stem(odd) is None, odd


def test_sku_pattern():
    pattern = compile_sku_pattern(r"\b([A-Z]{2}\d{3})\b")
    assert find_sku(pattern, "001", "XY123 front", "AB999") == "XY123"
    assert find_sku(pattern, "001", None, "no code") is None
    assert find_sku(None, "XY123") is None
    for broken in ("([A-Z", "[A-Z]+", "(a)(b)"):
        with pytest.raises(ConfigError, match="sku_pattern"):
            compile_sku_pattern(broken)


def test_components_are_transitive_and_named_after_the_given_id():
    grouping = group_products(
        ["a", "b", "c", "d"],
        {"column": ["P1", "P1", None, None], "sku": [None, "X", "X", None]},
    )
    assert grouping.product_ids == ["P1", "P1", "P1", "d"]
    # a and b are the core by the strong key; only c hangs on the weak one
    assert grouping.keys == ["column", "column", "sku", "single"]


def test_two_strong_pairs_tied_by_a_weak_key():
    grouping = group_products(
        ["a", "b", "c", "d", "e"],
        {"column": ["P1", "P1", "P2", "P2", None], "sku": [None, "X", "X", None, None]},
    )
    assert grouping.product_ids == ["P1", "P1", "P1", "P1", "e"]
    assert grouping.keys == ["column", "column", "sku", "sku", "single"]


def test_absurd_values_are_ignored_and_reported():
    ids = [f"SHIRT-{n}" for n in range(60)]
    grouping = group_products(ids, {"item_id": [id_stem(i) for i in ids]})
    assert len(set(grouping.product_ids)) == 60
    assert grouping.ignored == (("item_id", "SHIRT", 60),)
    assert set(grouping.keys) == {"single"}


def test_names_never_collide():
    # the stem of the second product is the given id of the first
    grouping = group_products(
        ["x1", "x2", "P1_a", "P1_b"],
        {"column": ["P1", "P1", "Q", "P1~2"], "item_id": ["x1", "x2", "P1_a", "P1_b"]},
    )
    assert len(set(grouping.product_ids)) == 3
    grouping = group_products(["P1", "P2"], {"column": ["P2", None], "item_id": ["P1", "P2"]})
    assert len(set(grouping.product_ids)) == 2


def test_no_items():
    assert group_products([], {}).product_ids == []
    assert assign_splits([], [], SHARES, 1) == []


@given(st.lists(st.tuples(st.sampled_from("abc") | st.none(), st.sampled_from("xyz") | st.none()), max_size=12))
def test_components_equal_a_slow_reference(keys):
    ids = [f"i{n}" for n in range(len(keys))]
    grouping = group_products(ids, {"column": [k[0] for k in keys], "sku": [k[1] for k in keys]})
    label = list(range(len(keys)))
    for _ in keys:
        for i, j in itertools.product(range(len(keys)), repeat=2):
            if any(p is not None and p == q for p, q in zip(keys[i], keys[j], strict=True)):
                label[i] = label[j] = min(label[i], label[j])
    for i, j in itertools.product(range(len(keys)), repeat=2):
        assert (label[i] == label[j]) == (grouping.product_ids[i] == grouping.product_ids[j])
        if sum(x == label[i] for x in label) == 1:
            assert grouping.keys[i] == "single"
        else:
            assert grouping.keys[i] in ("column", "sku")


def catalogue(n_products: int) -> tuple[list[str], list[str | None]]:
    rng = np.random.default_rng(0)
    products = np.repeat([f"P{n}" for n in range(n_products)], 2)
    categories = [str(c) for c in rng.choice(["tees", "pants", "rare"], n_products, p=[0.6, 0.38, 0.02]).repeat(2)]
    return products.tolist(), list(categories)


def test_splits_keep_products_together_and_shares_in_every_category():
    products, categories = catalogue(1000)
    splits = assign_splits(products, categories, SHARES, 42)
    assert len(set(zip(products, splits, strict=True))) == 1000
    for name in ("tees", "pants", "rare"):
        counts = Counter(s for s, c in zip(splits, categories, strict=True) if c == name)
        total = sum(counts.values())
        for split, share in SHARES.items():
            assert abs(counts[split] - share * total) <= 4
    assert assign_splits(products, categories, SHARES, 42) == splits
    assert assign_splits(products, categories, SHARES, 43) != splits


def test_splits_do_not_depend_on_row_order_and_move_little():
    products, categories = catalogue(1000)
    before = dict(zip(products, assign_splits(products, categories, SHARES, 42), strict=True))
    backwards = dict(zip(products[::-1], assign_splits(products[::-1], categories[::-1], SHARES, 42), strict=True))
    assert backwards == before
    more, extra = catalogue(1010)
    after = dict(zip(more, assign_splits(more, [*categories, *extra[2000:]], SHARES, 42), strict=True))
    assert sum(before[p] != after[p] for p in before) <= 20


def test_systematic_sampling_by_hand():
    # written anew from the definition: order by hash, then (rank + u) / n against 0.6 and 0.8
    def number(text: str) -> int:
        return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)

    products = [f"P{n}" for n in range(11)]
    u = number("7|category|tees") / 2**64
    expected = {}
    for rank, product in enumerate(sorted(products, key=lambda p: number(f"7|product|{p}"))):
        position = (rank + u) / 11
        expected[product] = "train" if position < 0.6 else "validation" if position < 0.8 else "test"
    found = assign_splits(products, ["tees"] * 11, SHARES, 7)
    assert dict(zip(products, found, strict=True)) == expected


def test_the_most_frequent_category_is_a_products_own() -> None:
    """By name only where two are as frequent; photos without a category have no vote."""
    products = [f"p{number}" for number in range(43) for _ in range(4)]

    def splits(*categories: str | None) -> list[str]:
        return assign_splits(products, list(categories) * 43, SHARES, 5)

    assert splits("a", "z", "z", None) == splits("z", "z", "z", "z") != splits("a", "a", "a", "a")
    assert splits("z", "a", "z", "a") == splits("a", "a", "a", "a")
    assert splits(None, None, None, "z") == splits("z", "z", "z", "z") != splits(None, None, None, None)
