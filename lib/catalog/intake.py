"""The first pass over a catalogue: cells become described rows on disk; ids and keys stay in memory."""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from lib.base.errors import DataError
from lib.base.params import Data
from lib.catalog.columns import FirstSeen, TextColumn, text_number
from lib.catalog.describe import Describer
from lib.catalog.images import ImageError
from lib.catalog.products import LINKING_KEYS, compile_sku_pattern, find_sku, id_stem, url_stem
from lib.catalog.schema import STRING_COLUMNS, BadRow, Partition, ProductKey, RawRow
from lib.catalog.sources.registry import Source

CHUNK = 256
_DIGEST = 16
"""Bytes kept of a row's digest; sources write as many."""
_DECIDED_LATER = ("product_id", "product_key")
SPOOL_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("photo", pa.string()),
        pa.field("image_name", pa.string()),
        *(pa.field(name, pa.string()) for name in STRING_COLUMNS if name not in _DECIDED_LATER),
    ]
)


@dataclass
class Intake:
    """What the first pass learns.

    Attributes:
        item_ids, categories, partitions, partition_items, keys: over the usable rows, in order.
        bad: the others; the second pass adds rows whose photo cannot be used.
        n_rows: rows read.
        named_photos: `text_number` of every photo that a row names, usable or not.
    """

    item_ids: TextColumn = field(default_factory=TextColumn)
    categories: list[str | None] = field(default_factory=list)
    partitions: list[Partition | None] = field(default_factory=list)
    partition_items: TextColumn = field(default_factory=TextColumn)
    keys: dict[ProductKey, TextColumn] = field(default_factory=lambda: defaultdict(TextColumn))
    bad: list[BadRow] = field(default_factory=list)
    n_rows: int = 0
    named_photos: array[int] = field(default_factory=lambda: array("Q"))

    def unnamed(self, photos: Iterable[str]) -> list[str]:
        """Those of `photos` that no row names."""
        named = np.unique(np.frombuffer(self.named_photos, dtype=np.uint64))
        found = []
        for photo in photos:
            number = np.uint64(text_number(photo))
            place = int(np.searchsorted(named, number))
            if place == len(named) or named[place] != number:
                found.append(photo)
        return found


class _Firsts:
    """Row number and digest of the first row of each id."""

    def __init__(self) -> None:
        self._ids = FirstSeen()
        self._rows = array("q")
        self._digests = bytearray()

    def of(self, row: RawRow) -> tuple[int, bytes]:
        """Of the first row with this row's id, which may be this one."""
        place = self._ids.add(row.item_id)
        if place is None:
            place = len(self._rows)
            self._rows.append(row.row)
            self._digests += _padded(row.digest)
        return self._rows[place], bytes(self._digests[place * _DIGEST : (place + 1) * _DIGEST])


def _padded(digest: bytes) -> bytes:
    return digest[:_DIGEST].ljust(_DIGEST, b"\0")


def read_cells(source: Source, describer: Describer, data: Data, spool: Path) -> Intake:
    """Read, check and describe every row: usable ones to the spool file, the others to `Intake.bad`.

    Raises:
        ConfigError: `data.sku_pattern` is no regular expression with one group.
        DataError: two rows have one id and different contents, and `data.duplicate_ids` is `error`.
    """
    intake = Intake()
    sku = compile_sku_pattern(data.sku_pattern)
    firsts = _Firsts()
    categories: dict[str, str] = {}
    pending: list[dict[str, Any]] = []
    with pq.ParquetWriter(spool, SPOOL_SCHEMA) as writer:
        for row in tqdm(source.rows(), desc="cells", unit=" rows", mininterval=1):
            intake.n_rows += 1
            usable = _usable(row, firsts, source, data, intake)
            if usable is None:
                continue
            row, photo = usable
            place = {"row": row.row, "photo": photo, "image_name": row.image_name}
            official = {"partition": row.partition, "partition_item": row.partition_item}
            pending.append({**place, "item_id": row.item_id, **official, **describer.describe(row)})
            intake.item_ids.append(row.item_id)
            category = row.category2
            intake.categories.append(None if category is None else categories.setdefault(category, category))
            intake.partitions.append(row.partition)
            intake.partition_items.append(row.partition_item)
            values: Mapping[str, str | None] = {
                "column": row.product_id,
                "item_id": id_stem(row.item_id),
                "image_url": url_stem(row.image_url) if row.image_url else None,
                "sku": find_sku(sku, row.item_id, PurePosixPath(row.image_name or "").stem, row.text),
            }
            for kind in LINKING_KEYS:
                if kind in data.product_keys:
                    intake.keys[kind].append(values[kind])
            if len(pending) == CHUNK:
                writer.write_table(pa.Table.from_pylist(pending, schema=SPOOL_SCHEMA))
                pending.clear()
        writer.write_table(pa.Table.from_pylist(pending, schema=SPOOL_SCHEMA))
    return intake


