"""A catalogue small enough to train on in a second, with attributes that are linear in the embedding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.base.params import PAIR_KINDS, Train, parse_params
from lib.embeddings import META_COLUMNS, Embeddings
from lib.training.loop import train
from lib.training.protocol_model import ProtocolModel

DIM = 16
BACKBONE = "f" * 64
CATEGORIES = ("tees", "dresses", "shorts")
NECKLINES = ("crew", "v", "boat")


def tiny_catalog(n: int = 60, *, seed: int = 0) -> Embeddings:
    """n items, two per product; category strong, neckline weak in the embedding, noise around both."""
    rng = np.random.default_rng(seed)
    axes = {name: rng.normal(size=DIM) for name in (*CATEGORIES, *NECKLINES)}
    rows, images = [], []
    for number in range(n):
        product = np.random.default_rng([seed, number // 2])
        category, neckline = str(product.choice(CATEGORIES)), str(product.choice(NECKLINES))
        known = product.random() < 0.8
        row = {"item_id": f"i{number}", "product_id": f"p{number // 2}", "split": "train", "category2": category}
        row |= {"neckline": neckline if known else None, "color": "red", "caption": f"a {category} {neckline}"}
        row |= {"material": str(product.choice(["cotton", "wool"])), "product_key": "item_id"}
        rows.append(row)
        images.append(2 * axes[category] + 0.5 * axes[neckline] + rng.normal(size=DIM))
    table = pd.DataFrame(rows, columns=list(META_COLUMNS)).astype(object)
    points = unit(np.array(images))
    texts = unit(np.array(images) + rng.normal(size=(n, DIM)))
    return Embeddings(points, texts, table.where(table.notna(), None))


def unit(rows: np.ndarray) -> np.ndarray:
    """Float32 unit rows."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def tiny_pairs(catalog: Embeddings, *, n: int = 120, seed: int = 0) -> pd.DataFrame:
    """Pairs of all five kinds, drawn without much thought."""
    rng = np.random.default_rng(seed)
    ids = catalog.meta["item_id"].to_numpy()
    rows, seen = [], set()
    while len(rows) < n:
        a, b = sorted(rng.choice(len(ids), size=2, replace=False))
        if (a, b) not in seen:
            seen.add((a, b))
            kind = PAIR_KINDS[len(rows) % 5]
            rows.append((ids[a], ids[b], kind, int(kind in ("strong", "medium", "weak")), "drawn"))
    return pd.DataFrame(rows, columns=["a_id", "b_id", "kind", "label", "reason"])


def tiny_params(**changed: object) -> Train:
    """The section `train` of params.yaml, made small; dots in a key are written as two underscores."""
    import yaml

    raw = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    small: dict[str, object] = {"epochs": 2, "batch_size": 16, "lr": 1e-2, "head__hidden": 8}
    small |= {"sampler__boosts": [], "sampler__caps": []}
    for key, value in (small | changed).items():
        *path, last = key.split("__")
        place = raw["train"]
        for part in path:
            place = place[part]
        place[last] = value
    return parse_params(raw).train


def no_validation(model: ProtocolModel) -> dict[str, float]:
    """A number that moves with the weights, so that a wrong checkpoint shows."""
    return {"neckline@10": round(float(model.image_head.last.weight.detach().abs().sum()), 6)}


def run(
    out: Path,
    params: Train,
    *,
    pairs: pd.DataFrame | None = None,
    catalog: Embeddings | None = None,
    resume: Path | None = None,
    validate: Callable[[ProtocolModel], dict[str, float]] = no_validation,
) -> list[dict[str, object]]:
    """Train on the tiny catalogue."""
    catalog = tiny_catalog() if catalog is None else catalog
    return train(
        catalog,
        tiny_pairs(catalog) if pairs is None else pairs,
        backbone=BACKBONE,
        params=params,
        pattern_only=("graphic",),
        validate=validate,
        out=out,
        resume=resume,
    )


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
