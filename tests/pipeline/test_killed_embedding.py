"""SIGKILL in the middle of embedding, of the stage, of dvc and of both; then `dvc repro` as if nothing had been."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from workspace import Workspace

AGAIN = ("--single-item", "--force", "--no-run-cache", "embed_catalog")
"""Else dvc would bring back the files that it knows from before the kill."""
LOCKS = ".cache/locks/embed_catalog-*.lock"


@pytest.fixture
def fresh(reproduced: Workspace) -> Workspace:
    """The reproduced pipeline with nothing embedded yet."""
    shutil.rmtree(reproduced.folder / ".cache" / "embeddings")
    return reproduced


def _chunks(workspace: Workspace) -> list[Path]:
    return sorted((workspace.folder / ".cache" / "embeddings").glob("*/*.rows"))


def _kill_while_embedding(workspace: Workspace, victim: str, *, after_chunks: int, seconds: float) -> None:
    """Start the stage through dvc, wait for some chunks and a moment more, and kill without warning."""
    before = len(_chunks(workspace))
    dvc = subprocess.Popen(
        [
            str(Path(sys.executable).parent / "dvc"),
            "repro",
            "--single-item",
            "--no-run-cache",
            "--force",
            "embed_catalog",
        ],
        cwd=workspace.folder,
        env=workspace.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    space = workspace.folder / ".cache" / "embeddings"
    while not (list(space.glob("*/space.json")) and len(_chunks(workspace)) >= before + after_chunks):
        assert dvc.poll() is None and time.monotonic() < deadline, "it ended before it could be killed"
        time.sleep(0.002)
    time.sleep(seconds)
    (lock,) = workspace.folder.glob(LOCKS)
    stage = int(lock.read_text())
    if victim in ("stage", "both"):
        os.kill(stage, signal.SIGKILL)
    if victim in ("dvc", "both"):
        os.killpg(dvc.pid, signal.SIGKILL)
    assert dvc.wait(60) != 0
    while (
        Path(f"/proc/{stage}").exists() and time.monotonic() < deadline
    ):  # an orphan is told to end, which takes a moment
        time.sleep(0.01)
    assert not Path(f"/proc/{stage}").exists()


def test_killed_runs_and_a_repro_give_the_lock_of_an_undisturbed_run(fresh: Workspace) -> None:
    lock = fresh.lock()
    rng = np.random.default_rng(13)
    kept = 0
    for victim in ("stage", "dvc", "both"):
        _kill_while_embedding(
            fresh, victim, after_chunks=int(rng.integers(0, 2)), seconds=float(rng.uniform(0, 0.03))
        )
        assert len(_chunks(fresh)) >= kept, "what was embedded before a kill is kept"
        kept = len(_chunks(fresh))
    assert fresh.repro(*AGAIN) == ["embed_catalog"]
    assert fresh.lock() == lock
    assert fresh.repro() == [], "what follows has not changed"


def test_one_chunk_is_lost_at_most(fresh: Workspace) -> None:
    _kill_while_embedding(fresh, "both", after_chunks=1, seconds=0.0)
    kept = {path.name for path in _chunks(fresh)}
    said = fresh.dvc("repro", *AGAIN)
    assert kept <= {path.name for path in _chunks(fresh)}, "a finished chunk is not written again"
    known = int(said.split(" known already")[0].split()[-1])
    assert known >= 128, "of a chunk: four batches of 32"
    fresh.restore()
