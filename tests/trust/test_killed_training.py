"""SIGKILL in the middle of training, and `--resume`: the bytes of a run that nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from whole_shop import ROOT, make_shop, small_params, supervise

from lib.base.artifacts import read_json, with_manifest, write_parquet
from lib.embeddings import EmbeddingSet, save_embedding_set

EPOCHS = 3
STEPS = 16
"""Of an epoch: 2,000 pairs make about 1,000 examples, 64 to a batch."""


class Training:
    """A folder in which the stage can be run."""

    def __init__(self, folder: Path, shop: EmbeddingSet) -> None:
        self.folder = folder
        self.shop = shop
        self.params = small_params(train__epochs=EPOCHS, train__interpolation=[0.5])
        save_embedding_set(folder / "embedded", shop)
        with with_manifest(folder / "pairs.parquet", facts={"fingerprint": shop.fingerprint}) as file:
            write_parquet(file, supervise(shop, self.params))
        self.set_lr(1e-2)

    def set_lr(self, lr: float) -> None:
        raw = self.params.model_dump(mode="json")
        raw["train"]["lr"] = lr
        (self.folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")

    def run(self, out: str, *flags: str, killed: tuple[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        program = ["-m", "stages.train_protocol"]
        if killed is not None:
            program = [str(ROOT / "tests" / "trust" / "killed_training.py"), *killed, "--"]
        arguments = ["--embeddings", "embedded", "--pairs", "pairs.parquet", "--out", out, *flags]
        return subprocess.run(
            [sys.executable, *program, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    def bytes_of(self, out: str) -> dict[str, bytes]:
        files = sorted(path for path in (self.folder / out).rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder / out)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = Training(tmp_path_factory.mktemp("training"), make_shop(0, n_products=200))
    done = training.run("whole")
    assert done.returncode == 0, done.stderr
    return training


STEP = int(np.random.default_rng(20).integers(STEPS + 2, EPOCHS * STEPS - 2))
"""Anywhere in the second or third epoch."""


@pytest.mark.parametrize("killed", [("step", str(STEP)), ("save", "epoch_02.pt"), ("save", "best.pt")], ids=str)
def test_a_killed_run_resumes_to_the_same_bytes(training: Training, killed: tuple[str, str]) -> None:
    out = "-".join(killed)
    done = training.run(out, killed=killed)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = training.bytes_of(out)
    assert "config.json" not in left and "checkpoints/epoch_01.pt" in left
    if killed[0] == "step":
        last = max(name for name in left if name.startswith("checkpoints/epoch"))
        assert len(training.bytes_of("whole")) > len(left) and f"epoch_{EPOCHS:02d}" not in last
    else:
        assert any(f".{killed[1]}." in name for name in left), "half written"
    resumed = training.run(out, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert training.bytes_of(out) == training.bytes_of("whole")
    assert {"checkpoints/best.pt", "checkpoints/final.pt", "train_log.jsonl", "config.json"} <= set(
        training.bytes_of(out)
    )


def test_resuming_under_other_parameters_is_refused(training: Training) -> None:
    before = training.bytes_of("whole")
    training.set_lr(5e-3)
    done = training.run("whole", "--resume")
    training.set_lr(1e-2)
    assert done.returncode == 4 and "Traceback" not in done.stderr
    assert "'lr': 0.005" in done.stderr and "0.01" in done.stderr and "without --resume" in done.stderr
    assert training.bytes_of("whole") == before, "a refused run changes nothing"


@pytest.mark.parametrize("change", ["a picture", "a label", "a validation query"])
def test_resuming_on_other_embeddings_is_refused(training: Training, change: str) -> None:
    """The backbone and the pairs are the same: its fingerprint alone would let all three pass."""
    catalog, queries = training.shop.catalog, training.shop.queries
    if change == "a picture":
        images = catalog.images.copy()
        images[5] = images[6]
        catalog = replace(catalog, images=images)
    elif change == "a label":
        color = catalog.meta["color"].copy()
        color[5] = "green" if color[5] != "green" else "red"
        catalog = replace(catalog, meta=catalog.meta.assign(color=color))
    else:
        queries = replace(queries, images=np.roll(queries.images, 2, axis=0))
    embedded = training.folder / "embedded"
    save_embedding_set(embedded, replace(training.shop, catalog=catalog, queries=queries))
    done = training.run("whole", "--resume")
    save_embedding_set(embedded, training.shop)
    assert done.returncode == 4 and "Traceback" not in done.stderr, done.stderr
    assert ("on validation" if change == "a validation query" else "expected inputs") in done.stderr
    assert "without --resume" in done.stderr


def test_the_inputs_are_named_in_the_config(training: Training) -> None:
    inputs = read_json(training.folder / "whole" / "config.json")["inputs"]
    assert set(inputs) == {"backbone", "catalog", "pairs"} and all(len(value) == 64 for value in inputs.values())
