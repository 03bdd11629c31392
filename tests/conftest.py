"""What is set before torch is imported anywhere (see lib/base/stage.py), and one reproduced tiny workspace."""

from __future__ import annotations

import os
from typing import Any

import pytest
from workspace import Workspace

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as lib/__init__.py, before torch is loaded
LONGEST = ("pipeline", "faults", "remotes")


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
    items.sort(key=lambda item: _scope(item.nodeid) not in LONGEST)


def _scope(nodeid: str) -> str:
    """Tests that one process runs: those of a folder that share a dear fixture, else those of a file."""
    file = nodeid.split("::")[0]
    folder = file.split("/")[1]
    return folder if folder in (*LONGEST, "browser") else file


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The tiny sample pipeline, run once from nothing and committed; who changes something restores it."""
    workspace = Workspace(tmp_path_factory.mktemp("sample"))
    workspace.first_run = workspace.repro()
    workspace.commit("results")
    return workspace
