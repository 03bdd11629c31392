"""The search page: pictures of the visitor, two models, more results, and the way back."""

from __future__ import annotations

from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements-dev.txt)").expect
from inspection import faults_of  # noqa: E402  # needs playwright too
from visits import PHONE, Visit, hand_over, png, texts  # noqa: E402

pytestmark = pytest.mark.browser


# ---- pictures


def decoded_size(page: Any) -> list[int]:
    """Width and height, in pixels, of the picture that was given, once it is decoded."""
    size: list[int] = page.locator("#given img").evaluate(
        "async (n) => { await n.decode(); return [n.naturalWidth, n.naturalHeight]; }"
    )
    return size


@pytest.mark.parametrize("way", ["file", "drop", "paste"])
def test_a_picture_is_searched_by_and_not_kept(visit: Visit, way: str) -> None:
    page = visit.open()
    expect(page.locator(".tile").first).to_be_visible()

    def give() -> None:
        if way == "file":
            with page.expect_file_chooser() as chooser:
                page.get_by_role("button", name="Search by a picture").click()
            chooser.value.set_files([{"name": "x.png", "mimeType": "image/png", "buffer": png()}])
        else:
            hand_over(page, way, png())

    answer = visit.answer_to(give)
    assert way != "drop" or page.evaluate("() => window.invited") is True
    assert "dragging" not in (page.locator("body").get_attribute("class") or "")
    assert len(answer["results"]) == 20 and answer["wanted"] == {}
    assert visit.query == {"picture": ["1"]}
    assert page.get_by_role("heading", level=1).inner_text() == "Like your picture"
    assert decoded_size(page) == [40, 50]
    page.locator("#text").fill("red")
    refined = visit.answer_to(lambda: page.locator("#text").press("Enter"))
    assert refined["wanted"] == {"color": "red"} and page.get_by_role("slider").is_visible()
    visit.look_at_everything()
    assert faults_of(page) == []
    visit.answer_to(visit.cards.first.locator(".shot").click)
    page.go_back()
    expect(page.locator("#title")).to_have_text("Like your picture, with “red”")
    page.reload()
    expect(page.locator("#notices")).to_contain_text("The picture you searched by is not kept")
    expect(page.locator("#title")).to_have_text("Results for “red”")


def test_a_large_picture_is_made_smaller_first(visit: Visit) -> None:
    page = visit.open()
    expect(page.locator(".tile").first).to_be_visible()
    large = png(1500, 1100, noise=True)
    assert len(large) > 4 * 10**6
    page.locator("#file").set_input_files([{"name": "x.png", "mimeType": "image/png", "buffer": large}])
    expect(visit.cards).to_have_count(20)
    assert decoded_size(page) == [1024, 751]


def test_what_is_no_picture_is_said(visit: Visit) -> None:
    page = visit.open()
    expect(page.locator(".tile").first).to_be_visible()
    hand_over(page, "drop", b"hello", name="x.txt", kind="text/plain")
    expect(page.locator("#notices")).to_contain_text("That file is not a picture.")
    hand_over(page, "drop", b"", name="x.png")
    expect(page.locator("#notices")).to_contain_text("That file is empty.")
    assert not any("/api/search/image" in url for url in visit.asked)
    hand_over(page, "drop", b"nonsense", name="x.png")
    expect(page.get_by_role("alert")).to_contain_text("the picture cannot be used")
    assert visit.complaints.pop().startswith("Failed to load resource") and visit.complaints == []
    page.get_by_role("button", name="Start anew").click()
    expect(page.locator(".tile").first).to_be_visible()


# ---- two models, more pages


def test_two_models_side_by_side(visit: Visit) -> None:
    page = visit.search("/?q=red+v-neck+cardigans")
    responses: list[Any] = []
    page.on("response", lambda response: responses.append(response) if "/api/search" in response.url else None)
    page.get_by_role("checkbox", name="Compare with baseline").check()
    expect(page.locator(".column")).to_have_count(2)
    found = {answer["model"]: answer["results"] for answer in (response.json() for response in responses)}
    assert visit.query["compare"] == ["1"] and sorted(found) == ["baseline", "protocol"]
    assert texts(page.locator(".column h2")) == ["Baseline", "Protocol"]
    products = {model: {r["product_id"] for r in results} for model, results in found.items()}
    assert products["baseline"] != products["protocol"]
    for model, other in (("baseline", "protocol"), ("protocol", "baseline")):
        column = page.locator(f".column[data-model={model}]")
        alone = [r["product_id"] not in products[other] for r in found[model]]
        assert [card.locator(".only").count() == 1 for card in column.locator(".card").all()] == alone
        assert f"{sum(alone)} of 20 found by this model only" in column.inner_text()
    hits = {m: sum("neckline" in r["matched"] for r in results) for m, results in found.items()}
    line = page.locator(".column[data-model=protocol] .tally li", has_text="neckline").inner_text()
    difference = hits["protocol"] - hits["baseline"]
    said = f"▲ {difference} more" if difference > 0 else f"▼ {-difference} fewer" if difference else ""
    assert " ".join(line.split()) == f"neckline v-neck {hits['protocol']} of 20 {said}".strip()
    page.set_viewport_size(PHONE)
    assert page.locator(".column:visible").count() == 1
    page.get_by_role("button", name="Baseline", exact=True).click()
    expect(page.get_by_role("heading", name="Baseline")).to_be_visible()
    assert page.get_by_role("button", name="Baseline", exact=True).get_attribute("aria-pressed") == "true"
    page.go_back()
    expect(page.locator(".column")).to_have_count(1)
    assert not page.locator("#compare").is_checked()


def test_more_results_until_there_are_none(visit: Visit) -> None:
    page = visit.search("/?q=red")
    more = page.get_by_role("button", name="Show more")
    with page.expect_request("**/api/search") as sent:
        more.click()
    assert sent.value.post_data_json["offset"] == 20
    expect(visit.cards).to_have_count(40)
    expect(visit.cards.nth(20).locator(".shot")).to_be_focused()
    more.click()
    expect(more).to_be_hidden()
    sources = visit.cards.locator("img").evaluate_all("(all) => all.map((n) => n.src)")
    assert len(sources) == len(set(sources)) == 43, "one item of each product of the gallery"
    assert page.locator("#count").inner_text().startswith("43 results")
    visit.answer_to(visit.cards.nth(30).locator(".shot").click)
    page.go_back()
    expect(visit.cards).to_have_count(43)


def test_going_back_finds_the_place(visit: Visit) -> None:
    page = visit.search("/?q=red")
    page.get_by_role("button", name="Show more").click()
    expect(visit.cards).to_have_count(40)
    page.evaluate("() => window.scrollTo(0, 2000)")  # further down than one page of results reaches
    page.wait_for_function("() => history.state?.scroll === 2000")
    visit.answer_to(lambda: visit.cards.nth(32).locator(".shot").evaluate("(n) => n.click()"))
    assert page.evaluate("() => window.scrollY") == 0
    page.go_back()
    page.wait_for_function("() => window.scrollY === 2000")
