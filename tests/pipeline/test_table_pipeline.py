"""`dvc repro` on somebody's own table and photos, with a parameter file only, and a mess in both."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pandas as pd
import pytest
from workspace import Workspace

from lib.catalog.sample.catalogue import draw_sample


@pytest.fixture(scope="module")
def own_table(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Drawn garments under other column names, with six bad rows of six kinds."""
    drawn = tmp_path_factory.mktemp("drawn")
    draw_sample(drawn, n_products=100, image_size=64, seed=5, workers=1)
    workspace = Workspace(tmp_path_factory.mktemp("table"))
    raw = workspace.folder / "data" / "raw" / "mine"
    photos = raw / "photos"
    shutil.unpack_archive(drawn / "images.zip", photos)
    with open(drawn / "catalogue.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    _damage(photos, rows)
    names = {"id": "sku", "category": "kind", "color": "shade", "title": "name", "description": "about"}
    with open(raw / "products.csv", "w", encoding="utf-8-sig", newline="") as file:  # with a BOM
        writer = csv.DictWriter(file, [names.get(key, key) for key in rows[0]])
        writer.writeheader()
        writer.writerows({names.get(key, key): value for key, value in row.items()} for row in rows)
    workspace.n_rows = len(rows)  # type: ignore[attr-defined]
    workspace.change_params(
        {
            "sample": {"n_products": 0},
            "data": {
                "source": "table",
                "raw_dir": "data/raw/mine",
                "metadata": "products.csv",
                "image_root": "photos",
            },
            "compatibility": {"pairs": ""},
            "two_tower": {"pairs": ""},
        }
    )
    workspace.set_param(
        ("data", "columns"),
        {"item_id": "sku", "image": "{sku}.jpg", "text": ["name", "about"], "category2": "kind", "color": "shade"},
    )
    workspace.first_run = workspace.repro()
    return workspace


def _damage(photos: Path, rows: list[dict[str, str]]) -> None:
    (photos / f"{rows[0]['id']}.jpg").unlink()
    (photos / f"{rows[1]['id']}.jpg").write_bytes(b"")
    (photos / f"{rows[2]['id']}.jpg").write_bytes(b"<html><body>404</body></html>")
    whole = (photos / f"{rows[3]['id']}.jpg").read_bytes()
    (photos / f"{rows[3]['id']}.jpg").write_bytes(whole[: len(whole) // 2])
    rows[4]["id"] = ""
    rows.append(dict(rows[10]))
    shutil.copy(photos / f"{rows[5]['id']}.jpg", photos / "nobody.jpg")
    rows[6]["title"] = '=HYPERLINK("x")<script>alert(1)</script>'
    rows[7]["color"] = "#N/A"


def test_all_rows_are_accounted_for(own_table: Workspace) -> None:
    processed = own_table.folder / "data" / "processed" / "hf"
    bad = pd.read_parquet(processed / "quarantine.parquet")
    ok = sum(len(pd.read_parquet(path, columns=["item_id"])) for path in processed.glob("*-of-*.parquet"))
    assert ok + len(bad) == own_table.n_rows  # type: ignore[attr-defined]
    assert len(bad) == 6 and bad["reason"].nunique() == 6
    report = own_table.json("data/processed/hf/report.json")
    assert "nobody.jpg" in str(report)


def test_the_scoreboard_is_there(own_table: Workspace) -> None:
    board = own_table.json("artifacts/scoreboard/scoreboard.json")
    assert board["test"]["category@10"]["n_queries"] > 0
    assert "scoreboard" in own_table.first_run


def test_titles_are_escaped_in_every_page(own_table: Workspace) -> None:
    for page in (own_table.folder / "artifacts").rglob("*.html"):
        assert "<script>alert" not in page.read_text(encoding="utf-8")


def test_a_second_repro_runs_nothing(own_table: Workspace) -> None:
    assert own_table.repro() == []
