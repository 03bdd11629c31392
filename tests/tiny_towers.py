"""Photos of two sides on disk, small enough to train on in a second: a colour says which product a photo is of."""

from __future__ import annotations

import csv
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from lib.base.params import TwoTower, parse_params
from lib.catalog.picture_pairs import PictureSources, process_pictures

ROOT = Path(__file__).parents[1]
SIDE = 32


def draw_shop(raw: Path, *, n_products: int = 30, n_asked: int = 8, seed: int = 0) -> None:
    """`raw/street/q*.png` (dark and mirrored) and `raw/shop/c*_{0,1}.png`, the three tables in `raw/two_tower`."""
    rng = np.random.default_rng(seed)
    for folder in ("street", "shop", "two_tower"):
        (raw / folder).mkdir(parents=True)
    tables: dict[str, list[list[str]]] = {"pairs": [], "query_gt": [], "candidates": []}
    for number in range(n_products):
        blocks = rng.integers(40, 250, size=(4, 4, 3))
        for view in range(2):
            _save(raw / "shop" / f"c{number}_{view}.png", blocks, rng)
            tables["candidates"].append([f"shop/c{number}_{view}.png"])
            asked = "query_gt" if number < n_asked else "pairs"
            tables[asked].append([f"street/q{number}.png", f"shop/c{number}_{view}.png"])
        _save(raw / "street" / f"q{number}.png", (0.5 * blocks[:, ::-1]).astype(int), rng)
    for name, rows in tables.items():
        write_table(raw / "two_tower" / f"{name}.csv", name, rows)


def write_table(path: Path, name: str, rows: list[list[str]]) -> None:
    """One of the three tables."""
    header = {"pairs": ["query_path", "cand_path"], "query_gt": ["query_path", "gt_cand_path"]}
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header.get(name, ["cand_path"]), *rows])


def add_row(raw: Path, name: str, *cells: str) -> int:
    """Append a row to a table; returns its line."""
    path = raw / "two_tower" / f"{name}.csv"
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerow(cells)
    return len(path.read_text(encoding="utf-8").splitlines())


def tiny_two_tower(**changed: object) -> TwoTower:
    """The section `two_tower` of params.yaml, made small."""
    return parse_params(tiny_params(**changed)).two_tower


def keep_pictures(raw: Path, out: Path, params: TwoTower) -> dict[str, Any] | None:
    """What `process_data` does with the tables; returns the report."""
    sources = PictureSources(*(getattr(params, field.name) for field in fields(PictureSources)))
    return process_pictures(raw, sources, out, max_side=512, max_pixels=10**6, workers=2)


def tiny_params(**changed: object) -> dict[str, dict[str, object]]:
    """The parameter file with a small section `two_tower`."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["runtime"]["threads"] = 1
    raw["embed"] |= {"batch_size": 8, "decode_workers": 1}
    raw["two_tower"] |= {"epochs": 3, "batch_size": 8, "bootstrap": {"resamples": 100, "seed": 1}}
    raw["two_tower"]["network"] |= {"image_size": SIDE, "dim": 16, "device": "cpu"}
    raw["two_tower"] |= changed
    return raw


def _save(path: Path, blocks: np.ndarray, rng: np.random.Generator) -> None:
    pixels = np.kron(blocks, np.ones((SIDE // 4, SIDE // 4, 1))) + rng.normal(0, 6, size=(SIDE, SIDE, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
