"""`dvc repro` on the embedded sample, end to end, with tiny settings."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from graph_closure import ROOT, closure
from workspace import Workspace

from lib.base.errors import IntegrityError
from lib.catalog.picture_store import load_picture_tables
from lib.catalog.processed import read_images
from lib.embeddings import load_embedding_set
from lib.encoding.picture_rows import load_picture_rows
from lib.retrieval.index import load_indexes
from lib.retrieval.search import exact_top_k

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ALL = {n for n, s in PIPELINE.items() if "matrix" not in s} | {"evaluate@baseline", "evaluate@protocol"}
AFTER_TRAINING = {
    "train_protocol", "embed_protocol", "evaluate@protocol", "scoreboard", "embedding_map", "build_index",
}  # fmt: skip


def test_every_stage_ran_and_left_its_outs(reproduced: Workspace) -> None:
    assert set(reproduced.first_run) == ALL
    status = subprocess.run(["git", "status", "--porcelain"], cwd=reproduced.folder, capture_output=True, text=True)
    assert status.stdout == "", "an out is neither committed nor ignored"


def test_the_scoreboard_has_the_promised_form(reproduced: Workspace) -> None:
    board = reproduced.json("artifacts/scoreboard/scoreboard.json")
    assert {"test", "validation", "targets_met", "success"} <= set(board)
    assert board["success"] in (0, 1)
    fields = ["baseline", "protocol", "delta", "delta_low", "delta_high", "n_queries", "chance", "ceiling"]
    skipped = board.get("skipped", {})
    attributes = ["neckline", "category", "color", "material", "pattern", "sleeve"]
    names = [f"{a}@10" for a in attributes] + [f"known_{a}@10" for a in attributes]
    for split in ("test", "validation"):
        for name in [*names, "cardigans@10", "shorts@10", "denim@10", "leather@10"]:
            if name in skipped.get(split, {}):
                assert skipped[split][name]
                continue
            row = board[split][name]
            assert list(row) == fields
            assert all(math.isfinite(value) for value in row.values())
            assert 0 <= row["baseline"] <= row["ceiling"] <= 1
            assert row["delta"] == pytest.approx(row["protocol"] - row["baseline"], abs=1e-12)
            assert row["delta_low"] <= row["delta"] <= row["delta_high"]
            assert row["n_queries"] > 0


def test_scores_can_be_recomputed_without_the_project(reproduced: Workspace) -> None:
    script = ROOT / "tests" / "independent_scores.py"
    done = subprocess.run(
        [sys.executable, str(script), "artifacts"], cwd=reproduced.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_embeddings_keep_their_contract(reproduced: Workspace) -> None:
    for model in ("baseline", "protocol"):
        folder = reproduced.folder / "artifacts" / "retrieval" / model
        for side, splits in (("catalog", {"train"}), ("queries", {"validation", "test"})):
            meta = pd.read_parquet(folder / f"{side}_meta.parquet")
            assert set(meta["split"]) == splits
            wanted = "item_id product_id split category1 category2 category3 color material pattern neckline sleeve"
            assert list(meta.columns[:11]) == wanted.split()
            for kind in ("img", "txt"):
                array = np.load(folder / f"{side}_{kind}.npy")
                assert array.dtype == np.float32 and len(array) == len(meta)
                np.testing.assert_allclose(np.linalg.norm(array, axis=1), 1, atol=1e-5)
    catalog = pd.read_parquet(folder / "catalog_meta.parquet")["product_id"]
    queries = pd.read_parquet(folder / "queries_meta.parquet")["product_id"]
    assert not set(catalog) & set(queries), "a product stands on both sides"


def test_photos_of_pairs_are_kept_and_embedded_once(reproduced: Workspace) -> None:
    """A shop's photo that is an item's image as well has that item's bytes and its embedding."""
    processed, retrieval = reproduced.folder / "data/processed", reproduced.folder / "artifacts/retrieval"
    tables, embedded = load_picture_tables(processed / "photos"), load_embedding_set(retrieval / "baseline")
    assert tables is not None
    rows = load_picture_rows(retrieval / "photos", tables.pictures)
    assert rows.fingerprint == embedded.fingerprint and len(rows.rows) == len(tables.pictures)
    items = dict(zip(embedded.catalog.meta["item_id"], embedded.catalog.images, strict=True))
    names = {
        Path(name).stem: number for number, name in enumerate(tables.pictures.names) if name.startswith("images")
    }
    images = read_images(processed / "hf", [item for item in names if item in items])
    assert len(images) > 100
    for item, image in images.items():
        assert tables.pictures.read(names[item]) == image
        np.testing.assert_array_equal(rows.rows[names[item]], items[item])


