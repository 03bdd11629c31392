"""Two real catalogues go through with nothing but a parameter file."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.base.artifacts import read_parquet
from lib.base.params import load_params
from lib.catalog.attributes import load_attribute_schema
from lib.catalog.grounding.audit import draw_audit
from lib.catalog.grounding.sheet import read_sheet, write_sheet
from lib.catalog.process import process_catalog
from lib.catalog.processed import read_images, read_rows

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


def audit(name: str, rows: pd.DataFrame, folder: Path) -> dict:
    """The audit's report, after a look at its claims and its sheet."""
    params = load_params(ROOT / "tests" / "real" / f"{name}.yaml")
    drawn = draw_audit(
        rows,
        load_attribute_schema(ROOT / params.data.attribute_schema),
        params.audit,
        pattern_only_categories=params.data.pattern_only_categories,
        rng=np.random.default_rng(params.audit.seed),
    )
    assert len(drawn.item_ids()) == drawn.report["audited_items"] == 200
    assert drawn.report["categories_left_out"] == []
    for claim in drawn.claims.itertuples():
        phrases = [claim.text[start:end] for start, end in claim.spans]
        assert bool(phrases) == (claim.source == "text")
        assert "; ".join(dict.fromkeys(phrases)) == claim.phrase
    write_sheet(folder / "sheet.csv", drawn.claims)
    sheet = read_sheet(folder / "sheet.csv")
    for column in ("item_id", "product_id", "text", "value"):
        assert [row.cells[column] for row in sheet] == drawn.claims[column].tolist()
    return drawn.report


def coverage(report: dict) -> dict[str, float]:
    return {name: counts["coverage"] for name, counts in report["attributes"].items()}


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
    audited = audit("fashion_products", rows, tmp_path)
    # titles hardly ever name a sleeve; half of the catalogue cannot have a neckline
    least = {"neckline": 0.04, "sleeve": 0.0005, "pattern": 0.38, "material": 0.02, "color": 1.0}
    assert {name: share >= least[name] for name, share in coverage(audited).items()} == dict.fromkeys(least, True)
    assert audited["attributes"]["neckline"]["coverage_where_applicable"] >= 0.08
    assert audited["attributes"]["color"]["agreement_low"] >= 0.97
    assert len(audited["categories"]) == 56
    assert audited["claims_by_attribute"]["neckline"] >= 30


def test_tshirts(tmp_path):
    report, rows = process("tshirts", "tshirts", tmp_path / "hf")
    assert (report["rows"], report["ok"]) == (1161, 1149)
    assert report["quarantined_by_reason"] == {"duplicate_id": 11, "duplicate_row": 1}
    neckline = report["attributes"]["neckline"]
    assert neckline["column_and_text"] >= 200
    assert neckline["agreement"] >= 0.95
    assert neckline["coverage"] >= 0.6
    audited = audit("tshirts", rows, tmp_path)
    least = {"neckline": 0.6, "sleeve": 0.2, "pattern": 0.55, "material": 0.02, "color": 0.5}
    assert {name: share >= least[name] for name, share in coverage(audited).items()} == dict.fromkeys(least, True)
    found = audited["attributes"]["neckline"]
    assert found["column_and_text"] >= 200
    assert found["agree"] >= 0.95 * found["column_and_text"]
    assert found["agreement_low"] < found["agreement"] < found["agreement_high"]
    assert sum(pair["items"] for pair in found["disagreements"]) == found["column_and_text"] - found["agree"]
    # views of one product share the number before the view number
    views = rows[rows["item_id"].str.contains("2641505295751246")]
    assert len(views) == 3
    assert views["product_id"].nunique() == 1
    assert report["products"]["with_several_items"] >= 75
    assert report["products"]["largest"] <= 6
