"""Atomic save and verified load of every file that a stage writes.

A file is written under a temporary name, flushed, and renamed, so that a reader sees the old bytes or the
new ones; files that belong together take their places together. A folder of artifacts bears a `manifest.json`
with, per file, the sha256, the byte count, and for arrays and tables rows, columns and dtype; a file that shares
its folder with other stages' outs has a manifest of its own beside it (`pairs.manifest.json`). Both are checked
before anything is computed from what they name.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lib.base.atomic import replacing, replacing_files
from lib.base.errors import IntegrityError

FloatArray = npt.NDArray[np.float32]
MANIFEST = "manifest.json"
DIGEST = "content_sha256"
"""Key of a manifest's own checksum: the manifest is the one file that no manifest names."""


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
        raise damaged(path, f"not valid JSON ({error})") from None


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a C-contiguous array as `.npy`; NaN and infinity in a float array raise `IntegrityError`."""
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise IntegrityError(f"{path}: refused to save NaN or infinite values")
    whole = np.ascontiguousarray(array)
    if whole.dtype.hasobject:
        raise ValueError(f"{path}: expected numbers, got Python objects")
    with replacing(path) as temporary, open(temporary, "wb") as file:
        # as `np.save`, whose error on a full disk does not say that it is one
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
        file.write(whole.data)


def read_array(path: Path) -> npt.NDArray[Any]:
    """Open a `.npy` file, memory-mapped read-only; Python objects in it are not unpickled.

    Raises:
        IntegrityError: the file is missing or holds no numbers.
    """
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise IntegrityError(f"{path}: missing; run `dvc repro` to build it") from None
    except (ValueError, EOFError) as error:
        raise damaged(path, f"not an array of numbers ({error})") from None
    return array


def write_parquet(path: Path, table: pa.Table | pd.DataFrame, *, row_group_size: int = 10_000) -> None:
    """Write a table through the one deterministic parquet writer (zstd, fixed row groups)."""
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=row_group_size)


def read_parquet(
    path: Path, columns: list[str] | None = None, *, coded: Collection[str] | None = None
) -> pd.DataFrame:
    """Read a table into pandas; strings stay strings, nulls become `None`.

    Args:
        path: the file.
        columns: which; None: all.
        coded: of a large table: strings stay Arrow's, those of these columns as sorted categories, and nulls are
            pandas' own. They take a tenth of the memory of Python's strings, which a process never gives back whole.

    Raises:
        IntegrityError: the file is missing or is no parquet file.
    """
    with _readable(path):
        table = pq.read_table(path, columns=columns, read_dictionary=None if coded is None else list(coded))
    frame: pd.DataFrame = table.to_pandas()
    for name in frame.columns:
        if coded is not None:
            if name in coded:
                frame[name] = frame[name].cat.set_categories(sorted(frame[name].cat.categories))
        elif name in table.column_names and pa.types.is_string(table.schema.field(name).type):
            frame[name] = pd.Series(_strings(table.column(name)), index=frame.index, dtype=object)
        elif pd.api.types.is_string_dtype(frame[name].dtype):
            column = frame[name].astype(object)
            frame[name] = column.where(column.notna(), None)
    del table
    release_memory()
    return frame


def release_memory() -> None:
    """Give the system back what was freed: the allocators keep tens of megabytes of a table or a long JSON."""
    pa.default_memory_pool().release_unused()


def parquet_columns(path: Path) -> list[str]:
    """Names of a table's columns.

    Raises:
        IntegrityError: the file is missing or is no parquet file.
    """
    with _readable(path):
        names: list[str] = pq.read_schema(path).names
    return names


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a file that is missing or damaged into an `IntegrityError` with the remedy."""
    try:
        yield
    except FileNotFoundError:
        raise IntegrityError(f"{path}: missing; run `dvc repro` to build it") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise damaged(path, f"not a readable parquet file ({error})") from None


