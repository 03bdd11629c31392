"""Writing the parquet shards of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lib.catalog.schema import ITEM_SCHEMA, Split

ROW_GROUP = 256
"""Rows; what a reader of single images has to decode at once."""
MAX_SHARD_BYTES = 256 * 2**20


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
