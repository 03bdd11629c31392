"""The two-tower model under other seeds, and on photographs: `python -m benchmarks.two_tower [--write]`.

Without `--data`: the sample's street photos, as the pipeline left and embedded them (`dvc repro`), each variant with
three seeds. With `--params FILE --data FOLDER`: a catalogue with several views of a product. Its backbone is trained
under `.cache/two_tower/`; then the other views of a product have to find its first one among the first views of all
products. Pairs are those of the train split; what is measured are products of the other splits.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.results import ROOT, write_section
from lib.base.artifacts import read_json, read_parquet
from lib.base.errors import ConfigError, PipelineError
from lib.base.params import Params, load_params
from lib.catalog.schema import SPLITS

SEEDS = (42, 1, 2)
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "the recipe": {},
    "one shared tower": {"shared": True},
    "mlp heads": {"head": {"kind": "mlp", "hidden": 512, "dropout": 0.5}},
}
TABLES = {
    "pairs": "two_tower/pairs.csv",
    "candidates": "two_tower/candidates.csv",
    "query_gt": "two_tower/query_gt.csv",
}
_VIEW = re.compile(r"(\d+)(?=\.\w+$)")

Figures = Mapping[str, Mapping[str, float]]
Photo = tuple[str, str, str]
"""Split, product and file name."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml", help="the recipe")
    parser.add_argument("--data", type=Path, help="folder of a raw catalogue; default: the sample's street photos")
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    args = parser.parse_args(argv)
    home = ROOT / ".cache" / "two_tower" / args.params.stem
    try:
        params = load_params(args.params)
        variants = VARIANTS if args.data is None else {"the recipe": {}}
        if args.data is not None:
            photos, rows, recipe = prepared(home, params, args.params, args.data)
        elif params.two_tower.pairs:
            photos, rows = ROOT / "data/processed/photos", ROOT / "artifacts/retrieval/photos"
            recipe = yaml.safe_load(args.params.read_text(encoding="utf-8"))
        else:
            raise ConfigError(f"{args.params}: two_tower.pairs names no table of pairs; give a catalogue with --data")
        found = {name: measured(home, photos, rows, recipe, changed) for name, changed in variants.items()}
    except PipelineError as error:
        print(f"error: two_tower: {error}", file=sys.stderr)
        return error.exit_code
    own = "" if args.data is None else f" --params {args.params.name} --data FOLDER"
    text = f"`python -m benchmarks.two_tower{own}`: {markdown(found)}"
    print(text)
    if args.write:
        write_section(f"Two-tower model, {args.params.stem}", text)
    return 0


def prepared(home: Path, params: Params, file: Path, data: Path) -> tuple[Path, Path, dict[str, Any]]:
    """Photos of the tables that are made of a catalogue, a trained backbone's rows of them, and the recipe."""
    shutil.rmtree(home, ignore_errors=True)
    raw, processed, backbone = home / "raw", home / "hf", home / "backbone"
    shutil.copytree(data, raw)
    (home / "image_cache").mkdir()
    schema, cache = ROOT / params.data.attribute_schema, home / "image_cache"
    _stage("process_data", file, raw=raw, schema=schema, image_cache=cache, out=processed)
    _stage("prepare_backbone", file, processed=processed, out=backbone)
    views: list[Photo] = []
    for split in SPLITS:
        for path in sorted(processed.glob(f"{split}-*.parquet")):
            rows = read_parquet(path, ["product_id", "image"]).to_dict("records")
            views += [(split, row["product_id"], row["image"]["path"]) for row in rows]
    (raw / "two_tower").mkdir()
    for name, table in tables_of(views).items():
        with (raw / TABLES[name]).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(table)
    recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
    recipe["two_tower"] |= {**TABLES, "images_root": params.data.image_root}
    with_tables = _written(home, recipe)
    photos, rows = home / "photos", home / "rows"
    _stage("process_data", with_tables, raw=raw, schema=schema, image_cache=cache, photos=photos, out=processed)
    out = home / "embedded"
    _stage("embed_catalog", with_tables, processed=processed, photos=photos, backbone=backbone, rows=rows, out=out)
    return photos, rows, recipe


