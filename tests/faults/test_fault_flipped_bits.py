"""One flipped bit in anything that a stage reads: exit code 4, the file is named, nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from damage import flipped_bit, stamps
from stage_server import ROOT, StageServer, command, filled
from workspace import Workspace

from lib.base.errors import IntegrityError
from lib.training.checkpoint import content_sha256, load_checkpoint

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
READERS = [
    (name, model)
    for name, stage in PIPELINE.items()
    for model in stage.get("matrix", {}).get("model", [""])
    if name not in ("make_sample", "process_data")  # they read nothing, and a shop's own files
]
ONLY_WITH_IMAGES = ("artifacts/backbone", "data/processed/hf")
"""What `train_compatibility` reads only with `inputs: images`."""
KINDS = (".npy", ".parquet", ".arrow", ".pt", ".safetensors", ".json")


@pytest.fixture(scope="module")
def whole(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the reproduced workspace, to be damaged."""
    return Path(shutil.copytree(reproduced.folder, tmp_path_factory.mktemp("damaged") / "workspace", symlinks=True))


def artifacts_read(folder: Path, name: str, model: str) -> list[Path]:
    """Every file at or below the stage's data deps, the shop's own data and the schema left out."""
    deps = [dep for dep in PIPELINE[name]["deps"] if not dep.startswith(("lib/", "stages/", "${"))]
    unread = ONLY_WITH_IMAGES if name == "train_compatibility" else ()
    places = [folder / filled(dep, model) for dep in deps if dep not in unread]
    return sorted(path for place in places for path in (place, *place.rglob("*")) if path.is_file())


def faults_of(stages: StageServer, folder: Path, words: list[str], path: Path) -> list[str]:
    """What is wrong with the command's end after a bit of `path` was flipped."""
    name = str(path.relative_to(folder))
    with flipped_bit(path):
        before = stamps(folder)
        ended = stages.run(folder, words)
        written = [place for place, stamp in stamps(folder).items() if before.get(place) != stamp]
    faults = [] if ended.code == 4 else [f"{name}: exit code {ended.code}: {ended.out}{ended.said}"]
    if "Traceback" in ended.said or f"{name}: damaged: " not in ended.said:
        faults.append(f"{name}: said {ended.said}")
    return faults + [f"{name}: {place} was written" for place in written]


@pytest.mark.parametrize(("name", "model"), READERS, ids=["@".join(filter(None, reader)) for reader in READERS])
def test_one_flipped_bit_stops_every_stage_that_reads_the_file(
    stages: StageServer, whole: Path, name: str, model: str
) -> None:
    files = artifacts_read(whole, name, model)
    assert files and {path.suffix for path in files} <= {*KINDS}
    assert [fault for path in files for fault in faults_of(stages, whole, command(name, model), path)] == []


def test_one_flipped_bit_stops_a_head_that_is_trained_on_images(stages: StageServer, whole: Path) -> None:
    file = whole / "params.yaml"
    before = file.read_text(encoding="utf-8")
    raw = yaml.safe_load(before)
    raw["compatibility"]["inputs"] = "images"
    places = [path for dep in ONLY_WITH_IMAGES for path in sorted((whole / dep).rglob("*")) if path.is_file()]
    try:
        file.write_text(yaml.safe_dump(raw), encoding="utf-8")
        words = command("train_compatibility")
        assert [fault for path in places for fault in faults_of(stages, whole, words, path)] == []
    finally:
        file.write_text(before, encoding="utf-8")


def test_one_flipped_bit_stops_the_validation_of_a_checkpoint(stages: StageServer, whole: Path) -> None:
    baseline, checkpoints = "artifacts/retrieval/baseline", "artifacts/protocol/checkpoints"
    for name in ("best.pt", "epoch_01.pt", "final.pt"):
        words = ["validate_checkpoint", "--embeddings", baseline, "--checkpoint", f"{checkpoints}/{name}"]
        assert faults_of(stages, whole, words, whole / checkpoints / name) == []
    assert faults_of(stages, whole, words, whole / baseline / "queries_img.npy") == []


def test_one_flipped_bit_stops_a_run_that_would_be_resumed(stages: StageServer, whole: Path) -> None:
    """Of the last epoch, with the finished run's manifest and without: then the checkpoint's own digest tells."""
    last = max((whole / "artifacts/protocol/checkpoints").glob("epoch_*.pt"))
    words = [*command("train_protocol"), "--resume"]
    assert faults_of(stages, whole, words, last) == []
    weights = last.read_bytes()
    manifest = whole / "artifacts/protocol/manifest.json"
    manifest.rename(whole / "aside.json")
    try:
        damaged = bytearray(weights)
        damaged[len(damaged) // 3] ^= 1  # among the tensors: a zip archive has bytes that nobody reads
        last.write_bytes(damaged)
        ended = stages.run(whole, words)
    finally:
        last.write_bytes(weights)
        (whole / "aside.json").rename(manifest)
    assert ended.code == 4 and f"{last.relative_to(whole)}: damaged: expected content" in ended.said


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_checkpoint_without_a_manifest_is_one_message(whole: Path, tmp_path: Path) -> None:
    """As a killed run leaves it. Whatever the unpickler makes of a flipped bit: damage, or nothing has changed."""
    path = tmp_path / "epoch_01.pt"
    before = (whole / "artifacts/protocol/checkpoints/epoch_01.pt").read_bytes()
    path.write_bytes(before)
    content = content_sha256(load_checkpoint(path))
    start, rng, refused = before.index(b"data.pkl"), np.random.default_rng(18), 0
    for number in range(400):
        place = int(rng.integers(len(before))) if number % 2 else start + int(rng.integers(6000))
        damaged = bytearray(before)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            assert content_sha256(load_checkpoint(path)) == content
        except IntegrityError as error:
            refused += 1
            assert "epoch_01.pt" in str(error)
    assert refused > 250


def test_every_kind_of_file_is_read_by_some_stage(whole: Path) -> None:
    """So that the tests above cannot run out of things to damage."""
    read = {path for reader in READERS for path in artifacts_read(whole, *reader)}
    assert {path.suffix for path in read} == set(KINDS)
    made = [path for path in (whole / "artifacts").rglob("*") if path.suffix in KINDS[:-1]]
    made += [path for path in (whole / "data" / "processed").rglob("*") if path.suffix in KINDS[:-1]]
    unread = {str(path.relative_to(whole / "artifacts")) for path in made if path not in read}
    protocol = {f"protocol/checkpoints/{name}.pt" for name in ("epoch_00", "epoch_01", "epoch_02", "final")}
    served = {f"compatibility/checkpoints/{name}.pt" for name in ("best", "epoch_01", "epoch_02")}
    # for --resume and people; the server reads the compatibility head
    assert unread == protocol | served | {"two_tower/per_query.parquet"}
