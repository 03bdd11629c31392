"""The drawn sample catalogue: reproducible, complete, readable, and with texts that tell the truth."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections import Counter
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.catalog.attributes import load_attribute_schema
from lib.catalog.drawing.assortment import (
    BOTTOMS,
    CATEGORIES,
    COLOURS,
    MATERIALS,
    NECKLINES,
    PATTERNS,
    SLEEVES,
    WOMEN_ONLY,
)
from lib.catalog.drawing.cut import make_cut
from lib.catalog.drawing.plan import Product, plan_product
from lib.catalog.drawing.scene import draw_view, make_staging
from lib.catalog.sample.catalogue import CATALOGUE_FIELDS, TRUTH_FIELDS, draw_sample
from lib.catalog.sample.wording import write_texts

SCHEMA = Path(__file__).parents[2] / "lib" / "catalog" / "attributes.yaml"
PLANNED = 3000


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _photos(folder: Path, name: str = "images") -> dict[str, bytes]:
    with zipfile.ZipFile(folder / f"{name}.zip") as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample")
    draw_sample(out, n_products=12, image_size=48, seed=5, workers=1)
    return out


@pytest.fixture(scope="module")
def planned() -> list[Product]:
    return [plan_product(5, number) for number in range(PLANNED)]


def test_outfits_name_items_of_the_catalogue(sample: Path) -> None:
    outfits = _table(sample / "outfits.csv")
    ids = {row["id"] for row in _table(sample / "catalogue.csv")}
    assert list(outfits[0]) == ["a_id", "b_id", "label"] and {row["label"] for row in outfits} == {"0", "1"}
    assert {row[name] for row in outfits for name in ("a_id", "b_id")} <= ids


def _picture(product: Product, view: str = "front", size: int = 48, seed: int = 0) -> np.ndarray:
    cut = make_cut(np.random.default_rng([seed, 1]), product)
    staging = make_staging(np.random.default_rng([seed, 2]), product)
    image = draw_view(product, cut, staging, view, np.random.default_rng([seed, 3]), size)
    assert image.size == (size, size) and image.mode == "RGB"
    return np.asarray(image, dtype=np.float32)


def _changed(one: np.ndarray, other: np.ndarray) -> float:
    """The share of pixels that differ clearly."""
    return float((np.abs(one - other).max(axis=2) > 30).mean())


def test_bytes_do_not_depend_on_workers_or_run(sample: Path, tmp_path: Path) -> None:
    draw_sample(tmp_path / "two", n_products=12, image_size=48, seed=5, workers=2)
    assert _bytes(tmp_path / "two") == _bytes(sample)


def test_another_seed_draws_another_catalogue(sample: Path, tmp_path: Path) -> None:
    draw_sample(tmp_path, n_products=2, image_size=48, seed=6, workers=1)
    for theirs, ours in ((_bytes(tmp_path), _bytes(sample)), (_photos(tmp_path), _photos(sample))):
        assert all(theirs[name] != ours[name] for name in theirs if name in ours)


def test_more_products_leave_the_first_ones_alone(sample: Path, tmp_path: Path) -> None:
    draw_sample(tmp_path, n_products=5, image_size=48, seed=5, workers=1)
    few, many = _bytes(tmp_path), _bytes(sample)
    for table in ("catalogue.csv", "truth.csv"):
        assert many[table].startswith(few[table]) and len(many[table]) > len(few[table])
    for archive in ("images", "street"):
        first, all_photos = _photos(tmp_path, archive), _photos(sample, archive)
        assert first and list(all_photos)[: len(first)] == list(first)
        assert all(first[name] == all_photos[name] for name in first)


def test_drawing_again_leaves_no_picture_of_a_larger_run(tmp_path: Path) -> None:
    for n_products in (3, 1):
        draw_sample(tmp_path, n_products=n_products, image_size=32, seed=5, workers=1)
    listed = {row["image"] for row in _table(tmp_path / "catalogue.csv")}
    assert set(_photos(tmp_path)) == listed


def test_no_products_give_empty_tables(tmp_path: Path) -> None:
    statistics = draw_sample(tmp_path, n_products=0, image_size=48, seed=5, workers=2)
    assert statistics["n_products"] == statistics["n_items"] == 0
    assert (tmp_path / "catalogue.csv").read_text() == ",".join(CATALOGUE_FIELDS) + "\n"
    assert (tmp_path / "truth.csv").read_text() == ",".join(TRUTH_FIELDS) + "\n"
    assert _photos(tmp_path) == _photos(tmp_path, "street") == {}


@pytest.mark.parametrize(("n_products", "image_size"), [(-1, 48), (1, 8)])
def test_bad_sizes_are_refused(tmp_path: Path, n_products: int, image_size: int) -> None:
    with pytest.raises(ValueError, match=str(min(n_products, image_size))):
        draw_sample(tmp_path, n_products=n_products, image_size=image_size, seed=5, workers=1)


def test_every_row_has_a_readable_picture(sample: Path) -> None:
    rows, truth = _table(sample / "catalogue.csv"), _table(sample / "truth.csv")
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == len(ids) >= 24
    assert [row["id"] for row in truth] == ids
    photos = _photos(sample)
    assert list(photos) == [row["image"] for row in rows]
    for row in rows:
        assert row["image"] == row["id"] + ".jpg"
        with Image.open(io.BytesIO(photos[row["image"]])) as image:
            image.load()
            assert image.size == (48, 48) and image.mode == "RGB"


def test_statistics_count_the_products(tmp_path: Path) -> None:
    statistics = draw_sample(tmp_path, n_products=4, image_size=32, seed=5, workers=1)
    truth = _table(tmp_path / "truth.csv")
    firsts = {row["product"]: row for row in truth}
    assert statistics["n_products"] == 4 == len(firsts)
    assert statistics["n_items"] == len(truth) == sum(statistics["view"].values())
    assert statistics["category"] == dict(sorted(Counter(row["category"] for row in firsts.values()).items()))


def test_views_of_a_product_share_its_texts_and_its_suffix_style(sample: Path) -> None:
    rows, truth = _table(sample / "catalogue.csv"), _table(sample / "truth.csv")
    shared: dict[str, set[tuple[str, ...]]] = {}
    for row, true in zip(rows, truth, strict=True):
        assert row["title"] and row["description"]
        assert row["id"].startswith(true["product"])
        suffix = row["id"].removeprefix(true["product"])
        assert re.fullmatch(r"_view\d|_front|_side|_back|_detail|_[A-C]|-\d", suffix)
        if suffix[1:] in ("front", "side", "back", "detail"):
            assert suffix[1:] == true["view"]
        style = re.sub(r"\d$|[A-C]$", "", suffix) if not suffix[1:].islower() or suffix[-1].isdigit() else "word"
        fields = ("gender", "category", "subcategory", "color", "title", "description")
        shared.setdefault(true["product"], set()).add((style, *(row[name] for name in fields)))
    assert len(shared) == 12
    assert all(len(texts) == 1 for texts in shared.values())


def test_plan_is_long_tailed_and_complete(planned: list[Product]) -> None:
    def share(name: str, value: str) -> float:
        return sum(getattr(p, name) == value for p in planned) / len(planned)

    assert {p.category for p in planned} == set(CATEGORIES)
    assert {p.material for p in planned} == {m for weights in MATERIALS.values() for m in weights}
    assert {p.pattern for p in planned} == set(PATTERNS)
    assert {p.neckline for p in planned} == {n for weights in NECKLINES.values() for n in weights} | {None}
    assert {p.colour for p in planned} == set(COLOURS)
    assert 0.40 < share("material", "cotton") < 0.55
    assert 0.44 < share("pattern", "solid") < 0.58
    for name, value in (
        ("category", "shorts"),
        ("category", "cardigans"),
        ("material", "denim"),
        ("material", "leather"),
    ):
        assert 0.025 < share(name, value) < 0.06, value
    backs = sum(p.views.count("back") for p in planned) / sum(len(p.views) for p in planned)
    assert 0.08 < backs < 0.20


def test_plan_makes_sense(planned: list[Product]) -> None:
    for p in planned:
        assert (p.neckline is None) == (p.sleeve is None) == (p.category in BOTTOMS)
        assert p.gender == "women" or p.category not in WOMEN_ONLY
        assert p.views[0] == "front" and len(set(p.views)) == len(p.views) in (2, 3)
        assert not (p.neckline == "off shoulder" and p.sleeve == "sleeveless")
        assert p.category != "graphic" or p.pattern == "graphic print"
    necklines = {
        c: {p.neckline for p in planned if p.category == c} for c in ("tees", "dresses", "blouses", "sweaters")
    }
    assert all(len(found) >= 6 for found in necklines.values())


@pytest.mark.parametrize("category", list(CATEGORIES))
def test_everything_a_category_can_be_is_drawn(category: str) -> None:
    """Every value of every attribute, combined in turn; the garment must cover a good part of the picture."""
    plain = replace(plan_product(5, 0), category=category, subcategory=None, gender="women")
    necklines: list[str | None] = list(NECKLINES.get(category, {})) or [None]
    sleeves: list[str | None] = list(SLEEVES.get(category, {})) or [None]
    most = 2 * max(len(necklines), len(sleeves), len(PATTERNS), len(MATERIALS[category]))
    turns = zip(cycle(necklines), cycle(sleeves), cycle(PATTERNS), cycle(MATERIALS[category]), strict=False)
    for seed, (neckline, sleeve, pattern, material) in enumerate(islice(turns, most)):
        product = replace(plain, neckline=neckline, sleeve=sleeve, pattern=pattern, material=material)
        view = ("front", "back", "side", "detail")[seed % 4]
        solid = replace(product, pattern="solid")
        black, white = (_picture(replace(solid, colour=c), view, 32, seed) for c in ("black", "white"))
        assert _changed(black, white) > 0.08, (product, view)
        _picture(product, view, 32, seed)


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p != "solid"])
def test_a_pattern_shows(pattern: str) -> None:
    tee = replace(plan_product(5, 0), category="tees", subcategory=None, neckline="round neck", sleeve="short sleeve")
    shown = [
        _changed(
            _picture(replace(tee, material="cotton", pattern=name, colour="red"), seed=4),
            _picture(replace(tee, material="cotton", pattern="solid", colour="red"), seed=4),
        )
        for name in (pattern, "solid")
    ]
    assert shown[1] == 0.0 and shown[0] > 0.02


@pytest.mark.parametrize("neckline", [n for n in NECKLINES["dresses"] if n != "round neck"] + ["hood", "henley"])
def test_a_neckline_shows(neckline: str) -> None:
    top = replace(
        plan_product(5, 0),
        category="blouses",
        subcategory=None,
        gender="women",
        sleeve="long sleeve",
        material="cotton",
        pattern="solid",
        colour="red",
    )
    other = _picture(replace(top, neckline="round neck"), size=64, seed=3)
    assert _changed(_picture(replace(top, neckline=neckline), size=64, seed=3), other) > 0.01


def test_named_attributes_are_the_true_ones(planned: list[Product]) -> None:
    schema = load_attribute_schema(SCHEMA)
    named: Counter[str] = Counter()
    possible: Counter[str] = Counter()
    for product in planned[:1200]:
        wording = write_texts(np.random.default_rng([5, product.number]), product)
        text = f"{wording.title}. {wording.description}"
        for name in ("neckline", "sleeve", "pattern", "material"):
            found = schema[name].extract(text)
            assert found.value in (None, getattr(product, name)), (name, text)
            assert not found.ambiguous, (name, text)
            if getattr(product, name) is not None:
                possible[name] += 1
                named[name] += found.value is not None
        possible["color"] += 1
        named["color"] += wording.colour is not None
    shares = {name: named[name] / possible[name] for name in possible}
    for name, low, high in (
        ("neckline", 0.47, 0.62),
        ("sleeve", 0.68, 0.82),
        ("pattern", 0.68, 0.82),
        ("material", 0.70, 0.84),
        ("color", 0.92, 0.98),
    ):
        assert low < shares[name] < high, (name, shares[name])


def test_some_texts_deny_and_some_are_long(planned: list[Product]) -> None:
    texts = [write_texts(np.random.default_rng([5, p.number]), p) for p in planned[:600]]
    denials = sum(bool(re.search(r"\b(no|without|not a|contains no)\b", t.description.lower())) for t in texts)
    lengthy = sum(len(t.description.split()) > 77 for t in texts)
    assert denials > 30
    assert 5 < lengthy < 60
