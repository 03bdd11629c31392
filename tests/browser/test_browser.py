"""Every page in a real browser, wide and narrow, light and dark, with texts that would like to break it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from browser_pages import PAGES
from hostile import INJECTION
from PIL import Image

pytestmark = pytest.mark.browser
WIDTHS = (1280, 390)


@dataclass
class Opened:
    """A page in the browser, with what it complained about and asked for while it was open."""

    page: Any
    complaints: list[str] = field(default_factory=list)

    def show(self, file: Path) -> None:
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", self._asked)
        self.page.goto(file.as_uri())

    def _asked(self, request: Any) -> None:
        if not request.url.startswith("data:") and not request.is_navigation_request():
            self.complaints.append(f"asked for {request.url}")


@lru_cache
def built(name: str) -> str:
    return PAGES[name]()


@pytest.fixture(params=WIDTHS)
def opened(request: pytest.FixtureRequest, chromium: Any) -> Iterator[Opened]:
    context = chromium.new_context(viewport={"width": request.param, "height": 900}, offline=True)
    yield Opened(context.new_page())
    context.close()


def write(folder: Path, page: str) -> Path:
    (folder / "page.html").write_text(page, encoding="utf-8")
    return folder / "page.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", sorted(PAGES))
def test_page(opened: Opened, tmp_path: Path, name: str, scheme: str) -> None:
    # imported here: playwright may be missing, and then the fixture has skipped this test with the reason
    from inspection import faults_by_keyboard, faults_of

    opened.page.emulate_media(color_scheme=scheme)
    opened.show(write(tmp_path, built(name)))
    assert faults_of(opened.page) == []
    if scheme == "light":
        assert faults_by_keyboard(opened.page) == []
    opened.page.mouse.move(200, 400)
    assert opened.complaints == []


BAD = {
    "wide": ("<div style='width:3000px'>x</div>", "wide in a window"),
    "script": (f"<script>{INJECTION}</script>", "ran as a script"),
    "handler": ("<p onclick='x'>x</p>", "a handler"),
    "broken picture": ("<img alt='x' src='data:image/png;base64,AAAA'>", "does not decode"),
    "no alt": ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>", "without alt"),
    "faint": ("<p style='color:#ccc'>x</p>", "contrast"),
    "table": ("<table><tr><td>x</td></tr></table>", "without headers"),
    "cut word": (
        "<table style='width:20px'><tr><th scope=col style='overflow-wrap:anywhere'>attribute",
        "a cut word",
    ),
    "headings": ("<h4>x</h4>", "h4 after h1"),
    "scroller": ("<div style='width:50px;overflow:auto'><p style='width:99px'>x</p></div>", "not by keyboard"),
    "unlabelled": ("<input>", "without a label"),
}


@pytest.mark.parametrize("fault", sorted(BAD))
def test_the_inspection_sees_faults(opened: Opened, tmp_path: Path, fault: str) -> None:
    from inspection import faults_of

    markup, said = BAD[fault]
    opened.show(write(tmp_path, f"<!DOCTYPE html><html lang='en'><body><h1>Page</h1>{markup}</body></html>"))
    found = faults_of(opened.page)
    assert any(said in one for one in found) and all("contrast" not in one for one in found if fault != "faint")


def test_the_inspection_waits_for_pictures_that_have_not_been_fetched(opened: Opened, tmp_path: Path) -> None:
    from inspection import faults_of

    Image.new("RGB", (4, 4), "red").save(tmp_path / "sound.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "sound.png").read_bytes()[:20])
    pictures = "".join(
        f"<p style='padding-top:9000px'><img alt='x' loading='lazy' src='{name}.png'></p>"
        for name in ("sound", "broken")
    )
    opened.show(write(tmp_path, f"<!DOCTYPE html><html lang='en'><body><h1>Page</h1>{pictures}</body></html>"))
    assert opened.page.evaluate("() => [...document.images].map((n) => n.complete)") == [False, False]
    (found,) = faults_of(opened.page)
    assert "does not decode" in found and "broken.png" in found


def test_the_inspection_sees_requests_and_controls_that_hide_from_the_keyboard(
    opened: Opened, tmp_path: Path
) -> None:
    from inspection import faults_by_keyboard

    markup = (
        "<style>:focus{outline:none}</style><h1>x</h1><a href='#a'>x</a><img alt='x' src='https://example.invalid/x'>"
    )
    opened.show(write(tmp_path, f"<!DOCTYPE html><html lang='en'><body>{markup}</body></html>"))
    assert any("example.invalid" in one for one in opened.complaints)
    assert any("cannot be seen" in one for one in faults_by_keyboard(opened.page))


def test_the_map_answers_pointer_and_keyboard(opened: Opened, tmp_path: Path) -> None:
    from inspection import faults_of

    page = opened.page
    opened.show(write(tmp_path, built("embedding map")))
    canvas, about = page.locator("canvas.map").first, page.locator("#about")
    assert "No item chosen" in about.inner_text()
    before = canvas.evaluate("(n) => n.toDataURL()")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    first = about.locator("h3").first.inner_text()
    page.keyboard.press("ArrowRight")
    assert about.locator("h3").first.inner_text() != first
    assert "of 10 have its" in about.inner_text() or "not known" in about.inner_text()
    assert about.locator("canvas").count() == 3
    assert canvas.evaluate("(n) => n.toDataURL()") != before, "rings"
    page.locator("input[value=category]").check()
    page.locator("#pictures").check()
    dots = canvas.evaluate("(n) => n.toDataURL()")
    page.locator("#values button").first.click()
    assert page.locator("#values button").first.get_attribute("aria-pressed") == "true"
    assert canvas.evaluate("(n) => n.toDataURL()") != dots, "the other values fade"
    assert faults_of(page) == []
    canvas.focus()
    page.keyboard.press("Escape")
    assert "No item chosen" in about.inner_text()
    # where the first item lies, by the page's own reckoning: a click there chooses it and keeps it
    x, y = page.evaluate("() => at(canvases[0], 0)")
    canvas.click(position={"x": x, "y": y})
    assert about.locator("h3").first.inner_text()
    page.mouse.move(1, 1)
    assert "No item chosen" not in about.inner_text()
    about.get_by_role("button", name="close").click()
    assert "No item chosen" in about.inner_text()
    assert opened.complaints == []


def test_only_the_maps_own_script_may_run(opened: Opened, tmp_path: Path) -> None:
    injected = built("embedding map").replace("<h1>", f"<script>{INJECTION}</script><h1>")
    opened.show(write(tmp_path, injected))
    assert opened.page.evaluate("() => window.injected") is None
    assert any("Content Security Policy" in one for one in opened.complaints)
