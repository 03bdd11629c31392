"""Splits without items, attributes of nobody or everybody, a category first seen in a query: said, never NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_pipeline
import torch
from raw_shop import RawShop
from stage_server import StageServer
from workspace import Workspace

from lib.base.artifacts import read_torch

SPLITS = {
    "all": {"train": 0.6, "validation": 0.2, "test": 0.2},
    "no validation": {"train": 0.7, "validation": 0.0, "test": 0.3},
    "no test": {"train": 0.7, "validation": 0.3, "test": 0.0},
}
COLORS = ("red", "blue", "green")


def rows() -> list[dict[str, str]]:
    """Forty products of two views: no neckline and no pattern is named, every sleeve is long, twelve are alone in
    their category."""
    made = []
    for number in range(80):
        product = number // 2
        category = f"one of a kind {product}" if product < 12 else ("tees", "dresses")[product % 2]
        made.append(
            {
                "item_id": f"P{product:02d}_{number % 2}",
                "image": f"{number}.jpg",
                "category2": category,
                "color": COLORS[product % 3],
                "sleeve": "long sleeve",
                "title": f"A {('cotton', 'wool')[product % 2]} thing",
            }
        )
    return made


@pytest.fixture(
    scope="module",
    params=["no validation", *(pytest.param(name, marks=pytest.mark.slow) for name in ("all", "no test"))],
)
def shop(
    request: pytest.FixtureRequest,
    stages: StageServer,
    reproduced: Workspace,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("shop")
    columns = {"color": "color", "sleeve": "sleeve", "text": ["title"]}
    data = {"columns": columns, "splits": SPLITS[request.param], "pattern_only_categories": []}
    small_pipeline.prepare(folder, reproduced.folder / "artifacts/backbone", rows(), data)
    small_pipeline.run(stages, folder)  # every stage succeeds
    return request.param, folder


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            yield from numbers(child)
    elif isinstance(value, int | float):
        yield float(value)


def load(path: Path) -> Any:
    """Strict JSON: `NaN` and `Infinity` are refused."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{path.name} holds {name}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_no_file_holds_nan(shop: tuple[str, Path]) -> None:
    _, folder = shop
    files = [*(folder / "artifacts").rglob("*.json"), *(folder / "data/processed").rglob("*.json")]
    assert len(files) > 12
    for path in files:
        assert all(math.isfinite(number) for number in numbers(load(path))), path
    for line in (folder / "artifacts/protocol/train_log.jsonl").read_text(encoding="utf-8").splitlines():
        assert "NaN" not in line and "Infinity" not in line
    assert "nan" not in (folder / "artifacts/protocol/train_curves.csv").read_text(encoding="utf-8").lower()
    for path in (folder / "artifacts").rglob("*.npy"):
        assert np.isfinite(np.load(path)).all(), path
    assert "nan" not in (folder / "artifacts/scoreboard/scoreboard.txt").read_text(encoding="utf-8").lower()


def test_unknown_attributes_are_skipped_with_a_reason(shop: tuple[str, Path]) -> None:
    which, folder = shop
    present = [split for split in ("test", "validation") if which != f"no {split}"]
    for model in ("baseline", "protocol"):
        metrics = load(folder / "artifacts/evaluation" / model / "metrics.json")
        for split in present:
            plain, skipped = metrics[split]["image_to_image"], metrics["skipped"][split]["image_to_image"]
            for label in ("neckline", "known_neckline", "pattern"):
                assert f"{label}@10" not in plain and "no " in skipped[f"{label}@10"], label
            assert plain["color@10"]["n_queries"] > 0
            assert plain["sleeve@10"]["value"] == plain["sleeve@10"]["ceiling"] == plain["sleeve@10"]["chance"] == 1
            assert "neckline" in metrics["skipped"][split]["probe"] and "sleeve" in metrics["skipped"][split]["probe"]
    board = load(folder / "artifacts/scoreboard/scoreboard.json")
    for split in present:
        assert board["skipped"][split]["neckline@10"] and "neckline@10" not in board[split]
        assert board["skipped"][split]["denim@10"]


def test_an_empty_split_is_said_and_not_measured(shop: tuple[str, Path]) -> None:
    which, folder = shop
    if which == "all":
        return
    split = which.removeprefix("no ")
    metrics = load(folder / "artifacts/evaluation/protocol/metrics.json")
    assert not any(metrics[split].values())
    reasons = metrics["skipped"][split]["image_to_image"]
    assert {"color@10", "neckline@10", "category@10"} <= set(reasons) and all(reasons.values())
    board = load(folder / "artifacts/scoreboard/scoreboard.json")
    assert not board[split] and board["skipped"][split]["color@10"]
    assert board["success"] == 0, "nobody is told of a success that was not measured"


def test_there_is_no_head_for_what_has_no_two_values(shop: tuple[str, Path]) -> None:
    _, folder = shop
    for name in ("best.pt", "final.pt"):
        content = read_torch(folder / "artifacts/protocol/checkpoints" / name)
        assert set(content["model_config"]["vocabularies"]) == {"category2", "color", "material"}
        assert all(torch.isfinite(weights).all() for weights in content["model"].values())


def test_a_category_first_seen_in_a_query_has_no_match_and_does_no_harm(shop: tuple[str, Path]) -> None:
    which, folder = shop
    catalog, queries = (
        pd.read_parquet(folder / "artifacts/retrieval/baseline" / f"{side}_meta.parquet")
        for side in ("catalog", "queries")
    )
    unseen = set(queries["category2"]) - set(catalog["category2"])
    assert unseen, "a category of one product is on one side"
    for model in ("baseline", "protocol"):
        found = pd.read_parquet(folder / "artifacts/evaluation" / model / "per_query.parquet")
        found = found[(found["mode"] == "image_to_image") & found["category2"].isin(unseen)]
        assert len(found) >= 1 and (found["category_hits"] == 0).all() and (found["category_ceiling"] == 0).all()
        assert found["retrieved_ids"].map(len).min() > 0
    assert which in SPLITS


def test_an_empty_train_split_stops_with_3(stages: StageServer, tmp_path: Path) -> None:
    shop = RawShop(tmp_path, stages)
    shop.fill()
    shop.write()
    shop.set_data(splits={"train": 0.0, "validation": 0.5, "test": 0.5})
    ended = shop.process()
    assert ended.code == 3 and "Traceback" not in ended.said
    assert "no item is left for the train split (20 usable rows of 20, 10 products)" in ended.said
    assert not (tmp_path / "hf").exists()


def test_a_catalogue_without_queries_stops_with_3(stages: StageServer, reproduced: Workspace, tmp_path: Path) -> None:
    shop = RawShop(tmp_path, stages)
    shop.fill()
    shop.write()
    shop.set_data(splits={"train": 1.0, "validation": 0.0, "test": 0.0})
    assert shop.process().code == 0
    backbone = str(reproduced.folder / "artifacts/backbone")
    ended = stages.run(tmp_path, ["embed_catalog", "--processed", "hf", "--backbone", backbone, "--out", "out"])
    assert ended.code == 3 and "no item in validation or test" in ended.said and "Traceback" not in ended.said
    assert not (tmp_path / "out").exists()
