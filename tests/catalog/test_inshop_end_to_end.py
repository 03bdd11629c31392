"""The stages on a small In-shop release with the profile's parameters made tiny: from its lists to the scoreboard."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from inshop_release import Release, write_release

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "data": {"raw_dir": "raw", "max_bad_fraction": 0.1},
    "backbone": {
        "source": "train",
        "train": {
            "epochs": 1,
            "batch_size": 16,
            "image_size": 64,
            "vision_width": 8,
            "text_width": 32,
            "embed_dim": 48,
            "fixed_dim": 16,
        },
    },
    "embed": {"batch_size": 16},
    "evaluate": {"bootstrap": {"resamples": 100}, "gallery_queries": 2},
    "mine": {"max_anchors": 20, "depth": 20},
    "pairs": {"n_pairs": 100},
    "train": {
        "epochs": 1,
        "lr": 0.05,
        "batch_size": 32,
        "head": {"kind": "linear", "hidden": 8, "dropout": 0.0},
        "validation": {"gallery": 50, "queries": 20},
    },
    "scoreboard": {"bootstrap": {"resamples": 100}, "changes_shown": 1},
}
STAGES = (
    "process_data --raw raw --schema attributes.yaml --out hf",
    "prepare_backbone --processed hf --out backbone",
    "embed_catalog --processed hf --backbone backbone --out retrieval/baseline",
    "evaluate --embeddings retrieval/baseline --images hf --out evaluation/baseline",
    "build_groups --embeddings retrieval/baseline --out supervision",
    "mine_hard_negatives --embeddings retrieval/baseline --groups supervision/groups.json --out supervision",
    "build_pairs --embeddings retrieval/baseline --groups supervision/groups.json "
    "--negatives supervision/hard_negatives.parquet --out supervision",
    "train_protocol --embeddings retrieval/baseline --pairs supervision/pairs.parquet --out protocol",
    "embed_protocol --embeddings retrieval/baseline --checkpoint protocol/checkpoints/final.pt "
    "--out retrieval/protocol",
    "evaluate --embeddings retrieval/protocol --images hf --out evaluation/protocol",
    "scoreboard --baseline evaluation/baseline --protocol evaluation/protocol --images hf --out scoreboard",
)


RUN_ALL = """
import argparse, importlib, pathlib, sys
from lib.base.params import load_params
params = load_params("params.yaml")
for command in sys.argv[1:]:
    name, *words = command.split()
    paths = {key[2:]: pathlib.Path(value) for key, value in zip(words[::2], words[1::2], strict=True)}
    args = argparse.Namespace(**{"resume": False, "image_cache": None, "photos": None, "rows": None} | paths)
    print(f"{command}: {importlib.import_module(f'stages.{name}').run(args, params)}")
"""
"""One process for all stages: importing torch takes longer than most of them."""


def merge(into: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Release, str]:
    """The folder after all stages, the release, and what the stages printed."""
    folder = tmp_path_factory.mktemp("inshop")
    release = write_release(folder / "raw", seed=11, n_items=60)
    gone = next(name for name, item, status in release.lines if status == "query" and _size(release, item) > 1)
    (folder / "raw" / gone).write_bytes(b"")
    params = yaml.safe_load((ROOT / "profiles/deepfashion_inshop.yaml").read_text(encoding="utf-8"))
    merge(params, TINY)
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (folder / "attributes.yaml").write_bytes((ROOT / "lib/catalog/attributes.yaml").read_bytes())
    ran = subprocess.run(
        [sys.executable, "-c", RUN_ALL, *STAGES],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return folder, release, ran.stdout


def _size(release: Release, item: str) -> int:
    return sum(other == item and status == "query" for _, other, status in release.lines)


def hit_rate(folder: Path, release: Release, model: str, k: int) -> tuple[float, int]:
    """Recall@k as papers compute it, from the release's own list and the embeddings: no code of lib."""
    meta = pd.read_parquet(folder / "retrieval" / model / "queries_meta.parquet")
    images = np.load(folder / "retrieval" / model / "queries_img.npy").astype(np.float64)
    place = {item_id: row for row, item_id in enumerate(meta["item_id"])}
    parts: dict[str, list[tuple[int, str]]] = {"query": [], "gallery": []}
    for name, item, status in release.lines:
        row = place.get(name.removeprefix("img/").removesuffix(".jpg").replace("/", "_"))
        if status in parts and row is not None:
            parts[status].append((row, item))
    hits = []
    for row, item in parts["query"]:
        scored = sorted(
            (-round(float(images[row] @ images[other]), 9), other, found) for other, found in parts["gallery"]
        )
        hits.append(item in [found for _, _, found in scored[:k]])
    return float(np.mean(hits)), len(hits)


def test_the_official_recall_is_that_of_the_literature(done) -> None:
    folder, release, _ = done
    n_gallery = sum(status == "gallery" for _, _, status in release.lines)
    assert n_gallery > 50
    for model in ("baseline", "protocol"):
        numbers = json.loads((folder / "evaluation" / model / "metrics.json").read_text())["test"]["official"]
        assert list(numbers) == [f"official_hit_rate@{k}" for k in (1, 5, 10, 20, 30, 50)]
        for name, entry in numbers.items():
            value, n = hit_rate(folder, release, model, int(name.partition("@")[2]))
            assert entry["value"] == pytest.approx(value, abs=1e-9), (model, name)
            assert entry["n_queries"] == n == sum(status == "query" for _, _, status in release.lines) - 1
        values = [entry["value"] for entry in numbers.values()]
        assert values == sorted(values) and values[0] < values[-1]
        assert numbers["official_hit_rate@1"]["value"] > numbers["official_hit_rate@1"]["chance"]


def test_it_stands_on_the_scoreboard(done) -> None:
    folder, release, printed = done
    board = json.loads((folder / "scoreboard/scoreboard.json").read_text())
    for k in (1, 10):
        row = board["test"][f"official_hit_rate@{k}"]
        for model in ("baseline", "protocol"):
            assert row[model] == pytest.approx(hit_rate(folder, release, model, k)[0], abs=1e-9)
        assert row["delta_low"] <= row["delta"] <= row["delta_high"]
    assert board["test"]["official_hit_rate@1"]["delta"] != 0.0  # trained to be another model, not a better one
    text = (folder / "scoreboard/scoreboard.txt").read_text(encoding="utf-8")
    assert "official_hit_rate@10" in text and "Recall@k" in text
    assert "official_hit_rate" not in json.dumps(board["validation"])
    assert printed.count("official hit rate@1") == 2


def test_nothing_of_the_test_items_is_trained_on(done) -> None:
    folder, _, _ = done
    catalog, queries = (
        pd.read_parquet(folder / f"retrieval/baseline/{side}_meta.parquet") for side in ("catalog", "queries")
    )
    test = queries[queries["split"] == "test"]
    assert set(test["partition"]) == {"query", "gallery"} and set(catalog["partition"]) == {"train"}
    assert not set(catalog["partition_item"]) & set(queries["partition_item"])
    report = json.loads((folder / "hf/report.json").read_text())
    assert report["quarantined_by_reason"] == {"zero_bytes": 1}
    assert report["partition"]["query"]["images"] == (test["partition"] == "query").sum()
