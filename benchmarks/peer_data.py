"""The same images and embeddings for this project and its peers, as files that each of them reads in its own way."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.evaluation import synthetic_set
from benchmarks.growth import perturbed
from benchmarks.results import ROOT
from lib.base.artifacts import write_manifest
from lib.catalog.photo_folder import PhotoFolder
from lib.catalog.schema import SPLITS
from lib.catalog.shards import SplitWriter
from lib.embeddings import save_embedding_set

SIDE = 256
"""Pixels of an image's sides, as `process_data` leaves a larger photo about."""
SEED = 42


def write_images(folder: Path, n: int) -> None:
    """Write n JPEG files: the sample's pictures, perturbed and enlarged; the same on every run."""
    photos = PhotoFolder(ROOT / "data" / "raw" / "sample" / "images")
    sample = sorted(photos.names())
    if not sample:
        raise SystemExit("benchmarks.peers needs the sample's pictures: run `dvc repro make_sample`")
    folder.mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    for number in range(n):
        data = perturbed(photos.read(sample[number * len(sample) // n]), rng)
        with Image.open(io.BytesIO(data)) as opened:
            opened.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{number:06d}.jpg", quality=90)


def image_files(folder: Path) -> list[Path]:
    """The files of `write_images` in order."""
    return sorted(folder.glob("*.jpg"))


def write_processed(files: list[Path], folder: Path, *, n_queries: int) -> None:
    """Write a processed catalogue of image files without captions; the last `n_queries` are the queries."""
    folder.mkdir(parents=True)
    first = len(files) - n_queries
    parts = {"train": files[:first], "validation": files[first:], "test": []}
    for split in SPLITS:
        with SplitWriter(folder, split) as writer:
            for path in parts[split]:
                image = {"bytes": path.read_bytes(), "path": path.name}
                writer.add({"image": image, "item_id": path.stem, "product_id": path.stem, "product_key": "single"})
    write_manifest(folder, sorted(path.name for path in folder.glob("*.parquet")), facts={})


def write_checkpoint(folder: Path) -> tuple[Path, Path]:
    """ViT-B/32 with random weights, as this project's backbone folder and as a weights file for anybody."""
    from lib.encoding.backbone import WEIGHTS, save_backbone

    import open_clip  # isort: skip
    import torch  # isort: skip

    torch.manual_seed(SEED)
    model = open_clip.create_model("ViT-B-32")
    save_backbone(folder, model, model_config=open_clip.get_model_config("ViT-B-32"), source="checkpoint")
    return folder, folder / WEIGHTS


def write_rows(folder: Path, *, items: int, queries: int, searched: int, anchors: int, dim: int) -> None:
    """Write embeddings whose products have three views: an embedded catalogue, and arrays for searches by product.

    `queries.npy` are other views of the first products, `searched.npy` the first of those; `anchors.npy` and
    `positives.npy` are rows of the gallery that are views of one product.
    """
    rng = np.random.default_rng(SEED)
    made = synthetic_set(items, 6, dim, rng)
    save_embedding_set(folder / "embedded", made)
    gallery = np.asarray(made.catalog.images)
    products = np.arange(items) // 3
    np.save(folder / "gallery.npy", gallery)
    np.save(folder / "gallery_products.npy", products.astype(np.int64))
    asked = np.sort(rng.choice(items, size=min(queries, items), replace=False))
    noisy = gallery[asked] + 5.0 * rng.normal(size=(len(asked), dim)).astype(np.float32) / np.float32(dim**0.5)
    np.save(folder / "queries.npy", (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32))
    np.save(folder / "queries_products.npy", products[asked].astype(np.int64))
    np.save(folder / "searched.npy", gallery[:searched])
    first = 3 * np.sort(rng.choice(items // 3, size=min(anchors, items // 3), replace=False))
    np.save(folder / "anchors.npy", first)
    np.save(folder / "positives.npy", first + 1)
