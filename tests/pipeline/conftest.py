"""One reproduced tiny workspace, shared by the end-to-end tests, which restore what they change."""

from __future__ import annotations

import pytest
from workspace import Workspace


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The tiny sample pipeline, run once from nothing and committed."""
    workspace = Workspace(tmp_path_factory.mktemp("sample"))
    workspace.first_run = workspace.repro()
    workspace.commit("results")
    return workspace
