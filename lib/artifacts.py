"""Atomic save and verified load of every file that a stage writes.

A file is written under a temporary name in its own folder, flushed, and renamed, so that a reader
sees the old bytes or the new ones. A folder of artifacts bears a `manifest.json` with, per file, the
sha256, the byte count, and for arrays and tables rows, columns and dtype; `read_manifest` checks them
before anything is computed from the folder.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lib.errors import BusyError, IntegrityError

FloatArray = npt.NDArray[np.float32]
MANIFEST = "manifest.json"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` and rename it over `path` when the block succeeds.

    Raises:
        BusyError: the disk is full or a file-size limit was hit; the old file is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BusyError(f"{path}: no room to write it ({error.strerror}); free space, run again") from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically as UTF-8 with `\\n` line ends."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON; NaN and infinity are refused because they break metric viewers."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file raises `IntegrityError` with the remedy."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IntegrityError(f"{path}: missing; run `dvc repro` to build it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path}: not valid JSON ({error}); run `dvc repro` again") from None


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a C-contiguous array as `.npy`; NaN and infinity in a float array raise `IntegrityError`."""
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise IntegrityError(f"{path}: refused to save NaN or infinite values")
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def write_parquet(path: Path, table: pa.Table | pd.DataFrame, *, row_group_size: int = 10_000) -> None:
    """Write a table through the one deterministic parquet writer (zstd, fixed row groups)."""
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=row_group_size)


def read_parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table into pandas; strings stay strings, nulls become `None`.

    Raises:
        IntegrityError: the file is missing or is no parquet file.
    """
    try:
        table = pq.read_table(path, columns=columns)
    except FileNotFoundError:
        raise IntegrityError(f"{path}: missing; run `dvc repro` to build it") from None
    except pa.ArrowInvalid as error:
        raise IntegrityError(f"{path}: not a readable parquet file ({error}); run `dvc repro` again") from None
    frame: pd.DataFrame = table.to_pandas()
    for name in frame.columns:
        if pd.api.types.is_string_dtype(frame[name].dtype):
            column = frame[name].astype(object)
            frame[name] = column.where(column.notna(), None)
    return frame


def write_torch(path: Path, value: Any) -> None:
    """`torch.save` into a buffer first: the bytes of a direct save depend on the file name."""
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    write_bytes(path, buffer.getvalue())


def read_torch(path: Path) -> Any:
    """Load tensors and plain containers only (`weights_only=True`, on the CPU).

    Raises:
        IntegrityError: the file is missing, broken, or holds anything but weights.
    """
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise IntegrityError(f"{path}: missing; run `dvc repro` to build it") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise IntegrityError(f"{path}: not a checkpoint of plain weights ({first}); not loaded") from None


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class SequenceDigest:
    """The sha256 of a sequence of strings that comes in parts, sensitive to order and to where one ends."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, values: Iterable[str]) -> None:
        """Append strings to the sequence."""
        for value in values:
            data = value.encode("utf-8", "surrogatepass")
            self._digest.update(len(data).to_bytes(8, "little"))
            self._digest.update(data)

    def hexdigest(self) -> str:
        """Hex sha256 of the sequence so far."""
        return self._digest.hexdigest()


def sequence_sha256(values: Iterable[str]) -> str:
    """Hex sha256 of a whole sequence of strings; see `SequenceDigest`."""
    digest = SequenceDigest()
    digest.update(values)
    return digest.hexdigest()


def write_manifest(folder: Path, names: Iterable[str], *, facts: Mapping[str, Any]) -> None:
    """Write `manifest.json`: a checksum and size per file, and `facts` about the whole folder."""
    files = {name: _describe(folder / name) for name in sorted(names)}
    write_json(folder / MANIFEST, {**facts, "files": files})


def read_manifest(folder: Path) -> dict[str, Any]:
    """Check every file of a folder against its manifest and return the manifest.

    Raises:
        IntegrityError: a file is missing, or its bytes are not those that were written.
    """
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise IntegrityError(f"{path}: missing although its manifest names it; run `dvc repro -f` its stage")
        found = file_sha256(path)
        if found != expected["sha256"]:
            raise IntegrityError(
                f"{path}: damaged: expected sha256 {expected['sha256'][:12]}…, got {found[:12]}…; "
                "delete it (and its copy in the DVC cache) and run `dvc repro`"
            )
    return manifest


def _describe(path: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        entry |= {"shape": list(array.shape), "dtype": str(array.dtype)}
    elif path.suffix == ".parquet":
        metadata = pq.read_metadata(path)
        entry |= {"rows": metadata.num_rows, "columns": metadata.num_columns}
    return entry
