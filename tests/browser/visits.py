"""A visitor of the search page: what it does there, what the page complained about and what it asked for."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import expect

expect.set_options(timeout=20_000)  # a busy machine is no fault of the page
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@dataclass
class Visit:
    """A visitor's page, what it complained about and what it asked for."""

    page: Any
    address: str
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        page = self.page
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str = "/") -> Any:
        self.page.goto(self.address + path)
        return self.page

    def search(self, path: str) -> Any:
        """Open an address that is a search, and wait for its results."""
        self.open(path)
        expect(self.cards.filter(visible=True).first).to_be_visible()
        return self.page

    def answer_to(self, act: Callable[[], object]) -> dict[str, Any]:
        """The server's answer to the search that `act` causes; it is shown when this returns."""

        def is_it(response: Any) -> bool:
            # the start page asks for a few items of each category meanwhile
            own = response.url.endswith("/image") or b'"k":20' in (response.request.post_data_buffer or b"")
            return "/api/search" in response.url and own

        with self.page.expect_response(is_it) as info:
            act()
        answer: dict[str, Any] = info.value.json()
        expect(self.cards).to_have_count(len(answer["results"]))
        if answer["results"]:
            first = quote(answer["results"][0]["item_id"], safe="!'()*")
            expect(self.cards.first.locator("img")).to_have_attribute("src", f"api/picture?id={first}")
        return answer

    @property
    def cards(self) -> Any:
        return self.page.locator("#columns .card:not(.skeleton)")

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.page.url).query)

    def look_at_everything(self) -> None:
        """Scroll through the page, so that pictures that wait to be seen are loaded."""
        self.page.evaluate(
            "async () => { for (let y = 0; y < document.body.scrollHeight; y += 400) {"
            " window.scrollTo(0, y); await new Promise((done) => setTimeout(done, 20)); } window.scrollTo(0, 0); }"
        )
        self.page.wait_for_function("() => [...document.images].every((n) => n.complete || !n.checkVisibility())")


def texts(locator: Any) -> list[str]:
    return [text.strip() for text in locator.all_inner_texts()]


def png(width: int = 40, height: int = 50, *, noise: bool = False) -> bytes:
    stream = io.BytesIO()
    canvas = np.full((height, width, 3), (190, 30, 30), dtype=np.uint8)
    if noise:
        canvas = np.random.default_rng(0).integers(0, 256, canvas.shape, dtype=np.uint8)
    Image.fromarray(canvas).save(stream, "PNG")
    return stream.getvalue()


def hand_over(page: Any, event: str, data: bytes, *, name: str = "x.png", kind: str = "image/png") -> None:
    """Drop a file on the page or paste it, as a visitor would."""
    page.evaluate(
        """([event, bytes, name, kind]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], name, {type: kind}));
          const more = {bubbles: true, cancelable: true};
          if (event === "paste") {
            document.body.dispatchEvent(new ClipboardEvent("paste", {...more, clipboardData: transfer}));
            return;
          }
          for (const one of ["dragenter", "dragover", "drop"]) {
            document.body.dispatchEvent(new DragEvent(one, {...more, dataTransfer: transfer}));
            if (one === "dragover") window.invited = document.body.classList.contains("dragging");
          }
        }""",
        [event, list(data), name, kind],
    )
