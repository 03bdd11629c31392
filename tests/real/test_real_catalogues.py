"""Two real catalogues go through with nothing but a parameter file."""

import os
from pathlib import Path

import pandas as pd
import pytest

from lib.artifacts import read_parquet
from lib.catalog.process import process_catalog
from lib.catalog.processed import read_images, read_rows
from lib.params import load_params

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("REAL_DATA_DIR", ROOT.parent / "shared" / "data"))

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data or $REAL_DATA_DIR"),
]


def process(name: str, folder: str, out: Path) -> tuple[dict, pd.DataFrame]:
    data = load_params(ROOT / "tests" / "real" / f"{name}.yaml").data
    report = process_catalog(DATA / folder, ROOT / data.attribute_schema, out, data, workers=2)
    rows = read_rows(out)
    quarantine = read_parquet(out / "quarantine.parquet")
    assert report["ok"] == len(rows)
    assert report["quarantined"] == len(quarantine)
    assert report["ok"] + report["quarantined"] == report["rows"]
    assert rows["item_id"].is_unique
    assert rows.groupby("product_id")["split"].nunique().max() == 1
    assert quarantine[["row", "reason", "detail"]].notna().all().all()
    assert len(read_images(out, rows["item_id"].iloc[::500])) == len(rows.iloc[::500])
    return report, rows


def test_fashion_products(tmp_path):
    report, rows = process("fashion_products", "fashion-products", tmp_path / "hf")
    assert (report["rows"], report["quarantined_by_reason"]) == (4657, {"missing_file": 57})
    assert report["images_without_row"]["count"] == 40
    attributes = report["attributes"]
    assert attributes["color"]["coverage"] == 1.0
    assert attributes["color"]["agreement"] >= 0.95
    assert attributes["pattern"]["coverage"] >= 0.38
    bottoms = rows["category2"].isin(["Jeans", "Watches", "Casual Shoes", "Handbags"])
    assert rows.loc[bottoms, "neckline"].isna().all()
    # 27 pairs of rows have byte-identical photos: they must not meet across splits
    assert report["products"]["items_by_key"]["same_image"] == 54


def test_tshirts(tmp_path):
    report, rows = process("tshirts", "tshirts", tmp_path / "hf")
    assert (report["rows"], report["ok"]) == (1161, 1149)
    assert report["quarantined_by_reason"] == {"duplicate_id": 11, "duplicate_row": 1}
    neckline = report["attributes"]["neckline"]
    assert neckline["column_and_text"] >= 200
    assert neckline["agreement"] >= 0.95
    assert neckline["coverage"] >= 0.6
    # views of one product share the number before the view number
    views = rows[rows["item_id"].str.contains("2641505295751246")]
    assert len(views) == 3
    assert views["product_id"].nunique() == 1
    assert report["products"]["with_several_items"] >= 75
    assert report["products"]["largest"] <= 6
