"""One chromium for all browser tests: Debian's, driven by Playwright, cut off from any network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    if CHROMIUM is None:
        pytest.skip("no `chromium` on this machine (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements-dev.txt)")
    # chromium's sandbox refuses to run as root, as in a container
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_server as tiny

    return tiny.build(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def address(shop: Path) -> Iterator[str]:
    import tiny_server as tiny

    from lib.serving.app import create_app

    searcher = tiny.open_tiny(shop)
    with tiny.serving(create_app(lambda: searcher)) as found:
        yield found


@pytest.fixture
def visit(chromium: Any, address: str) -> Iterator[Any]:
    """A desktop's page; whatever a test does, nothing may be complained about or be asked for elsewhere."""
    from visits import DESKTOP, Visit  # playwright may be missing, and then `chromium` has skipped the test

    context = chromium.new_context(viewport=DESKTOP)
    visit = Visit(context.new_page(), address)
    yield visit
    assert visit.page.evaluate("() => window.injected") is None
    assert visit.complaints == []
    # a visitor's own picture is shown from memory
    assert [url for url in visit.asked if not url.startswith((visit.address, f"blob:{visit.address}"))] == []
    context.close()
