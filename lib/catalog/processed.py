"""The reading side of a processed catalogue: rows without images, images as a stream or by id.

Every function checks the folder's manifest first; a folder whose files did not change since the last
check of this process is not hashed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lib.base.artifacts import MANIFEST, read_manifest, sequence_sha256
from lib.base.errors import IntegrityError
from lib.catalog.schema import SPLITS, STRING_COLUMNS, Split


def read_rows(folder: Path, split: Split | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read rows without their images.

    Args:
        folder: what `process_catalog` wrote.
        split: one split, or None for all, in the order train, validation, test.
        columns: names from `STRING_COLUMNS`, or `split`; None reads all of them.

    Returns:
        A frame of object columns (`None` is unknown) in row order, with a fresh index. Within a split that
        is the order of the source. An empty split gives a frame without rows.

    Raises:
        IntegrityError: a file is missing or is not what its manifest says.
    """
    names = list(columns) if columns is not None else ["split", *STRING_COLUMNS]
    stored = [name for name in names if name != "split"]
    frames: list[pd.DataFrame] = []
    for part in SPLITS if split is None else (split,):
        tables = [pq.read_table(path, columns=stored or ["item_id"]) for path in _shards(folder, part)]
        frame: pd.DataFrame = pa.concat_tables(tables).to_pandas().astype(object)
        frame = frame.where(frame.notna(), None)
        frame["split"] = part
        frames.append(frame)
    whole = pd.concat(frames, ignore_index=True).astype(object)
    return whole[names]


def count_rows(folder: Path, split: Split) -> int:
    """Rows of a split."""
    return sum(pq.read_metadata(path).num_rows for path in _shards(folder, split))


def iter_rows(folder: Path, split: Split, batch_size: int, *, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Stream columns of `STRING_COLUMNS` in row order, at most `batch_size` rows at a time; unknown is null."""
    for path in _shards(folder, split):
        with pq.ParquetFile(path, pre_buffer=False) as file:  # the default reads all of it ahead
            for batch in file.iter_batches(batch_size=batch_size, columns=list(columns)):
                yield batch.select(list(columns))


def iter_images(folder: Path, split: Split, batch_size: int) -> Iterator[list[tuple[str, bytes]]]:
    """Stream the images of a split in row order, `batch_size` pairs of (item_id, encoded bytes) at a time.

    The last batch may be shorter; an empty split yields nothing. At most one batch and one row group are
    in memory. The bytes are an upright JPEG or PNG; `Image.open(BytesIO(b)).convert("RGB")` reads both.
    """
    pending: list[tuple[str, bytes]] = []
    for path in _shards(folder, split):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                pending += _pairs(file.read_row_group(group, columns=["item_id", "image"]))
                while len(pending) >= batch_size:
                    yield pending[:batch_size]
                    pending = pending[batch_size:]
    if pending:
        yield pending


def read_images(folder: Path, item_ids: Iterable[str]) -> dict[str, bytes]:
    """Read the encoded images of some items, for galleries and audits.

    Returns:
        Bytes by item id, in the order asked for; repeated ids are read once.

    Raises:
        IntegrityError: an id is not in the catalogue, or a file is damaged.
    """
    wanted = list(dict.fromkeys(item_ids))
    missing = set(wanted)
    found: dict[str, bytes] = {}
    for split in SPLITS:
        for path in _shards(folder, split):
            if not missing:
                break
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    ids = file.read_row_group(group, columns=["item_id"]).column("item_id")
                    hits = np.flatnonzero(pc.is_in(ids, value_set=pa.array(sorted(missing), pa.string())).to_numpy())
                    if len(hits):
                        rows = file.read_row_group(group, columns=["item_id", "image"]).take(hits)
                        found |= dict(_pairs(rows))
                        missing -= found.keys()
    if missing:
        raise IntegrityError(
            f"{folder}: item '{min(missing)}' ({len(missing)} in all) is not in the processed catalogue; "
            "the artifact that names it is older: run `dvc repro`"
        )
    return {item_id: found[item_id] for item_id in wanted}


def catalogue_sha256(folder: Path) -> str:
    """Hex sha256 of the item ids of all splits in row order."""
    return sequence_sha256(read_rows(folder, columns=["item_id"])["item_id"])


def _pairs(table: pa.Table) -> list[tuple[str, bytes]]:
    images = pc.struct_field(table.column("image"), "bytes").to_pylist()
    return list(zip(table.column("item_id").to_pylist(), images, strict=True))


def _shards(folder: Path, split: Split) -> list[Path]:
    """The files of a split in order, after the manifest was checked."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")
    stamp = tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.glob("*")))
    names = [name for name in _verified_names(folder, stamp) if name.startswith(f"{split}-")]
    if not names:
        raise IntegrityError(f"{folder}: its {MANIFEST} names no file of split {split}; run `dvc repro process_data`")
    return [folder / name for name in sorted(names)]


@lru_cache(maxsize=8)
def _verified_names(folder: Path, stamp: tuple[tuple[str, int, int], ...]) -> tuple[str, ...]:
    """Names in the manifest; `stamp` makes a changed folder a new question."""
    return tuple(read_manifest(folder)["files"])
