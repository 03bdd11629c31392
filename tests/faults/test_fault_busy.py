"""A second run while an orphan of the first lives: refused with 75 and the process named, by stage and by dvc."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stage_server import ROOT, StageServer
from workspace import Workspace

OUT = "data/raw/sample"
SECONDS = 120


@pytest.fixture
def large(tmp_path: Path) -> Workspace:
    """A workspace whose sample takes an hour to draw."""
    workspace = Workspace(tmp_path)
    workspace.change_params({"sample": {"n_products": 200_000, "image_size": 64}, "runtime": {"threads": 1}})
    return workspace


def drawn(workspace: Workspace) -> int:
    """Bytes of photos of the sample that is being drawn beside the out."""
    archive = workspace.folder / "data" / "raw" / ".sample.partial" / "images.zip"
    return archive.stat().st_size if archive.exists() else 0


def photos(workspace: Workspace, name: str) -> int:
    """Photos of a sample that has been drawn."""
    with zipfile.ZipFile(workspace.folder / "data" / "raw" / name / "images.zip") as archive:
        return len(archive.namelist())


def alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not after {SECONDS} seconds"
        time.sleep(0.05)


@pytest.fixture
def orphan(large: Workspace) -> Iterator[int]:
    """The stage, started by a shell that has ended before the stage could ask to end with it; its process."""
    words = shlex.join([sys.executable, "-m", "stages.make_sample", "--out", OUT])
    subprocess.run(
        ["sh", "-c", f"mkdir -p .cache; {words} >.cache/orphan.log 2>&1 & echo $! >.cache/orphan.pid"],
        cwd=large.folder,
        env={**large.environment(), "PYTHONPATH": str(ROOT)},
        check=True,
    )
    process = int((large.folder / ".cache" / "orphan.pid").read_text())
    wait_for(lambda: drawn(large))
    yield process
    if alive(process):
        os.kill(process, signal.SIGKILL)
        wait_for(lambda: not alive(process))


def test_a_run_beside_an_orphan_is_refused_until_the_orphan_has_ended(
    stages: StageServer, large: Workspace, orphan: int
) -> None:
    status = Path(f"/proc/{orphan}/stat").read_text().rsplit(")", 1)[1].split()
    assert status[1] != str(os.getpid()), "its parent is no longer one of ours"
    (large.folder / "elsewhere").symlink_to(large.folder / "data", target_is_directory=True)
    before = drawn(large)
    for out in (OUT, f"./data/../{OUT}/", str(large.folder / OUT), "elsewhere/raw/sample"):  # however it is spelt
        ended = stages.run(large.folder, ["make_sample", "--out", out])
        assert ended.code == 75, (out, ended)
        assert ended.said == f"error: make_sample: process {orphan} is writing the same out; wait for it or end it\n"
    said = large.dvc("repro", "make_sample", check=False)
    assert f"process {orphan} is writing the same out" in said and "Traceback" not in said
    wait_for(lambda: drawn(large) > before)  # the first goes on undisturbed
    large.change_params({"sample": {"n_products": 2, "image_size": 32}})
    other = stages.run(large.folder, ["make_sample", "--out", "data/raw/other"])
    assert other.code == 0, "another out is not held up"
    os.kill(orphan, signal.SIGKILL)
    wait_for(lambda: not alive(orphan))
    assert drawn(large) > 0, "half a sample is left beside the out"
    ended = stages.run(large.folder, ["make_sample", "--out", OUT])
    assert ended.code == 0, ended.said
    assert drawn(large) == 0
    pictures = [photos(large, name) for name in ("sample", "other")]
    assert pictures[0] == pictures[1] in range(1, 10), "nothing of the orphan's is among them"
