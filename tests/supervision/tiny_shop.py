"""Tiny catalogues on the unit circle: an item is an angle in degrees, a score the cosine of a difference."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.embeddings import META_COLUMNS, Embeddings


def meta_of(rows: list[dict[str, object]]) -> pd.DataFrame:
    """A catalogue table; a column left out is unknown, an item without product_id is its own product."""
    full = []
    for number, row in enumerate(rows):
        item = f"i{number}"
        full.append({"item_id": item, "product_id": f"p{number}", "split": "train", "product_key": "item_id"} | row)
    table = pd.DataFrame(full, columns=list(META_COLUMNS)).astype(object)
    return table.where(table.notna(), None)


def on_circle(angles: list[float], rows: list[dict[str, object]]) -> Embeddings:
    """Items at angles (degrees); texts are the same points."""
    radians = np.deg2rad(np.array(angles, dtype=np.float64))
    points = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)
    return Embeddings(points, points, meta_of(rows))


def random_shop(n: int, *, seed: int) -> pd.DataFrame:
    """n items with long-tailed, partly unknown attributes, some products of two or three, some graphic."""
    rng = np.random.default_rng(seed)

    def draw(values: list[str], unknown: float) -> str | None:
        weights = 1.0 / np.arange(1, len(values) + 1)
        return None if rng.random() < unknown else str(rng.choice(values, p=weights / weights.sum()))

    rows: list[dict[str, object]] = []
    product = 0
    while len(rows) < n:
        shared: dict[str, object] = {
            "product_id": f"p{product}",
            "category2": draw(["tees", "dresses", "shorts", "graphic"], 0.05),
            "color": draw(["black", "red", "blue", "green"], 0.1),
            "material": draw(["cotton", "wool", "denim", "leather"], 0.2),
            "pattern": draw(["solid", "striped", "floral"], 0.2),
            "neckline": draw(["crew", "v", "boat"], 0.5),
            "sleeve": draw(["short", "long"], 0.3),
        }
        rows += [dict(shared) for _ in range(int(rng.integers(1, 4)))]
        product += 1
    return meta_of(rows[:n])
