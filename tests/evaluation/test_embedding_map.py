"""Maps of embeddings: same bytes whatever the threads, neighbours of other products, figures by hand."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import threadpoolctl
from sklearn.manifold import trustworthiness

from lib.base.errors import IntegrityError
from lib.base.params import EmbeddingMap
from lib.embeddings import Embeddings, EmbeddingSet
from lib.evaluation import embedding_map
from lib.evaluation.embedding_map import NEIGHBOURS, DrawnMaps, Places, map_embeddings
from lib.evaluation.evaluation import LABELS

PARAMS = EmbeddingMap(items=1000, perplexity=10, seed=42)


@pytest.fixture(scope="module")
def drawn(baseline_set: EmbeddingSet, protocol_set: EmbeddingSet) -> DrawnMaps:
    return map_embeddings(baseline_set.queries, protocol_set.queries, params=PARAMS, pattern_only=("graphic",))


def test_what_is_drawn(drawn: DrawnMaps, baseline_set: EmbeddingSet) -> None:
    test = baseline_set.queries.of_split("test")
    assert drawn.items["item_id"].tolist() == test.meta["item_id"].tolist()
    assert list(drawn.maps) == ["baseline", "protocol"]
    for one in drawn.maps.values():
        assert one.places.shape == (len(test), 2) and one.neighbours.shape == (len(test), NEIGHBOURS)
        low, high = one.places.min(axis=0), one.places.max(axis=0)
        assert low.min() == pytest.approx(0, abs=1e-3) and high.max() == pytest.approx(1, abs=1e-3)
        assert (low >= 0).all() and (high <= 1).all() and one.places.std(axis=0).min() > 0.1


def test_neighbours_and_figures_against_slow_ones(drawn: DrawnMaps, baseline_set: EmbeddingSet) -> None:
    test = baseline_set.queries.of_split("test")
    products = test.meta["product_id"].to_numpy()
    category = test.meta["category2"].where(test.meta["category2"] != "graphic", None).to_numpy()
    near, on_map, kept = [], [], []
    scores = test.images.astype(np.float64) @ test.images.T.astype(np.float64)
    places = drawn.maps["baseline"].places
    for i in range(len(test)):
        others = [j for j in range(len(test)) if products[j] != products[i]]
        best = sorted(others, key=lambda j: (-round(scores[i, j], 9), j))[:NEIGHBOURS]
        close = sorted(others, key=lambda j: (((places[i] - places[j]) ** 2).sum(), j))[:NEIGHBOURS]
        assert drawn.maps["baseline"].neighbours[i].tolist() == best
        kept.append(len(set(best) & set(close)) / NEIGHBOURS)
        if category[i] is not None:
            near.append(np.mean([category[j] == category[i] for j in best]))
            on_map.append(np.mean([category[j] == category[i] for j in close]))
    figures = drawn.figures["labels"]["category"]
    assert figures["n_items"] == len(near)
    assert figures["baseline"]["embedding"] == pytest.approx(np.mean(near), abs=1e-9)
    assert figures["baseline"]["map"] == pytest.approx(np.mean(on_map), abs=1e-9)
    believed = drawn.figures["models"]["baseline"]
    assert believed["neighbours_kept"] == pytest.approx(np.mean(kept), abs=1e-9)
    expected = trustworthiness(test.images, places, n_neighbors=NEIGHBOURS)
    assert believed["trustworthiness"] == pytest.approx(expected, abs=1e-6)
    assert believed["neighbours_kept"] > 0.3, "a map that keeps no neighbours is a bad map"
    assert list(drawn.figures["labels"]) == list(LABELS)


def test_threads_do_not_show(
    drawn: DrawnMaps, baseline_set: EmbeddingSet, protocol_set: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of a small map happen to be equal on two threads as well: hence the look at what t-SNE ran on."""
    seen = set()

    class Watched(embedding_map.TSNE):  # type: ignore[misc]
        def fit_transform(self, *args: Any) -> np.ndarray:
            seen.update(int(library["num_threads"]) for library in threadpoolctl.threadpool_info())
            return np.asarray(super().fit_transform(*args))

    monkeypatch.setattr(embedding_map, "TSNE", Watched)
    with threadpoolctl.threadpool_limits(2):
        again = map_embeddings(baseline_set.queries, protocol_set.queries, params=PARAMS, pattern_only=("graphic",))
    assert seen == {1}
    for name, one in drawn.maps.items():
        np.testing.assert_array_equal(one.places, again.maps[name].places)
    assert drawn.figures == again.figures


