"""An embedded catalogue on disk: its files, its columns, its save and its verified load.

A folder holds `catalog_*` (the train split, which is the gallery) and `queries_*` (validation and test):
`*_img.npy` and `*_txt.npy` (n, dim) float32 with unit rows, and `*_meta.parquet` in the same row order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from lib.artifacts import (
    FloatArray,
    read_manifest,
    read_parquet,
    sequence_sha256,
    write_array,
    write_manifest,
    write_parquet,
)
from lib.errors import IntegrityError

META_COLUMNS = (
    "item_id",
    "product_id",
    "split",
    "category1",
    "category2",
    "category3",
    "color",
    "material",
    "pattern",
    "neckline",
    "sleeve",
    "product_key",
    "caption",
)
"""`product_key` names the weakest key that tied the item to its product; `caption` is the embedded text."""

Side = Literal["catalog", "queries"]
SIDES: tuple[Side, Side] = ("catalog", "queries")
FILES = tuple(f"{side}_{kind}" for side in SIDES for kind in ("img.npy", "txt.npy", "meta.parquet"))


@dataclass(frozen=True)
class Embeddings:
    """One side of an embedded catalogue.

    Attributes:
        images: (n_items, dim) float32, unit rows.
        texts: (n_items, dim) float32, unit rows; the row of an empty caption means nothing.
        meta: n_items rows with `META_COLUMNS`; unknown values are `None`.
    """

    images: FloatArray
    texts: FloatArray
    meta: pd.DataFrame

    def __len__(self) -> int:
        return len(self.meta)

    def of_split(self, split: str) -> Embeddings:
        """The rows of one split, in order."""
        rows = np.flatnonzero(self.meta["split"].to_numpy() == split)
        return Embeddings(
            np.ascontiguousarray(self.images[rows]),
            np.ascontiguousarray(self.texts[rows]),
            self.meta.iloc[rows].reset_index(drop=True),
        )


@dataclass(frozen=True)
class EmbeddingSet:
    """Gallery and queries embedded by one model.

    Attributes:
        catalog: the train split, which is the gallery.
        queries: validation and test.
        fingerprint: names the backbone and head.
        image_weight: of the image in fused queries, where the model learnt one; None for a backbone.
    """

    catalog: Embeddings
    queries: Embeddings
    fingerprint: str
    image_weight: float | None = None


def save_embedding_set(folder: Path, embedded: EmbeddingSet) -> None:
    """Write the seven files of an embedded catalogue; zero, NaN and infinite rows are refused."""
    for side in SIDES:
        part: Embeddings = getattr(embedded, side)
        for kind, array in (("img", part.images), ("txt", part.texts)):
            if len(array) != len(part.meta):
                raise IntegrityError(f"{folder}/{side}_{kind}.npy: {len(array)} rows, meta has {len(part.meta)}")
            check_unit_rows(array, name=f"{folder}/{side}_{kind}.npy")
            write_array(folder / f"{side}_{kind}.npy", array)
        write_parquet(folder / f"{side}_meta.parquet", part.meta[list(META_COLUMNS)])
    learnt = {} if embedded.image_weight is None else {"image_weight": embedded.image_weight}
    facts = {
        "fingerprint": embedded.fingerprint,
        **learnt,
        "dim": int(embedded.catalog.images.shape[1]),
        "ids": {side: sequence_sha256(getattr(embedded, side).meta["item_id"]) for side in SIDES},
    }
    write_manifest(folder, FILES, facts=facts)


def load_embedding_set(folder: Path) -> EmbeddingSet:
    """Verify and open an embedded catalogue; the arrays are memory-mapped read-only.

    Raises:
        IntegrityError: a file is missing, damaged, or does not belong to the others.
    """
    manifest = read_manifest(folder)
    parts: dict[Side, Embeddings] = {}
    for side in SIDES:
        meta = read_parquet(folder / f"{side}_meta.parquet")
        images = np.load(folder / f"{side}_img.npy", mmap_mode="r", allow_pickle=False)
        texts = np.load(folder / f"{side}_txt.npy", mmap_mode="r", allow_pickle=False)
        if not len(images) == len(texts) == len(meta):
            raise IntegrityError(
                f"{folder}: {side} has {len(images)} image rows, {len(texts)} text rows, {len(meta)} meta rows; "
                "run `dvc repro -f` the stage that writes it"
            )
        found = sequence_sha256(meta["item_id"])
        if found != manifest["ids"][side]:
            raise IntegrityError(f"{folder}/{side}_meta.parquet: the ids are not in the order of the arrays")
        parts[side] = Embeddings(images, texts, meta)
    return EmbeddingSet(
        parts["catalog"], parts["queries"], str(manifest["fingerprint"]), manifest.get("image_weight")
    )


def check_unit_rows(array: FloatArray, *, name: str) -> None:
    """Raise `IntegrityError` when a row is not finite or not of length 1 (to 1e-3)."""
    for start in range(0, len(array), 8192):
        norms = np.linalg.norm(np.asarray(array[start : start + 8192], dtype=np.float64), axis=1)
        bad = np.flatnonzero(~(np.abs(norms - 1.0) < 1e-3))  # ~(<) so that NaN counts as bad
        if len(bad):
            raise IntegrityError(f"{name}: row {start + int(bad[0])} has length {norms[bad[0]]:g}, expected 1")
