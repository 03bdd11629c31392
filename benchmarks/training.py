"""Training of the protocol model on cached embeddings: `python -m benchmarks.training [--write]`.

Synthetic embeddings and attributes in the catalogue's form, 50,000 pairs in the default shares, the recipe of
`params.yaml` without validation. Beside the seconds stands the floor that this machine's float32 matrix
multiplication sets for the products of the forward and backward passes, as torch counts them in one epoch. Both are
the best of several, since what else runs on a shared machine only adds; every run is told.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.figures import KEPT, LIMIT, OURS, Figure, keep
from benchmarks.results import ROOT, sgemm_gflops, write_section
from lib.base import stage
from lib.base.params import PAIR_KINDS, Train, load_params
from lib.embeddings import META_COLUMNS, Embeddings
from lib.training.loop import train

LIMIT_SECONDS = 60
VALUES = {"neckline": 10, "sleeve": 4, "pattern": 8, "material": 12, "color": 14, "category2": 12}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    args = parser.parse_args()
    params = load_params(ROOT / "params.yaml")
    stage.pin_threads(params.runtime.threads)
    recipe = params.train.model_copy(update={"epochs": args.epochs, "patience": 0, "interpolation": ()})
    rng = np.random.default_rng(0)
    catalog, pairs = synthetic_catalog(args.items, args.dim, rng), synthetic_pairs(args.pairs, args.items, rng)
    rate, runs = sgemm_gflops(), []
    for _ in range(max(args.runs, 1)):
        runs.append(train_seconds(catalog, pairs, recipe))
        rate = max(rate, sgemm_gflops())
    seconds = min(runs)
    with FlopCounterMode(display=False) as counter:
        train_seconds(catalog, pairs, recipe.model_copy(update={"epochs": 1}))
    floor = args.epochs * counter.get_total_flops() / rate / 1e9
    text = (
        f"`python -m benchmarks.training --write`: {args.epochs} epochs of {args.pairs:,} pairs over {args.items:,} "
        f"items, dim {args.dim}, {recipe.head.kind} head, batch {recipe.batch_size}, on {os.cpu_count()} cores, "
        f"{rate:.0f} GFLOP/s float32 matrix multiplication.\n\n"
        f"**{seconds:.0f} s** in all (limit {LIMIT_SECONDS}; runs of {', '.join(f'{run:.0f}' for run in runs)} s), "
        f"{seconds / args.epochs:.2f} s per epoch; its matrix products alone would take {floor:.1f} s at the "
        f"machine's rate, {100 * floor / seconds:.0f} % of that."
    )
    print(text)
    work = f"train {args.epochs} × {args.pairs:,} pairs, dim {args.dim}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    drawn = args.epochs * args.pairs
    figures = [
        Figure("training", work, LIMIT, floor, drawn / floor, "pairs/s", note="its matrix products alone"),
        Figure("training", work, OURS, seconds, drawn / seconds, "pairs/s", peak, most_seconds=LIMIT_SECONDS),
    ]
    keep("training", figures)
    if args.write:
        write_section("Training", text)
        keep("training", figures, path=KEPT)
    return 0


def train_seconds(catalog: Embeddings, pairs: pd.DataFrame, recipe: Train) -> float:
    """Seconds of a whole training run, its checkpoints included."""
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        started = time.perf_counter()
        train(
            catalog,
            pairs,
            backbone="synthetic",
            params=recipe,
            pattern_only=(),
            validate=lambda model: {},
            out=Path(folder),
        )
        return time.perf_counter() - started


def synthetic_catalog(n: int, dim: int, rng: np.random.Generator) -> Embeddings:
    """n items, three per product, with every attribute known of four items in five."""
    rows = rng.normal(size=(2, n, dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    table: dict[str, object] = dict.fromkeys(META_COLUMNS)
    table |= {"item_id": [f"i{k}" for k in range(n)], "product_id": [f"p{k // 3}" for k in range(n)]}
    table |= {"split": "train", "caption": [f"caption {k // 3}" for k in range(n)]}
    for name, size in VALUES.items():
        values = np.array([f"{name} {k}" for k in range(size)], dtype=object)[rng.integers(size, size=n)]
        table[name] = np.where(rng.random(n) < 0.8, values, None)
    return Embeddings(rows[0], rows[1], pd.DataFrame(table, columns=list(META_COLUMNS), index=range(n)))


def synthetic_pairs(n: int, items: int, rng: np.random.Generator) -> pd.DataFrame:
    """n random pairs of the five kinds, in the default shares."""
    kinds = rng.choice(PAIR_KINDS, size=n, p=[0.35, 0.20, 0.10, 0.30, 0.05])
    a = rng.integers(items, size=n)
    b = (a + rng.integers(1, items, size=n)) % items
    return pd.DataFrame(
        {
            "a_id": [f"i{k}" for k in a],
            "b_id": [f"i{k}" for k in b],
            "kind": kinds,
            "label": np.isin(kinds, ["strong", "medium", "weak"]).astype(int),
            "reason": "drawn",
        }
    ).astype({"kind": object})


if __name__ == "__main__":
    sys.exit(main())
