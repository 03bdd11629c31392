"""A processed catalogue loads with Hugging Face `datasets` as it is; nothing need be said about its columns."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inshop_release import write_release
from PIL import Image

from lib.base.params import load_params
from lib.catalog.process import process_catalog
from lib.catalog.processed import read_images, read_rows
from lib.catalog.schema import SPLITS, STRING_COLUMNS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`datasets.load_dataset` of splits of a processed folder, offline, its cache in the test's folder."""
    for name in ("HF_HOME", "HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "huggingface"))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")

    def load(folder: Path, splits: Sequence[str] = SPLITS) -> Any:
        import datasets

        datasets.disable_progress_bars()
        files = {split: str(folder / f"{split}-*.parquet") for split in splits}
        return datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))

    return load


def test_columns_rows_and_pictures(shop, tmp_path, load, encode, draw):
    shop.add("001", title="=HYPERLINK(1)", color="#N/A")
    shop.add("NA", title="", category="")
    (shop.raw / "images/grey.png").write_bytes(encode(draw(5).convert("L"), "PNG"))
    shop.add("nan", image="grey.png")
    shop.process(tmp_path / "hf")
    loaded = load(tmp_path / "hf")
    assert list(loaded) == list(SPLITS)
    rows = read_rows(tmp_path / "hf")
    photos = read_images(tmp_path / "hf", rows["item_id"])
    for split in SPLITS:
        part, expected = loaded[split], rows[rows["split"] == split]
        assert part.column_names == ["image", *STRING_COLUMNS]
        features = {name: str(kind) for name, kind in part.features.items()}
        assert features.pop("image").startswith("Image(")
        assert features == dict.fromkeys(STRING_COLUMNS, "Value('string')")
        assert len(part) == len(expected) > 0
        for name in STRING_COLUMNS:
            assert list(part[name]) == expected[name].tolist(), name  # None stays None, "NA" stays "NA"
        for item_id, picture in zip(part["item_id"], part["image"], strict=True):
            stored = Image.open(io.BytesIO(photos[item_id]))
            assert picture.mode == stored.mode and np.array_equal(np.asarray(picture), np.asarray(stored)), item_id
    assert {"001", "NA", "nan"} <= {item_id for split in SPLITS for item_id in loaded[split]["item_id"]}
    assert None in [value for split in SPLITS for value in loaded[split]["category2"]]
    assert all(value is None for split in SPLITS for value in loaded[split]["partition"])


def test_several_shards(shop, tmp_path, load, monkeypatch):
    monkeypatch.setattr("lib.catalog.shards.ROW_GROUP", 4)
    monkeypatch.setattr("lib.catalog.shards.MAX_SHARD_BYTES", 6000)
    shop.process(tmp_path / "hf", splits={"train": 0.8, "validation": 0.2, "test": 0.0})
    assert len(list((tmp_path / "hf").glob("train-*-of-*.parquet"))) > 2
    loaded = load(tmp_path / "hf", ("train", "validation"))  # `datasets` has no empty split: test is left out
    rows = read_rows(tmp_path / "hf", "train")
    assert list(loaded["train"]["item_id"]) == rows["item_id"].tolist()
    assert [picture.size for picture in loaded["train"]["image"]] == [(24, 32)] * len(rows)


def test_the_official_partition(tmp_path, load):
    release = write_release(tmp_path / "raw", seed=5, n_items=12)
    data = load_params(ROOT / "profiles/deepfashion_inshop.yaml").data
    process_catalog(release.raw, ROOT / data.attribute_schema, tmp_path / "hf", data, workers=2)
    loaded = load(tmp_path / "hf")
    found = {
        row["item_id"]: (row["partition"], row["partition_item"])
        for split in SPLITS
        for row in loaded[split].remove_columns("image")
    }
    path = (name.removeprefix("img/").removesuffix(".jpg").replace("/", "_") for name, _, _ in release.lines)
    assert found == dict(zip(path, ((status, item) for _, item, status in release.lines), strict=True))
    assert {row["partition"] for row in loaded["test"].remove_columns("image")} == {"query", "gallery"}
