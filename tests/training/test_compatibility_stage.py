"""The stage as DVC runs it: what it leaves with pairs, without, and with pairs that cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_outfits import BACKBONE, DIM, tiny_pairs, tiny_set
from tiny_training import folder_bytes

from lib.embeddings import save_embedding_set
from lib.training.compatibility_head import load_head

ROOT = Path(__file__).parents[2]
PARTNERS = {"partners.json", "partners.manifest.json"}
REPORTS = {"histogram.png", "manifest.json", "metrics.json", "pairs_report.json", "train_log.jsonl"} | PARTNERS


def run(folder: Path, **changed: object) -> subprocess.CompletedProcess[str]:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["runtime"]["threads"] = 1
    raw["compatibility"] |= {"epochs": 3, "hidden": 16, "head_out_dim": 8, "batch_size": 32} | changed
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))
    paths = {"raw": "raw", "processed": "hf", "backbone": "backbone", "embeddings": "embedded", "out": "out"}
    return subprocess.run(
        [sys.executable, "-m", "stages.train_compatibility", *(f"--{name}={path}" for name, path in paths.items())],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stage")
    embedded = tiny_set()
    save_embedding_set(folder / "embedded", embedded)
    (folder / "raw").mkdir()
    table = tiny_pairs(embedded)[["a_id", "b_id", "label"]]
    table.loc[len(table)] = ["i000_0", "nobody", 1]
    table.loc[len(table)] = ["i000_0", "i003_0", 1]  # train with validation
    table.to_csv(folder / "raw" / "outfits.csv", index=False)
    return folder


def test_a_head_its_figures_and_what_became_of_the_pairs(folder: Path) -> None:
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "1500 of 1502 pairs used, 1 across splits, 1 unusable\ntest AUC " in done.stdout
    found = folder_bytes(folder / "out")
    names = [f"checkpoints/{name}.pt" for name in ("best", "epoch_01", "epoch_02", "epoch_03")]
    assert set(found) == REPORTS | set(names)
    report = json.loads(found["pairs_report.json"])
    assert report["unusable_by_reason"]["unknown_id"]["first"][0].startswith("outfits.csv:1502: item 'nobody'")
    metrics = json.loads(found["metrics.json"])
    assert set(metrics) == {"validation", "test"}
    for figures in metrics.values():
        assert figures["auc"] > figures["baseline_auc"] and all(isinstance(v, int | float) for v in figures.values())
    best = json.loads(found["manifest.json"])["best_epoch"]
    logged = [json.loads(line) for line in found["train_log.jsonl"].decode().splitlines()]
    assert [row["epoch"] for row in logged] == [1, 2, 3]
    assert max(row["validation_auc"] for row in logged) == logged[best - 1]["validation_auc"]
    assert logged[best - 1]["validation_auc"] == metrics["validation"]["auc"]
    load_head(folder / "out" / "checkpoints" / "best.pt", in_dim=DIM, backbone=BACKBONE)
    assert str(folder) not in "".join(found[name].decode() for name in REPORTS - {"histogram.png"})


def test_without_pairs_the_stage_says_so_and_leaves_every_out(folder: Path) -> None:
    done = run(folder, pairs="")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "nothing trained: compatibility.pairs names no table of pairs\n"
    assert set(folder_bytes(folder / "out")) == REPORTS and (folder / "out" / "checkpoints").is_dir()
    reason = {"skipped": "compatibility.pairs names no table of pairs"}
    assert json.loads((folder / "out" / "metrics.json").read_text()) == reason


def test_pairs_that_cannot_be_used_end_with_one_message(folder: Path) -> None:
    done = run(folder, pairs="none.csv")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "error: train_compatibility: raw/none.csv: no such file; compatibility.pairs" in done.stderr
    (folder / "raw" / "bad.csv").write_text("a_id,b_id,label\nx,y,1\n")
    done = run(folder, pairs="bad.csv")
    assert done.returncode == 3 and "first bad.csv:2: item 'x' is not in the processed catalogue" in done.stderr


def test_augmenting_needs_images(folder: Path) -> None:
    done = run(folder, augment="crops")
    assert done.returncode == 2 and "augment: crops changes images; it needs inputs: images" in done.stderr
