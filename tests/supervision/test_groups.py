"""Group audit on catalogues small enough to score by hand."""

from __future__ import annotations

import json

from tiny_shop import meta_of, random_shop

from lib.base.params import Groups
from lib.supervision.groups import build_groups

PARAMS = Groups(min_confidence=0.6, max_size=3, spot_check=4, seed=1)


def item(product: str, key: str, category: str | None = "tees", color: str | None = "red") -> dict[str, object]:
    return {"product_id": product, "product_key": key, "category2": category, "color": color}


def test_confidence_is_base_times_agreement() -> None:
    # item_id (0.8): group a agrees in all; group b in category, half in colour: (1 + 0.5) / 2 = 0.75
    meta = meta_of(
        [item("a", "item_id"), item("a", "item_id"), item("b", "item_id"), item("b", "item_id", color="blue")]
    )
    audit = build_groups(meta, params=PARAMS)
    row = audit["keys"]["item_id"]
    assert row["agreement"] == {"category2": 1.0, "color": 0.75}
    assert row["confidence"] == 0.7  # 0.8 * mean(1, 0.75)
    assert audit["groups"] == {"a": ["i0", "i1"], "b": ["i2", "i3"]}  # 0.8 * 0.75 = 0.6 is just enough
    assert row["recommendation"]["verdict"] == "use"


def test_groups_that_disagree_or_are_too_large_or_single_are_dropped_with_the_reason() -> None:
    rows = [item("a", "item_id"), item("a", "item_id")]
    rows += [item("b", "item_id"), item("b", "item_id", "dresses", "blue")]  # 0.8 * 0.5
    rows += [item("c", "item_id")] * 4  # max_size is 3
    rows += [item("d", "item_id")]
    audit = build_groups(meta_of(rows), params=PARAMS)
    assert list(audit["groups"]) == ["a"]
    assert audit["keys"]["item_id"]["dropped"] == {
        "single item": 1,
        "larger than max_size": 1,
        "items disagree": 1,
    }
    assert audit["keys"]["item_id"]["sizes"] == {"1": 1, "2": 2, "4": 1}


def test_a_key_that_cannot_be_trusted_keeps_nothing() -> None:
    rows = [item("a", "image_url"), item("a", "image_url")]
    rows += [item(p, "image_url", c, k) for p in "bcd" for c, k in (("tees", "red"), ("shorts", "blue"))]
    audit = build_groups(meta_of(rows), params=PARAMS)
    row = audit["keys"]["image_url"]  # 0.7 * mean(1, .5, .5, .5)
    assert row["confidence"] == 0.4375 and audit["groups"] == {}
    assert row["dropped"] == {"key below min_confidence": 4}
    assert row["recommendation"]["verdict"] == "do not use" and "0.44" in row["recommendation"]["why"]


def test_a_group_is_as_weak_as_its_weakest_key() -> None:
    meta = meta_of([item("a", "column"), item("a", "image_url")])
    assert list(build_groups(meta, params=PARAMS)["keys"]) == ["image_url"]


def test_unknown_is_not_disagreement() -> None:
    meta = meta_of([item("a", "column", None, None), item("a", "column", "tees", None)])
    row = build_groups(meta, params=PARAMS)["keys"]["column"]
    assert row["agreement"]["category2"] == "skipped: known in no group of two"
    assert row["confidence"] == 1.0


def test_spot_check_shows_the_worst_first_and_is_seeded() -> None:
    meta = random_shop(120, seed=0)
    once, twice = (build_groups(meta, params=PARAMS) for _ in range(2))
    assert json.dumps(once) == json.dumps(twice)
    shown = once["keys"]["item_id"]["spot_check"]
    assert [row["drawn_as"] for row in shown] == ["least agreeing"] * 2 + ["random"] * 2
    other = build_groups(meta, params=PARAMS.model_copy(update={"seed": 2}))
    assert other["keys"]["item_id"]["spot_check"][2:] != shown[2:]


def test_empty_catalogue_and_singles() -> None:
    assert build_groups(meta_of([]), params=PARAMS)["groups"] == {}
    row = build_groups(meta_of([item("a", "single")]), params=PARAMS)["keys"]["single"]
    assert row["recommendation"] == {"verdict": "do not use", "why": "'single' never ties two items together"}
