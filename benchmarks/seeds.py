"""The whole training again under other seeds: `python -m benchmarks.seeds [--seeds 42 1 2] [--write]`.

Backbone, mining, pairs, heads and the draw of validation queries under each seed, on the same catalogue and splits,
as DVC experiments in a private copy under `.cache/seeds/`. Prints what each row of the scoreboard gained on the test
split; nothing is chosen by these figures. `--params FILE --data FOLDER` does it for another catalogue.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.ablation import only_one, raw_data
from benchmarks.ablation_clone import Clone
from benchmarks.results import ROOT, write_section
from lib.artifacts import read_json, write_json
from lib.errors import PipelineError
from lib.params import load_params

SEED_KEYS = ("backbone.train.seed", "mine.seed", "pairs.seed", "train.seed", "train.validation.seed")
SPLIT = "test"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2])
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml", help="the recipe")
    parser.add_argument("--data", type=Path, help="folder of the raw catalogue; default: data.raw_dir here")
    args = parser.parse_args(argv)
    try:
        boards = boards_of(args.seeds, args.params, args.data)
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


def boards_of(seeds: list[int], file: Path, data: Path | None) -> dict[int, Mapping[str, Any]]:
    """Seed -> the test rows of its scoreboard; what was finished earlier for this code and recipe is read."""
    params = load_params(file)
    raw = raw_data(params, data)
    home = ROOT / ".cache" / "seeds" / file.stem
    with only_one(home):
        clone = Clone(home / "clone", root=ROOT, logs=home / "logs")
        recipe = file.read_text(encoding="utf-8")
        clone.prepare(recipe, raw_dir=params.data.raw_dir, data=raw, image_cache=params.data.image_cache)
        boards: dict[int, Mapping[str, Any]] = {}
        for seed in dict.fromkeys(seeds):
            note = home / "results" / f"{seed}.json"
            key = clone.key(params)
            kept = read_json(note) if note.is_file() else {}
            if kept.get("key") != key:
                print(f"seed {seed} …", file=sys.stderr, flush=True)
                options = [word for name in SEED_KEYS for word in ("-S", f"{name}={seed}")]
                clone.run(f"seed-{seed}", options)
                board = read_json(clone.folder / "artifacts" / "scoreboard" / "scoreboard.json")[SPLIT]
                note.parent.mkdir(parents=True, exist_ok=True)
                kept = {"key": key, "board": board}
                write_json(note, kept)
            boards[seed] = kept["board"]
        clone.restore()
    return boards


def markdown(boards: Mapping[int, Mapping[str, Any]]) -> str:
    """A table, row by seed: points gained on the test split with their 95 % interval, their mean and the least."""
    seeds = list(boards)
    names = [name for name in boards[seeds[0]] if all(name in board for board in boards.values())]
    lines = [
        "points gained on the test split, with 95 % intervals",
        "over the queries' products, when backbone, mining, pairs, heads and validation queries are drawn anew.",
        "",
        f"| row | n | {' | '.join(f'seed {seed}' for seed in seeds)} | mean | least |",
        "|---|---:|" + "---:|" * (len(seeds) + 2),
    ]
    for name in names:
        rows = [boards[seed][name] for seed in seeds]
        cells = [
            f"{100 * row['delta']:+.1f} [{100 * row['delta_low']:+.1f}, {100 * row['delta_high']:+.1f}]"
            for row in rows
        ]
        gains = [100 * row["delta"] for row in rows]
        gained = f"{sum(gains) / len(gains):+.1f} | {min(gains):+.1f}"
        lines.append(f"| {name} | {rows[0]['n_queries']} | {' | '.join(cells)} | {gained} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
