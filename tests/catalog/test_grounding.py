"""What is drawn for review, what the catalogue claims, and what columns and texts agree on."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from lib.base.errors import IntegrityError
from lib.base.params import Audit
from lib.catalog.attributes import load_attribute_schema
from lib.catalog.grounding.audit import draw_audit
from lib.catalog.grounding.choice import allocate, choose_items
from lib.catalog.grounding.claims import CATEGORY_RULE, CLAIM_COLUMNS, state_claims
from lib.catalog.grounding.coverage import attribute_coverage
from lib.catalog.grounding.proportions import wilson_interval
from lib.catalog.grounding.sheet import read_sheet
from lib.catalog.processed import read_rows
from lib.catalog.schema import SOURCED, STRING_COLUMNS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def schema():
    return load_attribute_schema(ROOT / "lib/catalog/attributes.yaml")


def table(*rows):
    """Processed rows: what is not given is unknown."""
    filled = [dict.fromkeys(["split", *STRING_COLUMNS]) | row for row in rows]
    for row in filled:
        row["product_id"] = row["product_id"] or row["item_id"]
    frame = pd.DataFrame(filled, columns=["split", *STRING_COLUMNS]).astype(object)
    return frame.where(frame.notna(), None)


def from_column(name, value):
    return {name: value, f"{name}_source": "column"}


def from_text(name, value):
    return {name: value, f"{name}_source": "text"}


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_equals_scipy(successes, n):
    successes = min(successes, n)
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (2, 1), (-1, 3)])
def test_wilson_refuses_what_is_no_proportion(successes, n):
    with pytest.raises(ValueError, match="expected 0 <= successes"):
        wilson_interval(successes, n)


@pytest.mark.parametrize(
    ("sizes", "n", "floor", "expected"),
    [
        ({"a": 60, "b": 30, "c": 10}, 10, 1, {"a": 6, "b": 3, "c": 1}),
        ({"a": 1000, "b": 1}, 10, 1, {"a": 9, "b": 1}),
        ({"a": 1000, "b": 5}, 10, 3, {"a": 7, "b": 3}),
        ({"a": 3, "b": 2}, 10, 1, {"a": 3, "b": 2}),  # fewer than asked for
        ({"a": 9, "b": 9, "c": 1}, 4, 2, {"a": 2, "b": 1, "c": 1}),  # the floor is lowered
        ({"c": 5, "b": 9, "a": 5}, 2, 1, {"a": 1, "b": 1}),  # not even one each: the largest, then by name
        ({"a": 0, "b": 4}, 2, 1, {"b": 2}),
        ({}, 5, 1, {}),
    ],
)
def test_places_by_hand(sizes, n, floor, expected):
    assert allocate(sizes, n, floor=floor) == expected


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.integers(0, 50)), st.integers(1, 80))
def test_places_are_proportional_with_a_floor(sizes, n):
    places = allocate(sizes, n, floor=1)
    real = {name: size for name, size in sizes.items() if size}
    assert sum(places.values()) == min(n, sum(real.values()))
    assert all(1 <= places[name] <= real[name] for name in places)
    if len(real) <= n:
        assert set(places) == set(real)
        for small, large in ((s, t) for s in real for t in real if real[s] < real[t]):
            assert places[small] <= places[large]


def choose(rows, n, *, seed=0, floor=1):
    return choose_items(rows, n_items=n, min_per_category=floor, rng=np.random.default_rng(seed))


def test_every_category_is_represented_and_only_known_items_are_drawn():
    rows = table(
        *({"item_id": f"t{i}", "category2": "tees", **from_column("color", "red")} for i in range(90)),
        *({"item_id": f"u{i}", "category2": "tees"} for i in range(90)),  # nothing is claimed about them
        *({"item_id": f"h{i}", "category2": "hats", **from_column("color", "red")} for i in range(9)),
        {"item_id": "g", "category2": "gloves", **from_column("color", "red")},
        {"item_id": "n", **from_column("color", "red")},
        {"item_id": "x", "category2": "silent"},
    )
    drawn = choose(rows, 20)
    assert Counter(drawn["category2"].fillna("none")) == {"tees": 16, "hats": 2, "gloves": 1, "none": 1}
    assert not drawn["item_id"].str.startswith(("u", "x")).any()
    assert drawn["item_id"].is_unique
    pd.testing.assert_frame_equal(drawn, choose(rows, 20))
    assert drawn["item_id"].tolist() != choose(rows, 20, seed=1)["item_id"].tolist()
    assert len(choose(rows, 1000)) == 101
    assert choose(table(), 5).empty


def test_one_view_per_product_before_any_second_one():
    rows = table(
        *(
            {"item_id": f"p{p}_{view}", "product_id": f"p{p}", "category2": "tees", **from_column("color", "red")}
            for p in range(6)
            for view in range(4)
        )
    )
    assert Counter(choose(rows, 6)["product_id"]) == {f"p{p}": 1 for p in range(6)}
    assert set(Counter(choose(rows, 9)["product_id"]).values()) == {1, 2}
    views = {item.split("_")[1] for seed in range(8) for item in choose(rows, 6, seed=seed)["item_id"]}
    assert views == {"0", "1", "2", "3"}, "the view is drawn at random"


@pytest.mark.parametrize(("common", "rare"), [("color", "neckline"), ("neckline", "color")])
def test_rarely_stated_attributes_are_asked_about(common, rare):
    rows = table(
        *({"item_id": f"a{i}", "category2": "tees", **from_column(common, "x")} for i in range(500)),
        *(
            {"item_id": f"b{i}", "category2": "tees", **from_column(common, "x"), **from_column(rare, "y")}
            for i in range(5)
        ),
    )
    drawn = choose(rows, 20)
    assert drawn[rare].notna().sum() == 5
    assert drawn[common].notna().sum() == 20


def test_claims_by_hand(schema):
    chosen = table(
        {"item_id": "001", "product_id": "P", "category2": "tees", "text": "Red V-Neck, v necked; striped"}
        | from_text("neckline", "v-neck") | from_column("color", "blue") | from_text("pattern", "striped"),
        {"item_id": "NA", "category2": "Graphic"} | from_column("pattern", "graphic print"),
        {"item_id": "5.0", "category2": "graphic"} | from_column("pattern", "striped"),
    )  # fmt: skip
    claims = state_claims(chosen, schema, pattern_only_categories=["graphic"])
    assert list(claims.columns) == [*CLAIM_COLUMNS, "spans"]
    short = claims[["row", "item_id", "category", "attribute", "value", "source", "phrase", "rule", "spans"]]
    assert short.to_numpy().tolist() == [
        ["1", "001", "tees", "neckline", "v-neck", "text", "V-Neck; v necked", "v neck", ((4, 10), (12, 20))],
        ["2", "001", "tees", "pattern", "striped", "text", "striped", "striped", ((22, 29),)],
        ["3", "001", "tees", "color", "blue", "column", "", "", ()],
        ["4", "NA", "Graphic", "pattern", "graphic print", "column", "Graphic", CATEGORY_RULE, ()],
        ["5", "5.0", "graphic", "pattern", "striped", "column", "", "", ()],
    ]
    assert claims["product_id"].tolist() == ["P", "P", "P", "NA", "5.0"]
    assert state_claims(table(), schema, pattern_only_categories=[]).empty


@pytest.mark.parametrize("text", ["a plain shirt", "v-neck over a round neck", None])
def test_a_text_that_does_not_say_so_is_noticed(schema, text):
    chosen = table({"item_id": "a", "text": text, **from_text("neckline", "v-neck")})
    with pytest.raises(IntegrityError, match=r"item 'a': neckline is 'v-neck'.*dvc repro process_data"):
        state_claims(chosen, schema, pattern_only_categories=[])


def test_coverage_by_hand(schema):
    rows = table(
        {"item_id": "1", "text": "v-neck tee", **from_column("neckline", "v-neck")},
        {"item_id": "2", "text": "crew neck tee", **from_column("neckline", "v-neck")},
        {"item_id": "3", "text": "crew", **from_column("neckline", "v-neck")},
        {"item_id": "4", "text": "a collared shirt", **from_column("neckline", "v-neck")},  # generic: no comparison
        {"item_id": "5", "text": "hooded", **from_text("neckline", "hood")},
        {"item_id": "6", "text": "v-neck or round neck"},  # ambiguous
        {"item_id": "7", "text": None, **from_column("neckline", "hood")},
        {"item_id": "8", "text": "shorts, v-neck", "category2": "Shorts"},  # not applicable
    )
    found = attribute_coverage(rows, schema)["neckline"]
    low, high = wilson_interval(1, 3)
    assert found == {
        "items": 8, "known": 6, "coverage": 0.75, "coverage_where_applicable": round(6 / 7, 4),
        "from_column": 5, "from_text": 1, "ambiguous_text": 1, "not_applicable": 1, "column_and_text": 3, "agree": 1,
        "agreement": 0.3333, "agreement_low": round(low, 4), "agreement_high": round(high, 4),
        "disagreements": [{"column": "v-neck", "text": "round neck", "items": 2}],
    }  # fmt: skip
    nothing = attribute_coverage(table(), schema)["neckline"]
    assert nothing["coverage"] == "skipped: no items" and nothing["agreement"] == "skipped: no item has both"
    assert "agreement_low" not in nothing


def test_coverage_is_what_process_data_reports(shop, tmp_path, schema):
    for number in range(12):
        words = ("round neck tee", "crew tee, red", "polo collar, black and white", "hooded")
        shop.add(f"X{number:02d}", title=words[number % 4], neckline=("V Neck", "Crew", "")[number % 3], color="Red")
    report = shop.process(tmp_path / "hf")["attributes"]
    found = attribute_coverage(read_rows(tmp_path / "hf"), schema)
    assert found["neckline"]["column_and_text"] == 8
    for name, counts in found.items():
        for key in ("known", "coverage", "from_column", "from_text", "ambiguous_text", "not_applicable"):
            assert counts[key] == report[name][key], (name, key)
        assert (counts["column_and_text"], counts["agreement"]) == (
            report[name]["column_and_text"],
            report[name]["agreement"].replace("row", "item")
            if isinstance(report[name]["agreement"], str)
            else report[name]["agreement"],
        )


def test_audit_of_a_processed_catalogue(shop, tmp_path, schema):
    shop.process(tmp_path / "hf")
    rows = read_rows(tmp_path / "hf")
    params = Audit(n_items=10, min_per_category=1, seed=3)

    def draw():
        return draw_audit(
            rows, schema, params, pattern_only_categories=["graphic"], rng=np.random.default_rng(params.seed)
        )

    audit = draw()
    ids = audit.item_ids()
    assert len(ids) == len(set(ids)) == audit.report["audited_items"] == 10
    assert len(audit.claims) == audit.report["claims"] == sum(audit.report["claims_by_attribute"].values())
    assert audit.report["categories_left_out"] == []
    assert {c: entry["audited"] for c, entry in audit.report["categories"].items()} == {
        "cardigans": 3, "graphic": 3, "pants": 2, "tees": 2,
    }  # fmt: skip
    stated = rows.set_index("item_id")
    for claim in audit.claims.itertuples():
        assert stated.at[claim.item_id, claim.attribute] == claim.value
        assert stated.at[claim.item_id, f"{claim.attribute}_source"] == claim.source
    known = stated.loc[ids, list(SOURCED)].notna().sum().to_dict()
    assert known == audit.report["claims_by_attribute"], "every known attribute of an item is a claim"
    pd.testing.assert_frame_equal(audit.claims, draw().claims)


def test_more_categories_than_places_are_named(schema):
    rows = table(*({"item_id": f"i{c}", "category2": f"c{c}", **from_column("color", "red")} for c in range(5)))
    audit = draw_audit(
        rows, schema, Audit(n_items=3, min_per_category=1, seed=0), pattern_only_categories=[],
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert audit.report["categories_left_out"] == ["c3", "c4"]


def test_a_catalogue_without_anything_known(schema):
    audit = draw_audit(
        table({"item_id": "a", "category2": "tees"}), schema, Audit(n_items=3, min_per_category=1, seed=0),
        pattern_only_categories=[], rng=np.random.default_rng(0),
    )  # fmt: skip
    assert audit.claims.empty and audit.item_ids() == []
    assert audit.report["categories_left_out"] == ["tees"]


def test_stage_writes_the_same_bytes_twice(shop, tmp_path):
    shop.add("001", title="=Red hooded tee <script>")
    shop.process(tmp_path / "hf")
    words = ["--catalog", "hf", "--schema", str(ROOT / "lib/catalog/attributes.yaml"), "--out"]
    for out in ("one", "two"):
        done = subprocess.run(
            [sys.executable, "-m", "stages.grounding_audit", *words, out, "--params", str(ROOT / "params.yaml")],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("41 of 41 items for review")
    names = ["grounding_audit.csv", "grounding_audit.html", "report.json"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    sheet = {row.cells["item_id"]: row.cells for row in read_sheet(tmp_path / "one" / "grounding_audit.csv")}
    assert sheet["001"]["text"] == "=Red hooded tee <script>"
    page = (tmp_path / "one" / "grounding_audit.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page and "<script" not in page
    for row in sheet.values():
        assert f"item {row['item_id']}<" in page
