"""Recompute every baseline and protocol value of scoreboard.json from the embeddings alone: no code of lib.

Run from the project's root:  python tests/independent_scores.py artifacts
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

PATTERN_ONLY = {"graphic"}
COLUMNS = {"neckline": "neckline", "sleeve": "sleeve", "pattern": "pattern", "material": "material"}
COLUMNS |= {"color": "color", "category": "category2"}


def official_hit_rate(folder: Path, split: str, k: int) -> float:
    """Share of the official queries with an image of their official item among the top k of the official gallery."""
    meta = pd.read_parquet(folder / "queries_meta.parquet")
    images = np.load(folder / "queries_img.npy").astype(np.float64)
    parts = {
        part: np.flatnonzero((meta["split"] == split) & (meta["partition"] == part)) for part in ("query", "gallery")
    }
    items = meta["partition_item"].to_numpy()
    hits = []
    for row in parts["query"]:
        right = items[parts["gallery"]] == items[row]
        if right.any():
            scores = np.round(images[parts["gallery"]] @ images[row], 9)
            hits.append(right[np.argsort(-scores, kind="stable")[:k]].any())
    return float(np.mean(hits))


def of_products(folder: Path, split: str, name: str, k: int) -> float:
    """Each item of a split searches the others for views of its own product: share found first, or mean average."""
    meta = pd.read_parquet(folder / "queries_meta.parquet")
    chosen = np.flatnonzero(meta["split"] == split)
    images = np.load(folder / "queries_img.npy")[chosen].astype(np.float64)
    products = meta["product_id"].to_numpy()[chosen]
    values = []
    for row in range(len(chosen)):
        others = np.delete(np.arange(len(chosen)), row)
        relevant = products[others] == products[row]
        if relevant.any():
            scores = np.round(images[others] @ images[row], 9)
            found = relevant[np.argsort(-scores, kind="stable")[:k]]
            precisions = np.cumsum(found) / np.arange(1, len(found) + 1)
            best = min(k, relevant.sum())
            values.append(found[0] if name == "product_hit_rate" else (precisions * found).sum() / best)
    return float(np.mean(values))


def value_of(folder: Path, split: str, name: str, k: int) -> float:
    """One row: the mean over its queries of matches among the top k, divided by k."""
    if name == "official_hit_rate":
        return official_hit_rate(folder, split, k)
    if name.startswith("product_"):
        return of_products(folder, split, name, k)
    gallery, queries = (pd.read_parquet(folder / f"{side}_meta.parquet") for side in ("catalog", "queries"))
    items = np.load(folder / "catalog_img.npy").astype(np.float64)
    column = COLUMNS.get(name.removeprefix("known_").removeprefix("unseen_"))
    chosen = queries["split"] == split
    if name.startswith("unseen_"):  # the other query split is searched
        items = np.load(folder / "queries_img.npy")[~chosen].astype(np.float64)
        gallery = queries[~chosen].reset_index(drop=True)
    if column is None:  # a class row: its name is a value of one column
        column = next(c for c in COLUMNS.values() if (queries[c] == name).any())
        chosen &= queries[column] == name
    banned = PATTERN_ONLY if column == "category2" else set()
    known = gallery[column].notna() & ~gallery[column].isin(banned)
    chosen &= queries[column].notna() & ~queries[column].isin(banned)
    searched = known.to_numpy() if name.startswith("known_") else np.ones(len(gallery), bool)
    precisions = []
    for row in np.flatnonzero(chosen):
        query = np.load(folder / "queries_img.npy", mmap_mode="r")[row].astype(np.float64)
        allowed = np.flatnonzero(searched & (gallery["product_id"] != queries["product_id"][row]).to_numpy())
        scores = np.round(items[allowed] @ query, 9)
        top = allowed[np.lexsort((allowed, -scores))[:k]]
        precisions.append((known.to_numpy() & (gallery[column] == queries[column][row]).to_numpy())[top].sum() / k)
    return float(np.mean(precisions))


def check(artifacts: Path) -> list[str]:
    """What differs by more than 1e-9, one line each; prints nothing."""
    board = json.loads((artifacts / "scoreboard" / "scoreboard.json").read_text(encoding="utf-8"))
    wrong = []
    for split in ("test", "validation"):
        for row, numbers in board[split].items():
            name, k = row.split("@")
            for model in ("baseline", "protocol"):
                expected = value_of(artifacts / "retrieval" / model, split, name, int(k))
                if not abs(numbers[model] - expected) <= 1e-9:
                    wrong.append(f"{split} {row} {model}: scoreboard {numbers[model]!r}, recomputed {expected!r}")
    return wrong


if __name__ == "__main__":
    found = check(Path(sys.argv[1] if len(sys.argv) > 1 else "artifacts"))
    print("\n".join(found) or "every value of scoreboard.json was recomputed")
    sys.exit(1 if found else 0)
