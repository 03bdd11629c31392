"""A small raw catalogue of real JPEGs under a folder, with the parameters that make the stages take it."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from stage_server import ROOT, Ended, StageServer

from lib.base.artifacts import read_json, read_parquet
from lib.catalog.processed import read_images, read_rows

COMMAND = [*("process_data", "--raw", "raw", "--schema", str(ROOT / "lib/catalog/attributes.yaml"), "--out", "hf")]


def picture(seed: int, size: tuple[int, int] = (24, 32)) -> Image.Image:
    """A photo that no other seed gives."""
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@dataclass
class RawShop:
    """`raw/items.csv` and `raw/images/` under `folder`, and `params.yaml` beside them."""

    folder: Path
    stages: StageServer
    rows: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images.mkdir(parents=True)
        self.set_data()

    @property
    def images(self) -> Path:
        return self.folder / "raw" / "images"

    def set_data(self, **changes: Any) -> None:
        """Write the parameters, with changes in the section `data`."""
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        columns = {"item_id": "id", "image": "image", "category2": "category", "text": ["title"], "color": "color"}
        params["data"] |= {"source": "table", "raw_dir": "raw", "metadata": "items.csv", "columns": columns}
        params["data"] |= {"max_bad_fraction": 0.9, "max_image_side": 64, **changes}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")

    def fill(self, n_products: int = 10) -> None:
        """Products of two views each, in three categories."""
        for number in range(n_products):
            for view in ("front", "back"):
                self.add(f"P{number:03d}_{view}", category=("tees", "pants", "dresses")[number % 3])

    def add(self, item_id: str, *, photo: bytes | None = None, **cells: str) -> None:
        """A row; its photo is written to `<item_id>.jpg` unless a cell `image` says where it is."""
        if "image" not in cells:
            cells["image"] = f"{item_id}.jpg"
            (self.images / cells["image"]).write_bytes(encoded(picture(len(self.rows))) if photo is None else photo)
        self.rows.append({"id": item_id, "category": "tees", "title": "A tee", "color": "red", **cells})

    def write(self) -> None:
        with open(self.folder / "raw" / "items.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["id", "image", "category", "title", "color"])
            writer.writeheader()
            writer.writerows(self.rows)

    def write_parquet(self) -> None:
        """The table as parquet, which holds any character."""
        pd.DataFrame(self.rows).to_parquet(self.folder / "raw" / "items.parquet")

    def process(self) -> Ended:
        """The stage `process_data`."""
        return self.stages.run(self.folder, COMMAND)

    def reasons(self) -> dict[str, str]:
        """Item id -> why it is in quarantine."""
        table = read_parquet(self.folder / "hf" / "quarantine.parquet")
        return dict(zip(table["item_id"], table["reason"], strict=True))

    def items(self) -> dict[str, bytes]:
        """Item id -> photo of every processed row."""
        return read_images(self.folder / "hf", read_rows(self.folder / "hf", columns=["item_id"])["item_id"])

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self.folder / "hf" / "report.json")
        return found
