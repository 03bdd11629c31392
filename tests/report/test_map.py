"""The map's picture and page: the same bytes, colours by frequency, data that cannot break out, one small file."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.report import sprite
from lib.report.map_page import map_page
from lib.report.map_picture import plot_map
from lib.report.map_values import COLOURS, OTHER, UNKNOWN, colour_labels, other_name
from lib.report.page import LABELS
from lib.report.sprite import SIDE, make_sprite

EVIL = "</script><script>alert(1)</script><!-- $x$"


@dataclass(frozen=True)
class Drawn:
    places: np.ndarray
    neighbours: np.ndarray


def table(values: list[str | None]) -> pd.DataFrame:
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(len(values))]}).assign(**dict.fromkeys(LABELS.values()))
    return items.astype(object).assign(neckline=pd.Series(values, dtype=object))


def drawn_maps(n: int) -> dict[str, Drawn]:
    rng = np.random.default_rng(0)
    near = np.tile(np.arange(10), (n, 1))
    near[:, 8:] = -1
    return {name: Drawn(rng.random((n, 2)).round(4), near) for name in ("baseline", "protocol")}


def figures_of(n: int) -> dict[str, Any]:
    models = {name: {"trustworthiness": 0.9, "neighbours_kept": 0.5} for name in ("baseline", "protocol")}
    shares: dict[str, Any] = {name: {"embedding": 0.5, "map": 0.4} for name in models}
    return {"n_items": n, "models": models, "labels": {"neckline": {"n_items": n, "chance": 0.1} | shares}}


def picture(colour: str, size: tuple[int, int] = (30, 60)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


VALUES: list[str | None] = [EVIL] * 6 + ["crew"] * 9 + [None] * 4 + [f"v{n % 9}" for n in range(20)]


def test_colours_go_to_the_most_frequent_values() -> None:
    found = colour_labels(table(VALUES), figures_of(len(VALUES)))
    assert list(found) == ["neckline"]  # nobody knows anything else
    coloured = found["neckline"]
    assert coloured.values[:4] == ("crew", EVIL, "v0", "v1") and coloured.counts[:4] == (9, 6, 3, 3)
    assert len(coloured.values) == len(COLOURS) and coloured.n_other == (6, 3) and coloured.n_unknown == 4
    for value, code in zip(VALUES, coloured.codes, strict=True):
        expected = UNKNOWN if value is None else OTHER
        assert code == (coloured.values.index(value) if value in coloured.values else expected)
    assert other_name(coloured) == "3 other values"


def page(values: list[str | None] = VALUES) -> str:
    n = len(values)
    texts = {f"i{i}": f"{EVIL} {i}" for i in range(n)}
    images = [picture("red")] * n
    return map_page(table(values), drawn_maps(n), figures_of(n), texts=texts, images=images)


def test_page_holds_its_data_and_one_script_named_by_its_hash() -> None:
    whole = page()
    assert whole == page()
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", whole, re.S)
    assert [kind for kind, _ in scripts] == [' type="application/json" id="data"', ""]
    digest = base64.b64encode(hashlib.sha256(scripts[1][1].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in whole or f"script-src 'sha256-{digest}'" in whole
    data = json.loads(scripts[0][1])
    assert data["texts"][3] == f"{EVIL} 3" and data["labels"]["neckline"]["values"][1] == EVIL
    assert data["maps"]["baseline"]["near"][0] == list(range(8))
    for item, value in data["labels"]["neckline"]["rare"].items():
        assert VALUES[int(item)] == value
    assert not re.search(r"https?://", whole)


def test_no_map_says_why() -> None:
    nothing = {"n_items": 0, "skipped": "3 test items to draw; a map needs 30"}
    whole = map_page(table([]), {}, nothing, texts={}, images=[])
    assert "No map: 3 test items to draw" in whole and "<script" not in whole
    with Image.open(io.BytesIO(plot_map(table([]), {}, nothing))) as image:
        assert image.format == "PNG"


def test_a_label_that_was_not_measured_is_no_colour() -> None:
    """Only categories that say something about the pattern are known: they count for nothing, so there is no map."""
    n = 40
    items = table([None] * n).assign(category2="graphic")
    figures = figures_of(n) | {"labels": {}}
    whole = map_page(items, drawn_maps(n), figures, texts={}, images=[picture("red")] * n)
    assert "No map: no label is known" in whole and "<script" not in whole
    with Image.open(io.BytesIO(plot_map(items, drawn_maps(n), figures))) as image:
        assert image.format == "PNG"


def test_picture_is_the_same_every_time_and_has_a_palette() -> None:
    n = len(VALUES)
    drawn = plot_map(table(VALUES), drawn_maps(n), figures_of(n))
    assert drawn == plot_map(table(VALUES), drawn_maps(n), figures_of(n))
    with Image.open(io.BytesIO(drawn)) as image:
        assert image.mode == "P" and not {"Software", "Creation Time", "date"} & set(image.info)
        colours = {colour for _, colour in image.convert("RGB").getcolors() or []}
    first = tuple(int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5))
    assert min(sum(abs(a - b) for a, b in zip(c, first, strict=True)) for c in colours) < 40
    assert drawn != plot_map(table(VALUES[::-1]), drawn_maps(n), figures_of(n))


def test_sprite_places_each_picture_in_its_square() -> None:
    colours = ["red", "green", "blue", "yellow", "black"]
    made = make_sprite([picture(colour, (60, 60)) for colour in colours])
    assert made.columns == 3 and made == make_sprite([picture(colour, (60, 60)) for colour in colours])
    with Image.open(io.BytesIO(base64.b64decode(made.address.split(",")[1]))) as image:
        assert image.size == (3 * SIDE, 2 * SIDE)
        for place, colour in enumerate(colours):
            left, top = place % 3 * SIDE, place // 3 * SIDE
            found = np.asarray(image.crop((left + 4, top + 4, left + SIDE - 4, top + SIDE - 4)), dtype=int)
            assert np.abs(found - np.asarray(Image.new("RGB", (1, 1), colour))[0, 0]).max() < 12


def test_sprite_gives_quality_for_size(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (9, SIDE, SIDE, 3), dtype=np.uint8)
    images = []
    for one in noise:
        stream = io.BytesIO()
        Image.fromarray(one).save(stream, "PNG")
        images.append(stream.getvalue())
    large = make_sprite(images)
    monkeypatch.setattr(sprite, "MAX_BYTES", len(large.address) // 2)
    assert len(make_sprite(images).address) < 0.8 * len(large.address)
    assert make_sprite([]).columns == 1
