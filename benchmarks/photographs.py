"""Two catalogues of real photographs: `python -m benchmarks.photographs --data FOLDER [--seeds 42 1 2] [--write]`.

`FOLDER` holds `fashion-products` and `tshirts`, for which `tests/real/` has parameter files. Both go through the
whole pipeline, in a private copy under `.cache/seeds/`, the backbone trained from nothing on their own train split:
as the recipe stands, under other seeds, and with the plain backbone that the first one was. Prints, and with
`--write` keeps in `benchmarks/PHOTOGRAPHS.md`, the scoreboard of the test split and what a linear probe reads off the
frozen embeddings before and after. `--backbones` measures other ways to train the backbone instead, on validation;
`--divisions` the recipe where other products are held out (`data.seed`), so that more of them are asked;
`--fresh` the same without the recipe's own division, for a check on divisions that nothing was ever chosen by.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ablation_variants import apply_overrides
from benchmarks.results import ROOT, write_section
from benchmarks.seeds import SEED_KEYS, Run, experiments, load_run, pooled
from lib.base.errors import PipelineError
from lib.base.params import Scoreboard, load_params, parse_params
from lib.evaluation.evaluation import Evaluation, load_evaluation
from lib.evaluation.scoreboard import MODE, SPLITS

PHOTOGRAPHS = ROOT / "benchmarks" / "PHOTOGRAPHS.md"
INTRODUCTION = (
    "# Real photographs\n\n"
    "Two shop catalogues that are not part of this repository, each with nothing but a parameter file\n"
    "(`tests/real/`). Points (hundredths). Chosen on validation; a choice made after test was seen says so.\n"
)
PLAIN: Mapping[str, Any] = {
    "backbone.train.attribute_loss": 0.0,
    "backbone.train.fixed_dim": 0,
    "backbone.train.embed_dim": 256,
    "backbone.train.collar": False,
    "backbone.train.drawn_collars": 0,
}
"""The backbone before anything was done for attributes: captions alone, and all of its embedding learnt."""

PROBES = {"probe": "accuracy", "balanced_probe": "balanced_accuracy"}
"""Measures of a linear probe, and the name of their value."""

MIN_PROBED = 50
"""Validation items below which one way to train the backbone cannot be told from another."""


@dataclass(frozen=True)
class Backbone:
    """A way to train the backbone: what is other than in the recipe, in words and as dotted key -> value."""

    what: str
    overrides: Mapping[str, Any]


BACKBONES: Mapping[str, Backbone] = {
    "recipe": Backbone("", {}),
    "plain": Backbone("captions alone, nothing fixed", PLAIN),
    "no-classifiers": Backbone("captions alone", {"backbone.train.attribute_loss": 0.0}),
    "no-fixed": Backbone("nothing fixed", {"backbone.train.fixed_dim": 0, "backbone.train.embed_dim": 256}),
    "no-collar": Backbone(
        "the whole picture alone", {"backbone.train.collar": False, "backbone.train.drawn_collars": 0}
    ),
    "no-drawn": Backbone("no drawn collars first", {"backbone.train.drawn_collars": 0}),
    "collar": Backbone("the collar by itself too", {"backbone.train.collar": True}),
    "drawn": Backbone(
        "the collar by itself too, and 3,000 drawn ones first",
        {"backbone.train.collar": True, "backbone.train.drawn_collars": 3000},
    ),
    "short": Backbone("40 epochs", {"backbone.train.epochs": 40}),
    "96-pixels": Backbone("convolutions over 96 pixels a side, not 64", {"backbone.train.vision_grid": 6}),
    "224-pixels": Backbone("pictures of 224 pixels, not 160", {"backbone.train.image_size": 224}),
}
"""What `--backbones` measures; the first is what the others are compared with."""


@dataclass(frozen=True)
class Catalogue:
    """One of the two: its folder under the photographs, and its parameter file."""

    title: str
    folder: str
    recipe: Path


CATALOGUES = (
    Catalogue("Fashion products", "fashion-products", ROOT / "tests" / "real" / "fashion_products.yaml"),
    Catalogue("T-shirts", "tshirts", ROOT / "tests" / "real" / "tshirts.yaml"),
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("REAL_DATA_DIR"), help="default: $REAL_DATA_DIR")
    parser.add_argument("--only", nargs="+", choices=[catalogue.folder for catalogue in CATALOGUES])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2], help="the first one is shown in full")
    parser.add_argument(
        "--backbones",
        nargs="*",
        choices=[name for name, backbone in BACKBONES.items() if backbone.overrides],
        metavar="NAME",
        help="other ways to train the backbone, on validation: all, or those named",
    )
    parser.add_argument("--divisions", type=int, nargs="+", help="seeds of other divisions into splits, instead")
    parser.add_argument("--fresh", type=int, nargs="+", help="the same, without the division of the recipe")
    parser.add_argument("--write", action="store_true", help="also write benchmarks/PHOTOGRAPHS.md")
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("--data: the folder of both catalogues, or set REAL_DATA_DIR")
    for catalogue in CATALOGUES:
        if args.only is not None and catalogue.folder not in args.only:
            continue
        data = args.data / catalogue.folder
        title = catalogue.title
        try:
            if args.backbones is not None:
                title, text = f"{title}: the backbone", backbones_of(catalogue, data, args.backbones)
            elif args.divisions:
                title, text = f"{title}: other divisions", divisions_of(catalogue, data, args.divisions)
            elif args.fresh:
                title, text = f"{title}: fresh divisions", divisions_of(catalogue, data, args.fresh, fresh=True)
            else:
                text = scoreboard_of(catalogue, data, args.seeds)
        except PipelineError as error:
            print(f"error: photographs: {error}", file=sys.stderr)
            return error.exit_code
        print(f"## {title}\n\n{text}\n", flush=True)
        if args.write:
            write_section(title, text, path=PHOTOGRAPHS, introduction=INTRODUCTION)
    return 0


def scoreboard_of(catalogue: Catalogue, data: Path, seeds: Sequence[int]) -> str:
    """The section of a catalogue: its scoreboard under these seeds, and probes before and after."""
    wanted = {str(seed): dict.fromkeys(SEED_KEYS, seed) for seed in seeds}
    kept = experiments({**wanted, "plain": PLAIN}, catalogue.recipe, data)
    runs = {name: load_run(folder) for name, folder in kept.items()}
    plain = runs.pop("plain")
    command = f"python -m benchmarks.photographs --data FOLDER --seeds {' '.join(wanted)}"
    board = scoreboard(runs, load_params(catalogue.recipe).scoreboard)
    return f"`{command}`\n\n{board}\n\n{probes(plain, next(iter(runs.values())))}"


def backbones_of(catalogue: Catalogue, data: Path, names: Sequence[str] = ()) -> str:
    """The section of what was tried with a catalogue's backbone: the recipe's beside those of `names`, or all."""
    wanted = {
        name: backbone.overrides
        for name, backbone in BACKBONES.items()
        if _changes(backbone, catalogue) and (not names or not backbone.overrides or name in names)
    }
    kept = experiments(wanted, catalogue.recipe, data, models=["baseline"])
    found = {name: load_evaluation(folder / "baseline") for name, folder in kept.items()}
    command = " ".join(["python -m benchmarks.photographs --data FOLDER --backbones", *names])
    return f"`{command}`\n\n{backbones(found)}"


def divisions_of(catalogue: Catalogue, data: Path, seeds: Sequence[int], *, fresh: bool = False) -> str:
    """The section of a catalogue with other products held out; the recipe's own division comes first, if at all."""
    params = load_params(catalogue.recipe)
    own: dict[str, Mapping[str, Any]] = {str(params.data.seed): dict.fromkeys(SEED_KEYS, params.train.seed)}
    wanted = {} if fresh else own
    wanted |= {f"division-{seed}": {"data.seed": seed} for seed in seeds}
    kept = experiments(wanted, catalogue.recipe, data)
    runs = {name.removeprefix("division-"): load_run(folder) for name, folder in kept.items()}
    asked = f"--{'fresh' if fresh else 'divisions'} {' '.join(map(str, seeds))}"
    found = divisions(runs, params.scoreboard, chosen_on=params.data.seed)
    return f"`python -m benchmarks.photographs --data FOLDER {asked}`\n\n{found}"