def tables_of(photos: Sequence[Photo]) -> dict[str, list[list[str]]]:
    """The three tables: a product's first view is the candidate, its other views are queries."""
    views: dict[tuple[str, str], list[str]] = {}
    for split, product, name in photos:
        views.setdefault((split, product), []).append(name)
    tables = {"pairs": [["query_path", "cand_path"]], "query_gt": [["query_path", "gt_cand_path"]]}
    candidates = [["cand_path"]]
    for (split, _), names in views.items():
        first, *others = sorted(names, key=_view)
        candidates.append([first])
        tables["pairs" if split == "train" else "query_gt"] += [[name, first] for name in others]
    return {**tables, "candidates": candidates}


def measured(
    home: Path, photos: Path, rows: Path, recipe: Mapping[str, Any], changed: Mapping[str, Any]
) -> list[Figures]:
    """`metrics.json` of each seed."""
    found = []
    for seed in SEEDS:
        print(f"{dict(changed) or 'the recipe'}, seed {seed} …", file=sys.stderr, flush=True)
        out = home / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        file = _written(home, {**recipe, "two_tower": {**recipe["two_tower"], **changed, "seed": seed}})
        _stage("train_two_tower", file, photos=photos, rows=rows, out=out)
        best = out / "checkpoints" / "best.pt"
        _stage("evaluate_two_tower", file, photos=photos, rows=rows, checkpoint=best, out=out)
        found.append(read_json(out / "metrics.json"))
    return found


def markdown(found: Mapping[str, Sequence[Figures]]) -> str:
    """Recall of the first seed with intervals, and what each seed gained over the frozen backbone."""
    first = next(iter(found.values()))[0]["recall@10"]
    seeds = " | ".join(f"gain, seed {seed}" for seed in SEEDS)
    lines = [
        f"Recall on {first['n_queries']} queries whose products were not learnt from, with 95 % intervals over",
        f"products; gain: recall@10 over the frozen backbone. A random ranking reaches {first['chance']:.4f} at 10.",
        "",
        f"| variant | recall@1 | recall@5 | recall@10 | {seeds} |",
        "|---|---:|---:|---:|" + "---:|" * len(SEEDS),
        f"| frozen backbone | {_levels(next(iter(found.values()))[0], 'frozen')} |" + " |" * len(SEEDS),
    ]
    for name, runs in found.items():
        gains = [
            f"{row['delta']:+.3f} [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"
            for row in (run["recall@10"] for run in runs)
        ]
        lines.append(f"| {name} | {_levels(runs[0], 'trained')} | {' | '.join(gains)} |")
    return "\n".join(lines)


def _levels(figures: Figures, model: str) -> str:
    cells = []
    for k in (1, 5, 10):
        row = figures[f"recall@{k}"]
        cells.append(f"{row[model]:.3f} [{row[f'{model}_low']:.3f}, {row[f'{model}_high']:.3f}]")
    return " | ".join(cells)


def _view(name: str) -> tuple[int, str]:
    """Photos by the number before the ending, those without one last."""
    number = _VIEW.search(name)
    return (int(number.group()) if number else sys.maxsize), name


def _written(home: Path, recipe: Mapping[str, Any]) -> Path:
    file = home / "params.yaml"
    file.write_text(yaml.safe_dump(dict(recipe), sort_keys=False), encoding="utf-8")
    return file


def _stage(name: str, params: Path, **places: Path) -> None:
    words = [word for key, place in places.items() for word in (f"--{key.replace('_', '-')}", str(place))]
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{name}", *words, "--params", str(params)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise PipelineError(f"{name} ended with {done.returncode}:\n{done.stderr.strip().splitlines()[-1]}")
    print(done.stdout.strip(), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
