"""Adapter for parquet shards in Hugging Face form, where the photos lie inside the table.

Rows are read without the bytes of their photos. Photos are read forward, a block of rows at a time, so that
memory holds a few blocks however large the shards and their row groups are. Shards that `hub.json` pins are fetched
one after the other, when their rows are asked for.
"""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lib.base.errors import ConfigError, DataError
from lib.base.params import Data
from lib.catalog.images import MAX_FILE_BYTES, ImageError
from lib.catalog.schema import BadRow, RawRow
from lib.catalog.sources.cells import as_text, is_opaque
from lib.catalog.sources.mapping import TEXT_JOIN, Cells, RowMapper, find_column, mapped_columns
from lib.catalog.sources.shard_places import ShardPlace, find_shards

CHUNK = 1000
"""Rows whose cells are read at once."""
BLOCK = 64
"""Rows whose photos are read at once."""
BLOCKS_KEPT = 4  # threads of one batch of rows run ahead of each other by less than this
READ_BUFFER = 2**20
"""Bytes. With it, and with `pre_buffer` off, reading 450 MB of photos in row groups of 100 took 0.13 GB, by
pyarrow's defaults 0.56 GB (26.0). What is left to grow with is the size of a page, which the writer chose."""


def read_listed_text(cell: str) -> str:
    """A cell that is a Python list of strings, written out, as its strings joined by ` || `; others unchanged.

    Nothing is evaluated: anything but a literal list of strings is text.

    >>> read_listed_text("['Boxy fit.', ' Crew neck ']")
    'Boxy fit. || Crew neck'
    >>> read_listed_text("[sic] a fine tee")
    '[sic] a fine tee'
    """
    cell = cell.strip()
    if not (cell.startswith("[") and cell.endswith("]")):
        return cell
    try:
        parts = ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that its manual names
        return cell
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        return cell
    return TEXT_JOIN.join(stripped for part in parts if (stripped := part.strip()))


