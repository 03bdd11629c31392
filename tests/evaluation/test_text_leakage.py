"""Leaks that are there are found, leaks that are not there are not, and figures are those of a slow reference."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from text_shop import BOOTSTRAP, SCHEMA, Reader, embed, make_rows, unit

from lib.base.errors import IntegrityError
from lib.base.params import Evaluate
from lib.catalog.captions import compose_caption
from lib.catalog.schema import SOURCED
from lib.embeddings import EmbeddingSet
from lib.evaluation import text_leakage
from lib.evaluation.evaluate import evaluate
from lib.evaluation.text_leakage import SEARCHES, WITH_TEXT, measure_leakage


def audit(rows: pd.DataFrame, reader: Reader, embedded: EmbeddingSet | None = None, **options: Any) -> dict[str, Any]:
    asked = {"pattern_only": (), "k": 10, "image_weight": 0.5, "bootstrap": BOOTSTRAP} | options
    found = measure_leakage(embedded or embed(rows, reader), rows, reader, SCHEMA, **asked)
    json.dumps(found, allow_nan=False)
    return found


def precision(
    queries: list[np.ndarray], gallery: list[np.ndarray], asked: pd.DataFrame, searched: pd.DataFrame, label: str
) -> float:
    """Slow reference: sort the other products' items by score, count the matches among the first ten."""
    shares = []
    for query, row in zip(queries, asked.to_dict("records"), strict=True):
        if row[label] is None:
            continue
        scored = [
            (-round(float(np.dot(query.astype(float), item.astype(float))), 9), place)
            for place, (item, other) in enumerate(zip(gallery, searched.to_dict("records"), strict=True))
            if other["product_id"] != row["product_id"]
        ]
        best = [searched.iloc[place][label] for _, place in sorted(scored)[:10]]
        shares.append(sum(value == row[label] for value in best) / 10)
    return float(np.mean(shares))


def test_a_planted_leak_is_found_and_masking_takes_it_away() -> None:
    found = audit(make_rows(), Reader())["attributes"]
    for label in ("neckline", "color", "category"):
        for search in WITH_TEXT:
            if search.endswith("to_image"):
                continue  # images are noise: nothing can be found among them
            numbers = found[label]["all"][search]
            assert numbers["leak_low"] > 0.05, (label, search)
            assert numbers["value"] - numbers["masked"] == pytest.approx(numbers["leak"], abs=1e-9)
            assert abs(numbers["masked"] - numbers["chance"]) < 0.12
            assert numbers["beyond_low"] < 0.05
    assert found["neckline"]["masked_queries"] == found["neckline"]["all"]["n_queries"] == 36
    assert found["neckline"]["masked_gallery"] == 108


def test_no_leak_where_captions_do_not_name_the_attribute() -> None:
    def silent(row: dict[str, Any]) -> str:
        values = {name: row[name] for name in SOURCED if name != "neckline"}
        return compose_caption(values, category=row["category2"], text="plain words")

    found = audit(make_rows(text="plain words", caption=silent), Reader())["attributes"]
    entry = found["neckline"]
    assert (entry["masked_queries"], entry["masked_gallery"]) == (0, 0)
    for search in WITH_TEXT:
        assert entry["all"][search]["leak"] == "skipped: no caption names it"
        assert "masked" not in entry["all"][search]
    assert found["color"]["all"]["fused_to_fused"]["leak_low"] > 0.1


def test_no_leak_where_the_backbone_does_not_read_the_words() -> None:
    deaf = Reader(only=lambda word: word.startswith("name"))
    entry = audit(make_rows(), deaf)["attributes"]["neckline"]
    assert entry["masked_queries"] == 36
    for search in WITH_TEXT:
        numbers = entry["all"][search]
        assert numbers["leak"] == numbers["leak_low"] == numbers["leak_high"] == 0.0


def test_figures_are_those_of_a_slow_reference() -> None:
    rows, reader = make_rows(60), Reader()
    embedded = embed(rows, reader)
    found = audit(rows, reader, embedded)["attributes"]["neckline"]["all"]
    asked = rows[rows["split"] == "validation"]
    searched = rows[rows["split"] == "train"]
    images = embedded.queries.of_split("validation").images, embedded.catalog.images

    def captions(part: pd.DataFrame, *, masked: bool) -> list[str]:
        return [
            " ".join(
                word
                for word in caption.split()
                if not masked or word.strip(",.") not in ("v-neck", "henley", "round", "neck")
            )
            for caption in part["caption"]
        ]

    for masked, field in ((False, "value"), (True, "masked")):
        texts = [reader.encode_texts(captions(part, masked=masked)) for part in (asked, searched)]
        fused = [
            unit((image.astype(float) + text.astype(float)) / 2) for image, text in zip(images, texts, strict=True)
        ]
        sides = {"image_to_image": images, "fused_to_fused": fused, "text_to_text": texts}
        sides |= {"fused_to_image": (fused[0], images[1]), "text_to_image": (texts[0], images[1])}
        assert set(sides) == set(SEARCHES)
        for name, (queries, gallery) in sides.items():
            if field in found[name]:
                expected = precision(list(queries), list(gallery), asked, searched, "neckline")
                assert found[name][field] == pytest.approx(expected, abs=1e-9), (name, field)


