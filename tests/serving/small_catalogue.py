"""A catalogue of 24 items in five dimensions, small enough to check a search by hand, behind the real searcher."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from lib.base.artifacts import write_manifest
from lib.base.atomic import replacing_folder
from lib.catalog.attributes import load_attribute_schema
from lib.catalog.partner_kinds import Kind
from lib.catalog.schema import SPLITS, STRING_COLUMNS
from lib.catalog.shards import SplitWriter
from lib.embeddings import META_COLUMNS, Embeddings, EmbeddingSet
from lib.serving.catalogue import ServedCatalogue
from lib.serving.query_encoder import QueueFull
from lib.serving.searcher import Searcher

ROOT = Path(__file__).resolve().parents[2]
DIM = 5
COLORS = ("red", "blue", "black")
CATEGORIES = ("tees", "cardigans")


def rows() -> pd.DataFrame:
    """Twelve products of two views: every colour and category twice, some v-necks; the last two are queries."""
    table = []
    for number in range(12):
        for view in "AB":
            color, category = COLORS[number % 3], CATEGORIES[number % 2]
            table.append(
                {
                    "item_id": f"p{number:02d}_{view}",
                    "product_id": f"p{number:02d}",
                    "split": "test" if number >= 10 else "train",
                    "category1": "women",
                    "category2": category,
                    "color": color,
                    "neckline": "v-neck" if number % 4 == 0 else None,
                    "caption": f"{color} {category}" + (" <script>alert(1)</script>" if number == 3 else ""),
                }
            )
    frame = pd.DataFrame(table, columns=list(META_COLUMNS)).astype(object)
    return frame.where(frame.notna(), None)


def embedded(seed: int = 0, *, fingerprint: str = "f" * 64) -> EmbeddingSet:
    """One dimension per colour and category, and a little of each item's own."""
    table = rows()
    rng = np.random.default_rng(seed)
    points = np.zeros((len(table), DIM))
    for row, (color, category) in enumerate(zip(table["color"], table["category2"], strict=True)):
        points[row, COLORS.index(color)] = 1.0
        points[row, 3 + CATEGORIES.index(category)] = 0.8
    points += 0.05 * rng.normal(size=points.shape)
    unit = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    sides = []
    for mask in (table["split"] == "train", table["split"] != "train"):
        keep = mask.to_numpy()
        sides.append(Embeddings(unit[keep], unit[keep], table[keep].reset_index(drop=True)))
    return EmbeddingSet(sides[0], sides[1], fingerprint)


class FakeEncoder:
    """Texts by the words they hold, pictures by their colour; slow or full on request."""

    def __init__(self) -> None:
        self.waiting, self.text_hits, self.text_misses = 0, 0, 0
        self.full = False

    def text(self, text: str, *, timeout: float) -> np.ndarray:
        if self.full or "overload" in text:
            raise QueueFull("64 queries wait already; try again in a moment")
        if text.startswith("sleep "):
            time.sleep(float(text.split()[1]))
        row = np.full(DIM, 0.01)
        for i, word in enumerate((*COLORS, *CATEGORIES)):
            row[i] += word.rstrip("s") in text.lower()
        return (row / np.linalg.norm(row)).astype(np.float32)

    def image(self, data: bytes, *, timeout: float) -> np.ndarray:
        from lib.catalog.images import normalise_image

        upright = normalise_image(data, max_side=512, max_pixels=50_000_000)
        with Image.open(io.BytesIO(upright.data)) as opened:
            red, _, blue = np.asarray(opened.convert("RGB")).reshape(-1, 3).mean(axis=0)
        return self.text("red" if red > 128 else "blue" if blue > 128 else "black", timeout=timeout)

    def close(self) -> None:
        pass


def picture(color: str, size: tuple[int, int] = (40, 50)) -> bytes:
    """A picture of one colour as PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def write_processed(folder: Path) -> Path:
    """The processed catalogue of `rows`, for pictures."""
    table = rows()
    with replacing_folder(folder) as fresh:
        for split in SPLITS:
            with SplitWriter(fresh, split) as writer:
                for row in table[table["split"] == split].to_dict("records"):
                    stored: dict[str, Any] = {name: row.get(name) for name in STRING_COLUMNS}
                    writer.add({"image": {"bytes": picture(row["color"]), "path": None}, **stored})
        write_manifest(fresh, [path.name for path in fresh.glob("*.parquet")], facts={})
    return folder


class FakeHeads:
    """A protocol model that turns every embedding the same way."""

    def encode_image_numpy(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x[:, ::-1])

    def encode_text_numpy(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x[:, ::-1])


def turned(one: EmbeddingSet) -> EmbeddingSet:
    """The embeddings that `FakeHeads` makes."""
    sides = [
        Embeddings(part.images[:, ::-1].copy(), part.texts[:, ::-1].copy(), part.meta)
        for part in (one.catalog, one.queries)
    ]
    return EmbeddingSet(sides[0], sides[1], hashlib.sha256(one.fingerprint.encode()).hexdigest(), 0.7)


def open_small(folder: Path, *, partners: Mapping[Kind, set[Kind]] | None = None) -> Searcher:
    """The real searcher over the small catalogue: both models, and a compatibility head that likes other colours."""
    baseline = embedded()
    catalogue = ServedCatalogue(
        baseline, write_processed(folder / "hf"), load_attribute_schema(ROOT / "lib/catalog/attributes.yaml")
    )

    def goes_with(x: np.ndarray) -> np.ndarray:
        """Each colour becomes the next one, so that red goes with blue."""
        return np.ascontiguousarray(np.roll(x[:, :3], 1, axis=1))

    gallery = np.ascontiguousarray(baseline.catalog.images[:, :3])
    return Searcher(
        catalogue,
        {"baseline": baseline, "protocol": turned(baseline)},
        FakeEncoder(),  # type: ignore[arg-type]
        heads=FakeHeads(),
        compatibility=(gallery, goes_with),
        partners=partners,
    )
