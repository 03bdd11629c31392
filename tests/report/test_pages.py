"""gallery.html and changes.html: escaping, content policy, choice, marks, the same bytes."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.report import changes, gallery
from lib.report.page import LABELS, TEXT_LENGTH, shorten, thumbnails

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
    allowed = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "h1",
        "h2",
        "h3",
        "p",
        "div",
        "span",
        "small",
    }
    allowed |= {
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "b",
        "i",
        "u",
        "img",
        "br",
        "bdi",
        "article",
        "nav",
        "ul",
    }
    allowed |= {"li", "a", "mark"}
    assert {t for t, _ in reader.tags} <= allowed, {t for t, _ in reader.tags} - allowed
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/jpeg;base64,") and attributes["alt"]
        if tag == "a":
            assert str(attributes["href"]).startswith("#")
    identities = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(identities) == len(set(identities))
    named = " ".join(str(a["aria-labelledby"]) for _, a in reader.tags if "aria-labelledby" in a).split()
    assert set(named) | {str(a["href"])[1:] for t, a in reader.tags if t == "a"} <= set(identities)
    assert not re.search(r"https?://|javascript:|<script", page)
    assert "&lt;script&gt;" in page
    return reader


def cells(page: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every line of every comparison: (label, [(kind, value) of each result])."""
    found = []
    for line in re.findall(r'<tr><th scope="row"><span class="label">(.*?)</tr>', page, re.S):
        label = re.match(r"\w+", line)
        marks = re.findall(r'<td class="(\w+)">(.*?)</td>', line, re.S)
        found.append((label[0] if label else "", [(kind, re.sub("<.*?>", "", text)) for kind, text in marks]))
    return found


METRICS = {
    "test": {
        "image_to_image": {
            "neckline@10": {
                "value": 0.4, "low": 0.3, "high": 0.5, "n_queries": 4, "chance": 0.2, "ceiling": 0.9,
            }
        }
    },
    "skipped": {
        "test": {"image_to_image": dict.fromkeys(("sleeve@10", "material@10"), "no query with a known value")}
    },
}  # fmt: skip


def gallery_of(table: pd.DataFrame, items: pd.DataFrame, *, count: int, **changed: Any) -> str:
    chosen = gallery.choose_queries(table, count=count, rng=np.random.default_rng(0))
    arguments = {"name": "baseline", "per_query": table, "metrics": {}, "items": items, "images": {}} | changed
    return gallery.gallery_page(chosen, **{"pattern_only": ()} | arguments)


def test_gallery_page(items: pd.DataFrame, baseline: pd.DataFrame) -> None:
    images = {i: picture("red") for i in items["item_id"]}
    page = gallery_of(baseline, items, count=5, metrics=METRICS, images=images)
    reader = check_page(page)
    assert len([t for t, _ in reader.tags if t == "img"]) == 5 * 3
    assert "40.0" in page and "30.0–50.0" in page
    assert page.count("no query with a known value") == 1 and "sleeve@10, material@10" in page
    assert "5 of 5 test queries" in page and "product is left out" in page
    assert page == gallery_of(baseline, items, count=5, metrics=METRICS, images=images)
    assert "no picture" in gallery_of(baseline, items, count=5)


def test_marks_by_hand(items: pd.DataFrame, baseline: pd.DataFrame) -> None:
    """q1 is a polo: g1 (crew) misses, g3 (polo, other category) hits the neckline and misses the category."""
    page = gallery_of(baseline.iloc[[0]].reset_index(drop=True), items, count=1)
    lines = dict(cells(page))
    assert lines["neckline"] == [("miss", "crew"), ("hit", "polo")]
    assert [kind for kind, _ in lines["category"]] == ["hit", "miss"]
    assert re.search(r'neckline\s*<span class="hits">1/2</span>', page)


def test_a_query_without_a_value_is_not_judged(items: pd.DataFrame, baseline: pd.DataFrame) -> None:
    """q4 has no neckline; nobody but q2 has a sleeve, so the others' pages do not speak of sleeves."""
    table = items.assign(sleeve=items["item_id"].map({"q2": "long"}).astype(object))
    page = gallery_of(baseline.iloc[[3]].reset_index(drop=True), table, count=1)
    lines = dict(cells(page))
    assert lines["neckline"] == [("unjudged", "crew"), ("unjudged", "–")]
    assert "sleeve" not in lines
    lines = dict(cells(gallery_of(baseline.iloc[[1]].reset_index(drop=True), table, count=1)))
    assert lines["sleeve"] == [("unknown", "unknown"), ("unknown", "unknown")]


def test_a_pattern_only_category_never_matches(items: pd.DataFrame, baseline: pd.DataFrame) -> None:
    first = baseline.iloc[[0]].reset_index(drop=True)
    lines = dict(cells(gallery_of(first, items, count=1, pattern_only=("tees",))))  # q1 and g1 are tees
    assert lines["category"][0] == ("unjudged", "tees")
    lines = dict(cells(gallery_of(first, items, count=1, pattern_only=(EVIL,))))  # g3 is EVIL
    assert [kind for kind, _ in lines["category"]] == ["hit", "unknown"]


