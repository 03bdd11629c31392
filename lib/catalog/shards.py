"""Writing a folder of parquet shards that appears as a whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lib.catalog.schema import ITEM_SCHEMA, Split
from lib.errors import BusyError

ROW_GROUP = 256
"""Rows; what a reader of single images has to decode at once."""
MAX_SHARD_BYTES = 256 * 2**20


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder` and put it in its place when the block succeeds.

    What a killed run left behind is removed first; the caller holds the stage's lock.

    Raises:
        BusyError: the disk is full or a file-size limit was hit; the old folder is intact.
    """
    fresh = folder.with_name(f".{folder.name}.partial")
    old = folder.with_name(f".{folder.name}.old")
    try:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        yield fresh
        for path in sorted(fresh.iterdir()):
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BusyError(f"{folder}: no room to write it ({error.strerror}); free space, run again") from None
        raise
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)


class SplitWriter:
    """Streams the rows of one split into shards `<split>-00000-of-0000N.parquet`.

    A shard ends with the row group that takes its images past `MAX_SHARD_BYTES`; at most one row group is
    in memory. A split without rows gets one shard without rows. A context manager: the names, which hold
    the number of shards, are final when it closes without an error.
    """

    def __init__(self, folder: Path, split: Split) -> None:
        self.folder = folder
        self.split = split
        self.n_rows = 0
        self._pending: list[Mapping[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None
        self._shard_bytes = 0
        self._shards: list[Path] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row with the columns of `ITEM_SCHEMA`."""
        self._pending.append(row)
        self.n_rows += 1
        if len(self._pending) == ROW_GROUP:
            self._flush()

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is None and (self._pending or not self._shards):
            self._flush()
        self._close_shard()
        if kind is None:
            for number, path in enumerate(self._shards):
                path.rename(self.folder / f"{self.split}-{number:05d}-of-{len(self._shards):05d}.parquet")

    def _flush(self) -> None:
        if self._writer is None:
            self._shards.append(self.folder / f"{self.split}-{len(self._shards):05d}.parquet")
            self._writer = pq.ParquetWriter(self._shards[-1], ITEM_SCHEMA, compression="zstd")
        self._writer.write_table(_table(self._pending), row_group_size=ROW_GROUP)
        self._shard_bytes += sum(len(row["image"]["bytes"]) for row in self._pending)
        self._pending = []
        if self._shard_bytes >= MAX_SHARD_BYTES:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        self._shard_bytes = 0


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=ITEM_SCHEMA)
