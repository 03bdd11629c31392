"""gallery.html and changes.html: escaping, content policy, choice, marks, the same bytes."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.report import changes, gallery
from lib.report.page import LABELS, thumbnails

EVIL = '<script>alert(1)</script>" onerror="x'
COLUMNS = list(LABELS.values())


def picture(colour: str, size: tuple[int, int] = (300, 150)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def items() -> pd.DataFrame:
    rows = [
        ("q1", "polo", "tees"), ("q2", "crew", "tees"), ("q3", "polo", EVIL), ("q4", None, "tees"),
        (EVIL, "polo", "tees"), ("g1", "crew", "tees"), ("g2", None, "tees"), ("g3", "polo", EVIL),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["item_id", "neckline", "category2"]).astype(object)
    for column in COLUMNS:
        if column not in table:
            table[column] = "same"
    return table.where(table.notna(), None).assign(text=f"A text {EVIL}")


def per_query(items: pd.DataFrame, results: dict[str, list[str]]) -> pd.DataFrame:
    values = items.set_index("item_id")
    rows = []
    for query, ids in results.items():
        row = {
            "split": "test",
            "mode": "image_to_image",
            "query_id": query,
            "category2": values.at[query, "category2"],
        }
        row |= {"retrieved_ids": ids, "scores": [0.9 - 0.1 * i for i in range(len(ids))]}
        for label, column in LABELS.items():
            own = values.at[query, column]
            row[f"{label}_hits"] = None if own is None else sum(values.at[i, column] == own for i in ids)
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.astype({f"{label}_hits": "Int64" for label in LABELS})


@pytest.fixture
def baseline(items: pd.DataFrame) -> pd.DataFrame:
    return per_query(
        items, {"q1": ["g1", "g3"], "q2": ["g1", "g2"], "q3": ["g2", "g1"], "q4": ["g1", "g2"], EVIL: ["g3", "g1"]}
    )


@pytest.fixture
def protocol(items: pd.DataFrame) -> pd.DataFrame:
    return per_query(
        items, {"q1": [EVIL, "g3"], "q2": ["g1", "g3"], "q3": ["g1", "g2"], "q4": ["g1", "g2"], EVIL: ["g2", "g1"]}
    )


class Reader(HTMLParser):
    """Collects tags and attributes as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def check_page(page: str) -> Reader:
    reader = Reader(page)
    assert reader.open == [], "unclosed tags"
    assert page.count("Content-Security-Policy") == 1
    policy = next(a["content"] for t, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert any(a.get("name") == "viewport" for _, a in reader.tags)
    allowed = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "div", "span", "small"}
    allowed |= {"table", "tr", "th", "td", "b", "i", "u", "img", "br", "a", "mark"}
    assert {t for t, _ in reader.tags} <= allowed, {t for t, _ in reader.tags} - allowed
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        if tag == "a":
            assert str(attributes["href"]).startswith("#")
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/jpeg;base64,")
    assert not re.search(r"https?://|javascript:|<script", page)
    assert "&lt;script&gt;" in page
    return reader


METRICS = {
    "test": {
        "image_to_image": {
            "neckline@10": {
                "value": 0.4, "low": 0.3, "high": 0.5, "n_queries": 4, "chance": 0.2, "ceiling": 0.9,
            }
        }
    },
    "skipped": {"test": {"image_to_image": {"sleeve@10": "no query with a known value"}}},
}  # fmt: skip


def test_gallery_page(items: pd.DataFrame, baseline: pd.DataFrame) -> None:
    chosen = gallery.choose_queries(baseline, count=5, rng=np.random.default_rng(0))
    images = {i: picture("red") for i in gallery.shown_items(chosen)}
    arguments = {"name": "baseline", "metrics": METRICS, "items": items}
    page = gallery.gallery_page(chosen, images=images, **arguments)
    reader = check_page(page)
    assert len([t for t, _ in reader.tags if t == "img"]) == 5 * 3
    assert "40.0" in page and "30.0 – 50.0" in page and "no query with a known value" in page
    assert 'class="chip hit"' in page and 'class="chip miss"' in page and 'class="chip unknown"' in page
    assert page == gallery.gallery_page(chosen, images=images, **arguments)
    assert "blank" in gallery.gallery_page(chosen, images={}, **arguments)


