"""Pairs against a slow classification of every pair, and the invariants that training relies on."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_shop import meta_of, random_shop

from lib.base.errors import DataError, IntegrityError
from lib.base.params import ATTRIBUTES, Pairs, PairShares
from lib.supervision.availability import exact_agreements
from lib.supervision.pairs import build_pairs

SHARES = PairShares(strong=0.35, medium=0.2, weak=0.1, hard=0.3, easy=0.05)
GRAPHIC = ("graphic",)
NO_HARD = pd.DataFrame({"anchor_id": [], "negative_id": [], "differs_in": [], "suspect": []}).astype(
    {"suspect": bool}
)


def params(n: int, shares: PairShares = SHARES, seed: int = 0) -> Pairs:
    return Pairs(n_pairs=n, shares=shares, seed=seed)


def only(**share: float) -> PairShares:
    return PairShares(**({"strong": 0, "medium": 0, "weak": 0, "hard": 0, "easy": 0} | share))


def groups_of(meta: pd.DataFrame) -> dict[str, list[str]]:
    sizes = meta["product_id"].value_counts()
    return {p: meta.loc[meta["product_id"] == p, "item_id"].tolist() for p in sorted(sizes.index[sizes > 1])}


def hard_of(meta: pd.DataFrame, n: int, *, seed: int) -> pd.DataFrame:
    """Known-different pairs of one category, every third one a suspect."""
    rng = np.random.default_rng(seed)
    rows = []
    for a, b in rng.permutation(list(combinations(range(len(meta)), 2))):
        left, right = meta.iloc[a], meta.iloc[b]
        differs = [n for n in ATTRIBUTES if left[n] and right[n] and left[n] != right[n]]
        same = left["category2"] == right["category2"] and left["category2"] not in (None, "graphic")
        if same and differs and left["product_id"] != right["product_id"]:
            rows.append((left["item_id"], right["item_id"], ",".join(differs), len(rows) % 3 == 2))
        if len(rows) == n:
            break
    return pd.DataFrame(rows, columns=["anchor_id", "negative_id", "differs_in", "suspect"])


def slow_kinds(a: dict[str, object], b: dict[str, object], grouped: bool) -> set[str]:
    """Every kind that a pair may have, from its columns, one rule at a time."""
    equal = {name for name in ATTRIBUTES if a[name] and a[name] == b[name]}
    graphic = "graphic" in (a["category2"], b["category2"])
    category = bool(a["category2"]) and a["category2"] == b["category2"] and not graphic
    kinds = set()
    if grouped or (category and len(equal) >= 2):
        kinds.add("strong")
    if category and "material" in equal:
        kinds.add("medium")
    if (category and equal - {"material"}) or (graphic and "pattern" in equal):
        kinds.add("weak")
    known = bool(a["category2"]) and bool(b["category2"]) and not graphic
    unlike = not equal and not (a["color"] and a["color"] == b["color"]) and a["product_id"] != b["product_id"]
    if known and a["category2"] != b["category2"] and unlike:
        kinds.add("easy")
    return kinds


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 60))
@example(seed=523, n=2)  # nobody has a category: that is a single one
def test_invariants(seed: int, n: int) -> None:
    meta = random_shop(n, seed=seed)
    groups, hard = groups_of(meta), hard_of(meta, 40, seed=seed)
    table, facts = build_pairs(meta, groups, hard, params=params(200, seed=seed), pattern_only=GRAPHIC)
    named = meta if meta["category2"].notna().any() else meta.assign(category2="the only one")
    rows = {row["item_id"]: row for row in named.to_dict("records")}
    grouped = {frozenset(pair) for items in groups.values() for pair in combinations(items, 2)}
    mined = {frozenset(pair) for pair in hard.loc[~hard["suspect"], ["anchor_id", "negative_id"]].to_numpy()}
    suspects = {frozenset(pair) for pair in hard.loc[hard["suspect"], ["anchor_id", "negative_id"]].to_numpy()}
    seen: set[frozenset[str]] = set()
    for a, b, kind, label in table[["a_id", "b_id", "kind", "label"]].to_numpy():
        pair = frozenset((a, b))
        assert len(pair) == 2 and pair not in seen  # unique over all kinds, so no positive is a negative
        seen.add(pair)
        if kind == "hard":
            assert pair in mined and label == 0
            assert "graphic" not in (rows[a]["category2"], rows[b]["category2"])
        else:
            assert kind in slow_kinds(rows[a], rows[b], pair in grouped)
            assert label == (kind != "easy")
        if pair in grouped:
            assert kind == "strong"
        if pair in mined:
            assert kind == "hard"
        if pair in suspects - mined:
            assert kind != "hard"
    for kind, row in facts["kinds"].items():
        assert row["made"] == (table["kind"] == kind).sum() <= min(row["wanted"], row["available"])
        assert ("reason" in row) == (row["made"] < row["wanted"])


@pytest.mark.parametrize("kind", ["strong", "medium", "weak", "easy"])
def test_availability_is_exact_and_a_small_catalogue_is_exhausted(kind: str) -> None:
    meta = random_shop(60, seed=4)
    groups, hard = groups_of(meta), hard_of(meta, 30, seed=4)
    table, facts = build_pairs(meta, groups, hard, params=params(100_000, only(**{kind: 1.0})), pattern_only=GRAPHIC)
    rows = meta.to_dict("records")
    grouped = {frozenset(pair) for items in groups.values() for pair in combinations(items, 2)}
    mined = {frozenset(pair) for pair in hard.loc[~hard["suspect"], ["anchor_id", "negative_id"]].to_numpy()}
    expected = 0
    for a, b in combinations(rows, 2):
        pair = frozenset((a["item_id"], b["item_id"]))
        fixed = pair in mined or (pair in grouped and kind != "strong")
        expected += kind in slow_kinds(a, b, pair in grouped) and not fixed
    row = facts["kinds"][kind]
    assert row["available"] == expected > 20
    assert row["made"] >= 0.99 * expected and len(table) == row["made"]
    assert row["reason"] == f"the catalogue holds {expected} such pairs"


def test_quotas_are_met_where_data_suffices_and_not_shifted_where_not() -> None:
    meta = random_shop(300, seed=5)
    hard = hard_of(meta, 30, seed=5)
    _, facts = build_pairs(meta, groups_of(meta), hard, params=params(1000), pattern_only=GRAPHIC)
    made = {kind: row["made"] for kind, row in facts["kinds"].items()}
    assert made == {"strong": 350, "medium": 200, "weak": 100, "hard": 20, "easy": 50}
    assert facts["kinds"]["hard"]["reason"] == "the catalogue holds 20 such pairs"


def test_a_graphic_item_pairs_through_its_group_or_pattern_only() -> None:
    rows: list[dict[str, object]] = [
        {"category2": "graphic", "pattern": "print", "material": "cotton", "product_id": "g"},
        {"category2": "graphic", "pattern": "print", "material": "cotton", "product_id": "g"},
        {"category2": "graphic", "pattern": "solid", "material": "cotton"},
        {"category2": "tees", "pattern": "print", "material": "cotton"},
        {"category2": "shorts", "color": "red"},
    ]
    groups = {"g": ["i0", "i1"]}
    table, _ = build_pairs(meta_of(rows), groups, NO_HARD, params=params(1000), pattern_only=GRAPHIC)
    found = {(frozenset((a, b)), kind, why) for a, b, kind, _, why in table.to_numpy()}
    assert found == {
        (frozenset(("i0", "i1")), "strong", "group"),
        (frozenset(("i0", "i3")), "weak", "pattern"),
        (frozenset(("i1", "i3")), "weak", "pattern"),
        (frozenset(("i3", "i4")), "easy", "other category"),
    }
    # the same rows under a policy that names no pattern-only category do pair by category
    without, _ = build_pairs(meta_of(rows), groups, NO_HARD, params=params(1000), pattern_only=())
    assert "category+pattern+material" not in set(table["reason"])
    assert {"i0", "i2"} in [{a, b} for a, b in without.loc[without["kind"] == "medium", ["a_id", "b_id"]].to_numpy()]


def test_items_of_one_product_are_no_easy_pair() -> None:
    """Also where a view was filed under another category."""
    rows: list[dict[str, object]] = [{"category2": c, "product_id": "a"} for c in ("tees", "shorts")]
    table, facts = build_pairs(meta_of(rows), {}, NO_HARD, params=params(100), pattern_only=())
    assert not len(table) and facts["kinds"]["easy"]["available"] == 0


def test_reasons_name_what_is_shared() -> None:
    rows: list[dict[str, object]] = [{"category2": "tees", "material": "wool", "neckline": "v"}] * 2
    table, _ = build_pairs(meta_of(rows), {}, NO_HARD, params=params(10), pattern_only=())
    assert table[["kind", "reason"]].to_numpy().tolist() == [["strong", "category+neckline+material"]]
    hard = pd.DataFrame([["i0", "i1", "pattern,neckline", False]], columns=list(NO_HARD.columns))
    table, _ = build_pairs(meta_of(rows), {}, hard, params=params(10), pattern_only=())
    assert table[["kind", "label", "reason"]].to_numpy().tolist() == [["hard", 0, "hard:pattern,neckline"]]


def test_positives_without_a_known_difference_come_first() -> None:
    tee: dict[str, object] = {"category2": "tees", "material": "wool", "sleeve": "long"}
    rows = [{**tee, "neckline": "v"}] * 6 + [{**tee, "neckline": "crew"}] * 6
    _, facts = build_pairs(meta_of(rows), {}, NO_HARD, params=params(30, only(strong=1.0)), pattern_only=())
    assert facts["kinds"]["strong"]["with_known_difference"] == 0  # 15 + 15 pairs agree in all
    _, facts = build_pairs(meta_of(rows), {}, NO_HARD, params=params(40, only(strong=1.0)), pattern_only=())
    assert facts["kinds"]["strong"]["with_known_difference"] == 10


def test_hard_pairs_give_every_anchor_its_best_before_any_second() -> None:
    meta = meta_of([{"category2": "tees"}] * 5)
    rows = [("i0", f"i{n}", "material", False) for n in (1, 2, 3)] + [("i4", "i1", "pattern", False)]
    hard = pd.DataFrame(rows, columns=list(NO_HARD.columns))
    table, _ = build_pairs(meta, {}, hard, params=params(2, only(hard=1.0)), pattern_only=())
    assert table[["a_id", "b_id"]].to_numpy().tolist() == [["i0", "i1"], ["i4", "i1"]]


def test_every_item_gets_a_positive_and_small_classes_more_than_their_share() -> None:
    rows: list[dict[str, object]] = [{"category2": "tees", "material": "cotton", "sleeve": "long"}] * 180
    rows += [{"category2": "shorts", "material": "denim", "sleeve": "long"}] * 20
    table, facts = build_pairs(meta_of(rows), {}, NO_HARD, params=params(1000, only(strong=1.0)), pattern_only=())
    assert facts["items_with_positive"] == 200
    small = table["a_id"].isin([f"i{n}" for n in range(180, 200)]).mean()
    assert small > 0.12  # a plain draw gives 0.1; 20 items hold only 190 pairs


def test_same_seed_same_pairs() -> None:
    meta = random_shop(80, seed=6)
    once, twice, other = (
        build_pairs(meta, {}, NO_HARD, params=params(100, seed=seed), pattern_only=GRAPHIC)[0] for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(once, twice)
    assert not once.equals(other)


def test_other_splits_and_strangers_are_refused() -> None:
    meta = meta_of([{"category2": "tees"}, {"category2": "tees", "split": "test"}])
    with pytest.raises(DataError, match="'i1'"):
        build_pairs(meta, {}, NO_HARD, params=params(10), pattern_only=())
    meta = meta_of([{"category2": "tees"}])
    with pytest.raises(IntegrityError, match="build_groups"):
        build_pairs(meta, {"x": ["i0", "gone"]}, NO_HARD, params=params(10), pattern_only=())
    hard = pd.DataFrame([["i0", "gone", "material", False]], columns=list(NO_HARD.columns))
    with pytest.raises(IntegrityError, match="mine_hard_negatives"):
        build_pairs(meta, {}, hard, params=params(10), pattern_only=())


def test_empty_catalogue() -> None:
    table, facts = build_pairs(meta_of([]), {}, NO_HARD, params=params(10), pattern_only=())
    assert not len(table) and facts["pairs"] == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 25))
def test_exact_agreements_against_listing(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    keys, codes = rng.integers(-1, 3, size=n), rng.integers(-1, 2, size=(n, 3))
    expected = dict.fromkeys(exact_agreements(keys, codes), 0)
    for i, j in combinations(range(n), 2):
        if keys[i] == keys[j] >= 0:
            expected[frozenset(a for a in range(3) if codes[i, a] == codes[j, a] >= 0)] += 1
    assert exact_agreements(keys, codes) == expected


def test_a_catalogue_without_any_category_is_one_category() -> None:
    """T-shirts only, say: without this only its groups made pairs, and there was nothing to learn from."""
    shop = random_shop(200, seed=8).assign(category2="tees")
    hard = hard_of(shop, 400, seed=8)
    named, facts = build_pairs(shop, groups_of(shop), hard, params=params(500), pattern_only=GRAPHIC)
    bare = shop.assign(category2=None)
    unnamed, bare_facts = build_pairs(bare, groups_of(bare), hard, params=params(500), pattern_only=GRAPHIC)
    assert bare_facts["kinds"]["strong"]["made"] == 175 and bare_facts["kinds"]["hard"]["made"] == 150
    assert {k: v["available"] for k, v in facts["kinds"].items()} == {
        k: v["available"] for k, v in bare_facts["kinds"].items()
    }
    assert named["a_id"].tolist() == unnamed["a_id"].tolist() and named["b_id"].tolist() == unnamed["b_id"].tolist()