def test_the_audit_covers_the_sample(reproduced: Workspace) -> None:
    """Every category is looked at, and every attribute's coverage is that of `process_data`."""
    audit = reproduced.json("artifacts/audit/report.json")
    processed = reproduced.json("data/processed/hf/report.json")
    assert audit["audited_items"] == 200 and audit["categories_left_out"] == []
    assert all(category["audited"] > 0 for category in audit["categories"].values())
    assert set(audit["attributes"]) == {"neckline", "sleeve", "pattern", "material", "color"}
    for name, counts in audit["attributes"].items():
        assert counts["coverage"] == processed["attributes"][name]["coverage"] > 0.3, name
    sheet = pd.read_csv(reproduced.folder / "artifacts/audit/grounding_audit.csv", dtype=str, keep_default_na=False)
    assert len(sheet) == audit["claims"] and set(sheet["verdict"]) == {""}
    assert sheet["item_id"].nunique() == 200


def test_the_index_searches_the_protocol_models_gallery(reproduced: Workspace) -> None:
    artifacts = reproduced.folder / "artifacts"
    embedded = load_embedding_set(artifacts / "retrieval" / "protocol")
    card = reproduced.json("artifacts/index/index_card.json")
    assert card["rows"] == len(embedded.catalog) and card["serves"] == "flat"
    assert all(row[m]["ann_recall@10"] > 0.9 for row in card["kinds"].values() for m in ("image", "text"))
    queries, gallery = np.ascontiguousarray(embedded.queries.images[:5]), embedded.catalog.images
    expected = exact_top_k(queries, gallery, k=7)["all"]
    for index in load_indexes(artifacts / "index", embedded).values():
        np.testing.assert_array_equal(index.search(queries, k=7).scores[:, 0], expected.scores[:, 0])
    with pytest.raises(IntegrityError, match="run `dvc repro build_index`"):
        load_indexes(artifacts / "index", load_embedding_set(artifacts / "retrieval" / "baseline"))


def test_a_second_repro_runs_nothing(reproduced: Workspace) -> None:
    before = reproduced.lock()
    assert reproduced.repro() == []
    assert reproduced.lock() == before


def test_train_lr_reruns_training_and_what_follows(reproduced: Workspace) -> None:
    reproduced.change_params({"train": {"lr": 5.0e-4}})
    before = reproduced.lock()
    ran = reproduced.repro()
    assert set(ran) == AFTER_TRAINING
    assert reproduced.lock() != before
    reproduced.restore()
    assert reproduced.changed_stages() == set()


@pytest.mark.parametrize(
    "name",
    [
        "lib/catalog/images.py",
        "lib/encoding/encoder.py",
        "lib/retrieval/search.py",
        "lib/training/losses.py",
        "lib/supervision/pairs.py",
        "lib/evaluation/scoreboard.py",
        "lib/base/artifacts.py",
    ],
)
def test_a_changed_line_reruns_exactly_the_stages_that_reach_it(reproduced: Workspace, name: str) -> None:
    expected = set()
    for stage, spec in PIPELINE.items():
        if name in closure(ROOT / "stages" / f"{stage}.py"):
            expected |= {f"{stage}@{m}" for m in spec["matrix"]["model"]} if "matrix" in spec else {stage}
    assert expected
    file = reproduced.folder / name
    original = file.read_bytes()
    file.write_bytes(original + b"\n_TOUCHED = 1\n")
    try:
        assert reproduced.changed_stages() == expected
        if name == "lib/evaluation/scoreboard.py":  # and really, for a cheap one
            assert reproduced.repro() == ["scoreboard"]
    finally:
        file.write_bytes(original)
        if name == "lib/evaluation/scoreboard.py":
            assert reproduced.repro() in ([], ["scoreboard"])


def test_another_run_from_nothing_gives_the_same_bytes(reproduced: Workspace) -> None:
    before = reproduced.lock()
    for path in ("artifacts", "data/raw", "data/processed", ".dvc/cache", ".dvc/tmp", ".cache"):
        shutil.rmtree(reproduced.folder / path, ignore_errors=True)
    assert set(reproduced.repro()) == ALL
    assert reproduced.lock() == before


def test_an_unknown_key_stops_the_run(reproduced: Workspace) -> None:
    reproduced.change_params({"train": {"lrr": 1.0}})
    said = reproduced.dvc("repro", check=False)
    reproduced.restore()  # dvc removed the outs of the stage that stopped; its cache has them
    assert "unknown key 'train.lrr'. Did you mean 'lr'?" in said and "Traceback" not in said
    assert reproduced.repro() == []


def test_pages_show_no_foreign_asset(reproduced: Workspace) -> None:
    pages: list[Path] = sorted((reproduced.folder / "artifacts").rglob("*.html"))
    expected = {"gallery.html", "changes.html", "grounding_audit.html", "embedding_map.html"}
    assert {page.name for page in pages} == expected
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "Content-Security-Policy" in text and "http://" not in text and "https://" not in text
