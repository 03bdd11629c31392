"""A small synthetic catalogue: embeddings that carry attributes, products with several views."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lib.base.params import Bootstrap, Evaluate
from lib.embeddings import META_COLUMNS, Embeddings, EmbeddingSet

VALUES = {
    "category2": ("tees", "cardigans", "shorts", "graphic"),
    "color": ("black", "blue", "red"),
    "material": ("cotton", "denim", "leather", "wool"),
    "pattern": ("plain", "striped"),
    "neckline": ("crew", "v-neck", "polo"),
    "sleeve": ("short", "long"),
}
UNKNOWN_SHARE = {"material": 0.3, "neckline": 0.5, "sleeve": 0.2}
DIM = 24


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_set(seed: int = 0, *, n_products: int = 140, weights: dict[str, float] | None = None) -> EmbeddingSet:
    """The items depend on the seed only; `weights` says how much each attribute shows in the embeddings."""
    rng = np.random.default_rng(seed)
    rows = []
    for product in range(n_products):
        values = {name: str(rng.choice(options)) for name, options in VALUES.items()}
        known = {
            name: None if rng.random() < UNKNOWN_SHARE.get(name, 0.0) else value for name, value in values.items()
        }
        split = "train" if product % 5 < 3 else ("validation" if product % 5 == 3 else "test")
        for view in range(int(rng.integers(1, 4))):
            caption = "" if rng.random() < 0.1 else " ".join(v for v in known.values() if v)
            row = {"item_id": f"{product:04d}_{view}", "product_id": f"p{product:04d}", "split": split}
            rows.append(row | known | {"true": values, "product": product, "caption": caption})
    table = pd.DataFrame(rows).assign(category1="women", category3=None, product_key="column")
    table = table.assign(partition=None, partition_item=None)
    table = table.astype(dict.fromkeys(VALUES, object))
    directions = {(name, value): rng.normal(size=DIM) for name in VALUES for value in VALUES[name]}
    product_noise = rng.normal(size=(n_products, DIM))
    item_noise, text_noise = rng.normal(size=(len(table), DIM)), rng.normal(size=(len(table), DIM))
    weights = {"category2": 1.0, "color": 0.6, "material": 0.5, "pattern": 0.5} if weights is None else weights
    signal = np.array(
        [sum(w * directions[n, values[n]] for n, w in weights.items()) + np.zeros(DIM) for values in table["true"]]
    )
    images = unit(signal + 0.8 * product_noise[table["product"]] + 0.5 * item_noise)
    texts = unit(signal + 0.8 * text_noise)
    for name in VALUES:
        table[name] = table[name].where(table[name].notna(), None)
    whole = Embeddings(images, texts, table[list(META_COLUMNS)])
    train, others = whole.of_split("train"), np.flatnonzero(table["split"] != "train")
    queries = Embeddings(images[others], texts[others], whole.meta.iloc[others].reset_index(drop=True))
    return EmbeddingSet(train, queries, f"fake-{seed}-{sorted(weights.items())}")


@pytest.fixture(scope="session")
def build_set() -> Callable[..., EmbeddingSet]:
    return make_set


@pytest.fixture(scope="session")
def baseline_set() -> EmbeddingSet:
    return make_set()


@pytest.fixture(scope="session")
def protocol_set() -> EmbeddingSet:
    return make_set(weights={"category2": 1.0, "color": 0.3, "material": 0.9, "pattern": 0.5, "neckline": 1.2})


@pytest.fixture(scope="session")
def evaluate_params() -> Evaluate:
    return Evaluate(
        k=10,
        modes=("image_to_image", "text_to_image", "fused"),
        fused_image_weight=0.5,
        bootstrap=Bootstrap(resamples=300, seed=42),
        gallery_queries=6,
    )
