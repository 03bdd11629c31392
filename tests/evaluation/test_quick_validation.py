"""Quick validation during training against loops over its sample."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lib.base.artifacts import FloatArray
from lib.base.params import Validation
from lib.embeddings import EmbeddingSet
from lib.evaluation import validation
from lib.evaluation.validation import FEW_VIEWS_ROW, PRODUCT_ROW, ROWS, quick_validation

SECTION = Validation(gallery=10**6, queries=10**6, select_by=("neckline@10",), max_fall=0.0, seed=1)


class Coarse:
    """A model that sees little, so that it errs."""

    def encode_image_numpy(self, x: FloatArray) -> FloatArray:
        """The first four dimensions as unit rows."""
        seen: FloatArray = x[:, :4] / np.linalg.norm(x[:, :4], axis=1, keepdims=True)
        return np.ascontiguousarray(seen, dtype=np.float32)


@pytest.fixture
def few_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """The synthetic catalogue is smaller than one whose product row would count."""
    monkeypatch.setattr(validation, "MIN_JUDGED", 1)


@pytest.mark.usefixtures("few_views")
def test_rows_equal_loops(baseline_set: EmbeddingSet) -> None:
    found = quick_validation(baseline_set, params=SECTION, pattern_only=("graphic",))(Coarse())
    queries = baseline_set.queries.of_split("validation")
    meta, gallery = queries.meta, baseline_set.catalog.meta
    images, items = (
        Coarse().encode_image_numpy(x).astype(np.float64) for x in (queries.images, baseline_set.catalog.images)
    )
    first, precisions = [], []
    for row in range(len(meta)):
        others = [j for j in range(len(meta)) if j != row]
        if (meta["product_id"].iloc[others] == meta["product_id"].iloc[row]).any():
            best = max(others, key=lambda j: (round(float(images[j] @ images[row]), 9), -j))
            first.append(meta["product_id"].iloc[best] == meta["product_id"].iloc[row])
        if meta["neckline"].iloc[row] is not None:
            scores = np.round(items @ images[row], 9)
            scores[(gallery["product_id"] == meta["product_id"].iloc[row]).to_numpy()] = -2.0
            top = np.argsort(-scores, kind="stable")[:10]
            precisions.append((gallery["neckline"].iloc[top] == meta["neckline"].iloc[row]).mean())
    assert 0 < np.mean(first) < 1
    assert found[PRODUCT_ROW] == pytest.approx(np.mean(first), abs=1e-6)
    assert found["neckline@10"] == pytest.approx(np.mean(precisions), abs=1e-6)
    assert set(found) == {*ROWS, *(f"unseen_{name}" for name in ROWS), PRODUCT_ROW}


def test_some_second_views_are_judged_by_ten_results(baseline_set: EmbeddingSet) -> None:
    """Fewer than a hundred queries with another view: the first result of each says too little, ten do not."""
    found = quick_validation(baseline_set, params=SECTION, pattern_only=())(Coarse())
    queries = baseline_set.queries.of_split("validation")
    products = queries.meta["product_id"].to_numpy()
    images = Coarse().encode_image_numpy(queries.images).astype(np.float64)
    precisions = []
    for row in range(len(products)):
        others = [j for j in range(len(products)) if j != row]
        views = {j for j in others if products[j] == products[row]}
        ranked = sorted(others, key=lambda j: (-round(float(images[j] @ images[row]), 9), j))[:10]
        at = [rank for rank, j in enumerate(ranked, 1) if j in views]
        if views:
            precisions.append(sum(n / rank for n, rank in enumerate(at, 1)) / len(views))
    assert 10 <= len(precisions) < 100 and 0 < np.mean(precisions) < 1
    assert found[FEW_VIEWS_ROW] == pytest.approx(np.mean(precisions), abs=1e-6)
    assert PRODUCT_ROW not in found


def test_few_second_views_say_nothing(baseline_set: EmbeddingSet) -> None:
    """One query found more or less must not decide how much of the head is used."""
    queries = baseline_set.queries
    held = queries.meta["split"] == "validation"
    paired = held & queries.meta["product_id"].duplicated(keep=False)
    meta = queries.meta.assign(
        product_id=queries.meta["product_id"].where(paired.cumsum() <= 9, queries.meta["item_id"])
    )
    embedded = dataclasses.replace(baseline_set, queries=dataclasses.replace(queries, meta=meta))
    assert not {PRODUCT_ROW, FEW_VIEWS_ROW} & set(
        quick_validation(embedded, params=SECTION, pattern_only=())(Coarse())
    )


def test_few_known_values_say_nothing(baseline_set: EmbeddingSet) -> None:
    """One neighbour found more or less must not decide it either."""
    meta = baseline_set.queries.meta
    known = meta["material"].notna() & (meta["split"] == "validation")
    rare = meta.assign(material=meta["material"].where(known.cumsum() <= 9, None))
    for kept, there in ((meta, True), (rare, False)):
        queries = dataclasses.replace(baseline_set.queries, meta=kept)
        embedded = dataclasses.replace(baseline_set, queries=queries)
        found = quick_validation(embedded, params=SECTION, pattern_only=())(Coarse())
        assert ("material@10" in found, "unseen_material@10" in found) == (there, there)
        assert "neckline@10" in found
