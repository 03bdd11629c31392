"""An embedded catalogue on disk: its files, its columns, its save and its verified load.

A folder holds `catalog_*` (the train split, which is the gallery) and `queries_*` (validation and test):
`*_img.npy` and `*_txt.npy` (n, dim) float32 with unit rows, and `*_meta.parquet` in the same row order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lib.base.artifacts import (
    MANIFEST,
    FloatArray,
    SequenceDigest,
    parquet_columns,
    read_array,
    read_manifest,
    read_parquet,
    sequence_sha256,
    write_manifest,
)
from lib.base.atomic import replacing, replacing_files
from lib.base.errors import IntegrityError

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
    "partition",
    "partition_item",
)
"""Strings. `product_key` names the weakest key that tied the item to its product; `caption` is the embedded text;
`partition` and `partition_item` are the item's part in an official protocol and the id that it matches by."""

IDS = ("item_id", "product_id")
"""Columns whose values nearly all differ."""
META_SCHEMA = pa.schema([pa.field(name, pa.string()) for name in META_COLUMNS])
_ROW_GROUP = 10_000

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

    @property
    def gallery(self) -> FloatArray:
        """(n_items, dim) the images that can be found."""
        return self.catalog.images

    @property
    def gallery_ids(self) -> list[str]:
        """The item id of each of their rows."""
        ids: list[str] = self.catalog.meta["item_id"].tolist()
        return ids


class EmbeddingSetWriter:
    """Writes an embedded catalogue a part at a time; see `writing_embedding_set`."""

    def __init__(self, sides: dict[Side, _SideWriter]) -> None:
        self._sides = sides

    def add(self, side: Side, images: FloatArray, texts: FloatArray, meta: pa.Table) -> None:
        """Append rows to one side.

        Args:
            side: gallery or queries.
            images, texts: (n, dim) float32, unit rows.
            meta: n rows with `META_COLUMNS` as strings.

        Raises:
            IntegrityError: arrays and meta differ in their number of rows, or a row is not finite or not of length 1.
        """
        self._sides[side].add(images, texts, meta)


@contextmanager
def writing_embedding_set(
    folder: Path, *, dim: int, fingerprint: str, image_weight: float | None = None
) -> Iterator[EmbeddingSetWriter]:
    """Write the seven files of an embedded catalogue; memory holds one part and some thousand rows of meta.

    The bytes do not depend on how the rows are cut into parts. Old files stay as they are until the block succeeds.

    Raises:
        BusyError: the disk is full.
    """
    with replacing_files(folder, manifest=MANIFEST) as fresh:
        with ExitStack() as stack:
            sides: dict[Side, _SideWriter] = {side: _SideWriter(stack, fresh, folder, side, dim) for side in SIDES}
            yield EmbeddingSetWriter(sides)
            for side in SIDES:
                sides[side].finish()
        learnt = {} if image_weight is None else {"image_weight": image_weight}
        ids = {side: sides[side].ids.hexdigest() for side in SIDES}
        write_manifest(fresh, FILES, facts={"fingerprint": fingerprint, **learnt, "dim": dim, "ids": ids})


def save_embedding_set(folder: Path, embedded: EmbeddingSet) -> None:
    """Write an embedded catalogue that is in memory; zero, NaN and infinite rows are refused."""
    dim = int(embedded.catalog.images.shape[1])
    with writing_embedding_set(
        folder, dim=dim, fingerprint=embedded.fingerprint, image_weight=embedded.image_weight
    ) as writer:
        for side in SIDES:
            part: Embeddings = getattr(embedded, side)
            meta = pa.Table.from_pandas(part.meta[list(META_COLUMNS)], schema=META_SCHEMA, preserve_index=False)
            writer.add(side, part.images, part.texts, meta.replace_schema_metadata(None))


