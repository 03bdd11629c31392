"""One server for the stage commands of all fault tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stage_server import StageServer


@pytest.fixture(scope="session")
def stages() -> Iterator[StageServer]:
    with StageServer() as server:
        yield server
