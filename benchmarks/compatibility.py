"""The compatibility head under other seeds and without its parts: `python -m benchmarks.compatibility [--write]`.

Trains on the pairs and the embeddings that the pipeline left (`dvc repro`), each variant with three seeds, and prints
the areas under the ROC curve: of validation, by which a variant may be chosen, and of test. What the embeddings'
own cosines reach stands in the first row.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.results import ROOT, write_section
from lib.base import stage
from lib.base.errors import ConfigError, PipelineError
from lib.base.params import load_params
from lib.catalog.item_pairs import read_item_pairs
from lib.embeddings import load_embedding_set
from lib.evaluation.compatibility import held_out_pairs, measure_head
from lib.training.compatibility_training import cached_rows, train_compatibility

SEEDS = (42, 1, 2)
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "the recipe": {},
    "linear head": {"hidden": 0},
    "no other views": {"views": "item"},
    "infonce": {"loss": "infonce"},
    "neg_pool_ratio 1": {"neg_pool_ratio": 1},
    "neg_pool_ratio 4": {"neg_pool_ratio": 4},
}

Figures = Mapping[str, Mapping[str, float]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    args = parser.parse_args()
    try:
        text = markdown(measured())
    except PipelineError as error:
        print(f"error: compatibility: {error}", file=sys.stderr)
        return error.exit_code
    print(text)
    if args.write:
        write_section("Compatibility head", text)
    return 0


def measured() -> dict[str, list[Figures]]:
    """Figures of each variant, seed by seed."""
    params = load_params(ROOT / "params.yaml")
    recipe = params.compatibility
    if not recipe.pairs:
        raise ConfigError("params.yaml: compatibility.pairs names no table of pairs")
    stage.pin_threads(params.runtime.threads)
    embedded = load_embedding_set(ROOT / "artifacts" / "retrieval" / "baseline")
    items = pd.concat([embedded.catalog.meta, embedded.queries.meta], ignore_index=True)
    table = ROOT / params.data.raw_dir / recipe.pairs
    pairs = read_item_pairs(table, items, max_bad_fraction=recipe.max_bad_fraction)
    embed = cached_rows(embedded)
    held_out = {split: held_out_pairs(pairs.of_split(split), items, embed) for split in ("validation", "test")}
    found: dict[str, list[Figures]] = {}
    for name, changed in VARIANTS.items():
        for seed in SEEDS:
            print(f"{name}, seed {seed} …", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="compatibility-") as folder:
                head = train_compatibility(
                    pairs.of_split("train"),
                    embedded.catalog.meta,
                    embed=embed,
                    backbone=embedded.fingerprint,
                    params=recipe.model_copy(update={**changed, "seed": seed}),
                    validate=held_out["validation"].auc,
                    out=Path(folder),
                )
            found.setdefault(name, []).append(measure_head(held_out, head, bootstrap=recipe.bootstrap)[0])
    return found


def markdown(found: Mapping[str, Sequence[Figures]]) -> str:
    """Areas as means over the seeds, and what each seed gained on test over the embeddings' own cosines."""
    first = next(iter(found.values()))[0]
    seeds = " | ".join(f"test gain, seed {seed}" for seed in SEEDS)
    lines = [
        "`python -m benchmarks.compatibility --write`: area under the ROC curve of held-out pairs, mean over seeds;",
        "what test gains over the embeddings' own cosines, with 95 % intervals over products; `within`: test,",
        "comparing only pairs of the same two categories.",
        "",
        f"| variant | validation | test | within | {seeds} |",
        "|---|---:|---:|---:|" + "---:|" * len(SEEDS),
        f"| the embeddings | {first['validation']['baseline_auc']:.3f} | {first['test']['baseline_auc']:.3f} | "
        f"{first['test']['within_categories_baseline_auc']:.3f} |" + " |" * len(SEEDS),
    ]
    for name, runs in found.items():
        means = [
            sum(run[split][key] for run in runs) / len(runs)
            for split, key in (("validation", "auc"), ("test", "auc"), ("test", "within_categories_auc"))
        ]
        gains = [
            f"{run['test']['delta']:+.3f} [{run['test']['delta_low']:+.3f}, {run['test']['delta_high']:+.3f}]"
            for run in runs
        ]
        lines.append(f"| {name} | {' | '.join([*(f'{mean:.3f}' for mean in means), *gains])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
