"""Files that run a program when they are unpickled, wherever the product opens one: refused, and nothing ran."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from damage import stamps
from stage_server import StageServer, command
from workspace import Workspace

from lib.base.artifacts import MANIFEST, open_manifest, write_manifest


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def disguises(marker: Path) -> dict[str, bytes]:
    """The payload as a bare pickle, in torch's old form and in its zip archive, alone and among weights."""
    found = {"pickle": pickle.dumps(Payload(marker)), "pickle of weights": pickle.dumps({"w": Payload(marker)})}
    for name, zipped in (("old form", False), ("archive", True)):
        buffer = io.BytesIO()
        content = {"state_dict": {"weight": torch.zeros(2), "bias": Payload(marker)}, "content_sha256": "0"}
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        found[name] = buffer.getvalue()
    return found


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.fixture(scope="module")
def whole(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(reproduced.folder, tmp_path_factory.mktemp("pickles") / "workspace", symlinks=True))


def test_the_payload_runs_where_it_may(marker: Path) -> None:
    """Or the tests below would show nothing."""
    for name, data in disguises(marker).items():
        load = pickle.loads if name.startswith("pickle") else lambda d: torch.load(io.BytesIO(d), weights_only=False)
        load(data)
        assert marker.exists(), name
        marker.unlink()


@pytest.mark.parametrize("ending", ["pt", "pkl", "bin", "safetensors"])
def test_a_backbone_that_is_a_program_is_refused(
    stages: StageServer, whole: Path, tmp_path: Path, marker: Path, ending: str
) -> None:
    params = yaml.safe_load((whole / "params.yaml").read_text(encoding="utf-8"))
    file = tmp_path / f"weights.{ending}"
    params["backbone"] |= {"source": "checkpoint", "model": "ViT-S-32-alt", "checkpoint": str(file)}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    before = stamps(whole / "artifacts")
    for name, data in list(disguises(marker).items())[-4 if ending == "pt" else -1 :]:
        file.write_bytes(data)
        ended = stages.run(whole, [*command("prepare_backbone"), "--params", str(tmp_path / "params.yaml")])
        assert not marker.exists(), name
        assert ended.code == 4 and f"'{file}' does not hold weights" in ended.said, (name, ended)
        assert "Traceback" not in ended.said and stamps(whole / "artifacts") == before, name


@pytest.mark.parametrize("reader", ["embed_protocol", "validate_checkpoint"])
@pytest.mark.parametrize("ending", ["pt", "pkl", "bin"])
def test_a_protocol_checkpoint_that_is_a_program_is_refused(
    stages: StageServer, whole: Path, tmp_path: Path, marker: Path, reader: str, ending: str
) -> None:
    words = f"{reader} --embeddings artifacts/retrieval/baseline --checkpoint {tmp_path / f'best.{ending}'}".split()
    if reader == "embed_protocol":
        words += ["--out", str(tmp_path / "out")]
    for name, data in disguises(marker).items():
        (tmp_path / f"best.{ending}").write_bytes(data)
        ended = stages.run(whole, words)
        assert not marker.exists(), name
        assert ended.code == 4 and f"best.{ending}: not a checkpoint of plain weights" in ended.said, (name, ended)
        assert "Traceback" not in ended.said and not (tmp_path / "out").exists()


def test_a_run_is_not_resumed_from_a_program(stages: StageServer, whole: Path, tmp_path: Path, marker: Path) -> None:
    shutil.copytree(whole / "artifacts/protocol", tmp_path / "protocol")
    words = [*command("train_protocol")[:-1], str(tmp_path / "protocol"), "--resume"]
    for name, data in disguises(marker).items():
        (tmp_path / "protocol" / "checkpoints" / "epoch_99.pt").write_bytes(data)
        before = stamps(tmp_path / "protocol")
        ended = stages.run(whole, words)
        assert not marker.exists(), name
        assert ended.code == 4 and "epoch_99.pt: not a checkpoint of plain weights" in ended.said, (name, ended)
        assert stamps(tmp_path / "protocol") == before


def test_embeddings_that_are_pickled_objects_are_refused(
    stages: StageServer, whole: Path, tmp_path: Path, marker: Path
) -> None:
    """Even where the manifest agrees: whoever sent the file may have sent that as well."""
    folder = Path(shutil.copytree(whole / "artifacts/retrieval/baseline", tmp_path / "embedded"))
    n_rows = len(np.load(folder / "catalog_img.npy"))
    np.save(folder / "catalog_img.npy", np.array([Payload(marker)] * n_rows, dtype=object), allow_pickle=True)
    np.load(folder / "catalog_img.npy", allow_pickle=True)
    assert marker.exists(), "it runs where it may"
    marker.unlink()
    manifest = open_manifest(folder / MANIFEST)
    names = sorted(manifest.pop("files"))
    write_manifest(folder, [name for name in names if name != "catalog_img.npy"], facts=manifest)
    ended = stages.run(whole, ["build_groups", "--embeddings", str(folder), "--out", str(tmp_path / "out")])
    assert ended.code == 4 and "catalog_img.npy: damaged: not an array of numbers" in ended.said, ended
    assert not marker.exists() and "Traceback" not in ended.said


def test_weights_planted_beside_the_backbone_are_not_opened(
    stages: StageServer, whole: Path, tmp_path: Path, marker: Path
) -> None:
    """`open_clip` knows several names of weight files; the manifest names one."""
    folder = Path(shutil.copytree(whole / "artifacts/backbone", tmp_path / "backbone"))
    for name in ("open_clip_pytorch_model.bin", "pytorch_model.bin", "open_clip_model.pt"):
        (folder / name).write_bytes(disguises(marker)["archive"])
    words = ["embed_catalog", "--processed", "data/processed/hf", "--backbone", str(folder), "--out"]
    ended = stages.run(whole, [*words, str(tmp_path / "out")])
    assert not marker.exists() and ended.code == 0, ended
    (folder / "open_clip_model.safetensors").unlink()
    ended = stages.run(whole, [*words, str(tmp_path / "again")])
    assert not marker.exists() and ended.code == 4 and "open_clip_model.safetensors: missing" in ended.said, ended