def test_weak_classes_come_first_and_the_choice_is_seeded(items: pd.DataFrame, baseline: pd.DataFrame) -> None:
    many = pd.concat([baseline] * 5, ignore_index=True)
    chosen = gallery.choose_queries(many, count=6, rng=np.random.default_rng(0))
    classes = gallery.rank_classes(many)
    assert classes["precision"].is_monotonic_increasing
    assert chosen["class_name"].tolist() == [name for name in classes["class_name"] for _ in range(3)]
    again = gallery.choose_queries(many, count=6, rng=np.random.default_rng(0))
    pd.testing.assert_frame_equal(chosen, again)
    assert gallery.choose_queries(many, count=0, rng=np.random.default_rng(0)).empty
    assert "No test queries were evaluated" in gallery_of(many[many["split"] == "x"], items, count=6)


def classes_of(rows: list[tuple[str | None, str | None, int, int]]) -> pd.DataFrame:
    """Queries (category, neckline, matching colours of ten results), each so many times."""
    table = pd.DataFrame(
        [(category, neckline, hits) for category, neckline, hits, n in rows for _ in range(n)],
        columns=["category2", "neckline", "color_hits"],
    )
    table = table.assign(split="test", mode="image_to_image", retrieved_ids=[["x"] * 10] * len(table))
    for label in LABELS:
        table[f"{label}_hits"] = table.get(f"{label}_hits", pd.Series(pd.NA, index=table.index)).astype("Int64")
    return table


def test_one_unlucky_query_makes_no_weak_class() -> None:
    """Mean (40·3 + 1·0 + 200·6) / 241 = 5.477; ranks: socks (0 + 5 means)/6 = 4.56, kurtis (120 + 27.4)/45 = 3.28."""
    classes = gallery.rank_classes(
        classes_of([("socks", None, 0, 1), ("tees", None, 6, 200), ("kurtis", None, 3, 40)])
    )
    assert classes["class_name"].tolist() == ["kurtis", "socks", "tees"]
    assert classes["precision"].tolist() == [0.3, 0.0, 0.6]
    assert classes["n_queries"].tolist() == [40, 1, 200]


def test_without_categories_the_necklines_are_the_classes() -> None:
    classes = gallery.rank_classes(classes_of([(None, None, 1, 30), (None, "polo", 6, 30), (None, "crew", 3, 30)]))
    assert classes["class_name"].tolist() == ["crew", "polo", "no neckline"]  # the unknown ones come last
    assert set(classes["class_column"]) == {"neckline"}
    nothing = gallery.rank_classes(classes_of([(None, None, 1, 3)]))
    assert nothing["class_name"].tolist() == ["no category"]


def test_changes_by_hand(items: pd.DataFrame, baseline: pd.DataFrame, protocol: pd.DataFrame) -> None:
    found = changes.find_changes(baseline, protocol, items, label="neckline")
    kinds = dict(zip(found["query_id"], found["kind"], strict=True))
    assert kinds == {"q1": "fixed", "q2": "still right", "q3": "still wrong", EVIL: "broken"}  # q4 is unknown
    assert dict(zip(found["query_id"], found["gain"], strict=True)) == {"q1": 1, "q2": 0, "q3": 0, EVIL: -1}


def moves(page: str) -> list[str]:
    listed = re.findall(r"<li>(<b class=.*?)</li>", page, re.S)
    return [re.sub(r"\s+", " ", re.sub("<.*?>", "", text)) for text in listed]


def test_changes_page(items: pd.DataFrame, baseline: pd.DataFrame, protocol: pd.DataFrame) -> None:
    found = changes.find_all_changes(baseline, protocol, items)
    chosen = changes.choose_changes(found["neckline"], count=3, rng=np.random.default_rng(0))
    images = {i: picture("blue") for i in changes.shown_items(chosen)}
    arguments = {"label": "neckline", "items": items, "pattern_only": ()}
    page = changes.changes_page(found, chosen, images=images, **arguments)
    check_page(page)
    assert moves(page) == [
        "Confuser: g1 (crew), baseline 1st → protocol below 2nd",  # q1, fixed
        "Right: &lt;script&gt;alert(1)&lt;/script&gt;&#34; onerror=&#34;x (polo), baseline below 2nd → protocol 1st",
        "Right: g3 (polo), baseline 1st → protocol below 2nd",  # EVIL, broken
        "Confuser: g2 (neckline unknown), baseline below 2nd → protocol 1st",
        "Confuser: g2 (neckline unknown), baseline 1st → protocol 2nd",  # q3, still wrong
        "Confuser: g1 (crew), baseline 2nd → protocol 1st",
        "Right: g1 (crew), baseline 1st → protocol 1st",  # q2, still right
    ]
    row = re.search(r'<th scope="row">neckline</th>(.*?)</tr>', page, re.S)
    assert row and re.findall(r">\D*(\d+)</td>", row.group(1)) == ["4", "1", "1", "1", "1"]
    empty = changes.choose_changes(found["neckline"], count=0, rng=np.random.default_rng(0))
    assert "none" in changes.changes_page(found, empty, images={}, **arguments)
    found["sleeve"] = found["sleeve"].head(0)
    assert "No test query has a known value of: sleeve." in changes.changes_page(found, empty, images={}, **arguments)


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
        assert image.format == "JPEG" and image.size == (128, 64)


def test_long_texts_are_cut_and_say_so() -> None:
    assert shorten("short\n text") == "short text"
    cut = shorten("long " * 200)
    assert len(cut) <= TEXT_LENGTH and cut.endswith("…")
