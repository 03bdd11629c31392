"""A shop whose images are noise and whose texts tell everything, with encoders that read words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.base.params import Bootstrap
from lib.catalog.attributes import load_attribute_schema
from lib.catalog.captions import compose_caption
from lib.catalog.normal_text import normalise_text
from lib.catalog.schema import SOURCED, STRING_COLUMNS
from lib.embeddings import META_COLUMNS, Embeddings, EmbeddingSet

SCHEMA = load_attribute_schema(Path(__file__).parents[2] / "lib/catalog/attributes.yaml")
DIM = 48
BOOTSTRAP = Bootstrap(resamples=300, seed=42)
NECKLINES = ("v-neck", "round neck", "henley")
COLORS = ("red", "blue", "steel mesh")
CATEGORIES = ("Tshirts", "dresses")


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Reader:
    """A bag of words: each word has a random direction, texts with the same words are near."""

    def __init__(self, *, only: Callable[[str], bool] = lambda word: True) -> None:
        self._only = only
        self.asked: list[list[str]] = []

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(list(texts))
        return np.concatenate([np.zeros((0, DIM), np.float32), *[self._embed(text) for text in texts]])

    def _embed(self, text: str) -> np.ndarray:
        words = ["<start>", *(word for word in normalise_text(text).split() if self._only(word))]
        return unit(np.sum([_direction(word) for word in words], axis=0)[None, :])


def _direction(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=DIM)


def make_rows(n_products: int = 90, *, seed: int = 0, **changes: Any) -> pd.DataFrame:
    """Two items per product; a column of `changes` is a constant or a function of the row."""
    rng = np.random.default_rng(seed)
    rows = []
    for product in range(n_products):
        neckline, color = str(rng.choice(NECKLINES)), str(rng.choice(COLORS))
        category, told = str(rng.choice(CATEGORIES)), bool(rng.random() < 0.6)
        noun = {"Tshirts": "T-Shirt", "dresses": "dress"}[category]
        row: dict[str, Any] = dict.fromkeys(STRING_COLUMNS) | {
            "product_id": f"p{product:03d}",
            "split": ("train", "train", "train", "validation", "test")[product % 5],
            "category2": category,
            "neckline": neckline,
            "neckline_source": "text" if told else "column",
            "color": color,
            "color_source": "column",
            "text": f"Name{product} {neckline if told else 'fine'} {noun} in {color}",
        }
        rows += [row | {"item_id": f"i{product:03d}_{view}"} for view in range(2)]
    for row in rows:
        row |= {name: change(row) if callable(change) else change for name, change in changes.items()}
        values = {name: row[name] for name in SOURCED}
        if "caption" not in changes:
            row["caption"] = compose_caption(values, category=row["category2"], text=row["text"])
    frame = pd.DataFrame(rows).astype(object)
    return frame.where(frame.notna(), None)


def embed(rows: pd.DataFrame, reader: Reader, *, seed: int = 1) -> EmbeddingSet:
    """Random images, read captions; train is the gallery."""
    images = unit(np.random.default_rng(seed).normal(size=(len(rows), DIM)))
    texts = reader.encode_texts([caption or "" for caption in rows["caption"]])
    reader.asked.clear()
    whole = Embeddings(images, texts, rows[list(META_COLUMNS)].reset_index(drop=True))
    others = np.flatnonzero((rows["split"] != "train").to_numpy())
    queries = Embeddings(images[others], texts[others], whole.meta.iloc[others].reset_index(drop=True))
    return EmbeddingSet(whole.of_split("train"), queries, "fake")
