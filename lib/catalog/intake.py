"""The first pass over a catalogue: cells become described rows on disk; ids and keys stay in memory."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from lib.catalog.describe import Describer
from lib.catalog.images import ImageError
from lib.catalog.products import LINKING_KEYS, compile_sku_pattern, find_sku, id_stem, url_stem
from lib.catalog.schema import STRING_COLUMNS, BadRow, Partition, ProductKey, RawRow
from lib.catalog.sources.registry import Source
from lib.errors import DataError
from lib.params import Data

CHUNK = 256
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
        item_ids, categories, photos, partitions, partition_items, keys: over the usable rows, in order.
        bad: the others; the second pass adds rows whose photo cannot be used.
        n_rows: rows read.
        named_photos: every photo that a row names, usable or not.
    """

    item_ids: list[str] = field(default_factory=list)
    categories: list[str | None] = field(default_factory=list)
    photos: list[str] = field(default_factory=list)
    partitions: list[Partition | None] = field(default_factory=list)
    partition_items: list[str | None] = field(default_factory=list)
    keys: dict[ProductKey, list[str | None]] = field(default_factory=lambda: defaultdict(list))
    bad: list[BadRow] = field(default_factory=list)
    n_rows: int = 0
    named_photos: set[str] = field(default_factory=set)


def read_cells(source: Source, describer: Describer, data: Data, spool: Path) -> Intake:
    """Read, check and describe every row: usable ones to the spool file, the others to `Intake.bad`.

    Raises:
        ConfigError: `data.sku_pattern` is no regular expression with one group.
        DataError: two rows have one id and different contents, and `data.duplicate_ids` is `error`.
    """
    intake = Intake()
    sku = compile_sku_pattern(data.sku_pattern)
    seen: dict[str, tuple[int, bytes]] = {}
    pending: list[dict[str, Any]] = []
    with pq.ParquetWriter(spool, SPOOL_SCHEMA) as writer:
        for row in tqdm(source.rows(), desc="cells", unit=" rows", mininterval=1):
            intake.n_rows += 1
            usable = _usable(row, seen, source, data, intake)
            if usable is None:
                continue
            row, photo = usable
            place = {"row": row.row, "photo": photo, "image_name": row.image_name}
            official = {"partition": row.partition, "partition_item": row.partition_item}
            pending.append({**place, "item_id": row.item_id, **official, **describer.describe(row)})
            intake.item_ids.append(row.item_id)
            intake.categories.append(row.category2)
            intake.photos.append(photo)
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
    row: RawRow | BadRow, seen: dict[str, tuple[int, bytes]], source: Source, data: Data, intake: Intake
) -> tuple[RawRow, str] | None:
    """The row with its photo, or None when it went to quarantine."""
    named = row.path if isinstance(row, BadRow) else row.image
    if named is not None:
        intake.named_photos.add(PurePosixPath(named).as_posix())
    if isinstance(row, BadRow):
        intake.bad.append(row)
        return None
    first = seen.setdefault(row.item_id, (row.row, row.digest))
    if first[0] != row.row:
        if first[1] == row.digest:
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


def same_images(source: Source, photos: Sequence[str], pool: ThreadPoolExecutor) -> list[str | None]:
    """Per photo, a checksum where another photo of the same size exists, else None."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for start in range(0, len(photos), CHUNK):  # a future for every photo at once takes more memory than their names
        for i, size in enumerate(pool.map(source.image_size, photos[start : start + CHUNK]), start):
            if size:
                by_size[size].append(i)
    sums: list[str | None] = [None] * len(photos)
    # In row order: a source that keeps photos in row groups reads each of them once.
    candidates = sorted(i for members in by_size.values() if len(members) > 1 for i in members)
    for start in range(0, len(candidates), CHUNK):
        chunk = candidates[start : start + CHUNK]
        for i, digest in zip(chunk, pool.map(lambda i: _checksum(source, photos[i]), chunk), strict=True):
            sums[i] = digest
    return sums


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
