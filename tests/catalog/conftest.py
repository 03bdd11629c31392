"""A small catalogue made from one seed: real JPEGs, a CSV, and a `data` section that fits it."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib.base.params import Data
from lib.catalog.process import process_catalog

SCHEMA = Path(__file__).parents[2] / "lib/catalog/attributes.yaml"
HEADER = ("id", "image", "category", "title", "color", "neckline")


def picture(seed: int, size: tuple[int, int] = (24, 32)) -> Image.Image:
    """A small photo that no other seed gives."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@dataclass
class Catalogue:
    """A raw folder under construction; `process` runs the whole thing on it."""

    raw: Path
    header: Sequence[str] = HEADER
    rows: list[list[str]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def add(self, item_id: str, **cells: str) -> None:
        """A row; its photo is written unless a cell `image` says where it is."""
        if "image" not in cells:
            name = f"{item_id}.jpg"
            (self.raw / "images" / name).write_bytes(encoded(picture(len(self.rows))))
            cells["image"] = name
        self.rows.append([{"id": item_id, "category": "tees", **cells}.get(name, "") for name in self.header])

    def add_photo(self, item_id: str, data: bytes) -> None:
        """A row whose photo consists of these bytes."""
        (self.raw / "images" / f"{item_id}.jpg").write_bytes(data)
        self.add(item_id, image=f"{item_id}.jpg")

    def data(self, **changes: Any) -> Data:
        columns = {"item_id": "id", "image": "image", "category2": "category", "text": ["title"], "color": "color"}
        base: dict[str, Any] = {
            "source": "table",
            "raw_dir": str(self.raw),
            "metadata": "items.csv",
            "image_root": "images",
            "image_cache": str(self.raw.parent / "image_cache"),
            "columns": columns | {"neckline": "neckline"},
            "attribute_schema": str(SCHEMA),
            "product_keys": ["column", "item_id", "image_url", "sku"],
            "max_bad_fraction": 0.9,
            "max_image_side": 64,
            "max_pixels": 1_000_000,
            "splits": {"train": 0.6, "validation": 0.2, "test": 0.2},
            "seed": 42,
        }
        return Data.model_validate(base | self.settings | changes)

    def write(self) -> None:
        with open(self.raw / "items.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([self.header, *self.rows])

    def process(self, out: Path, *, workers: int = 2, **changes: Any) -> dict[str, Any]:
        if self.rows:
            self.write()
        return process_catalog(self.raw, SCHEMA, out, self.data(**changes), workers=workers)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Without rows."""
    (tmp_path / "raw" / "images").mkdir(parents=True)
    return Catalogue(tmp_path / "raw")


@pytest.fixture
def shop(catalogue: Catalogue) -> Catalogue:
    """20 products with two views each."""
    for number in range(20):
        category = ("tees", "pants", "cardigans", "graphic")[number % 4]
        title = ("Striped v-neck tee", "Denim pants", "Wool cardigan, long sleeve", "Band tee")[number % 4]
        for view in ("front", "back"):
            catalogue.add(f"P{number:03d}_{view}", category=category, title=title, color="Navy" if number % 2 else "")
    return catalogue


@pytest.fixture
def encode() -> Callable[..., bytes]:
    return encoded


@pytest.fixture
def draw() -> Callable[..., Image.Image]:
    return picture
