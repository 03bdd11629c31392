"""A catalogue with a planted rule of what goes together, small enough to train on in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lib.base.params import Compatibility, parse_params
from lib.embeddings import META_COLUMNS, Embeddings, EmbeddingSet

DIM = 12
BACKBONE = "c" * 64
SPLITS = ("train", "train", "train", "validation", "test")


def tiny_set(n_products: int = 150, *, seed: int = 0) -> EmbeddingSet:
    """Two views per product, in turn of the splits. What the rule reads is small beside what it does not."""
    rng = np.random.default_rng(seed)
    style = rng.choice([-1.0, 1.0], size=(n_products, 2))
    own = rng.normal(size=(n_products, DIM - 2))
    rows, points = [], []
    for number in range(n_products):
        for view in range(2):
            row = {"item_id": f"i{number:03d}_{view}", "product_id": f"p{number:03d}", "split": SPLITS[number % 5]}
            row |= {"category2": "skirts" if number % 2 else "tees", "product_key": "column"}
            rows.append(row)
            points.append([*(0.8 * style[number]), *own[number]] + 0.2 * rng.normal(size=DIM))
    table = pd.DataFrame(rows, columns=list(META_COLUMNS)).astype(object)
    table = table.where(table.notna(), None)
    images = (np.array(points) / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    train = (table["split"] == "train").to_numpy()
    parts = [Embeddings(images[m], images[m], table[m].reset_index(drop=True)) for m in (train, ~train)]
    return EmbeddingSet(parts[0], parts[1], BACKBONE)


def items_of(embedded: EmbeddingSet) -> pd.DataFrame:
    return pd.concat([embedded.catalog.meta, embedded.queries.meta], ignore_index=True)


def tiny_pairs(embedded: EmbeddingSet, *, n: int = 1500, seed: int = 0) -> pd.DataFrame:
    """Pairs within splits; they go together when both styles have one sign, which the first two axes tell."""
    rng = np.random.default_rng(seed)
    items = items_of(embedded)
    style = np.sign(np.concatenate([embedded.catalog.images, embedded.queries.images])[:, :2])
    style[1::2] = style[::2]  # views of a product have its style
    rows: list[tuple[str, str, int, str]] = []
    seen: set[frozenset[int]] = set()
    while len(rows) < n:
        a, b = rng.integers(len(items), size=2).tolist()
        same = items.loc[a, "split"] == items.loc[b, "split"]
        if same and items.loc[a, "product_id"] != items.loc[b, "product_id"] and frozenset((a, b)) not in seen:
            label = int((style[a] == style[b]).all())
            if label or rng.random() < 0.4:
                seen.add(frozenset((a, b)))
                rows.append((items.loc[a, "item_id"], items.loc[b, "item_id"], label, items.loc[a, "split"]))
    return pd.DataFrame(rows, columns=["a_id", "b_id", "label", "split"])


def tiny_compatibility(**changed: object) -> Compatibility:
    """The section `compatibility` of params.yaml, made small."""
    raw = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    raw["compatibility"] |= {
        "epochs": 6,
        "hidden": 32,
        "head_out_dim": 8,
        "dropout": 0.1,
        "batch_size": 32,
        "lr_head": 1e-2,
    }
    raw["compatibility"] |= {"bootstrap": {"resamples": 300, "seed": 1}} | changed
    return parse_params(raw).compatibility
