"""Clustered unit rows and an embedded catalogue of them, for the tests of indexes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lib.base.params import Index
from lib.embeddings import META_COLUMNS, Embeddings, EmbeddingSet

ROOT = Path(__file__).resolve().parents[2]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["index"]


def index_params(**changes: Any) -> Index:
    """The section `index` of params.yaml with changes, nested ones merged."""
    raw = {name: dict(value) if isinstance(value, dict) else value for name, value in PARAMS.items()}
    for name, value in changes.items():
        raw[name] = raw[name] | value if isinstance(value, dict) else value
    return Index.model_validate(raw)


def clustered(
    rng: np.random.Generator, n: int, *, dim: int = 16, clusters: int = 12, spread: float = 0.25
) -> np.ndarray:
    """Unit rows around `clusters` directions; row i belongs to cluster i % clusters."""
    centres = np.random.default_rng(99).normal(size=(clusters, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    rows = centres[np.arange(n) % clusters] + spread * rng.normal(size=(n, dim)) / np.sqrt(dim) * 2
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def embedded(gallery: np.ndarray, queries: np.ndarray | None = None, *, fingerprint: str = "model") -> EmbeddingSet:
    """A catalogue whose gallery is given; queries stand in both splits, every caption twice."""
    queries = gallery[:0] if queries is None else queries

    def side(rows: np.ndarray, prefix: str, splits: list[str]) -> Embeddings:
        table: dict[str, Any] = dict.fromkeys(META_COLUMNS)
        captions = [f"caption {i // 2}" if i % 5 else "" for i in range(len(rows))]
        table |= {"item_id": [f"{prefix}{i}" for i in range(len(rows))], "split": splits, "caption": captions}
        meta = pd.DataFrame(table, columns=list(META_COLUMNS), index=range(len(rows)))
        return Embeddings(rows, np.ascontiguousarray(rows[::-1]), meta)

    half = len(queries) // 2
    splits = ["validation"] * half + ["test"] * (len(queries) - half)
    return EmbeddingSet(side(gallery, "g", ["train"] * len(gallery)), side(queries, "q", splits), fingerprint)