class HuggingFaceSource:
    """Rows and photos of the parquet shards under a folder, in the order of the shards' names.

    Rows are numbered from 1 over all shards. A photo is called `<shard>#<row>`, the row counted from 1 in its
    shard. A row whose photo has no bytes is found when photos are read. Shards under the folder are all looked at
    first; one that is pinned costs a download, so that it is looked at, with the errors below, when its rows are
    asked for: a wrong name in `data.columns` shows after the first download.

    Args:
        raw: folder of the shards, at any depth; hidden files and folders are passed over. Or of a `hub.json` alone,
            see `lib.catalog.sources.hub_pin`: then what is true of local shards is true of those that it pins.
        data: the section of the parameters. `metadata` is a pattern under `raw`, "" means every parquet file;
            `columns.image` names the struct with `bytes` and `path`; `image_root` is not used.

    Raises:
        ConfigError: no shard, or a shard without a mapped column.
        DataError: a shard is no parquet file.
        BusyError, IntegrityError: a pinned shard cannot be had, see `lib.catalog.sources.hub_fetch`.
    """

    notes: list[str]

    def __init__(self, raw: Path, data: Data) -> None:
        if data.columns.image is None:
            raise ConfigError("data.columns.image must name the column that holds the photos; it is not set")
        pattern = data.metadata or "**/*.parquet"
        self.notes = []
        self._name = str(raw / pattern)
        self._image = data.columns.image
        self._mapped = list(dict.fromkeys(mapped_columns(data.columns).values()))
        self._columns = data.columns
        self._places = {place.key: place for place in find_shards(raw, pattern)}
        self._shards: dict[str, _Shard] = {}
        self._opening = Lock()
        for place in self._places.values():
            if place.is_here:
                self._shard(place.key)
        self._map = RowMapper(data, self._mapped, where=raw, read_text=read_listed_text)
        self._sizes: dict[str, npt.NDArray[np.int64]] = {}
        self._recent: deque[tuple[str, int, pa.Array]] = deque(maxlen=BLOCKS_KEPT)
        self._ahead: Iterator[tuple[int, pa.Array]] = iter(())
        self._place = ("", 0)  # shard and row at which `_ahead` goes on
        self._lock = Lock()

    @property
    def name(self) -> str:
        """The shards' pattern, for messages."""
        return self._name

    def rows(self) -> Iterator[RawRow | BadRow]:
        """Rows in order of shards; rows without an id come as `BadRow`."""
        number = 0
        for shard in map(self._shard, self._places):
            for in_shard, cells in enumerate(self._cells(shard), start=1):
                number += 1
                yield self._map.row(number, cells, image=f"{shard.key}#{in_shard}", image_name=cells[-1] or None)

    def image_size(self, image: str) -> int | None:
        """Bytes of a photo, None where it has none; the first call for a shard reads through its photos."""
        shard, row = self._locate(image)
        with self._lock:
            if shard.key not in self._sizes:
                blocks = [pc.fill_null(pc.binary_length(block), 0) for _, block in self._blocks(shard, 0)]
                self._sizes[shard.key] = np.concatenate([block.to_numpy(zero_copy_only=False) for block in blocks])
        return int(self._sizes[shard.key][row]) or None

    def image_bytes(self, image: str) -> bytes:
        """A photo's bytes; cheap for photos in the order of their rows.

        Raises:
            ImageError: the cell is null (`no_image`), empty, or too large.
            DataError: the shard is damaged.
        """
        shard, row = self._locate(image)
        with self._lock:
            value = self._value(shard, row)
        if not value.is_valid:
            raise ImageError("no_image", "the cell holds no bytes; photos must lie inside the shards")
        data: bytes = value.as_py()
        if not data:
            raise ImageError("zero_bytes", "the cell holds zero bytes")
        if len(data) > MAX_FILE_BYTES:
            raise ImageError("file_too_large", f"{len(data)} bytes, more than {MAX_FILE_BYTES}")
        return data

    def same_photo(self, row: int, image: str) -> bool:
        """Whether `image` has the bytes of the photo of row number `row`."""
        for shard in map(self._shard, self._places):
            if row <= shard.n_rows:
                break
            row -= shard.n_rows
        return self._bytes_or_none(f"{shard.key}#{row}") == self._bytes_or_none(image)

    def _bytes_or_none(self, image: str) -> bytes | None:
        try:
            return self.image_bytes(image)
        except ImageError:
            return None

    def photos(self) -> Iterator[str]:
        """Names of all photos: one for each row."""
        for shard in map(self._shard, self._places):
            yield from (f"{shard.key}#{row + 1}" for row in range(shard.n_rows))

    def _shard(self, key: str) -> _Shard:
        with self._opening:
            if key not in self._shards:
                self._shards[key] = self._open(self._places[key])
            return self._shards[key]

    def _open(self, place: ShardPlace) -> _Shard:
        path, where = place.path(), place.name
        with _reading(where):
            metadata = pq.read_metadata(path)
            schema = metadata.schema.to_arrow_schema()
        plain = [field.name for field in schema if not is_opaque(field.type)]
        for key, name in mapped_columns(self._columns).items():
            find_column(key, name, plain, where=where)
        kind = schema.field(find_column("image", self._image, schema.names, where=where)).type
        inner = {field.name: field.type for field in kind} if pa.types.is_struct(kind) else {}
        if inner.get("bytes") not in (pa.binary(), pa.large_binary()):
            raise ConfigError(
                f"data.columns.image: column '{self._image}' in {where} is {kind}; expected struct<bytes, path>, "
                "as `datasets` writes images"
            )
        if self._columns.item_id is None and "path" not in inner:
            raise ConfigError(f"{where}: photos have no names to derive ids from; set data.columns.item_id")
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        starts = (0, *accumulate(sizes))
        return _Shard(path, where, place.key, starts[:-1], starts[-1], "path" in inner)

    def _cells(self, shard: _Shard) -> Iterator[Cells]:
        """The mapped cells of each row and, as the last one, the photo's own file name."""
        wanted = [*self._mapped, f"{self._image}.path"] if shard.has_paths else self._mapped
        with _reading(shard.name):
            for batch in _batches(shard, wanted, CHUNK):
                columns = [batch.column(name).to_pylist() for name in self._mapped]
                paths = pc.struct_field(batch.column(self._image), "path").to_pylist() if shard.has_paths else None
                for cells in zip(*columns, paths or [None] * len(batch), strict=True):
                    yield as_text(cells)

    def _locate(self, image: str) -> tuple[_Shard, int]:
        key, _, row = image.rpartition("#")
        return self._shard(key), int(row) - 1

    def _value(self, shard: _Shard, row: int) -> pa.Scalar:
        """Bytes of a row from a block that is kept, or else from reading on to it."""
        for key, start, block in self._recent:
            if key == shard.key and start <= row < start + len(block):
                return block[row - start]
        group = bisect_right(shard.starts, row) - 1
        key, place = self._place
        if key != shard.key or not shard.starts[group] <= place <= row:
            self._ahead = self._blocks(shard, group)
        for start, block in self._ahead:
            self._place = (shard.key, start + len(block))
            self._recent.append((shard.key, start, block))
            if row < start + len(block):
                return block[row - start]
        raise DataError(f"{shard.name}: it ends before row {row + 1}; download it again")

    def _blocks(self, shard: _Shard, first_group: int) -> Iterator[tuple[int, pa.Array]]:
        """(first row, bytes) of each block of rows, from the start of a row group to the end of the shard."""
        start = shard.starts[first_group]
        groups = range(first_group, len(shard.starts))
        for batch in _batches(shard, [f"{self._image}.bytes"], BLOCK, groups):
            block = pc.struct_field(batch.column(self._image), "bytes")
            yield start, block
            start += len(block)


@dataclass(frozen=True)
class _Shard:
    """A parquet file; `name` is for messages, `key` as in `ShardPlace`, `starts` the first row of each row group."""

    path: Path
    name: str
    key: str
    starts: Sequence[int]
    n_rows: int
    has_paths: bool


def _batches(
    shard: _Shard, columns: Sequence[str], n_rows: int, groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    with _reading(shard.name), pq.ParquetFile(shard.path, buffer_size=READ_BUFFER, pre_buffer=False) as file:
        yield from file.iter_batches(batch_size=n_rows, columns=list(columns), row_groups=groups)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: not a readable parquet file ({error}); download it again") from None
