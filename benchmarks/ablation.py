"""What each part of the recipe brings, on validation: `python -m benchmarks.ablation [--params FILE --data FOLDER]`.

Runs the variants of `benchmarks/ablation.yaml` as DVC experiments, one after another, in a private copy of the
project under `.cache/ablation/`; the workspace is only read. A finished variant is kept until code, data or its
parameters change, so that a stopped run goes on where it was. Writes `ABLATION.md` and `ABLATION.json`: for the
project's own parameters into `benchmarks/`, for another file beside the copy, unless `--out` says where.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from benchmarks.ablation_clone import Clone, StepFailed
from benchmarks.ablation_table import SPLIT, markdown, query_table, summarise, values
from benchmarks.ablation_variants import FULL, Variant, read_variants, recipe_text
from lib.base.artifacts import read_json, read_parquet, write_json, write_parquet, write_text
from lib.base.errors import BusyError, ConfigError, IntegrityError, PipelineError
from lib.base.params import Params, load_params
from lib.evaluation.evaluation import load_evaluation

ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml", help="the full recipe")
    parser.add_argument("--data", type=Path, help="folder of the raw catalogue; default: data.raw_dir here")
    parser.add_argument("--variants", type=Path, default=ROOT / "benchmarks" / "ablation.yaml")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these variants; the table keeps finished ones")
    parser.add_argument("--out", type=Path, help="folder of ABLATION.md and ABLATION.json")
    parser.add_argument("--list", action="store_true", help="print the variants and end")
    args = parser.parse_args(argv)
    try:
        return run(args)
    except PipelineError as error:
        print(f"error: ablation: {error}", file=sys.stderr)
        return error.exit_code


def run(args: argparse.Namespace) -> int:
    params = load_params(args.params)
    variants, left_out = read_variants(args.variants, params)
    if args.list:
        print("\n".join(f"{variant.name:<32} {variant.what}" for variant in variants))
        return 0
    unknown = sorted(set(args.only or ()) - {variant.name for variant in variants})
    if unknown:
        reason = left_out.get(unknown[0])
        known = ", ".join(variant.name for variant in variants)
        raise ConfigError(
            f"--only: no variant '{unknown[0]}'" + (f": {reason}" if reason else f"; there are {known}")
        )
    own = args.params.resolve() == ROOT / "params.yaml"
    home = ROOT / ".cache" / "ablation" / args.params.stem
    out = args.out or (ROOT / "benchmarks" if own else home)
    chosen = [v for v in variants if args.only is None or v.name in (FULL, *args.only)]
    data = raw_data(params, args.data)
    with only_one(home):
        clone = Clone(home / "clone", root=ROOT, logs=home / "logs")
        print(f"full recipe: {args.params.name}, in {home / 'clone'}", flush=True)
        recipe = recipe_text(args.params, params, variants)
        shown = {"image_cache": params.data.image_cache, "weights": params.backbone.checkpoint}
        clone.prepare(recipe, raw_dir=params.data.raw_dir, data=data, **shown)
        baseline = table_of(clone.folder, "baseline", params)
        keys = {variant.name: clone.key(variant.params) for variant in variants}
        results = Results(home / "results")
        failed = run_variants(chosen, clone, results, keys)
        tables = {name: table for name, key in keys.items() if (table := results.load(name, key)) is not None}
    waiting = {v.name: failed.get(v.name, "not run yet") for v in variants if v.name not in tables}
    found = summarise(variants, tables, baseline, params.scoreboard.bootstrap, not_there={**left_out, **waiting})
    text = markdown(found, made_by="python -m benchmarks.ablation", recipe=args.params.name)
    write_json(out / "ABLATION.json", found)
    write_text(out / "ABLATION.md", text)
    print(f"{len(tables)} of {len(variants)} variants in {out / 'ABLATION.md'}")
    for name, reason in failed.items():
        print(f"error: {name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def raw_data(params: Params, data: Path | None) -> Path | None:
    """The folder of the raw catalogue; None where a stage draws it."""
    if params.data.source == "sample":
        if data is not None:
            raise ConfigError("--data: the sample draws its own catalogue; leave it out")
        return None
    return data or ROOT / params.data.raw_dir


def run_variants(variants: list[Variant], clone: Clone, results: Results, keys: Mapping[str, str]) -> dict[str, str]:
    """Run what is not finished; returns name -> reason of those that failed, the others having been run."""
    failed: dict[str, str] = {}
    for number, variant in enumerate(variants, start=1):
        key = keys[variant.name]
        state = "finished earlier"
        if results.load(variant.name, key) is None:
            print(f"[{number}/{len(variants)}] {variant.name} …", flush=True)
            try:
                if variant.name == FULL:
                    clone.restore()
                else:
                    clone.run(variant.name, variant.options)
            except StepFailed as error:
                failed[variant.name] = str(error)
                print(f"[{number}/{len(variants)}] {variant.name}: failed", flush=True)
                continue
            table = table_of(clone.folder, "protocol", variant.params)
            check_scoreboard(clone.folder, table, variant.name)
            results.save(variant.name, key, table)
            state = "mean {:.1f}".format(100 * values(table)["mean"])
        print(f"[{number}/{len(variants)}] {variant.name}: {state}", flush=True)
    return failed


def table_of(folder: Path, model: str, params: Params) -> pd.DataFrame:
    """The validation queries of one evaluation in the copy."""
    evaluation = load_evaluation(folder / "artifacts" / "evaluation" / model)
    return query_table(evaluation.per_query, params.scoreboard, k=evaluation.k)


def check_scoreboard(folder: Path, table: pd.DataFrame, name: str) -> None:
    """Refuse figures that are not those of `scoreboard.json`.

    Raises:
        IntegrityError: a row differs.
    """
    board = read_json(folder / "artifacts" / "scoreboard" / "scoreboard.json")[SPLIT]
    for row, value in values(table).items():
        if row in board and abs(board[row]["protocol"] - value) > 1e-9:
            raise IntegrityError(
                f"{name}: {row} is {value} in per_query.parquet, {board[row]['protocol']} on the board"
            )


class Results:
    """Finished variants on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, name: str, key: str) -> pd.DataFrame | None:
        """The table of a variant, None when it is not finished or was of another recipe."""
        note = self._folder / f"{name}.json"
        if not note.is_file() or read_json(note)["key"] != key:
            return None
        return read_parquet(self._folder / f"{name}.parquet").set_index("query_id")

    def save(self, name: str, key: str, table: pd.DataFrame) -> None:
        """Keep a table; the note comes last, so that a killed run leaves none for half a table."""
        (self._folder / f"{name}.json").unlink(missing_ok=True)
        write_parquet(self._folder / f"{name}.parquet", table.reset_index())
        write_json(self._folder / f"{name}.json", {"key": key})


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a lock: two runs in one copy would spoil each other.

    Raises:
        BusyError: another run holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another run is at work in {folder}; wait for it or end it") from None
        yield


if __name__ == "__main__":
    sys.exit(main())
