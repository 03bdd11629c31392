"""The whole training again under other seeds: `python -m benchmarks.seeds [--seeds 42 1 2] [--write]`.

Backbone, mining, pairs, heads and the draw of validation queries under each seed, on the same catalogue and splits,
as DVC experiments in a private copy under `.cache/seeds/`. Prints what each row of the scoreboard gained on the test
split, seed by seed and over all of them; nothing is chosen by these figures. `--params FILE --data FOLDER` does it
for another catalogue.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.ablation import only_one, raw_data
from benchmarks.ablation_clone import SCOREBOARD, Clone
from benchmarks.results import ROOT, write_section
from lib.base.artifacts import read_json, write_json
from lib.base.errors import PipelineError
from lib.base.params import Scoreboard, load_params
from lib.evaluation.evaluation import Evaluation, load_evaluation
from lib.evaluation.scoreboard import build_scoreboard

SEED_KEYS = ("backbone.train.seed", "mine.seed", "pairs.seed", "train.seed", "train.validation.seed")
SPLIT = "test"
MODELS = ("baseline", "protocol")
ALL = "all"


@dataclass(frozen=True)
class Run:
    """What a seed came to: the test rows of its scoreboard, and both evaluations."""

    board: Mapping[str, Any]
    baseline: Evaluation
    protocol: Evaluation


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2])
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml", help="the recipe")
    parser.add_argument("--data", type=Path, help="folder of the raw catalogue; default: data.raw_dir here")
    args = parser.parse_args(argv)
    try:
        runs = runs_of(args.seeds, args.params, args.data)
        boards: dict[int | str, Mapping[str, Any]] = {seed: run.board for seed, run in runs.items()}
        boards[ALL] = pooled(list(runs.values()), load_params(args.params).scoreboard)
    except PipelineError as error:
        print(f"error: seeds: {error}", file=sys.stderr)
        return error.exit_code
    own = args.params.resolve() == ROOT / "params.yaml"
    other = "" if own else f" --params {args.params.name} --data FOLDER"
    command = f"python -m benchmarks.seeds --seeds {' '.join(map(str, args.seeds))}{other}"
    text = f"`{command}`, {args.params.name}: {markdown(boards)}"
    print(text)
    if args.write:
        write_section(f"Seeds, {args.params.stem}", text)
    return 0


def runs_of(seeds: Sequence[int], file: Path, data: Path | None) -> dict[int, Run]:
    """What each seed came to; what was finished earlier for this code and recipe is read."""
    named = experiments({str(seed): dict.fromkeys(SEED_KEYS, seed) for seed in seeds}, file, data)
    return {int(name): load_run(kept) for name, kept in named.items()}


def experiments(
    overrides: Mapping[str, Mapping[str, Any]], file: Path, data: Path | None, *, models: Sequence[str] = MODELS
) -> dict[str, Path]:
    """Run a recipe under overrides, in the private copy under `.cache/seeds/`; what was finished earlier stays.

    Args:
        overrides: name -> dotted key -> value.
        file: the recipe.
        data: folder of the raw catalogue; None: `data.raw_dir` here.
        models: whose evaluation is wanted; with both, the scoreboard too.

    Returns:
        name -> the folder that `keep_run` filled.
    """
    params = load_params(file)
    raw = raw_data(params, data)
    home = ROOT / ".cache" / "seeds" / file.stem
    kept = {name: home / "results" / name for name in overrides}
    with only_one(home):
        clone = Clone(home / "clone", root=ROOT, logs=home / "logs")
        recipe = file.read_text(encoding="utf-8")
        shown = {"image_cache": params.data.image_cache, "weights": params.backbone.checkpoint}
        clone.prepare(recipe, raw_dir=params.data.raw_dir, data=raw, **shown)
        recipe_key = clone.key(params)
        for name, changed in overrides.items():
            key = f"{recipe_key} {json.dumps(changed, sort_keys=True)}"
            note = kept[name] / "key.json"
            there = note.is_file() and all((kept[name] / model).is_dir() for model in models)
            if not there or read_json(note)["key"] != key:
                print(f"{file.stem}: {name} …", file=sys.stderr, flush=True)
                options = [word for dotted, value in changed.items() for word in ("-S", f"{dotted}={value}")]
                target = SCOREBOARD if set(models) == set(MODELS) else f"evaluate@{models[0]}"
                clone.run(f"run-{name}", options, target=target)
                keep_run(clone.folder / "artifacts", kept[name], key=key, models=models)
        clone.restore()
    return kept


def keep_run(artifacts: Path, kept: Path, *, key: str, models: Sequence[str] = MODELS) -> None:
    """Copy evaluations and scoreboard of a run; the note comes last, so that half a copy has none."""
    shutil.rmtree(kept, ignore_errors=True)
    for model in models:
        shutil.copytree(artifacts / "evaluation" / model, kept / model, ignore=shutil.ignore_patterns("*.html"))
    if set(models) == set(MODELS):
        shutil.copyfile(artifacts / "scoreboard" / "scoreboard.json", kept / "scoreboard.json")
    write_json(kept / "key.json", {"key": key})


def load_run(kept: Path) -> Run:
    """What `keep_run` kept of both models."""
    before, after = (load_evaluation(kept / model) for model in MODELS)
    return Run(read_json(kept / "scoreboard.json")[SPLIT], before, after)


def pooled(runs: Sequence[Run], params: Scoreboard) -> Mapping[str, Any]:
    """The test rows of all seeds at once: a query counts once per seed, and a product is drawn with all of them."""
    baseline, protocol = (
        replace(models[0], per_query=pd.concat([model.per_query for model in models], ignore_index=True))
        for models in ([run.baseline for run in runs], [run.protocol for run in runs])
    )
    board: Mapping[str, Any] = build_scoreboard(baseline, protocol, params)[SPLIT]
    return board


def markdown(boards: Mapping[int | str, Mapping[str, Any]]) -> str:
    """A table, row by seed: points gained on the test split with their 95 % interval; all seeds, and the least."""
    seeds = [seed for seed in boards if seed != ALL]
    names = [name for name in boards[seeds[0]] if all(name in board for board in boards.values())]
    lines = [
        "points gained on the test split, with 95 % intervals",
        "over the queries' products, when backbone, mining, pairs, heads and validation queries are drawn anew.",
        "All: of the mean over the seeds, where a product is drawn with its queries of every seed.",
        "",
        f"| row | n | {' | '.join(f'seed {seed}' for seed in seeds)} | {ALL} | least |",
        "|---|---:|" + "---:|" * (len(seeds) + 2),
    ]
    for name in names:
        rows = [board[name] for board in boards.values()]
        cells = [
            f"{100 * row['delta']:+.1f} [{100 * row['delta_low']:+.1f}, {100 * row['delta_high']:+.1f}]"
            for row in rows
        ]
        least = min(100 * boards[seed][name]["delta"] for seed in seeds)
        lines.append(f"| {name} | {rows[0]['n_queries']} | {' | '.join(cells)} | {least:+.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
