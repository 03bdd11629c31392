"""What is set before torch is imported anywhere (see lib/base/stage.py), and one reproduced tiny workspace."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
from workspace import Workspace

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as lib/__init__.py, before torch is loaded
LONGEST = ("pipeline", "browser", "faults", "remotes")
"""Folders whose tests one process runs, in this order. `browser` comes second: the other process has something to do
while the first one makes what `reproduced` gives to both."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How `make test` shares the tests out to its two processes: in turns, by `_scope`."""
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    return ByScope(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, or one process would end with it alone."""
    order = {scope: place for place, scope in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(_scope(item.nodeid), len(order)))


def _scope(nodeid: str) -> str:
    """Tests that one process runs: those of a folder that share a dear fixture, else those of a file."""
    file = nodeid.split("::")[0]
    folder = file.split("/")[1]
    return folder if folder in LONGEST else file


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The tiny sample pipeline, run once from nothing and committed; who changes something restores it.

    Each process of `make test` has a copy of its own; the first that asks makes it, the other waits.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _reproduced(tmp_path_factory.mktemp("sample"))
    shared = tmp_path_factory.getbasetemp().parent / "reproduced"  # above the folders of the processes
    stages = shared.with_suffix(".json")
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stages.is_file():
            shared.mkdir()  # fails where making it failed before: nobody goes on with a half of it
            stages.write_text(json.dumps(_reproduced(shared).first_run), encoding="utf-8")
    workspace = Workspace.in_folder(shared).copied(tmp_path_factory.mktemp("sample") / "workspace")
    workspace.first_run = json.loads(stages.read_text(encoding="utf-8"))
    return workspace


def _reproduced(folder: Path) -> Workspace:
    workspace = Workspace(folder)
    workspace.first_run = workspace.repro()
    workspace.commit("results")
    return workspace
