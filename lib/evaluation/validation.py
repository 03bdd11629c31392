"""Quick validation during training: a mini gallery, a few hundred queries, a second per epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from lib.base.artifacts import FloatArray
from lib.base.params import Validation
from lib.embeddings import EmbeddingSet
from lib.evaluation.metrics import attribute_precision_at_k, average_precision_at_k, hit_rate_at_k
from lib.retrieval.search import exact_top_k

K = 10
PRODUCT_ROW = "product_hit_rate@1"
FEW_VIEWS_ROW = "product_map@10"
MIN_JUDGED = 100
"""Results that a row is a mean of, `K` of each query or the first of each: of fewer, one more or less would count for
more than a point, and what is chosen on validation would hang on it."""
ROWS = {
    "neckline@10": "neckline",
    "category@10": "category2",
    "material@10": "material",
    "pattern@10": "pattern",
    "sleeve@10": "sleeve",
    "color@10": "color",
}


class ImageEncoder(Protocol):
    """Anything that re-encodes baseline image embeddings."""

    def encode_image_numpy(self, x: FloatArray) -> FloatArray:
        """(n, dim) -> (n, dim) float32 unit rows."""
        ...


def quick_validation(
    embedded: EmbeddingSet, *, params: Validation, pattern_only: Sequence[str]
) -> Callable[[ImageEncoder], dict[str, float]]:
    """Prepare image-to-image validation on a fixed seeded sample of the train and validation splits.

    Args:
        embedded: the baseline's embeddings; the test split is not looked at.
        params: the section `train.validation`: `gallery` train items, `queries` validation items (all when
            there are fewer), `seed`.
        pattern_only: categories left out of `category@10`.

    Returns:
        A function from a model to `ROWS`: mean precision at 10 over the queries whose value is known, rounded
        to 6 decimals, the query's own product left out; `unseen_` the same with the queries searching each
        other, items that no training has seen; and `product_hit_rate@1`, how often the first of the other queries
        is another view of the same product. A row of fewer than `MIN_JUDGED` results is absent: of fewer than ten
        queries that know the value, or a hundred that have such a view; from ten to a hundred of those,
        `product_map@10` stands in, which judges ten results of each.
    """
    rng = np.random.default_rng(params.seed)
    queries = embedded.queries.of_split("validation")
    gallery_rows = _sample(len(embedded.catalog), params.gallery, rng)
    query_rows = _sample(len(queries), params.queries, rng)
    gallery_images = np.ascontiguousarray(embedded.catalog.images[gallery_rows])
    query_images = np.ascontiguousarray(queries.images[query_rows])
    gallery_meta, query_meta = embedded.catalog.meta.iloc[gallery_rows], queries.meta.iloc[query_rows]
    both = pd.concat([query_meta, gallery_meta], ignore_index=True)
    both["category2"] = both["category2"].where(~both["category2"].isin(pattern_only), None)
    n = len(query_meta)
    codes = {name: pd.factorize(both[column], sort=True)[0].astype(np.int64) for name, column in ROWS.items()}
    products = pd.factorize(both["product_id"], sort=True)[0].astype(np.int64)
    n_views = np.bincount(products[:n])[products[:n]] - 1
    k_views = 1 if (n_views > 0).sum() >= MIN_JUDGED else K
    items = np.arange(n)

    def validate(model: ImageEncoder) -> dict[str, float]:
        encoded = model.encode_image_numpy(query_images)
        scores = {}
        for prefix, gallery, part in (
            ("", model.encode_image_numpy(gallery_images), slice(n, None)),
            ("unseen_", encoded, slice(0, n)),
        ):
            top = exact_top_k(encoded, gallery, k=K, query_products=products[:n], gallery_products=products[part])[
                "all"
            ]
            for name, values in codes.items():
                neighbours = np.where(top.rows >= 0, values[part][top.rows], -1)
                precision = attribute_precision_at_k(values[:n], neighbours)
                if np.isfinite(precision).sum() * K >= MIN_JUDGED:
                    scores[prefix + name] = round(float(np.nanmean(precision)), 6)
        if (n_views > 0).sum() * k_views >= MIN_JUDGED:
            top = exact_top_k(encoded, encoded, k=k_views, query_products=items, gallery_products=items)["all"]
            same = (top.rows >= 0) & (products[:n][top.rows] == products[:n, None])
            found = hit_rate_at_k(same, n_views) if k_views == 1 else average_precision_at_k(same, n_views)
            scores[PRODUCT_ROW if k_views == 1 else FEW_VIEWS_ROW] = round(float(np.nanmean(found)), 6)
        return scores

    return validate


def _sample(n: int, wanted: int, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Sorted rows of a sample without replacement; all rows when there are not more than wanted."""
    return np.sort(rng.choice(n, size=min(n, wanted), replace=False)).astype(np.int64)
