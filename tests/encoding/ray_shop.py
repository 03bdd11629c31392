"""A processed catalogue with real pictures and an untrained backbone, for comparing engines."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lib.base.artifacts import write_manifest
from lib.base.atomic import replacing_folder
from lib.catalog.schema import SPLITS, STRING_COLUMNS
from lib.catalog.shards import SplitWriter
from lib.encoding.backbone import save_backbone

import open_clip  # isort: skip  # after the backbone, which prepares torchvision for it

CONFIG: dict[str, Any] = {
    "embed_dim": 512,  # wide, so that a batch of rows is more than Ray sends along with a task's answer
    "vision_cfg": {"layers": 1, "width": 32, "head_width": 32, "patch_size": 16, "image_size": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def write_untrained_backbone(folder: Path) -> Path:
    """A small CLIP with seeded random weights."""
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG)
    open_clip.factory.set_model_preprocess_cfg(model, vars(open_clip.transform.PreprocessCfg(size=32)))
    save_backbone(folder, model, model_config=CONFIG, source="checkpoint")
    return folder


def write_catalogue(folder: Path, *, n_train: int, n_test: int, broken: Mapping[str, bytes] | None = None) -> Path:
    """Items `train0`, `train1`, … and `test0`, … with pictures of noise; `broken`: other bytes of some."""
    rng = np.random.default_rng(5)
    counts = {"train": n_train, "validation": 0, "test": n_test}
    with replacing_folder(folder) as fresh:
        for split in SPLITS:
            with SplitWriter(fresh, split) as writer:
                for i in range(counts[split]):
                    item_id = f"{split}{i}"
                    own = {"item_id": item_id, "product_id": item_id, "product_key": "single"}
                    own["caption"] = f"a {('red', 'blue', 'green')[i % 3]} thing number {i // 2}"
                    image = (broken or {}).get(item_id) or _picture(rng)
                    writer.add({"image": {"bytes": image, "path": None}, **dict.fromkeys(STRING_COLUMNS), **own})
        write_manifest(fresh, [path.name for path in fresh.glob("*.parquet")], facts={})
    return folder


def _picture(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (48, 40, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()