def test_one_model_twice_is_one_map(baseline_set: EmbeddingSet) -> None:
    same = map_embeddings(baseline_set.queries, baseline_set.queries, params=PARAMS, pattern_only=())
    np.testing.assert_allclose(same.maps["baseline"].places, same.maps["protocol"].places, atol=2e-4)
    assert same.figures["models"]["baseline"] == pytest.approx(same.figures["models"]["protocol"], abs=0.05)


def test_both_maps_start_at_the_baselines_places_and_the_second_is_turned_onto_the_first(
    baseline_set: EmbeddingSet, protocol_set: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts, laid_out = [], []
    real = embedding_map._places

    def spy(components: Places, start: Places, params: EmbeddingMap) -> Places:
        starts.append(start)
        laid_out.append(real(components, start, params))
        return laid_out[-1]

    monkeypatch.setattr(embedding_map, "_places", spy)
    drawn = map_embeddings(baseline_set.queries, protocol_set.queries, params=PARAMS, pattern_only=())
    first, second = drawn.maps["baseline"].places, drawn.maps["protocol"].places
    np.testing.assert_array_equal(starts[0], starts[1])
    assert starts[0].std() > 0
    np.testing.assert_array_equal(first, laid_out[0])
    np.testing.assert_array_equal(second, embedding_map._turned(laid_out[1], first))
    assert not np.array_equal(second, laid_out[1])


def test_turning_keeps_distances_and_undoes_a_rotation() -> None:
    places = np.random.default_rng(0).random((40, 2))
    mirrored = places @ np.array([[0.0, -1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(embedding_map._turned(mirrored, places), embedding_map._fitted(places), atol=2e-4)


def test_a_sample_is_seeded_and_keeps_the_order(baseline_set: EmbeddingSet) -> None:
    def ids(seed: int) -> list[str]:
        params = EmbeddingMap(items=40, perplexity=10, seed=seed)
        both = map_embeddings(baseline_set.queries, baseline_set.queries, params=params, pattern_only=())
        return [str(item) for item in both.items["item_id"]]

    first = ids(1)
    assert first == ids(1) == sorted(first) and first != ids(2) and len(first) == 40


@pytest.mark.parametrize("items", [0, 12])
def test_too_few_items_are_no_map_and_say_so(baseline_set: EmbeddingSet, items: int) -> None:
    params = EmbeddingMap(items=items, perplexity=10, seed=1)
    found = map_embeddings(baseline_set.queries, baseline_set.queries, params=params, pattern_only=())
    assert found.maps == {} and len(found.items) == 0
    assert found.figures["skipped"].startswith(f"{items} test items")


def test_embeddings_that_are_all_one_are_drawn_without_a_warning() -> None:
    n = 60
    images = np.zeros((n, 8), dtype=np.float32)
    images[:, 0] = 1
    meta = pd.DataFrame({"item_id": [f"{i:02d}" for i in range(n)], "product_id": [f"{i}" for i in range(n)]})
    meta = meta.assign(split="test", **dict.fromkeys(LABELS.values(), None)).astype(object)
    one = Embeddings(images, images, meta)
    warnings.simplefilter("error")  # pytest restores it
    found = map_embeddings(one, one, params=PARAMS, pattern_only=())
    assert np.isfinite(found.maps["protocol"].places).all()
    assert found.figures["labels"] == {}


def test_other_items_are_refused(baseline_set: EmbeddingSet) -> None:
    queries = baseline_set.queries
    other = dataclasses.replace(queries, meta=queries.meta.assign(item_id=queries.meta["item_id"] + "x"))
    with pytest.raises(IntegrityError, match="different items"):
        map_embeddings(queries, other, params=PARAMS, pattern_only=())
