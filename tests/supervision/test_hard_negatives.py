"""Mining on the unit circle, where a reader can check every score, and against a slow reference."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_shop import on_circle, random_shop

from lib.base.artifacts import read_parquet
from lib.base.params import Mine
from lib.embeddings import IDS, Embeddings
from lib.supervision.codes import group_pairs
from lib.supervision.hard_negatives import READ, choose_anchors, mine_hard_negatives

PARAMS = Mine(
    max_anchors=100,
    depth=50,
    within="catalogue",
    per_anchor=2,
    max_positive_ratio=0.95,
    attributes=("material", "neckline", "pattern"),
    suspects=5,
    seed=0,
)


def tee(product: str = "", **attributes: str) -> dict[str, object]:
    return {"category2": "tees", **({"product_id": product} if product else {}), **attributes}


def mine(
    catalog: Embeddings, groups: Mapping[str, Sequence[str]], *, params: Mine, pattern_only: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """As the stage mines: of the metadata nothing but what it reads is there, and no Python strings."""
    siblings = group_pairs(groups, catalog.meta["item_id"].tolist())
    buffer = io.BytesIO()
    schema = pa.schema([pa.field(name, pa.string()) for name in READ])
    pq.write_table(pa.Table.from_pandas(catalog.meta[list(READ)], schema=schema), buffer)
    meta = read_parquet(buffer, coded=[name for name in READ if name not in IDS])
    assert "object" not in meta.dtypes.astype(str).tolist()
    read = Embeddings(catalog.images, catalog.texts, meta)
    return mine_hard_negatives(read, siblings, params=params, pattern_only=pattern_only)


def negatives_of(table: pd.DataFrame, anchor: str) -> list[str]:
    chosen = table[(table["anchor_id"] == anchor) & ~table["suspect"]]
    return chosen["negative_id"].tolist()


def test_hand_worked_anchor() -> None:
    # anchor at 0, sibling at 10 degrees (cos 0.985, bound 0.936 = cos 20.6)
    shop = on_circle(
        [0, 10, 15, 25, 30, 35, 40],
        [
            tee("a", neckline="v"),  # i0, anchor
            tee("a", neckline="v"),  # i1, sibling
            tee(neckline="crew"),  # i2: differs but above the bound: suspect
            tee(),  # i3: unknown is not different
            tee(neckline="crew", material="wool"),  # i4: hard
            {"category2": "dresses", "neckline": "crew"},  # i5: other category
            tee(neckline="boat"),  # i6: hard
        ],
    )
    table, facts = mine(shop, {"a": ["i0", "i1"]}, params=PARAMS, pattern_only=())
    assert negatives_of(table, "i0") == ["i4", "i6"]
    row = table[(table["anchor_id"] == "i0") & (table["negative_id"] == "i4")].iloc[0]
    assert row["score"] == pytest.approx(np.cos(np.deg2rad(30)), abs=1e-6)
    assert row["positive_score"] == pytest.approx(np.cos(np.deg2rad(10)), abs=1e-6)
    assert (row["rank"], row["differs_in"]) == (3, "neckline")  # of other products: i2, i3, i4
    assert table.loc[table["suspect"] & (table["anchor_id"] == "i0"), "negative_id"].tolist() == ["i2"]
    assert facts["anchors"] == 6  # i3 knows nothing
    assert facts["anchors_without_positive"] == 4  # i2, i4, i5, i6: no sibling, no alike item


def test_without_siblings_an_alike_item_is_the_positive() -> None:
    rows = [tee(neckline="v", sleeve="long"), tee(neckline="v", sleeve="long"), tee(neckline="crew", sleeve="long")]
    table, facts = mine(on_circle([0, 5, 30], rows), {}, params=PARAMS, pattern_only=())
    assert facts["anchors_with_alike_only"] == 2
    assert negatives_of(table, "i0") == ["i2"] and negatives_of(table, "i2") == []


def test_nothing_known_to_differ_but_nearer_than_the_positive_is_a_suspect() -> None:
    shop = on_circle([0, 20, 5], [tee("a", neckline="v"), tee("a", neckline="v"), tee(neckline="v")])
    table, _ = mine(shop, {"a": ["i0", "i1"]}, params=PARAMS, pattern_only=())
    assert table["suspect"].all() and "" in set(table["differs_in"])
    assert (table["anchor_id"] + table["negative_id"]).tolist()[0] == "i0i2"


def test_pattern_only_items_are_neither_anchor_nor_negative() -> None:
    rows = [tee("a", pattern="solid"), tee("a", pattern="solid"), {"category2": "graphic", "pattern": "print"}]
    shop = on_circle([0, 5, 40], rows)
    table, facts = mine(shop, {"a": ["i0", "i1"]}, params=PARAMS, pattern_only=("graphic",))
    assert not len(table) and facts["eligible"] == 2


def test_suspects_are_limited_and_one_per_anchor() -> None:
    shop, groups = random_embeddings(80)
    limited = PARAMS.model_copy(update={"suspects": 3})
    table, facts = mine(shop, groups, params=limited, pattern_only=("graphic",))
    suspects = table[table["suspect"]]
    assert facts["suspects"] == len(suspects) == 3 and suspects["anchor_id"].is_unique
    none, _ = mine(shop, groups, params=PARAMS.model_copy(update={"suspects": 0}), pattern_only=("graphic",))
    assert not none["suspect"].any()


def random_embeddings(n: int) -> tuple[Embeddings, dict[str, list[str]]]:
    meta = random_shop(n, seed=3)
    rng = np.random.default_rng(3)
    centres = {p: rng.normal(size=6) for p in sorted(set(meta["product_id"]))}
    points = np.stack([centres[p] + 0.5 * rng.normal(size=6) for p in meta["product_id"]])
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    sizes = meta["product_id"].value_counts()
    groups = {p: meta.loc[meta["product_id"] == p, "item_id"].tolist() for p in sorted(sizes.index[sizes > 1])}
    return Embeddings(points, points, meta), groups


@pytest.mark.parametrize("within", ["catalogue", "category"])
def test_against_a_slow_reference(within: str) -> None:
    shop, groups = random_embeddings(90)
    params = PARAMS.model_copy(update={"within": within, "depth": 50 if within == "catalogue" else 12})
    table, _ = mine(shop, groups, params=params, pattern_only=("graphic",))
    found = {(a, n): s for a, n, s in zip(table["anchor_id"], table["negative_id"], table["suspect"], strict=True)}
    expected = slow_negatives(shop, groups, params)
    assert {pair for pair, suspect in found.items() if not suspect} == expected
    assert len(expected) > 30


def test_ranks_count_the_catalogue_or_the_category() -> None:
    rows = [tee("a", neckline="v"), tee("a", neckline="v"), {"category2": "dresses"}, tee(neckline="crew")]
    shop = on_circle([0, 5, 20, 30], rows)
    ranks = {}
    for within in ("catalogue", "category"):
        for depth in (1, 2):
            params = PARAMS.model_copy(update={"within": within, "depth": depth})
            table, _ = mine(shop, {"a": ["i0", "i1"]}, params=params, pattern_only=())
            ranks[within, depth] = table.loc[table["anchor_id"] == "i0", "rank"].tolist()
    assert ranks == {
        ("catalogue", 1): [],
        ("catalogue", 2): [2],
        ("category", 1): [1],
        ("category", 2): [1],
    }


def slow_negatives(shop: Embeddings, groups: dict[str, list[str]], params: Mine) -> set[tuple[str, str]]:
    rows = shop.meta.to_dict("records")
    scores = shop.images.astype(np.float64) @ shop.images.astype(np.float64).T
    siblings = {item: [other for other in items if other != item] for items in groups.values() for item in items}
    number = {row["item_id"]: place for place, row in enumerate(rows)}
    chosen = set()
    for i, a in enumerate(rows):
        if a["category2"] in (None, "graphic") or all(a[name] is None for name in PARAMS.attributes):
            continue
        others = [j for j, b in enumerate(rows) if b["product_id"] != a["product_id"]]
        if params.within == "category":
            others = [j for j in others if rows[j]["category2"] == a["category2"]]
        nearest = sorted(others, key=lambda j: -scores[i, j])[: params.depth]

        def differs(b: dict[str, object], a: dict[str, object] = a) -> bool:
            return any(a[n] and b[n] and a[n] != b[n] for n in PARAMS.attributes)

        same = [j for j in nearest if rows[j]["category2"] == a["category2"]]
        if a["item_id"] in siblings:
            positive = max(scores[i, number[s]] for s in siblings[a["item_id"]])
        else:
            names = ("neckline", "sleeve", "pattern", "material")
            alike = [j for j in same if not differs(rows[j])]
            alike = [j for j in alike if sum(bool(a[n]) and a[n] == rows[j][n] for n in names) >= 2]
            if not alike:
                continue
            positive = max(scores[i, j] for j in alike)
        hard = [j for j in same if differs(rows[j]) and scores[i, j] <= PARAMS.max_positive_ratio * positive]
        chosen |= {(a["item_id"], rows[j]["item_id"]) for j in hard[: PARAMS.per_anchor]}
    return chosen


def test_max_anchors_prefers_rare_values_and_is_seeded() -> None:
    codes = np.array([[0]] * 900 + [[1]] * 100)
    params = PARAMS.model_copy(update={"max_anchors": 200})
    chosen = choose_anchors(codes, np.arange(1000), params=params)
    assert len(chosen) == 200 and (np.diff(chosen) > 0).all()
    assert (chosen >= 900).sum() > 35  # a plain draw would take about 20
    assert (chosen == choose_anchors(codes, np.arange(1000), params=params)).all()


def test_empty_and_hopeless_catalogues() -> None:
    for rows in ([], [tee()]):
        table, facts = mine(on_circle([0.0] * len(rows), rows), {}, params=PARAMS, pattern_only=())
        assert not len(table) and facts["anchors"] == 0
        assert facts["median_rank"] == "skipped: no negative"


def test_more_categories_than_a_byte_holds_are_told_apart() -> None:
    """An anchor of each category beside an item of the category 256 codes later, and one of its own."""
    names = [f"c{number:03d}" for number in range(400)]
    rows: list[dict[str, object]] = [{"category2": name, "neckline": "v", "material": "wool"} for name in names]
    rows += [{"category2": names[256 + number], "neckline": "crew"} for number in range(144)]
    rows += [{"category2": names[0], "neckline": "boat"}]
    table, _ = mine(
        on_circle([*np.linspace(0, 90, 400), *np.linspace(0.05, 30, 144), 40.0], rows),
        {},
        params=PARAMS.model_copy(update={"depth": 600, "max_anchors": 1000, "max_positive_ratio": None}),
        pattern_only=(),
    )
    assert negatives_of(table, "i0") == ["i544"]
    assert negatives_of(table, "i300") == ["i444"]