def _changes(backbone: Backbone, catalogue: Catalogue) -> bool:
    """Whether it is other than the recipe of this catalogue; the recipe itself counts."""
    params = load_params(catalogue.recipe)
    overridden = apply_overrides(params.model_dump(mode="json"), backbone.overrides, name=str(catalogue.recipe))
    return not backbone.overrides or parse_params(overridden, name=str(catalogue.recipe)) != params


def scoreboard(runs: Mapping[str, Run], params: Scoreboard) -> str:
    """The test rows of the first seed, and what each row gained over all seeds."""
    first = next(iter(runs.values())).board
    together = pooled(list(runs.values()), params)
    targets = {target.row: target for target in params.targets}
    lines = [
        f"Test split, seed {next(iter(runs))}, and over {len(runs)} seeds of everything that is trained.",
        "",
        "| row | n | chance | baseline | protocol | gained | gained, all seeds | least | target |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, row in first.items():
        boards = [run.board for run in runs.values()]
        everywhere = name in together and all(name in board for board in boards)
        over = _delta(together[name]) if everywhere else ""
        least = f"{100 * min(board[name]['delta'] for board in boards):+.1f}" if everywhere else ""
        levels = " | ".join(f"{100 * row[key]:.1f}" for key in ("chance", "baseline", "protocol"))
        target = _verdict(targets[name].points, row["delta"]) if name in targets else ""
        lines.append(f"| {name} | {row['n_queries']} | {levels} | {_delta(row)} | {over} | {least} | {target} |")
    return "\n".join(lines)


def divisions(runs: Mapping[str, Run], params: Scoreboard, *, chosen_on: int) -> str:
    """What each test row gained, division by division and over all, and what a probe reads off the embeddings."""
    together = pooled(list(runs.values()), params)
    lines = [
        "Points gained on the test split when other products are held out (`data.seed`), everything trained anew;",
        "all: the queries of every division at once, a product drawn with all of its own. The recipe was chosen on",
        f"the validation split of division {chosen_on} (what was not: see what was tried), of whose products the",
        "others' test splits hold some.",
        "",
        f"| row | n | {' | '.join(f'division {name}' for name in runs)} | all |",
        "|---|---:|" + "---:|" * (len(runs) + 1),
    ]
    for name, row in together.items():
        cells = [_delta(run.board[name]) if name in run.board else "" for run in runs.values()]
        lines.append(f"| {name} | {row['n_queries']} | {' | '.join(cells)} | {_delta(row)} |")
    lines += [
        "",
        "Frozen embeddings, test split: a linear probe's accuracy, balanced accuracy; in brackets what the most",
        "frequent value of train scores. Mean: over the divisions, each counting the same.",
        "",
        f"| label | {' | '.join(f'division {name}' for name in runs)} | mean |",
        "|---|" + "---:|" * (len(runs) + 1),
    ]
    labels = dict.fromkeys(label for run in runs.values() for label in run.baseline.metrics["probe"]["test"])
    for label in labels:
        found = [_accuracies(run, label) for run in runs.values()]
        mean = np.mean([levels for levels in found if levels], axis=0).tolist()
        lines.append(f"| {label} | {' | '.join(map(_in_words, found))} | {_in_words(mean)} |")
    return "\n".join(lines)


def _accuracies(run: Run, label: str) -> list[float]:
    """Of a probe on the test split: accuracy, its chance level, balanced accuracy and its; nothing without one."""
    found = [(run.baseline.metrics[name]["test"].get(label), value) for name, value in PROBES.items()]
    return [probe[key] for probe, value in found if probe is not None for key in (value, "chance")]


def _in_words(levels: Sequence[float]) -> str:
    if not levels:
        return ""
    accuracy, frequent, balanced, one_of = (f"{100 * level:.1f}" for level in levels)
    return f"{accuracy} ({frequent}), {balanced} ({one_of})"


def probes(plain: Run, recipe: Run) -> str:
    """What a linear probe reads off the frozen embeddings of both backbones, and what the head then makes of each."""
    lines = [
        "Frozen embeddings: what a linear probe reads off the plain backbone (captions alone, nothing fixed) → off",
        "the recipe's, as accuracy and as balanced accuracy (mean over the values, however rare), with intervals and",
        "in brackets what the most frequent value of train scores; and precision among ten of that split, baseline →",
        "with the head.",
        "",
        "| label | split | n | accuracy | balanced accuracy | @10, plain | @10, recipe |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for label in recipe.baseline.metrics["probe"]["test"]:
        for split in SPLITS:
            cells = [_read_off(plain, recipe, split, label, name) for name in PROBES]
            if all(cells):
                n = recipe.baseline.metrics["probe"][split][label]["n"]
                cells += [_levels(run, split, f"{label}@{run.baseline.k}") for run in (plain, recipe)]
                lines.append(f"| {label} | {split} | {n} | {' | '.join(cells)} |")
    return "\n".join(lines)


def backbones(found: Mapping[str, Evaluation]) -> str:
    """Probe and baseline precision on validation, a row per way to train the backbone; the first is the recipe's."""
    first = next(iter(found.values())).metrics["probe"]["validation"]
    labels = [label for label, probe in first.items() if probe["n"] >= MIN_PROBED]
    known = [f"{first[label]['n']} ({100 * first[label]['chance']:.1f})" for label in labels]
    lines = [
        "Validation split, frozen embeddings: a linear probe's accuracy / balanced accuracy / precision among ten,",
        f"for the labels that {MIN_PROBED} validation items have. First row: how many, and the share of train's most",
        "frequent value.",
        "",
        f"| backbone | other than the recipe | {' | '.join(labels)} |",
        "|---|---|" + "---:|" * len(labels),
        f"| *items* | | {' | '.join(known)} |",
    ]
    for name, evaluation in found.items():
        cells = [" / ".join(_held(evaluation, label)) for label in labels]
        lines.append(f"| {name} | {BACKBONES[name].what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _held(evaluation: Evaluation, label: str) -> list[str]:
    probed = [evaluation.metrics[name]["validation"][label][value] for name, value in PROBES.items()]
    searched = evaluation.metrics["validation"][MODE][f"{label}@{evaluation.k}"]["value"]
    return [f"{100 * level:.1f}" for level in (*probed, searched)]


def _delta(row: Mapping[str, float]) -> str:
    return f"{100 * row['delta']:+.1f} [{100 * row['delta_low']:+.1f}, {100 * row['delta_high']:+.1f}]"


def _read_off(plain: Run, recipe: Run, split: str, label: str, name: str) -> str:
    """A probe before → after, with the chance level; nothing where either has none."""
    found = [run.baseline.metrics[name][split].get(label) for run in (plain, recipe)]
    if None in found:
        return ""
    levels = [
        f"{100 * probe[PROBES[name]]:.1f} [{100 * probe['low']:.1f}, {100 * probe['high']:.1f}]" for probe in found
    ]
    return f"{' → '.join(levels)} ({100 * found[1]['chance']:.1f})"


def _levels(run: Run, split: str, name: str) -> str:
    found = [model.metrics[split][MODE].get(name) for model in (run.baseline, run.protocol)]
    return " → ".join(f"{100 * numbers['value']:.1f}" for numbers in found if numbers is not None)


def _verdict(points: float, delta: float) -> str:
    return f"{points:+g}: {'met' if 100 * delta >= points else 'MISSED'}"


if __name__ == "__main__":
    sys.exit(main())
