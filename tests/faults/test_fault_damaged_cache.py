"""A damaged file in DVC's cache: DVC hands it out without a word, the manifest sees it, and the remedy works."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from damage import flipped_bit
from stage_server import StageServer, command
from workspace import Workspace


@pytest.fixture(scope="module")
def own(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy with a git history and a DVC cache of its own."""
    return reproduced.copied(tmp_path_factory.mktemp("cache") / "workspace")


def cached(workspace: Workspace, name: str) -> Path:
    """The copy of a file in DVC's cache."""
    digest = hashlib.md5((workspace.folder / name).read_bytes(), usedforsecurity=False).hexdigest()
    return workspace.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


def damage_in_cache(workspace: Workspace, name: str) -> None:
    """Flip a bit of the cached copy, which stays read-only, and let DVC check the file out anew."""
    copy = cached(workspace, name)
    assert copy.stat().st_mode & 0o777 == 0o444
    copy.chmod(0o644)
    with flipped_bit(copy):
        damaged = copy.read_bytes()
    copy.write_bytes(damaged)
    copy.chmod(0o444)
    (workspace.folder / name).unlink()
    workspace.dvc("checkout")


@pytest.mark.parametrize(
    ("name", "reader", "maker"),
    [
        pytest.param("artifacts/retrieval/baseline/catalog_txt.npy", "build_groups", "embed_catalog", id="folder"),
        pytest.param(
            "artifacts/supervision/pairs.parquet", "train_protocol", "build_pairs", id="file", marks=pytest.mark.slow
        ),
    ],
)
def test_a_damaged_cache_is_caught_and_the_remedy_works_to_the_letter(
    stages: StageServer, own: Workspace, name: str, reader: str, maker: str
) -> None:
    whole, before = (own.folder / name).read_bytes(), own.lock()
    damage_in_cache(own, name)
    assert (own.folder / name).read_bytes() != whole and own.changed_stages() == set(), "DVC has seen nothing"
    ended = stages.run(own.folder, command(reader))
    assert ended.code == 4 and f"{name}: damaged: expected sha256" in ended.said
    remedy = re.search(r"run `(.*)`", ended.said)
    assert remedy is not None
    done = subprocess.run(
        remedy[1], shell=True, cwd=own.folder, env=own.environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^Running stage '(.*)'", done.stdout, flags=re.MULTILINE) == [maker]
    assert (own.folder / name).read_bytes() == whole and own.lock() == before
    assert cached(own, name).read_bytes() == whole and own.changed_stages() == set()
    assert stages.run(own.folder, command("build_groups")).code == 0
    status = subprocess.run(["git", "status", "--porcelain"], cwd=own.folder, capture_output=True, text=True)
    assert status.stdout == ""


def test_a_missing_file_comes_back_by_the_remedy(stages: StageServer, own: Workspace) -> None:
    lost = own.folder / "artifacts/retrieval/baseline/queries_img.npy"
    whole = lost.read_bytes()
    lost.unlink()
    ended = stages.run(own.folder, command("build_groups"))
    assert ended.code == 4 and f"{lost.relative_to(own.folder)}: missing" in ended.said
    assert "run `dvc repro`" in ended.said
    own.repro()
    assert lost.read_bytes() == whole
