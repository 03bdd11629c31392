"""The search page with hostile texts, without a mouse, on a phone, and with a server that does not do its part."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import tiny_server as tiny

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements-dev.txt)").expect
from inspection import faults_of  # noqa: E402  # needs playwright too
from visits import DESKTOP, PHONE, Visit  # noqa: E402

pytestmark = pytest.mark.browser


# ---- untrusted texts


def test_hostile_texts_stay_texts(visit: Visit) -> None:
    page = visit.search("/?q=" + quote(tiny.HOSTILE[1]))
    assert tiny.HOSTILE[1] in page.locator("#title").inner_text()
    while page.locator("#more").is_visible():
        count = visit.cards.count()
        page.locator("#more").click()
        expect(visit.cards.nth(count)).to_be_visible()
    shown = page.locator("#columns").inner_text()
    for text in tiny.HOSTILE:
        assert text[1:60] in shown, text  # the first letter is made a capital
        # the id is as hostile as the caption: picture, item and search find it
        visit.search("/?item=" + quote(text))
        assert text[1:60] in page.locator("#query-name").inner_text()
        page.wait_for_function("() => document.querySelector('#query-picture img')?.naturalWidth > 0")
    for colour in tiny.HOSTILE[:2]:
        visit.search("/?color=" + quote(colour))
        assert page.locator("#title").inner_text().endswith(colour[1:])
        assert page.locator("#active bdi").inner_text() == colour
    assert page.locator("script").count() == 1, "the page's own"
    page.goto(visit.address + "/?q=red&color=" + quote("<b>nothing</b>"))
    expect(page.locator("#notices")).to_contain_text("This catalogue has no color “<b>nothing</b>”.")
    assert visit.query["q"] == ["red"] and page.locator("b").count() == 0


# ---- keyboard and phone


def test_keyboard_alone(visit: Visit) -> None:
    page = visit.open()
    expect(page.locator(".tile").first).to_be_visible()
    page.keyboard.press("/")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("red a/b")
    visit.answer_to(lambda: page.keyboard.press("Enter"))
    assert visit.query == {"q": ["red a/b"]}
    while "shot" not in (page.evaluate("() => document.activeElement.className") or ""):
        page.keyboard.press("Tab")
    shots = visit.cards.locator(".shot")
    expect(shots.first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(shots.nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    tops = shots.evaluate_all("(all) => all.map((n) => n.getBoundingClientRect().top)")
    per_row = tops.count(tops[0])
    assert per_row > 2
    expect(shots.nth(1 + per_row)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    expect(shots.first).to_be_focused()
    visit.answer_to(lambda: page.keyboard.press("Enter"))
    assert set(visit.query) == {"item"}
    expect(page.locator("#title")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("blu")
    page.keyboard.press("Escape")
    assert page.locator("#text").input_value() == "" and set(visit.query) == {"item"}
    page.keyboard.press("Escape")
    expect(page.locator(".tile").first).to_be_visible()
    assert visit.query == {}
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    assert visit.query == {} and "#" not in page.url


def test_filters_on_a_phone(visit: Visit) -> None:
    page = visit.page
    page.set_viewport_size(PHONE)
    visit.search("/?q=red&color=red")
    assert page.locator("#side").inner_text() == ""
    button = page.locator("#open-filters")
    assert "1 active" in button.text_content()
    button.click()
    drawer = page.get_by_role("dialog", name="Filters")
    expect(drawer).to_be_visible()
    assert faults_of(page) == []
    answer = visit.answer_to(drawer.get_by_role("checkbox", name="women").check)
    assert visit.query["department"] == ["women"]
    expect(drawer.locator("#drawer-count")).to_have_text(f"Show {answer['total']} items")
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(button).to_be_focused()
    assert "2 active" in button.text_content()
    button.click()
    drawer.get_by_role("button", name="Clear all").click()
    expect(drawer.locator("#drawer-count")).to_have_text("Show 53 items")
    drawer.get_by_role("button", name="Show 53 items").click()
    expect(drawer).to_be_hidden()
    assert visit.query == {"q": ["red"]}
    button.click()
    page.set_viewport_size(DESKTOP)
    expect(page.locator("#side .filters")).to_be_visible()
    expect(drawer).to_be_hidden()


def test_nothing_moves_for_those_who_do_not_want_it(visit: Visit) -> None:
    visit.page.emulate_media(reduced_motion="reduce")
    page = visit.search("/?q=red")
    durations = "(all) => [...new Set(all.map((n) => getComputedStyle(n).transitionDuration))]"
    assert page.locator("body *").evaluate_all(durations) == ["0s"]


# ---- what goes wrong


def test_it_waits_for_a_server_that_is_not_ready(chromium: Any, shop: Path, tmp_path: Path) -> None:
    """One without a compatibility head, so that nothing speaks of what goes with what."""
    from lib.serving.app import create_app

    ready = threading.Event()
    headless = Path(shutil.copytree(shop, tmp_path / "shop"))
    (headless / "artifacts/compatibility/checkpoints/best.pt").unlink()

    def opener() -> Any:
        ready.wait(60)
        return tiny.open_tiny(headless)

    with tiny.serving(create_app(opener)) as address:
        visit = Visit(chromium.new_page(), address)
        page = visit.open("/?q=red")
        waiting = page.get_by_role("status").filter(has_text="Not ready yet")
        expect(waiting).to_contain_text("the catalogue is being loaded")
        assert faults_of(page) == []
        page.wait_for_timeout(2000)
        assert len(visit.asked) < 40, "it asks now and then"
        ready.set()
        expect(visit.cards).to_have_count(20)
        expect(waiting).to_be_hidden()
        assert page.locator("#query-mode, .card [aria-label^='Goes with']").filter(visible=True).count() == 0
        assert all("503" in complaint for complaint in visit.complaints), "the browser's own lines"
        page.context.close()


def test_it_says_why_a_server_will_not_be_ready(chromium: Any) -> None:
    from lib.base.errors import IntegrityError
    from lib.serving.app import create_app

    def opener() -> Any:
        raise IntegrityError("artifacts/index: <b>damaged</b>")

    with tiny.serving(create_app(opener)) as address:
        page = Visit(chromium.new_page(), address).open()
        expect(page.locator("#trouble")).to_contain_text("could not be loaded: artifacts/index: <b>damaged</b>")
        page.context.close()


def test_a_slow_answer_never_takes_the_place_of_a_newer_one(visit: Visit) -> None:
    page = visit.search("/?q=first")
    held: list[Any] = []

    def hold(route: Any) -> None:
        if route.request.post_data_json["text"] == "slow":
            held.append(route)
        else:
            route.continue_()

    page.route("**/api/search", hold)
    page.locator("#text").fill("slow")
    page.locator("#text").press("Enter")
    expect(page.locator("#count")).to_have_text("Searching …")
    page.locator("#text").fill("fast")
    answer = visit.answer_to(lambda: page.locator("#text").press("Enter"))
    assert len(held) == 1 and held[0].request.failure is not None, "given up by the page"
    other = {**answer, "results": answer["results"][:3]}
    try:
        held[0].fulfill(json=other)
    except Exception as error:  # the request is gone already, which is as good
        assert "Error" in type(error).__name__
    page.wait_for_timeout(300)
    expect(visit.cards).to_have_count(20)
    assert page.locator("#title").inner_text() == "Results for “fast”"
    page.go_back()
    page.unroute("**/api/search")


def test_a_busy_server_is_asked_again_and_then_reported(visit: Visit) -> None:
    page = visit.search("/?q=first")
    refused = []

    def refuse(route: Any) -> None:
        if len(refused) == 1 or route.request.post_data_json["text"] == "never":
            refused.append(route.request)
            route.fulfill(status=503, json={"detail": "64 queries wait already"}, headers={"Retry-After": "1"})
        else:
            refused.append(route.request)
            route.continue_()

    refused.append(None)
    page.route("**/api/search", refuse)
    page.locator("#text").fill("busy")
    with page.expect_response(lambda response: response.ok and "/api/search" in response.url):
        page.locator("#text").press("Enter")
    expect(page.locator("#count")).to_contain_text("20 results")
    assert len(refused) == 3, "once refused, once answered"
    page.locator("#text").fill("never")
    page.locator("#text").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("64 queries wait already")
    assert faults_of(page) == []
    page.unroute("**/api/search")
    visit.answer_to(page.get_by_role("button", name="Try again").click)
    assert len(visit.complaints) == 4 and all("503" in line for line in visit.complaints)
    visit.complaints.clear()


def test_it_goes_on_when_the_connection_is_back(visit: Visit) -> None:
    page = visit.search("/?q=first")
    page.context.set_offline(True)
    page.locator("#text").fill("second")
    page.locator("#text").press("Enter")
    expect(page.locator("#trouble")).to_contain_text("You are offline.")
    page.context.set_offline(False)
    expect(page.locator("#trouble")).to_be_empty(timeout=10_000)
    expect(page.locator("#count")).to_contain_text("20 results")
    assert page.locator("#title").inner_text() == "Results for “second”"
    assert all("INTERNET_DISCONNECTED" in line for line in visit.complaints)
    visit.complaints.clear()


def test_nothing_found_and_what_cannot_be_found(visit: Visit) -> None:
    page = visit.open("/?q=x&category=tees&neckline=v-neck&neckline=round+neck&material=cotton")
    expect(page.locator(".nothing")).to_contain_text("Nothing passes all of these filters")
    assert page.locator("#count").inner_text() == "No results"
    visit.answer_to(page.locator(".nothing").get_by_role("button", name="Clear all filters").click)
    assert visit.query == {"q": ["x"]}
    visit.open("/?item=" + quote("<i>gone</i>"))
    expect(page.get_by_role("alert")).to_contain_text("no item '<i>gone</i>' in this catalogue")
    assert page.locator("i:text('gone')").count() == 0
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(200)  # the browser's own lines come when they come
    assert all("404" in line for line in visit.complaints)
    visit.complaints.clear()