def test_the_figures_with_captions_as_they_are_equal_the_evaluation() -> None:
    rows, reader = make_rows(), Reader()
    embedded = embed(rows, reader)
    found = audit(rows, reader, embedded, pattern_only=("dresses",))["attributes"]
    params = Evaluate(
        k=10,
        modes=("image_to_image", "text_to_image", "fused"),
        fused_image_weight=0.5,
        bootstrap=BOOTSTRAP,
        gallery_queries=0,
    )
    metrics = evaluate(embedded, params, pattern_only=("dresses",)).metrics["validation"]
    for label in ("neckline", "color"):
        for search, mode in (("image_to_image",) * 2, ("fused_to_image", "fused"), ("text_to_image",) * 2):
            row = metrics[mode][f"{label}@10"]
            assert found[label]["all"][search]["value"] == row["value"]
            assert found[label]["all"][search]["chance"] == row["chance"]
            assert found[label]["all"]["n_queries"] == row["n_queries"]
    assert found["category"] == "skipped: only one value is known, nothing to tell apart"


def test_queries_are_told_apart_by_where_their_value_came_from() -> None:
    rows = make_rows(180)
    entry = audit(rows, Reader())["attributes"]
    asked = rows[rows["split"] == "validation"]
    for source in ("column", "text"):
        assert entry["neckline"][source]["n_queries"] == (asked["neckline_source"] == source).sum()
    assert entry["color"]["text"] == "skipped: no query's value came from there"
    assert entry["color"]["column"] == entry["color"]["all"]


def test_what_has_nothing_left_is_its_image() -> None:
    rows = make_rows(text=None, category2=None, color=None, neckline=lambda row: row["neckline"])
    reader = Reader()
    entry = audit(rows, reader)["attributes"]["neckline"]
    assert reader.asked == [[""]]
    assert entry["masked_queries"] == 36
    assert entry["all"]["fused_to_fused"]["masked"] == entry["all"]["image_to_image"]["value"]
    assert entry["all"]["fused_to_fused"]["beyond"] == 0.0
    assert entry["all"]["fused_to_fused"]["leak_low"] > 0.1


def test_each_masked_text_is_embedded_once() -> None:
    reader = Reader()
    audit(make_rows(), reader)
    assert len(reader.asked) == 3  # neckline, color, category
    for asked in reader.asked:
        assert len(asked) == len(set(asked)) > 0


def test_large_catalogues_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_leakage, "MAX_GALLERY", 60)
    monkeypatch.setattr(text_leakage, "MAX_QUERIES", 30)
    first, second = audit(make_rows(), Reader()), audit(make_rows(), Reader())
    assert first == second
    assert (first["n_gallery"], first["gallery_items"], first["n_queries"]) == (60, 108, 30)
    assert first["attributes"]["neckline"]["all"]["fused_to_fused"]["leak_low"] > 0


@pytest.mark.parametrize("wanted", [0, 1, 4, 7, 12, 90])
def test_the_gallery_is_drawn_in_whole_products(wanted: int) -> None:
    products = pd.Series(list("abbcccddddeeab"))
    rows = text_leakage._sample_products(products, wanted, np.random.default_rng(3))
    assert rows.tolist() == sorted(set(rows.tolist()))
    drawn = set(products[rows])
    assert len(rows) == products.isin(drawn).sum()
    largest = products.value_counts().max()
    assert min(wanted, len(products)) <= len(rows) < max(wanted, 1) + largest
    again = text_leakage._sample_products(products, wanted, np.random.default_rng(3))
    assert again.tolist() == rows.tolist()


NOBODY = "skipped: no query of the validation split has a caption and a captioned item of another product to find"


@pytest.mark.parametrize(
    ("changes", "label", "reason"),
    [
        ({"neckline": None}, "neckline", "skipped: no query with a known value"),
        ({"neckline": lambda row: None if row["split"] == "train" else "henley"}, "neckline", "no gallery item with"),
        ({"neckline": "henley"}, "neckline", "skipped: only one value is known"),
        ({"caption": None}, "neckline", NOBODY),
        ({"caption": lambda row: None if row["split"] == "train" else "henley"}, "color", NOBODY),
        ({"caption": " "}, "category", NOBODY),
        ({"split": "train"}, "neckline", NOBODY),
        ({"product_id": "one"}, "neckline", NOBODY),
    ],
)
def test_what_cannot_be_said_is_skipped_with_a_reason(changes: dict[str, Any], label: str, reason: str) -> None:
    entry = audit(make_rows(**changes), Reader())["attributes"][label]
    assert isinstance(entry, str) and entry.startswith("skipped: ") and reason in entry


def test_few_products_give_no_interval() -> None:
    rows = make_rows(45)  # nine products to ask
    entry = audit(rows, Reader())["attributes"]["neckline"]
    assert entry["all"] == "skipped: 18 queries of 9 products, an interval needs 10"


def test_embeddings_of_another_catalogue_are_refused() -> None:
    rows, reader = make_rows(), Reader()
    with pytest.raises(IntegrityError, match=r"item 'i000_0' \(1 in all\) is embedded but not in the processed"):
        audit(rows.iloc[1:], reader, embed(rows, reader))