def _strings(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """Python strings, None where null; equal ones are one object, or they would be most of a large table's memory."""
    coded = column.combine_chunks().dictionary_encode()
    values = np.array([*coded.dictionary.to_pylist(), None], dtype=object)
    strings: npt.NDArray[np.object_] = values[pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)]
    return strings


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
    import struct

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise IntegrityError(f"{path}: missing; run `dvc repro` to build it") from None
    # what a broken pickle was seen to raise; torch promises no common base
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError,
            TypeError, AssertionError, OSError, OverflowError, MemoryError, struct.error) as error:  # fmt: skip
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


def write_manifest(folder: Path, names: Iterable[str], *, facts: Mapping[str, Any], manifest: str = MANIFEST) -> None:
    """Write a manifest: a checksum and size per file, `facts` about all of them, and its own checksum."""
    files = {name: _describe(folder / name) for name in sorted(names)}
    content = {**facts, "files": files}
    write_json(folder / manifest, {**content, DIGEST: _content_sha256(content)})


def open_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest and check it against its own checksum; the files that it names are not looked at.

    Raises:
        IntegrityError: it is missing or damaged.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.pop(DIGEST, None) != _content_sha256(content):
        raise damaged(path, "its content is not what was written")
    return content


def read_manifest(folder: Path, *, manifest: str = MANIFEST) -> dict[str, Any]:
    """Check a manifest, and every file that it names, and return it.

    Raises:
        IntegrityError: a file is missing, or its bytes are not those that were written.
    """
    content = open_manifest(folder / manifest)
    for name in content["files"]:
        check_file(folder, name, content)
    return content


def check_file(folder: Path, name: str, manifest: Mapping[str, Any]) -> None:
    """Compare one file with an opened manifest; see `read_manifest`."""
    path, expected = folder / name, manifest["files"][name]["sha256"]
    if not path.is_file():
        raise IntegrityError(f"{path}: missing although its manifest names it; run `dvc repro`")
    found = file_sha256(path)
    if found != expected:
        raise damaged(path, f"expected sha256 {expected[:12]}…, got {found[:12]}…")


@contextmanager
def with_manifest(path: Path, *, facts: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a path to write `path` to, which then takes its place together with a manifest of its own.

    For outs that share their folder with those of other stages; `verified` reads them.
    """
    manifest = _own_manifest(path)
    with replacing_files(path.parent, manifest=manifest) as fresh:
        yield fresh / path.name
        write_manifest(fresh, [path.name], facts=facts, manifest=manifest)


def verified(path: Path, *, facts: Mapping[str, Any]) -> Path:
    """Check a file against the manifest beside it, and what that says of the file against `facts`; returns `path`.

    Raises:
        IntegrityError: file or manifest is missing or damaged, or it was made from other embeddings.
    """
    content = read_manifest(path.parent, manifest=_own_manifest(path))
    for name, expected in facts.items():
        if content.get(name) != expected:
            raise IntegrityError(
                f"{path}: expected {name} {str(expected)[:12]}, got {str(content.get(name))[:12]}; run `dvc repro`"
            )
    return path


def damaged(path: Path, what: str) -> IntegrityError:
    """The error of a file that is not what was written.

    The copy in DVC's cache may be damaged too, and DVC trusts what is read-only, or as old as when it last looked.
    """
    distrust = 'find "$(dvc cache dir)" -type f -exec chmod u+w {} + -exec touch {} +'
    return IntegrityError(f"{path}: damaged: {what}; run `rm {shlex.quote(str(path))} && {distrust} && dvc repro`")


def _own_manifest(path: Path) -> str:
    return f"{path.stem}.{MANIFEST}"


def _content_sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _describe(path: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    if path.suffix == ".npy":
        array = read_array(path)
        entry |= {"shape": list(array.shape), "dtype": str(array.dtype)}
    elif path.suffix == ".parquet":
        metadata = pq.read_metadata(path)
        entry |= {"rows": metadata.num_rows, "columns": metadata.num_columns}
    return entry
