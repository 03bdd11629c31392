"""What a search returns, by hand: models, filters, pages, re-ranking and reasons."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_catalogue import DIM, embedded, open_small, picture, turned

from lib.catalog.images import ImageError
from lib.retrieval.search import exact_top_k
from lib.retrieval.top_k import TopK
from lib.serving.catalogue import UnknownQuery
from lib.serving.contact_sheet import contact_sheet
from lib.serving.query import Answer, BadQuery, Query, answer_dict
from lib.serving.searcher import Searcher


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    yield open_small(tmp_path_factory.mktemp("small"))


def ids(answer: Answer) -> list[str]:
    return [str(result.item["item_id"]) for result in answer.results]


def test_an_item_finds_its_like_and_never_its_own_product(searcher: Searcher) -> None:
    answer = searcher.search(Query(item="p00_A", model="baseline", limit=20))
    first = answer.results[0].item
    assert (first["color"], first["category"]) == ("red", "tees") and first["product_id"] == "p06"
    assert all(result.item["product_id"] != "p00" for result in answer.results)
    assert len(answer.results) == 9 and not answer.has_more, "ten products in the gallery, one is the query's"
    assert [result.rank for result in answer.results] == list(range(1, 10))
    scores = [result.score for result in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert set(answer.results[0].matched) == {"department", "category", "color"}


def test_views_of_a_product_come_once_or_all(searcher: Searcher) -> None:
    one = searcher.search(Query(text="blue cardigan", model="baseline", limit=30))
    every = searcher.search(Query(text="blue cardigan", model="baseline", limit=30, one_per_product=False))
    assert len(one.results) == 10 and len(every.results) == 20
    products = list(dict.fromkeys(result.item["product_id"] for result in every.results))
    assert [result.item["product_id"] for result in one.results] == products, "each product by its best view"


def test_a_text_names_what_is_wanted(searcher: Searcher) -> None:
    answer = searcher.search(Query(text="Blue V-neck cardigan for women", model="baseline"))
    assert answer.wanted == {"color": "blue", "neckline": "v-neck", "category": "cardigans"} | (
        {"department": "women"} if "department" in answer.wanted else {}
    )
    best = answer.results[0]
    assert {"color", "category"} <= set(best.matched)
    assert all(("neckline" in r.matched) == (r.item["neckline"] == "v-neck") for r in answer.results)


def test_a_text_is_embedded_in_the_form_of_the_captions(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    encode = searcher.encoder.text
    monkeypatch.setattr(
        searcher.encoder, "text", lambda text, *, timeout: (given.append(text), encode(text, timeout=timeout))[1]
    )
    for text in ("warm V-neck  cardigan in red", "something <else>"):
        searcher.search(Query(text=text))
    assert given == ["v-neck, red, cardigans. warm V-neck cardigan in red", "something <else>"]


def test_pages_join_to_the_whole(searcher: Searcher) -> None:
    whole = ids(searcher.search(Query(item="p10_A", limit=10)))
    parts = [searcher.search(Query(item="p10_A", limit=4, offset=offset)) for offset in (0, 4, 8)]
    assert [item for part in parts for item in ids(part)] == whole
    assert [part.has_more for part in parts] == [True, True, False]
    assert parts[1].results[0].rank == 5


def test_filters_allow_and_count(searcher: Searcher) -> None:
    answer = searcher.search(Query(text="tee", filters={"color": ["red", "blue"], "category": ["tees"]}, limit=20))
    assert {(r.item["color"], r.item["category"]) for r in answer.results} == {("red", "tees"), ("blue", "tees")}
    meta = embedded().catalog.meta
    in_tees = meta[meta["category2"] == "tees"]["color"].value_counts()
    assert {f.value: f.count for f in answer.facets["color"]} == in_tees.to_dict(), (
        "the colour's own filter is left out"
    )
    both = meta[meta["color"].isin(["red", "blue"])]["category2"].value_counts()
    assert {f.value: f.count for f in answer.facets["category"]} == both.to_dict()
    assert answer.total == int(((meta["category2"] == "tees") & meta["color"].isin(["red", "blue"])).sum())
    counts = [facet.count for facet in answer.facets["color"]]
    assert counts == sorted(counts, reverse=True)


def test_filters_that_leave_nothing_find_nothing(searcher: Searcher) -> None:
    meta = embedded().catalog.meta
    assert not ((meta["category2"] == "cardigans") & (meta["neckline"] == "v-neck")).any()
    answer = searcher.search(Query(text="x", filters={"category": ["cardigans"], "neckline": ["v-neck"]}))
    assert answer.results == [] and answer.total == 0 and not answer.has_more


@pytest.mark.parametrize(
    ("filters", "words"),
    [({"colour": ["red"]}, "no filter 'colour'; there are department"), ({"color": ["mauve"]}, "no color 'mauve'")],
)
def test_unknown_filters_are_named(searcher: Searcher, filters: dict[str, list[str]], words: str) -> None:
    with pytest.raises(UnknownQuery, match=words):
        searcher.search(Query(text="x", filters=filters))


def test_the_protocol_model_sees_queries_and_items_through_its_heads(searcher: Searcher) -> None:
    """Both sides are turned alike: the order is the baseline's only if the query went through the heads too."""
    for query in ({"text": "black tee"}, {"image": picture("blue")}, {"item": "p05_B"}):
        baseline = searcher.search(Query(**query, model="baseline"))
        protocol = searcher.search(Query(**query, model="protocol"))
        assert ids(baseline) == ids(protocol) and protocol.model == "protocol"


