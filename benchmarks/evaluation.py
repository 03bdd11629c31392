"""Full evaluation and scoreboard of a large catalogue: `python -m benchmarks.evaluation [--write]`.

A synthetic embedded catalogue in the project's own files: three views per product, captions that repeat within a
product, attributes known as often as in a shop's texts and visible in the embeddings. Measures loading, evaluation
(every mode, attribute, category, interval and probe of `params.yaml`), saving and the scoreboard beside the floor
that float32 matrix multiplication sets for the searches alone.
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

from benchmarks.figures import KEPT, LIMIT, OURS, Figure, keep
from benchmarks.results import ROOT, sgemm_gflops, write_section
from lib.base import stage
from lib.base.artifacts import FloatArray
from lib.base.params import load_params
from lib.embeddings import META_COLUMNS, Embeddings, EmbeddingSet, load_embedding_set, save_embedding_set
from lib.evaluation.evaluate import evaluate
from lib.evaluation.evaluation import load_evaluation, save_evaluation
from lib.evaluation.scoreboard import build_scoreboard

LIMIT_SECONDS = 60
KNOWN = {
    "category2": (
        ("tees", "shirts", "dresses", "sweaters", "pants", "skirts", "cardigans", "shorts"),
        1.0,
    ),
    "color": (("black", "white", "grey", "navy blue", "blue", "red", "pink", "green", "beige", "brown"), 0.97),
    "material": (("cotton", "polyester", "wool", "linen", "silk", "denim", "leather", "chiffon"), 0.6),
    "pattern": (("plain", "striped", "checked", "floral print", "polka dot", "graphic print"), 0.7),
    "neckline": (("round neck", "v-neck", "shirt collar", "hood", "scoop neck", "turtleneck", "boat neck"), 0.35),
    "sleeve": (("long sleeve", "short sleeve", "sleeveless", "three-quarter sleeve"), 0.55),
}
"""Column -> its values, the frequent ones first, and how often one is known."""
VIEWS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=5_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    args = parser.parse_args()
    params = load_params(ROOT / "params.yaml")
    stage.pin_threads(params.runtime.threads)
    rate = sgemm_gflops()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="evaluation-") as name:
        folder = Path(name)
        made = synthetic_set(args.items, args.queries, args.dim, np.random.default_rng(0))
        save_embedding_set(folder / "embedded", made)
        started = time.perf_counter()
        embedded = load_embedding_set(folder / "embedded")
        seconds["load"] = time.perf_counter() - started
        started = time.perf_counter()
        evaluation = evaluate(embedded, params.evaluate, pattern_only=params.data.pattern_only_categories)
        seconds["evaluate"] = time.perf_counter() - started
        started = time.perf_counter()
        save_evaluation(folder / "evaluation", evaluation)
        seconds["save"] = time.perf_counter() - started
        started = time.perf_counter()
        baseline, protocol = (load_evaluation(folder / "evaluation") for _ in range(2))
        build_scoreboard(baseline, protocol, params.scoreboard)
        seconds["scoreboard"] = time.perf_counter() - started
    # per mode the queries search the gallery, and once more the other half of the queries
    products = args.queries * (len(params.evaluate.modes) * args.items + args.queries)
    floor = 2.0 * products * args.dim / rate / 1e9
    whole = seconds["load"] + seconds["evaluate"] + seconds["save"]
    lines = [
        f"`python -m benchmarks.evaluation --write`: {args.queries:,} queries against {args.items:,} items, dim "
        f"{args.dim}, {len(params.evaluate.modes)} modes, {params.evaluate.bootstrap.resamples:,} resamples, on "
        f"{os.cpu_count()} cores, {rate:.0f} GFLOP/s float32 matrix multiplication.",
        "",
        "| part | seconds |",
        "|---|---:|",
        *(f"| {part} | {value:.1f} |" for part, value in seconds.items()),
        "",
        f"One model: **{whole:.0f} s** (limit {LIMIT_SECONDS}); the searches' products alone would take "
        f"{floor:.1f} s at the machine's rate, {100 * floor / whole:.0f} % of that.",
    ]
    print("\n".join(lines))
    work = f"whole evaluation of a model, {args.queries:,} queries × {args.items:,}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = [
        Figure("whole evaluation", work, LIMIT, floor, args.queries / floor, "queries/s", note="its products"),
        Figure("whole evaluation", work, OURS, whole, args.queries / whole, "queries/s", peak,
               most_seconds=LIMIT_SECONDS, note="every mode, label, class, interval and probe; peak with its making"),
    ]  # fmt: skip
    keep("whole evaluation", figures)
    if args.write:
        write_section("Evaluation", "\n".join(lines))
        keep("whole evaluation", figures, path=KEPT)
    return 0


def synthetic_set(items: int, queries: int, dim: int, rng: np.random.Generator) -> EmbeddingSet:
    """A gallery and two equal query splits whose embeddings show the attributes."""
    directions = {name: rng.normal(size=(len(values), dim)) for name, (values, _) in KNOWN.items()}
    catalog = _side(["train"] * items, "g", directions, dim, rng)
    splits = ["validation"] * (queries // 2) + ["test"] * (queries - queries // 2)
    return EmbeddingSet(catalog, _side(splits, "q", directions, dim, rng), "synthetic")


def _side(
    splits: list[str], prefix: str, directions: dict[str, np.ndarray], dim: int, rng: np.random.Generator
) -> Embeddings:
    n = len(splits)
    product = np.arange(n) // VIEWS
    table: dict[str, object] = dict.fromkeys(META_COLUMNS)
    table |= {"item_id": [f"{prefix}{k}" for k in range(n)], "split": splits}
    # a product does not straddle the two query splits
    table["product_id"] = [f"{split} {prefix}p{p}" for split, p in zip(splits, product.tolist(), strict=True)]
    signal = rng.normal(size=(product[-1] + 1, dim))[product]
    for name, (values, share) in KNOWN.items():
        frequency = 1.0 / np.arange(1, len(values) + 1)
        codes = rng.choice(len(values), size=product[-1] + 1, p=frequency / frequency.sum())
        known = rng.random(product[-1] + 1) < share
        signal += 0.6 * directions[name][codes][product]
        column = np.where(known, np.array(values, dtype=object)[codes], None)
        table[name] = column[product]
    table["caption"] = [f"caption {p}" if p % 20 else "" for p in product.tolist()]
    images, texts = (_unit(signal + rng.normal(size=(n, dim))) for _ in range(2))
    return Embeddings(images, texts, pd.DataFrame(table, columns=list(META_COLUMNS), index=range(n)))


def _unit(rows: np.ndarray) -> FloatArray:
    unit: FloatArray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


if __name__ == "__main__":
    sys.exit(main())