def _usable(
    row: RawRow | BadRow, firsts: _Firsts, source: Source, data: Data, intake: Intake
) -> tuple[RawRow, str] | None:
    """The row with its photo, or None when it went to quarantine."""
    named = row.path if isinstance(row, BadRow) else row.image
    if named is not None:
        intake.named_photos.append(text_number(PurePosixPath(named).as_posix()))
    if isinstance(row, BadRow):
        intake.bad.append(row)
        return None
    first = firsts.of(row)
    if first[0] != row.row:
        same_cells = first[1] == _padded(row.digest)
        if row.image is not None and row.image_name is None:  # no cell says which photo it is
            same_cells = same_cells and source.same_photo(first[0], row.image)
        if same_cells:
            reason, detail = "duplicate_row", f"the same as row {first[0]} in every cell that is read"
        elif data.duplicate_ids == "keep_first":
            reason, detail = "duplicate_id", f"row {first[0]} has this id and other contents"
        else:
            raise DataError(
                f"{source.name}: rows {first[0]} and {row.row} have the same id '{row.item_id}' and other contents; "
                "mend one of them, or set data.duplicate_ids: keep_first"
            )
    elif row.image is not None:
        return row, row.image
    elif row.image_url is not None:
        reason, detail = "not_downloaded", row.no_photo or "only an address is known; no cache of downloads was given"
    else:
        reason, detail = "no_image", "the row names no photo"
    intake.bad.append(BadRow(row.row, row.item_id, row.image or row.image_url, reason, detail))
    return None


def same_images(source: Source, spool: Path, pool: ThreadPoolExecutor) -> TextColumn:
    """Per row of the spool file, a checksum of its photo where another photo of the same size exists, else None."""
    sizes = array("q")
    for photos in _spooled_photos(spool):
        sizes.extend(size or 0 for size in pool.map(source.image_size, photos))
    _, codes, counts = np.unique(np.frombuffer(sizes, dtype=np.int64), return_inverse=True, return_counts=True)
    candidate = (counts[codes] > 1) & (np.frombuffer(sizes, dtype=np.int64) > 0)
    sums, start = TextColumn(), 0
    # In row order: a source that keeps photos in row groups reads each of them once.
    for photos in _spooled_photos(spool):
        asked = [photo if wanted else None for photo, wanted in zip(photos, candidate[start:], strict=False)]
        for checksum in pool.map(lambda photo: None if photo is None else _checksum(source, photo), asked):
            sums.append(checksum)
        start += len(photos)
    return sums


def _spooled_photos(spool: Path) -> Iterator[list[str]]:
    with pq.ParquetFile(spool, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=CHUNK, columns=["photo"]):
            yield batch.column(0).to_pylist()


def _checksum(source: Source, photo: str) -> str | None:
    try:
        return hashlib.sha256(source.image_bytes(photo)).hexdigest()
    except ImageError:
        return None


def spooled_rows(spool: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of the spool file, `CHUNK` at a time: columns of a processed row, `row`, `photo` and `image_name`."""
    with pq.ParquetFile(spool, pre_buffer=False) as file:  # the default reads all of it ahead
        for batch in file.iter_batches(batch_size=CHUNK):
            yield batch.to_pylist()