class _SideWriter:
    """Three files of one side in the folder `fresh`, closed by `stack`; messages call them by their later place."""

    def __init__(self, stack: ExitStack, fresh: Path, folder: Path, side: Side, dim: int) -> None:
        self._names = {kind: f"{folder}/{side}_{kind}" for kind in ("img.npy", "txt.npy")}
        self._dim = dim
        self._n_rows = 0
        self._arrays: dict[str, IO[bytes]] = {}
        paths = {kind: stack.enter_context(replacing(fresh / f"{side}_{kind}")) for kind in self._names}
        meta = stack.enter_context(replacing(fresh / f"{side}_meta.parquet"))
        for kind, path in paths.items():
            self._arrays[kind] = stack.enter_context(path.open("wb"))
            self._write_header(self._arrays[kind])
        self._meta = stack.enter_context(pq.ParquetWriter(meta, META_SCHEMA, compression="zstd"))
        self._waiting: list[pa.Table] = []
        self._n_waiting = 0
        self.ids = SequenceDigest()

    def add(self, images: FloatArray, texts: FloatArray, meta: pa.Table) -> None:
        for kind, array in (("img.npy", images), ("txt.npy", texts)):
            name = self._names[kind]
            if len(array) != len(meta):
                raise IntegrityError(f"{name}: {len(array)} rows, meta has {len(meta)}")
            check_unit_rows(array, name=name, first=self._n_rows)
            self._arrays[kind].write(np.ascontiguousarray(array, dtype="<f4").data)
        self.ids.update(meta.column("item_id").to_pylist())
        self._waiting.append(meta)
        self._n_waiting += len(meta)
        self._n_rows += len(meta)
        if self._n_waiting >= _ROW_GROUP:
            self._write_meta(self._n_waiting - self._n_waiting % _ROW_GROUP)

    def finish(self) -> None:
        self._write_meta(self._n_waiting)
        self._meta.close()
        for file in self._arrays.values():
            file.seek(0)
            self._write_header(file)
            file.close()

    def _write_meta(self, n_rows: int) -> None:
        whole = pa.concat_tables([*self._waiting, META_SCHEMA.empty_table()])
        self._meta.write_table(whole.slice(0, n_rows), row_group_size=_ROW_GROUP)
        self._waiting = [whole.slice(n_rows)]
        self._n_waiting -= n_rows

    def _write_header(self, file: IO[bytes]) -> None:
        """As `np.save` does; numpy leaves room for the number of rows to grow, so the length is always the same."""
        header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": (self._n_rows, self._dim)}
        np.lib.format.write_array_header_1_0(file, header)


def load_embedding_set(folder: Path, *, columns: Sequence[str] = META_COLUMNS, compact: bool = False) -> EmbeddingSet:
    """Verify and open an embedded catalogue; the arrays are memory-mapped read-only.

    Args:
        folder: as written by `save_embedding_set`.
        columns: what of the metadata is read, `item_id` among them; of a large catalogue it takes the most memory.
        compact: ids as pandas' strings and everything else as categories, in place of Python's strings and `None`.

    Raises:
        IntegrityError: a file is missing, damaged, or does not belong to the others.
    """
    manifest = read_manifest(folder)
    parts: dict[Side, Embeddings] = {}
    for side in SIDES:
        written = parquet_columns(folder / f"{side}_meta.parquet")
        lacking = [name for name in META_COLUMNS if name not in written]
        if lacking:
            raise IntegrityError(
                f"{folder}/{side}_meta.parquet: written by another version, it has no column '{lacking[0]}'; "
                "run `dvc repro`"
            )
        coded = [name for name in columns if name not in IDS] if compact else None
        meta = read_parquet(folder / f"{side}_meta.parquet", list(columns), coded=coded)
        images = read_array(folder / f"{side}_img.npy")
        texts = read_array(folder / f"{side}_txt.npy")
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


def check_unit_rows(array: FloatArray, *, name: str, first: int = 0) -> None:
    """Raise `IntegrityError` when a row is not finite or not of length 1 (to 1e-3); `first` numbers the first one."""
    for start in range(0, len(array), 8192):
        block = array[start : start + 8192]
        bad = first_bad_row(block)
        if bad is not None:
            length = np.linalg.norm(np.asarray(block[bad], dtype=np.float64))
            raise IntegrityError(f"{name}: row {first + start + bad} has length {length:g}, expected 1")


def first_bad_row(array: FloatArray) -> int | None:
    """The first row that is not finite or not of length 1 (to 1e-3), or None."""
    norms = np.linalg.norm(np.asarray(array, dtype=np.float64), axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1.0) < 1e-3))  # ~(<) so that NaN counts as bad
    return int(bad[0]) if len(bad) else None