def test_marks_by_hand(items: pd.DataFrame, baseline: pd.DataFrame) -> None:
    """q1 is a polo: g1 (crew) misses, g3 (polo, other category) hits the neckline and misses the category."""
    only = baseline.iloc[[0]].reset_index(drop=True)
    chosen = gallery.choose_queries(only, count=1, rng=np.random.default_rng(0))
    page = gallery.gallery_page(chosen, name="m", metrics={}, items=items, images={})
    marks = re.findall(r'class="chip (hit|miss|unknown)" title="(neckline|category)"', page)
    assert marks == [("miss", "neckline"), ("hit", "category"), ("hit", "neckline"), ("miss", "category")]


def test_weak_classes_come_first_and_the_choice_is_seeded(items: pd.DataFrame, baseline: pd.DataFrame) -> None:
    many = pd.concat([baseline] * 5, ignore_index=True)
    chosen = gallery.choose_queries(many, count=6, rng=np.random.default_rng(0))
    assert len(chosen) == 6 and chosen["class_precision"].is_monotonic_increasing
    assert (chosen["class_name"] == EVIL).sum() == 3  # one of each class in turn
    again = gallery.choose_queries(many, count=6, rng=np.random.default_rng(0))
    pd.testing.assert_frame_equal(chosen, again)
    assert gallery.choose_queries(many, count=0, rng=np.random.default_rng(0)).empty
    nothing = gallery.choose_queries(many[many["split"] == "x"], count=6, rng=np.random.default_rng(0))
    page = gallery.gallery_page(nothing, name="m", metrics={}, items=items, images={})
    assert "No test queries were evaluated" in page


def test_changes_by_hand(items: pd.DataFrame, baseline: pd.DataFrame, protocol: pd.DataFrame) -> None:
    found = changes.find_changes(baseline, protocol, items, label="neckline")
    kinds = dict(zip(found["query_id"], found["kind"], strict=True))
    assert kinds == {"q1": "fixed", "q2": "still right", "q3": "still wrong", EVIL: "broken"}  # q4 is unknown
    assert dict(zip(found["query_id"], found["gain"], strict=True)) == {"q1": 1, "q2": 0, "q3": 0, EVIL: -1}


def test_changes_page(items: pd.DataFrame, baseline: pd.DataFrame, protocol: pd.DataFrame) -> None:
    found = changes.find_all_changes(baseline, protocol, items)
    chosen = changes.choose_changes(found["neckline"], count=3, rng=np.random.default_rng(0))
    images = {i: picture("blue") for i in changes.shown_items(chosen)}
    page = changes.changes_page(found, chosen, label="neckline", items=items, images=images)
    check_page(page)
    assert "Fixed: crew lost to polo." in page
    assert "Broken: one of unknown neckline won over polo." in page
    assert "Still wrong: one of unknown neckline, then crew, for polo." in page
    row = re.search(r"<td>neckline</td>(.*?)</tr>", page, re.S)
    assert row and re.findall(r">\D*(\d+)</td>", row.group(1)) == ["4", "1", "1", "1", "1"]
    empty = changes.choose_changes(found["neckline"], count=0, rng=np.random.default_rng(0))
    assert "none" in changes.changes_page(found, empty, label="neckline", items=items, images={})


def test_choice_of_changes_is_limited_per_kind(items, baseline, protocol) -> None:
    many = pd.concat([baseline] * 4, ignore_index=True), pd.concat([protocol] * 4, ignore_index=True)
    found = changes.find_changes(*many, items, label="neckline")
    chosen = changes.choose_changes(found, count=3, rng=np.random.default_rng(0))
    assert set(chosen["kind"].value_counts()) == {3}
    pd.testing.assert_frame_equal(chosen, changes.choose_changes(found, count=3, rng=np.random.default_rng(0)))


def test_thumbnails_are_small_jpegs_with_the_same_bytes() -> None:
    found = thumbnails({"a": picture("green"), "b": picture("green")})
    assert found["a"] == found["b"] == thumbnails({"a": picture("green")})["a"]
    with Image.open(io.BytesIO(base64.b64decode(found["a"].split(",")[1]))) as image:
        assert image.format == "JPEG" and image.size == (96, 48)
