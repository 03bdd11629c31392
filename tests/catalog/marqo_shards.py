"""Rows and parquet shards in the schema of `Marqo/deepfashion-inshop`, made from seeds."""

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lib.base.params import Data, load_params
from lib.catalog.process import process_catalog

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "lib/catalog/attributes.yaml"
COLUMNS = ("category1", "category2", "category3", "color", "description", "text", "item_ID")
FEATURES = {"image": {"_type": "Image"}} | {name: {"dtype": "string", "_type": "Value"} for name in COLUMNS}
IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
MARQO = pa.schema(
    [pa.field("image", IMAGE), *(pa.field(name, pa.string()) for name in COLUMNS)],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)
FOLDERS = (  # folder, category2, category3, description as the data set writes it
    ("WOMEN_Blouses_Shirts", "blouses", "shirts", "['Crinkled cotton blouse.', \"It's got a V-neckline\"]"),
    ("WOMEN_Cardigans", "cardigans", None, "['Ribbed knit, long sleeves', '100% wool', '']"),
    ("MEN_Denim", "denim", None, "['Slim fit jeans', 'Denim']"),
    ("WOMEN_Graphic_Tees", "graphic", "tees", "['Band tee', 'Crew neck, short sleeve']"),
)
VIEWS = ("1_front", "2_side", "7_additional")


def photo(seed: int, side: int = 24) -> bytes:
    """A small JPEG that no other seed gives."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def row(item_id: str, seed: int, **cells: Any) -> dict[str, Any]:
    return {"image": {"bytes": photo(seed), "path": f"{item_id}.jpg"}, "item_ID": item_id, **cells}


def real_rows() -> list[dict[str, Any]]:
    """4 folders × 5 products of the same bare ids; the even ones in two colourways; 1 to 3 views. 54 rows."""
    rows = []
    for folder, category2, category3, description in FOLDERS:
        for product in range(5):
            for colourway in range(1, 3 - product % 2):
                for view in VIEWS[: 1 + (product + colourway) % 3]:
                    rows.append(
                        row(
                            f"{folder}_id_{product:08d}_{colourway:02d}_{view}",
                            len(rows),
                            category1=folder.split("_")[0].lower(),
                            category2=category2,
                            category3=category3,
                            color=("Navy", "Black")[colourway - 1],
                            description=description,
                            text=f"{category2} || a garment of {folder}",
                        )
                    )
    return rows


@dataclass
class Shards:
    """A raw folder of shards; `process` runs the whole thing on it with the data section of the profile."""

    raw: Path
    rows: list[dict[str, Any]] = field(default_factory=real_rows)

    def write(self, group: int = 7, cut: int = 20, schema: pa.Schema = MARQO) -> None:
        for number, part in enumerate((self.rows[:cut], self.rows[cut:])):
            table = pa.Table.from_pylist(part, schema=schema)
            pq.write_table(table, self.raw / f"data/data-{number:05d}-of-00002.parquet", row_group_size=group)

    def data(self, **changes: Any) -> Data:
        profile = load_params(ROOT / "profiles/deepfashion.yaml").data.model_dump()
        return Data.model_validate({**profile, "max_bad_fraction": 0.2, "max_image_side": 64, **changes})

    def process(self, out: Path, **changes: Any) -> dict[str, Any]:
        return process_catalog(self.raw, SCHEMA, out, self.data(**changes), workers=2)


def fingerprints(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