def test_a_picture_and_a_text_are_weighed(searcher: Searcher) -> None:
    def first(weight: float | None) -> str | None:
        query = Query(image=picture("blue"), text="red", model="protocol", image_weight=weight)
        return searcher.search(query).results[0].item["color"]

    assert first(1.0) == "blue" and first(0.0) == "red"
    assert first(None) == "blue", "0.7, as the protocol model learnt"


def test_a_vector_is_searched_as_it_is(searcher: Searcher) -> None:
    gallery = embedded().catalog
    vector = 3.0 * gallery.images[7]
    answer = searcher.search(Query(vector=vector, model="baseline", one_per_product=False, limit=20))
    expected = exact_top_k(gallery.images[7:8], gallery.images, k=20)["all"].rows[0]
    assert ids(answer) == [gallery.meta["item_id"][row] for row in expected]


@pytest.mark.parametrize("bad", [[1.0] * 4, [0.0] * DIM, [np.nan] * DIM, [np.inf] * DIM, [1e38] * DIM])
def test_vectors_that_are_none_are_refused(searcher: Searcher, bad: list[float]) -> None:
    if bad[0] == 1e38:  # finite, if large: answered
        assert searcher.search(Query(vector=np.array(bad, dtype=np.float32))).results
        return
    with pytest.raises(BadQuery, match="expected 5 finite numbers"):
        searcher.search(Query(vector=np.array(bad, dtype=np.float32)))


def test_reranking_orders_what_was_retrieved(searcher: Searcher) -> None:
    answer = searcher.search(Query(text="red", model="baseline", rerank="protocol", limit=30))
    own = searcher.search(Query(text="red", model="protocol", limit=30))
    assert ids(answer) == ids(own), "all items are retrieved here, so the order is the protocol model's"
    assert (answer.model, answer.rerank) == ("baseline", "protocol")


@pytest.mark.parametrize("query", [{"item": "p00_A"}, {"image": picture("red")}])
def test_what_goes_with_a_red_tee_is_another_kind_in_blue(searcher: Searcher, query: dict[str, object]) -> None:
    answer = searcher.search(Query(**query, rerank="compatibility", limit=3))  # type: ignore[arg-type]
    assert answer.results[0].item["color"] == "blue"
    own = "tees" if "item" in query else None
    categories = {result.item["category"] for result in answer.results}
    assert len(categories) == 1 and own not in categories


@pytest.mark.parametrize("query", [{"item": "p00_A"}, {"image": picture("red")}])
@pytest.mark.parametrize("partner", ["tees", "cardigans"])
def test_what_goes_with_an_item_is_of_its_partner_kinds(
    tmp_path: Path, query: dict[str, object], partner: str
) -> None:
    """A red item of either category, by id or as a picture whose nearest items say what it is."""
    partners = {("women", category): {("women", partner), ("men", partner)} for category in ("tees", "cardigans")}
    answer = open_small(tmp_path, partners=partners).search(Query(**query, rerank="compatibility"))  # type: ignore[arg-type]
    assert {result.item["category"] for result in answer.results} == {partner}


def test_filters_hold_among_partner_kinds(tmp_path: Path) -> None:
    searcher = open_small(tmp_path, partners={("women", "tees"): {("women", "tees")}})
    query = Query(item="p00_A", rerank="compatibility", filters={"color": ["red"]})
    assert {(r.item["category"], r.item["color"]) for r in searcher.search(query).results} == {("tees", "red")}
    query = Query(item="p00_A", rerank="compatibility", filters={"category": ["cardigans"]})
    answer = searcher.search(query)
    assert answer.results == [] and answer.total == 0


