"""What is set before torch is imported anywhere (see lib/stage.py), and one reproduced tiny workspace."""

from __future__ import annotations

import os

import pytest
from workspace import Workspace

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as lib/__init__.py, before torch is loaded


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The tiny sample pipeline, run once from nothing and committed; who changes something restores it."""
    workspace = Workspace(tmp_path_factory.mktemp("sample"))
    workspace.first_run = workspace.repro()
    workspace.commit("results")
    return workspace
