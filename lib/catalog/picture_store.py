"""The photos that the two-tower model's tables name, each once, and the tables in their numbers: a folder on disk.

`pictures.arrow` is an uncompressed Arrow file that is mapped into memory: any picture is read without its neighbours,
and as many pictures as there are need no more memory. `pairs`, `candidates` and `query_gt` (parquet) hold numbers of
pictures, their places in that file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lib.base.artifacts import (
    read_json,
    read_manifest,
    read_parquet,
    sequence_sha256,
    write_json,
    write_manifest,
    write_parquet,
)
from lib.base.atomic import replacing_folder
from lib.base.errors import IntegrityError

IntArray = npt.NDArray[np.int64]

PICTURES, REPORT = "pictures.arrow", "report.json"
TABLES: Mapping[str, tuple[str, ...]] = {
    "pairs": ("query", "candidate"),
    "candidates": ("candidate",),
    "query_gt": ("query", "candidate"),
}
NO_TABLES = "two_tower.pairs names no table of pairs"
BATCH = 256
"""Rows of a record batch; what a writer holds in memory."""
_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("sha256", pa.binary(32), nullable=False),
        pa.field("image", pa.large_binary(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Pictures:
    """The distinct photos of all tables that can be used.

    Attributes:
        file: where they are.
        names: of picture i, the name that stands first in the tables.
        digests: sha256 of the upright bytes of picture i, 32 bytes.
        images: (n_pictures,) the upright bytes, mapped into memory.
    """

    file: Path
    names: tuple[str, ...]
    digests: tuple[bytes, ...]
    images: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def sha256(self) -> str:
        """Names these pictures in this order: others, another name."""
        return sequence_sha256(digest.hex() for digest in self.digests)

    def read(self, number: int) -> bytes:
        """The upright image of picture `number`, encoded; see `lib.catalog.images.normalise_image`.

        Raises:
            IntegrityError: its bytes are no longer those that were written.
        """
        data: bytes = self.images[number].as_py()
        if sha256(data).digest() != self.digests[number]:
            raise IntegrityError(
                f"{self.file}: {self.names[number]} changed while it was used; run `dvc repro process_data`"
            )
        return data


@dataclass(frozen=True)
class PictureTables:
    """What the three tables say, in picture numbers.

    Attributes:
        pictures: the photos.
        root: folder that their names are under, as it was given when they were read.
        pairs: (n_pairs, 2) query and candidate, to learn from.
        candidates: (n_candidates,) what can be found, in the order of the file, each once.
        truths: (n_truths, 2) query and a candidate that has to be found; in the order of the file.
        report: counts; by table and reason, the rows that cannot be used.
    """

    pictures: Pictures
    root: str
    pairs: IntArray
    candidates: IntArray
    truths: IntArray
    report: dict[str, Any]


class PictureWriter:
    """Streams pictures into `pictures.arrow`; at most one record batch is in memory. A context manager.

    Attributes:
        numbers: of what was added, by its sha256.
    """

    def __init__(self, folder: Path) -> None:
        self.numbers: dict[bytes, int] = {}
        self._pending: list[tuple[str, bytes, bytes]] = []
        self._file = pa.OSFile(str(folder / PICTURES), "wb")
        self._writer = pa.ipc.new_file(self._file, _SCHEMA)

    def add(self, name: str, digest: bytes, image: bytes) -> None:
        """Append an upright image with its sha256 and name, unless the same image has been added before."""
        if digest not in self.numbers:
            self.numbers[digest] = len(self.numbers)
            self._pending.append((name, digest, image))
            if len(self._pending) == BATCH:
                self._flush()

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._flush()
                self._writer.close()

    def _flush(self) -> None:
        if self._pending:
            columns = zip(*self._pending, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
            self._writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
            self._pending = []


def write_tables(fresh: Path, tables: Mapping[str, IntArray], report: dict[str, Any], *, root: str) -> None:
    """Write what belongs to the pictures of a folder that is being written, and its manifest.

    Args:
        fresh: with `pictures.arrow`; see `lib.base.atomic.replacing_folder`.
        tables: by the names of `TABLES`, (n_rows, n_columns) picture numbers.
        report: counts, JSON-ready.
        root: folder that the pictures' names are under.
    """
    for table, columns in TABLES.items():
        numbers = tables[table].reshape(-1, len(columns))
        write_parquet(fresh / f"{table}.parquet", pa.table(dict(zip(columns, numbers.T, strict=True))))
    write_json(fresh / REPORT, report)
    names = [PICTURES, REPORT, *(f"{table}.parquet" for table in TABLES)]
    write_manifest(fresh, names, facts={"images": root})


def save_no_pictures(folder: Path) -> None:
    """Write a folder that says why there are no pictures."""
    with replacing_folder(folder) as fresh:
        write_manifest(fresh, [], facts={"skipped": NO_TABLES})


def load_picture_tables(folder: Path) -> PictureTables | None:
    """Verify and open the folder, the pictures memory-mapped; None where there are no tables.

    Raises:
        IntegrityError: a file is missing or damaged.
    """
    facts = read_manifest(folder)
    if "skipped" in facts:
        return None
    with pa.ipc.open_file(pa.memory_map(str(folder / PICTURES))) as file:
        rows = file.read_all()  # nothing is copied: its columns lie in the mapped file
    pictures = Pictures(
        folder / PICTURES,
        tuple(rows.column("name").to_pylist()),
        tuple(rows.column("sha256").to_pylist()),
        rows.column("image"),
    )
    numbers = {table: _numbers(folder / f"{table}.parquet", columns) for table, columns in TABLES.items()}
    return PictureTables(
        pictures,
        str(facts["images"]),
        numbers["pairs"],
        numbers["candidates"].ravel(),
        numbers["query_gt"],
        read_json(folder / REPORT),
    )


def _numbers(path: Path, columns: tuple[str, ...]) -> IntArray:
    return np.ascontiguousarray(read_parquet(path, list(columns)).to_numpy(dtype=np.int64))
