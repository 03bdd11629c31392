"""A folder as remote: what is pushed, what a colleague gets, and what a hole or a damaged file in it does."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sharing import check_complete, cloned, git, md5, object_name, objects
from workspace import ROOT, Workspace

from lib.catalog.sample.catalogue import draw_sample

PAIRS = "artifacts/supervision/pairs.parquet"
IMAGES = "artifacts/retrieval/baseline/queries_img.npy"
LEARNT = "artifacts/retrieval/protocol/queries_img.npy"


@dataclass(frozen=True)
class Shared:
    """The owner's workspace and the remote it was pushed to."""

    mine: Workspace
    remote: Path

    def stored(self, name: str) -> Path:
        """The copy of one of the owner's files in the remote."""
        return self.remote / object_name(md5(self.mine.folder / name))

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        stored = self.stored(name)
        aside = stored.rename(self.remote / "aside")
        try:
            yield
        finally:
            aside.rename(stored)

    @contextmanager
    def damaged(self, name: str) -> Iterator[None]:
        stored = self.stored(name)
        before = stored.read_bytes()
        changed = bytearray(before)
        changed[len(changed) // 2] ^= 1
        for data in (bytes(changed), before):
            stored.chmod(0o644)
            stored.write_bytes(data)
            stored.chmod(0o444)
            if data != before:
                yield


@pytest.fixture(scope="module")
def shared(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """As README says: name the remote, push, commit."""
    folder = tmp_path_factory.mktemp("shared")
    mine = reproduced.copied(folder / "mine")
    mine.dvc("remote", "add", "-d", "storage", str(folder / "remote"))
    assert "files pushed" in mine.dvc("push")
    mine.commit("remote")
    return Shared(mine, folder / "remote")


@pytest.fixture
def theirs(shared: Shared, tmp_path: Path) -> Workspace:
    return cloned(shared.mine, tmp_path / "theirs")


def test_every_large_file_is_pushed_and_nothing_else(shared: Shared) -> None:
    expected = objects(shared.mine)
    pushed = {str(path.relative_to(shared.remote)) for path in shared.remote.rglob("*") if path.is_file()}
    assert pushed == {object_name(digest) for digest in expected.values()}
    endings = {Path(name).suffix for name in expected} - {""}
    assert {".zip", ".parquet", ".npy", ".pt", ".safetensors", ".html"} <= endings
    tracked = {md5(shared.mine.folder / name) for name in git(shared.mine.folder, "ls-files").splitlines()}
    assert not tracked & set(expected.values()), "in git and in the remote"
    in_git = {name for name in git(shared.mine.folder, "ls-files").splitlines() if name.startswith("artifacts/")}
    assert {"artifacts/scoreboard/scoreboard.json", "artifacts/supervision/pairs.manifest.json"} <= in_git
    assert not [name for name in in_git if name in expected or Path(name).suffix in endings - {".json", ".csv"}]


def test_a_colleague_pulls_and_nothing_has_to_run(shared: Shared, theirs: Workspace) -> None:
    assert not (theirs.folder / IMAGES).exists()
    theirs.dvc("pull")
    check_complete(shared.mine, theirs)


@pytest.mark.parametrize(("name", "maker"), [(PAIRS, "build_pairs"), (IMAGES, "embed_catalog")])
def test_a_file_that_the_remote_has_lost_is_named_and_can_be_built(
    shared: Shared, theirs: Workspace, name: str, maker: str
) -> None:
    digest = md5(shared.mine.folder / name)
    with shared.without(name):
        said = theirs.dvc("pull", check=False)
        assert "ERROR: failed to pull data from the cloud" in said and "Traceback" not in said
        assert digest in said or digest[2:] in said or object_name(digest) in said or name in said
        # a hole in a folder keeps `dvc pull` from checking out anything at all
        theirs.dvc("checkout", check=False)
        ran = theirs.repro()
    # a tiny model that learnt nothing has the same file, which DVC takes from the maker or has built again
    same = {"embed_protocol"} if md5(shared.mine.folder / LEARNT) == digest else set()
    assert ran[0] == maker and set(ran[1:]) <= same, "what was pulled is not built again"
    check_complete(shared.mine, theirs)


def test_a_damaged_file_in_the_remote_comes_unseen_and_stops_whoever_reads_it(
    shared: Shared, theirs: Workspace
) -> None:
    with shared.damaged(PAIRS):
        theirs.dvc("pull")
        assert theirs.changed_stages() == set(), "DVC has seen nothing"
        words = ["--embeddings", "artifacts/retrieval/baseline", "--pairs", PAIRS, "--out", "artifacts/protocol"]
        done = subprocess.run(
            [sys.executable, "-m", "stages.train_protocol", *words],
            cwd=theirs.folder,
            env=theirs.environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 4 and f"{PAIRS}: damaged: expected sha256" in done.stderr
        remedy = re.search(r"run `(.*)`", done.stderr)
        assert remedy is not None
        subprocess.run(remedy[1], shell=True, cwd=theirs.folder, env=theirs.environment(), check=True)
    check_complete(shared.mine, theirs)


def test_a_remote_that_verifies_refuses_a_damaged_file(shared: Shared, theirs: Workspace) -> None:
    """`verify true`, which README recommends; what is refused can be built."""
    theirs.dvc("remote", "modify", "--local", "storage", "verify", "true")
    with shared.damaged(PAIRS):
        said = theirs.dvc("pull", check=False)
        assert "ERROR: failed to pull data from the cloud" in said and PAIRS in said and "Traceback" not in said
        assert not (theirs.folder / PAIRS).exists() and theirs.repro() == ["build_pairs"]
    check_complete(shared.mine, theirs)


def test_raw_data_of_ones_own_goes_the_same_way(shared: Shared, tmp_path: Path) -> None:
    """`dvc add`, commit, push, and a colleague's `git clone` and `dvc pull`, none of which names the folder again."""
    mine = shared.mine.copied(tmp_path / "mine")
    draw_sample(mine.folder / "data/raw/mine", n_products=2, image_size=32, seed=3, workers=1)
    mine.dvc("add", "data/raw/mine")
    mine.change_params({"data": {"raw_dir": "data/raw/mine"}})
    git(mine.folder, "add", "data/raw/mine.dvc", "data/raw/.gitignore", "params.yaml", "dvc.lock")
    git(mine.folder, "commit", "-qm", "own data")
    assert git(mine.folder, "status", "--porcelain") == ""
    mine.dvc("push")
    theirs = cloned(mine, tmp_path / "theirs")
    theirs.dvc("pull")
    drawn = [path for path in (mine.folder / "data/raw/mine").rglob("*") if path.is_file()]
    assert len(drawn) > 4
    for path in drawn:
        assert (theirs.folder / path.relative_to(mine.folder)).read_bytes() == path.read_bytes()
    assert theirs.changed_stages() == mine.changed_stages()


def test_readme_names_what_these_tests_type() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Sharing data and models")[1].split("\n## ")[0]
    typed = ("dvc remote add -d storage", "dvc push", "dvc pull", "storage verify true", "storage endpointurl")
    for words in (*typed, "dvc add data/raw/mine", "git add data/raw/mine.dvc data/raw/.gitignore params.yaml"):
        assert words in section, words