@pytest.mark.parametrize("query", [{"item": "p00_A"}, {"image": picture("red")}])
@pytest.mark.parametrize("filters", [{}, {"color": ["red"]}])
def test_among_partner_kinds_counts_are_of_what_is_found(
    tmp_path: Path, query: dict[str, object], filters: dict[str, list[str]]
) -> None:
    """The item's own product is not among them, and what a value counts is what its filter then finds."""
    kinds = {("women", category): {("women", "tees")} for category in ("tees", "cardigans")}
    searcher = open_small(tmp_path, partners=kinds)

    def ask(filters: dict[str, list[str]]) -> Answer:
        found = Query(**query, rerank="compatibility", filters=filters, one_per_product=False, limit=100)  # type: ignore[arg-type]
        return searcher.search(found)

    answer = ask(filters)
    assert answer.total == len(answer.results) > 0
    assert "item" not in query or not {"p00_A", "p00_B"} & set(ids(answer))
    for name in ("category", "color"):
        for facet in answer.facets[name]:
            assert facet.count == len(ask(filters | {name: [facet.value]}).results), (name, facet)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "got nothing"),
        ({"item": "p00_A", "image": b"x"}, "got image and item"),
        ({"text": "x", "vector": np.ones(DIM, dtype=np.float32)}, "got text and vector"),
        ({"text": "x", "rerank": "compatibility"}, "needs a picture or an item"),
        (
            {"vector": np.ones(DIM, dtype=np.float32), "model": "baseline", "rerank": "protocol"},
            "vector of model 'baseline' cannot be ranked anew",
        ),
        ({"text": "x", "index": "hnsw"}, "no index 'hnsw' is loaded; there are exact"),
    ],
)
def test_queries_that_cannot_be_answered_say_why(searcher: Searcher, query: dict[str, object], words: str) -> None:
    with pytest.raises(BadQuery, match=words):
        searcher.search(Query(**query))  # type: ignore[arg-type]


def test_unknown_items_and_broken_pictures(searcher: Searcher) -> None:
    with pytest.raises(UnknownQuery, match="no item 'p99_A'"):
        searcher.search(Query(item="p99_A"))
    with pytest.raises(ImageError):
        searcher.search(Query(image=picture("red")[:40]))


def test_items_of_the_query_splits_can_be_asked_for_but_are_not_found(searcher: Searcher) -> None:
    assert "p11_A" not in ids(searcher.search(Query(item="p11_B", limit=30)))
    assert searcher.catalogue.describe("p11_A")["color"] == "black"


class _Backwards:
    """An index that returns the worst first: what it returns is what is shown."""

    def search(self, queries: np.ndarray, *, k: int, allowed: np.ndarray | None = None) -> TopK:
        gallery = turned(embedded()).catalog.images
        masks = None if allowed is None else {"all": allowed}
        top = exact_top_k(-queries, gallery, k=k, masks=masks)["all"]
        return TopK(top.rows, -top.scores)


def test_an_index_is_used_for_its_own_model_only(searcher: Searcher) -> None:
    own = Searcher(
        searcher.catalogue,
        searcher._embedded,
        searcher.encoder,
        heads=searcher._heads,
        indexes={"hnsw": _Backwards()},
        default_index="hnsw",
    )
    assert own.indexes == ["hnsw", "exact"]
    by_index, exact = own.search(Query(text="red")), own.search(Query(text="red", index="exact"))
    assert by_index.index == "hnsw" and exact.index == "exact" and ids(by_index) != ids(exact)
    baseline = own.search(Query(text="red", model="baseline"))
    assert baseline.index == "exact", "its embeddings are not the baseline's"
    filtered = own.search(Query(text="red", filters={"color": ["black"]}))
    assert {result.item["color"] for result in filtered.results} == {"black"}


def test_an_answer_is_plain_values(searcher: Searcher) -> None:
    import json

    found = answer_dict(searcher.search(Query(item="p03_A")))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {"rank", "score", "item_id", "matched", "color"} <= set(found["results"][0])


def test_a_contact_sheet_shows_the_visitors_picture_upright(searcher: Searcher) -> None:
    """A photo that lies on its side, as phones store them: the sheet shows it as the search saw it."""
    lying = Image.new("RGB", (80, 40), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    lying.save(buffer, "JPEG", exif=exif)
    query = Query(image=buffer.getvalue(), limit=1)
    page = contact_sheet(query, searcher.search(query), searcher.catalogue)
    first = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)[0]
    with Image.open(io.BytesIO(base64.b64decode(first))) as shown:
        assert shown.height == 2 * shown.width
