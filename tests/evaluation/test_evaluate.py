"""The evaluation against a slow independent reference on a synthetic catalogue."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest

from lib.base.errors import DataError, IntegrityError
from lib.base.params import Evaluate
from lib.embeddings import Embeddings, EmbeddingSet
from lib.evaluation.evaluate import evaluate, query_embeddings
from lib.evaluation.evaluation import LABELS, PRECISION_NAMES, Evaluation, load_evaluation, save_evaluation

FIELDS = ["value", "low", "high", "n_queries", "chance", "ceiling"]


@pytest.fixture(scope="module")
def evaluation(baseline_set: EmbeddingSet, evaluate_params: Evaluate) -> Evaluation:
    return evaluate(baseline_set, evaluate_params, pattern_only=("graphic",))


def reference(embedded: EmbeddingSet, split: str, embeddings: np.ndarray, rows, name: str, *, k: int):
    """Loops only: per query (hits, chance, ceiling) or None when it does not count."""
    column = LABELS[name.removeprefix("known_")]
    gallery, queries = embedded.catalog.meta.to_dict("list"), embedded.queries.meta.to_dict("list")
    banned = {"graphic"} if column == "category2" else set()

    def known(value: object) -> bool:
        return value is not None and value not in banned

    items = embedded.catalog.images.astype(np.float64)
    results = []
    for embedding, row in zip(embeddings, rows, strict=True):
        assert queries["split"][row] == split
        own = queries[column][row]
        if not known(own):
            results.append(None)
            continue
        allowed = [
            j
            for j in range(len(items))
            if gallery["product_id"][j] != queries["product_id"][row]
            and (not name.startswith("known_") or known(gallery[column][j]))
        ]
        scores = {j: round(float(items[j] @ embedding.astype(np.float64)), 9) for j in allowed}
        ranked = sorted(allowed, key=lambda j: (-scores[j], j))[:k]
        matching = sum(gallery[column][j] == own for j in allowed)
        hits = sum(gallery[column][j] == own for j in ranked)
        results.append((hits, min(k, len(allowed)) / k * matching / len(allowed), min(k, matching) / k))
    return results


@pytest.mark.parametrize("mode", ["image_to_image", "text_to_image", "fused"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_precision_equals_the_reference(
    evaluation: Evaluation, baseline_set: EmbeddingSet, split: str, mode: str
) -> None:
    queries = baseline_set.queries
    rows = [
        i
        for i in range(len(queries))
        if queries.meta["split"][i] == split and (mode == "image_to_image" or queries.meta["caption"][i])
    ]
    table = evaluation.per_query
    table = table[(table["split"] == split) & (table["mode"] == mode)].reset_index(drop=True)
    assert table["query_id"].tolist() == queries.meta["item_id"].iloc[rows].tolist()
    embeddings = query_embeddings(queries, np.array(rows), mode, image_weight=0.5)
    for name in PRECISION_NAMES:
        expected = reference(baseline_set, split, embeddings, rows, name, k=10)
        for i, wanted in enumerate(expected):
            if wanted is None:
                assert pd.isna(table[f"{name}_hits"][i])
            else:
                assert table[f"{name}_hits"][i] == wanted[0]
                assert table[f"{name}_chance"][i] == pytest.approx(wanted[1])
                assert table[f"{name}_ceiling"][i] == pytest.approx(wanted[2])
        counted = [wanted for wanted in expected if wanted is not None]
        numbers = evaluation.metrics[split][mode][f"{name}@10"]
        assert list(numbers) == FIELDS
        assert numbers["n_queries"] == len(counted)
        assert numbers["value"] == pytest.approx(np.mean([c[0] / 10 for c in counted]), abs=1e-9)
        assert numbers["chance"] == pytest.approx(np.mean([c[1] for c in counted]), abs=1e-9)
        assert numbers["ceiling"] == pytest.approx(np.mean([c[2] for c in counted]), abs=1e-9)
        assert numbers["low"] <= numbers["value"] <= numbers["high"]


def test_fused_queries_by_hand() -> None:
    meta = pd.DataFrame({"item_id": ["a", "b"]})
    both = Embeddings(np.array([[1, 0], [1, 0]], np.float32), np.array([[0, 1], [-1, 0]], np.float32), meta)
    fused = query_embeddings(both, np.arange(2), "fused", image_weight=0.5)
    np.testing.assert_allclose(fused, [[0.5**0.5, 0.5**0.5], [1, 0]], atol=1e-7)  # opposite ones: the image


def test_fused_learned_is_fused_at_the_models_own_weight_and_skipped_without_one(
    baseline_set: EmbeddingSet, evaluate_params: Evaluate
) -> None:
    both = evaluate_params.model_copy(update={"modes": ("fused", "fused_learned")})
    at_own = evaluate_params.model_copy(update={"modes": ("fused",), "fused_image_weight": 0.2})
    learnt = evaluate(dataclasses.replace(baseline_set, image_weight=0.2), both, pattern_only=("graphic",))
    expected = evaluate(baseline_set, at_own, pattern_only=("graphic",)).metrics
    without = evaluate(baseline_set, both, pattern_only=("graphic",)).metrics
    for split in ("validation", "test"):
        found = learnt.metrics[split]
        assert found["fused_learned"] == expected[split]["fused"] != found["fused"] == without[split]["fused"]
        assert "fused_learned" not in without[split]
        assert "learnt no weight" in without["skipped"][split]["fused_learned"]["*"]


def test_products_within_the_split(evaluation: Evaluation, baseline_set: EmbeddingSet) -> None:
    part = baseline_set.queries.of_split("test")
    products = part.meta["product_id"]
    scores = np.round(part.images.astype(np.float64) @ part.images.astype(np.float64).T, 9)
    values: dict[str, list[float]] = {"hit_rate@1": [], "recall@10": [], "map@10": [], "ndcg@10": []}
    for i in range(len(part)):
        others = [j for j in range(len(part)) if j != i]
        ranked = sorted(others, key=lambda j: (-scores[i, j], j))[:10]
        relevant = [products[j] == products[i] for j in ranked]
        total = sum(products[j] == products[i] for j in others)
        if total:
            values["hit_rate@1"].append(float(relevant[0]))
            values["recall@10"].append(sum(relevant) / total)
            ranks = [r for r in range(10) if relevant[r]]
            values["map@10"].append(sum(sum(relevant[: r + 1]) / (r + 1) for r in ranks) / total)
            ideal = sum(1 / math.log2(r + 2) for r in range(min(10, total)))
            values["ndcg@10"].append(sum(1 / math.log2(r + 2) for r in ranks) / ideal)
    for name, expected in values.items():
        numbers = evaluation.metrics["test"]["image_to_image"][f"product_{name}"]
        assert numbers["n_queries"] == len(expected)
        assert numbers["value"] == pytest.approx(np.mean(expected), abs=1e-9)
        assert 0 <= numbers["chance"] < numbers["value"] <= numbers["ceiling"] <= 1
    skipped = evaluation.metrics["skipped"]["test"]["image_to_image"]
    assert "product-disjoint" in skipped["hit_rate@10"] and "product-disjoint" in skipped["map@10"]


def test_text_recall_has_the_ceiling_of_repeated_captions(evaluation: Evaluation, baseline_set: EmbeddingSet) -> None:
    part = baseline_set.queries.of_split("test")
    captions = part.meta["caption"]
    scores = np.round(part.texts.astype(np.float64) @ part.images.astype(np.float64).T, 9)
    for k in (1, 10):
        recalls, ceilings = [], []
        for i in range(len(part)):
            if captions[i]:
                ranked = sorted(range(len(part)), key=lambda j: (-scores[i, j], j))[:k]
                same = int((captions == captions[i]).sum())
                recalls.append(sum(captions[j] == captions[i] for j in ranked) / same)
                ceilings.append(min(k, same) / same)
        numbers = evaluation.metrics["test"]["text_to_image"][f"text_recall@{k}"]
        assert numbers["value"] == pytest.approx(np.mean(recalls), abs=1e-9)
        assert numbers["ceiling"] == pytest.approx(np.mean(ceilings), abs=1e-9)
    assert evaluation.metrics["test"]["text_to_image"]["text_recall@1"]["ceiling"] < 1


def test_by_class_is_the_mean_over_its_queries(evaluation: Evaluation) -> None:
    table = evaluation.per_query
    chosen = table[(table["split"] == "test") & (table["mode"] == "image_to_image")]
    for column, tree in (("category2", evaluation.by_category), ("material", evaluation.by_material)):
        classes = tree["test"]["image_to_image"]
        assert sorted(classes) == sorted(set(chosen[column].dropna()) - {"graphic"})
        for value, numbers in classes.items():
            hits = chosen.loc[chosen[column] == value, "neckline_hits"].dropna()
            assert numbers["neckline@10"]["value"] == pytest.approx(hits.astype(float).mean() / 10, abs=1e-9)


def test_pattern_only_categories_are_no_category(evaluation: Evaluation) -> None:
    graphic = evaluation.per_query[evaluation.per_query["category2"] == "graphic"]
    assert len(graphic) and graphic["category_hits"].isna().all()
    assert graphic["pattern_hits"].notna().all()


def test_every_figure_has_its_number_of_queries_chance_ceiling_and_interval(evaluation: Evaluation) -> None:
    """Leaves of all three trees; a linear probe calls its value accuracy or balanced accuracy."""
    leaves: list[dict[str, float]] = []

    def walk(tree: dict[str, object]) -> None:
        for key, value in tree.items():
            if key == "skipped":
                continue
            if not isinstance(value, dict):
                raise AssertionError(f"a bare figure: {key}")
            if "chance" in value or not any(isinstance(inner, dict) for inner in value.values()):
                leaves.append(value)
            else:
                walk(value)

    for tree in (evaluation.metrics, evaluation.by_category, evaluation.by_material):
        walk(tree)
    assert len(leaves) > 300
    renamed = {"accuracy": "value", "balanced_accuracy": "value", "n": "n_queries"}
    for leaf in leaves:
        leaf = {renamed.get(name, name): number for name, number in leaf.items()}
        assert set(leaf) == {"value", "low", "high", "n_queries", "chance", "ceiling"}, leaf
        named = leaf["value"]
        assert leaf["low"] - 1e-9 <= named <= leaf["high"] + 1e-9 and named <= leaf["ceiling"] + 1e-9
        assert 0 <= leaf["chance"] <= leaf["ceiling"] <= 1 and leaf["n_queries"] > 0


def test_numbers_are_finite_and_bytes_repeat(
    evaluation: Evaluation, baseline_set: EmbeddingSet, evaluate_params: Evaluate, tmp_path
) -> None:
    def walk(value: object) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                walk(inner)
        elif not isinstance(value, str):
            assert type(value) in (int, float) and math.isfinite(value)

    for tree in (evaluation.metrics, evaluation.by_category, evaluation.by_material):
        walk(tree)
        json.dumps(tree, allow_nan=False)
    again = evaluate(baseline_set, evaluate_params, pattern_only=("graphic",))
    save_evaluation(tmp_path / "one", evaluation)
    save_evaluation(tmp_path / "two", again)
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_saved_and_loaded(evaluation: Evaluation, tmp_path) -> None:
    save_evaluation(tmp_path, evaluation)
    loaded = load_evaluation(tmp_path)
    assert loaded.metrics == evaluation.metrics and loaded.k == 10
    assert loaded.fingerprint == evaluation.fingerprint
    one, two = loaded.per_query, evaluation.per_query
    assert one["query_id"].tolist() == two["query_id"].tolist()
    assert [list(ids) for ids in one["retrieved_ids"]] == two["retrieved_ids"].tolist()
    np.testing.assert_array_equal(
        one["neckline_hits"].to_numpy(float), two["neckline_hits"].to_numpy(float, na_value=np.nan)
    )
    damaged = bytearray((tmp_path / "per_query.parquet").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "per_query.parquet").write_bytes(damaged)
    with pytest.raises(IntegrityError, match=r"per_query\.parquet: damaged"):
        load_evaluation(tmp_path)


def without(embedded: EmbeddingSet, column: str) -> EmbeddingSet:
    parts = [
        dataclasses.replace(part, meta=part.meta.assign(**{column: None}).astype({column: object}))
        for part in (embedded.catalog, embedded.queries)
    ]
    return EmbeddingSet(parts[0], parts[1], embedded.fingerprint)


def test_unknown_attribute_is_skipped_with_a_reason(
    baseline_set: EmbeddingSet, evaluate_params: Evaluate, tmp_path
) -> None:
    found = evaluate(without(baseline_set, "sleeve"), evaluate_params, pattern_only=("graphic",))
    for mode in evaluate_params.modes:
        assert "sleeve@10" not in found.metrics["test"][mode]
        for name in ("sleeve@10", "known_sleeve@10"):
            assert found.metrics["skipped"]["test"][mode][name] == "no query with a known value"
    assert "sleeve" not in found.metrics["probe"]["test"]
    assert "known value" in found.metrics["skipped"]["test"]["probe"]["sleeve"]
    save_evaluation(tmp_path, found)
    assert load_evaluation(tmp_path).per_query["sleeve_hits"].isna().all()


def test_no_captions_and_no_test_split(baseline_set: EmbeddingSet, evaluate_params: Evaluate) -> None:
    queries = baseline_set.queries.of_split("validation")
    silent = dataclasses.replace(queries, meta=queries.meta.assign(caption=""))
    found = evaluate(EmbeddingSet(baseline_set.catalog, silent, "f"), evaluate_params, pattern_only=())
    assert found.metrics["validation"]["text_to_image"] == found.metrics["test"]["image_to_image"] == {}
    assert found.metrics["skipped"]["validation"]["text_to_image"]["text_recall@1"] == "no query with a caption"
    assert set(found.per_query["split"]) == {"validation"} and set(found.per_query["mode"]) == {"image_to_image"}


def test_products_that_stand_in_the_gallery_are_measured(
    baseline_set: EmbeddingSet, evaluate_params: Evaluate
) -> None:
    """The gallery itself as queries: now the product metrics exist, and precision leaves the siblings out."""
    queries = dataclasses.replace(baseline_set.catalog, meta=baseline_set.catalog.meta.assign(split="test"))
    found = evaluate(EmbeddingSet(baseline_set.catalog, queries, "f"), evaluate_params, pattern_only=())
    numbers = found.metrics["test"]["image_to_image"]
    assert numbers["hit_rate@10"]["value"] == 1.0 and numbers["hit_rate@10"]["chance"] < 0.2
    products = dict(zip(queries.meta["item_id"], queries.meta["product_id"], strict=True))
    for query, ids in zip(found.per_query["query_id"], found.per_query["retrieved_ids"], strict=True):
        assert products[query] not in {products[i] for i in ids}


def test_an_empty_gallery_is_refused(baseline_set: EmbeddingSet, evaluate_params: Evaluate) -> None:
    empty = EmbeddingSet(baseline_set.catalog.of_split("none"), baseline_set.queries, "f")
    with pytest.raises(DataError, match="gallery"):
        evaluate(empty, evaluate_params, pattern_only=())
