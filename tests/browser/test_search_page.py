"""The search page in a real browser, in front of the real server with a tiny catalogue: how it looks and finds."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import tiny_server as tiny

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright (requirements-dev.txt)").expect
from inspection import faults_by_keyboard, faults_of  # noqa: E402  # needs playwright too
from visits import Visit, texts  # noqa: E402

pytestmark = pytest.mark.browser


# ---- how it looks


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?q=red+v-neck+cardigans&color=red&color=blue",
        "/?item=P000_A&q=blue&goes=0&weight=0.7",
        "/?item=P000_A&compare=1",
        "/?item=P000_A&goes=1",
        "/?q=x&category=tees&neckline=v-neck&neckline=round+neck&material=cotton",
    ],
)
def test_every_view_is_sound(visit: Visit, path: str, size: tuple[int, int]) -> None:
    page = visit.page
    page.set_viewport_size({"width": size[0], "height": size[1]})
    visit.open(path)
    complete = page.locator("#welcome[data-complete=yes], #columns .card:not(.skeleton), .nothing")
    expect(complete.filter(visible=True).first).to_be_visible()
    visit.look_at_everything()
    assert faults_of(page) == []
    assert faults_by_keyboard(page) == []
    page.emulate_media(color_scheme="dark")
    assert faults_of(page) == []


@pytest.mark.parametrize("width", [320, 600, 768, 959, 960, 1600])
def test_no_width_breaks_it(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 800})
    for path in ("/?q=red+v-neck+cardigans&compare=1&color=red&color=blue", "/?item=P000_A&q=blue"):
        visit.search(path)
        visit.look_at_everything()
        assert faults_of(visit.page) == [], path


def test_the_start_page_is_made_of_the_catalogue(visit: Visit) -> None:
    page = visit.open()
    tiles = page.locator(".tile-name")
    expect(tiles).to_have_count(len(tiny.CATEGORIES))
    assert {name.lower() for name in texts(tiles)} == set(tiny.CATEGORIES)
    words = {*tiny.COLOURS, *tiny.CATEGORIES, *tiny.NECKLINES, *tiny.PATTERNS}
    words |= {*tiny.MATERIALS, *tiny.SLEEVES, *tiny.HOSTILE}
    for example in texts(page.locator(".example")):
        left = example
        for word in sorted(words, key=len, reverse=True):
            left = left.replace(word, "")
        assert not left.strip(), f"{example!r} is not made of the catalogue's own words"
    example = page.locator(".example").first.inner_text()
    visit.answer_to(lambda: page.locator(".example").first.click())
    assert visit.query == {"q": [example]}
    page.locator(".brand").click()
    expect(tiles.first).to_be_visible()
    assert visit.query == {}
    answer = visit.answer_to(lambda: page.locator(".tile", has_text="Shorts").click())
    assert visit.query == {"category": ["shorts"]} and {r["category"] for r in answer["results"]} == {"shorts"}
    assert page.locator(".chip.match, .tally").count() == 0, "what was only filtered by is no merit of a result"


# ---- searching


@pytest.mark.parametrize("submit", ["Enter", "click"])
def test_a_text_finds_and_says_why(visit: Visit, submit: str) -> None:
    page = visit.open()
    field = page.get_by_role("searchbox", name="Search by words")
    field.fill("red v-neck cardigans")
    button = page.get_by_role("search").get_by_role("button", name="Search", exact=True)
    answer = visit.answer_to(lambda: field.press("Enter") if submit == "Enter" else button.click())
    assert visit.query == {"q": ["red v-neck cardigans"]}
    assert page.get_by_role("heading", level=1).inner_text() == "Results for “red v-neck cardigans”"
    assert page.title().startswith("Results for “red v-neck cardigans”")
    assert page.locator("#count").inner_text() == f"20 results among {answer['total']} items, best first"
    for card, result in zip(visit.cards.all(), answer["results"], strict=True):
        marked = card.locator(".chip.match")
        assert sorted(texts(marked.locator("bdi"))) == sorted(result[name] for name in result["matched"])
        assert all("as wanted" in text for text in marked.all_text_contents()), "not by colour alone"
        assert marked.count() == card.locator(".chip.match svg").count()
        assert f"{result['score']:.2f}" in card.locator(".score").inner_text().replace("−", "-")
    tally = [" ".join(text.split()) for text in texts(page.locator(".tally li"))]
    hits = {name: sum(name in r["matched"] for r in answer["results"]) for name in answer["wanted"]}
    assert tally == [f"{name} {answer['wanted'][name]} {n} of 20" for name, n in hits.items()]
    assert any(r["matched"] for r in answer["results"])


def test_filters_count_change_results_and_address_and_go_again(visit: Visit) -> None:
    page = visit.search("/?q=red+cardigans")
    counts = page.locator("#side label").filter(has_text="wool").locator(".n")
    before = counts.text_content()
    box = page.get_by_role("checkbox", name="red")
    answer = visit.answer_to(box.check)
    assert visit.query == {"q": ["red cardigans"], "color": ["red"]}
    assert {r["color"] for r in answer["results"]} == {"red"} and 0 < answer["total"] < 53
    assert counts.text_content() != before
    for name, values in answer["facets"].items():
        for facet in values:
            row = page.locator("#side details", has=page.get_by_text(name.capitalize(), exact=True)).locator("li")
            row = row.filter(has=page.get_by_text(facet["value"], exact=True))
            assert row.locator(".n").text_content() == f"{facet['count']} item{'s' * (facet['count'] != 1)}"
            assert row.locator("input").is_disabled() == (facet["count"] == 0), (name, facet)
    expect(box).to_be_focused()
    both = visit.answer_to(page.get_by_role("checkbox", name="blue").check)
    assert visit.query["color"] == ["red", "blue"] and both["total"] > answer["total"]
    page.reload()
    expect(visit.cards).to_have_count(len(both["results"]))
    assert box.is_checked() and page.locator("#text").input_value() == "red cardigans"
    alone = visit.answer_to(page.get_by_role("button", name="Remove filter color: red").click)
    assert visit.query["color"] == ["blue"] and {r["color"] for r in alone["results"]} == {"blue"}
    expect(page.get_by_role("button", name="Remove filter color: blue")).to_be_focused()
    page.go_back()
    expect(visit.cards).to_have_count(len(both["results"]))
    assert box.is_checked()


def test_many_values_are_shown_on_request(visit: Visit) -> None:
    page = visit.search("/?q=red")
    group = page.locator("#side details", has=page.get_by_text("Color", exact=True))
    assert group.locator("li:visible").count() == 8
    every = len(tiny.COLOURS) + 2
    group.get_by_role("button", name=f"Show all {every}").click()
    assert group.locator("li:visible").count() == every
    group.get_by_role("button", name="Show fewer").click()
    assert group.locator("li:visible").count() == 8
    visit.search("/?color=" + quote(tiny.HOSTILE[0]))
    assert group.locator("li:visible").count() == 9, "what is chosen stays in sight"
    group.locator("summary").click()
    assert group.locator("li:visible").count() == 0


def test_values_that_can_be_chosen_are_seen_where_the_frequent_ones_cannot(visit: Visit) -> None:
    """As beside what goes with an item, whose partners are of a few kinds."""
    page = visit.page

    def few(route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        body["facets"]["color"] = [facet | {"count": int(place >= 10)} for place, facet in enumerate(order)]
        route.fulfill(response=answer, json=body)

    order = visit.page.request.get(f"{visit.address}/api/catalogue").json()["facets"]["color"]
    page.route("**/api/search", few)
    visit.search("/?q=red")
    group = page.locator("#side details", has=page.get_by_text("Color", exact=True))
    assert texts(group.locator("li:visible bdi")) == [facet["value"] for facet in order[10:]]
    page.unroute("**/api/search")
    visit.search("/?q=blue")
    assert texts(group.locator("li:visible bdi")) == [facet["value"] for facet in order[:8]]


def test_one_of_very_many_values_is_found_by_a_word(visit: Visit) -> None:
    page = visit.page

    def add(route: Any) -> None:
        content = route.fetch().json()
        content["facets"]["color"] += [{"value": f"shade {n}", "count": 0} for n in range(30)]
        route.fulfill(json=content)

    page.route("**/api/catalogue", add)
    visit.search("/?q=red")
    group = page.locator("#side details", has=page.get_by_text("Color", exact=True))
    group.get_by_label("Find in color").fill("SHADE 1")
    assert texts(group.locator("li:visible bdi")) == ["shade 1", *(f"shade {n}" for n in range(10, 20))]
    group.get_by_label("Find in color").fill("")
    assert group.locator("li:visible").count() == 8


def test_a_click_on_a_picture_searches_by_it(visit: Visit) -> None:
    page = visit.search("/?q=red+cardigans&color=red&color=blue")
    chosen = visit.cards.nth(2).locator("h3").inner_text()
    answer = visit.answer_to(visit.cards.nth(2).get_by_role("button", name="Search by this item").click)
    item = visit.query["item"][0]
    assert set(visit.query) == {"item", "color"}, "the words are gone, the filters stay"
    assert item not in {r["item_id"] for r in answer["results"]}
    assert page.get_by_role("heading", level=1).inner_text() == f"Like “{chosen}”"
    expect(page.locator("#title")).to_be_focused()
    assert page.locator("#given img").get_attribute("src") == f"api/picture?id={item}"
    keep = page.locator("#keep button", has_text="cotton").or_(page.locator("#keep button", has_text="tees")).first
    keep = keep if keep.count() else page.locator("#keep button").last
    name, value = keep.get_attribute("data-name"), keep.get_attribute("data-value")
    kept = visit.answer_to(keep.click)
    assert keep.get_attribute("aria-pressed") == "true" and {r[name] for r in kept["results"]} == {value}
    expect(keep).to_be_focused()
    page.get_by_role("button", name="Remove the item from the search").click()
    expect(page.locator("#query")).to_be_hidden()
    assert "item" not in visit.query
    page.go_back()
    page.go_back()
    page.go_back()
    expect(page.locator("#title")).to_have_text("Results for “red cardigans”")
    assert page.locator("#text").input_value() == "red cardigans" and page.locator("#query").is_hidden()


def test_words_beside_an_item_are_weighed(visit: Visit) -> None:
    page = visit.search("/?item=P000_A")
    assert page.locator("#refine").is_hidden()
    page.locator("#text").fill("blue")
    visit.answer_to(lambda: page.locator("#text").press("Enter"))
    assert visit.query == {"item": ["P000_A"], "q": ["blue"]}
    slider = page.get_by_role("slider")
    before = page.evaluate("() => history.length")
    with page.expect_request("**/api/search") as sent:
        slider.press("ArrowRight")
    assert sent.value.post_data_json["image_weight"] == 0.55
    expect(slider).to_be_focused()
    assert visit.query["weight"] == ["0.55"] and slider.get_attribute("aria-valuetext") == "55 % picture, 45 % words"
    assert page.evaluate("() => history.length") == before
    page.get_by_role("button", name="Automatic").click()
    expect(page.get_by_role("button", name="Automatic")).to_be_hidden()
    assert "weight" not in visit.query
    page.get_by_role("button", name="Clear the words").click()
    expect(page.locator("#refine")).to_be_hidden()
    assert visit.query == {"item": ["P000_A"]}


def test_what_goes_with_an_item(visit: Visit) -> None:
    page = visit.search("/?category=tees")
    answer = visit.answer_to(visit.cards.first.get_by_role("button", name="Goes with").click)
    counts = {facet["value"]: facet["count"] for facet in answer["facets"]["category"]}
    assert counts.pop("tees") == 0 and min(counts.values()) > 0, "its own category is no filter any more"
    assert answer["rerank"] == "compatibility" and answer["total"] == sum(counts.values())
    expect(page.locator("#title")).to_contain_text("Goes with “")
    assert visit.query["goes"] == ["1"] and "category" not in visit.query
    expect(page.locator("#compare-choice")).to_be_hidden()
    answer = visit.answer_to(page.get_by_role("button", name="Similar", exact=True).first.click)
    assert answer["rerank"] == "none" and "goes" not in visit.query


def test_the_index_can_be_chosen(visit: Visit) -> None:
    page = visit.search("/?q=red")
    page.get_by_text("How this was searched").click()
    assert "index flat" in page.locator("#how-words").inner_text()
    answer = visit.answer_to(lambda: page.get_by_label("Index").select_option("hnsw"))
    assert answer["index"] == "hnsw" and visit.query["index"] == ["hnsw"]
    expect(page.locator("#how-words")).to_contain_text("index hnsw")
