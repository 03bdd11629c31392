"""The whole pipeline on a shop of one's own, stage by stage, with the backbone of another catalogue."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from stage_server import ROOT, StageServer, command
from workspace import TINY

STAGES = (
    ("process_data", ""), ("grounding_audit", ""), ("embed_catalog", ""), ("audit_texts", ""),
    ("evaluate", "baseline"), ("build_groups", ""), ("mine_hard_negatives", ""), ("build_pairs", ""),
    ("train_protocol", ""), ("embed_protocol", ""), ("evaluate", "protocol"), ("scoreboard", ""),
    ("embedding_map", ""),
)  # fmt: skip


def prepare(folder: Path, backbone: Path, rows: list[dict[str, str]], data: Mapping[str, Any]) -> None:
    """A table of these rows, a photo for each, tiny parameters with changes in `data`, and the backbone."""
    raw = folder / "data" / "raw" / "mine"
    (raw / "images").mkdir(parents=True)
    for number, row in enumerate(rows):
        pixels = np.random.default_rng(number // 2).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((48, 48 + number % 2))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        (raw / "images" / row["image"]).write_bytes(buffer.getvalue())
    with open(raw / "items.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, changes in TINY.items():
        for key, value in changes.items():
            params[section][key] = params[section][key] | value if isinstance(value, dict) else value
    place = {"source": "table", "raw_dir": "data/raw/mine", "metadata": "items.csv", "image_root": "images"}
    params["data"] |= place | {"columns": {key: key for key in ("item_id", "image", "category2")} | data["columns"]}
    params["data"] |= {key: value for key, value in data.items() if key != "columns"}
    params["evaluate"]["gallery_queries"], params["scoreboard"]["changes_shown"] = 40, 20
    params["train"]["lr"] = 0.05  # so that something changes
    params["two_tower"]["pairs"] = ""
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    (folder / "lib" / "catalog").mkdir(parents=True)
    shutil.copy(ROOT / "lib/catalog/attributes.yaml", folder / "lib" / "catalog")
    shutil.copytree(backbone, folder / "artifacts" / "backbone")


def run(stages: StageServer, folder: Path) -> str:
    """Every stage, which has to succeed; returns all that was said."""
    said = ""
    for name, model in STAGES:
        words = ["data/raw/mine" if word == "data/raw/sample" else word for word in command(name, model)]
        ended = stages.run(folder, words)
        assert ended.code == 0 and "Traceback" not in ended.said, (name, ended)
        said += ended.out + ended.said
    return said
