"""A faiss index on disk: written atomically, and read so that a file that is no such index is an error, not a crash.

A checksum says that a file is the one that was written. This module says that what was written is an index of the
expected kind and size whose links and lists name rows that there are: faiss 1.15 looks at sizes and most links
itself, and follows the rest without a look.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from lib.base.atomic import replacing
from lib.base.errors import IntegrityError
from lib.base.params import IndexKind
from lib.retrieval.index_plan import Settings
from lib.retrieval.top_k import IntArray

_TYPES = {"flat": faiss.IndexFlatIP, "hnsw": faiss.IndexHNSWFlat, "ivf_pq": faiss.IndexIVFPQ}
_LIMIT = threading.Lock()


def write_faiss(path: Path, index: faiss.Index) -> None:
    """Write an index atomically.

    Raises:
        BusyError: the disk is full; the old file is intact.
    """
    with replacing(path) as temporary, open(temporary, "wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))


def read_faiss(path: Path, kind: IndexKind, settings: Settings, *, n_items: int, dim: int) -> faiss.Index:
    """Open an index and check that it is what the arguments say.

    Flat is mapped into memory, read-only. hnsw, whose every search jumps through all of it, and ivf_pq, which is
    small, are read: faiss maps them too, but a file that ends in the middle of a number then ends the process.

    Args:
        path: a file of `write_faiss` whose checksum was verified.
        kind, settings: as it was built.
        n_items: its rows, numbered from 0.
        dim: dimensions of a row.

    Raises:
        IntegrityError: the file is no faiss index, or not that one; what builds it again is for the caller to say.
    """
    how = faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE  # of distances; inner products need none
    if kind == "flat":
        _check_flat(path, n_items=n_items, dim=dim)
        how = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY
    with _arrays_up_to(path.stat().st_size):
        try:
            index = faiss.read_index(str(path), how)
        except (RuntimeError, MemoryError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise IntegrityError(f"{path}: not a readable faiss index ({reason})") from None
    _compare(
        path,
        {
            "type": _TYPES[kind].__name__,
            "rows": n_items,
            "dim": dim,
            "metric": faiss.METRIC_INNER_PRODUCT,
            "trained": True,
        },
        {
            "type": type(index).__name__,
            "rows": index.ntotal,
            "dim": index.d,
            "metric": index.metric_type,
            "trained": index.is_trained,
        },
    )
    if kind == "hnsw":
        _check_graph(path, index, settings)
    elif kind == "ivf_pq":
        _check_lists(path, index, settings)
    return index


def list_of_rows(index: faiss.IndexIVFPQ) -> IntArray:
    """(n_items,) the inverted list that each row stands in, or -1; ids that are no rows are passed over."""
    lists = np.full(index.ntotal, -1, dtype=np.int64)
    for number in range(index.nlist):
        size = index.invlists.list_size(number)
        if size:
            ids = faiss.rev_swig_ptr(index.invlists.get_ids(number), size)
            lists[ids[(ids >= 0) & (ids < index.ntotal)]] = number
    return lists


@contextmanager
def _arrays_up_to(n_bytes: int) -> Iterator[None]:
    """No array in a file is larger than the file: a size that says so is refused before memory is asked for."""
    with _LIMIT:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(n_bytes + 1)
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before)


def _check_flat(path: Path, *, n_items: int, dim: int) -> None:
    """The file is the header of such an index and its rows, nothing more: then mapping it reads nothing else."""
    header = bytearray(faiss.serialize_index(faiss.IndexFlatIP(dim)).tobytes())
    header[8:16] = n_items.to_bytes(8, "little")
    header[-8:] = (n_items * dim).to_bytes(8, "little")
    with open(path, "rb") as file:
        found = file.read(len(header))
    size, expected = path.stat().st_size, len(header) + 4 * n_items * dim
    if found != header or size != expected:
        raise IntegrityError(
            f"{path}: expected a flat faiss index of {n_items} rows, dim {dim}, {expected} bytes, got something else "
            f"of {size} bytes"
        )


def _check_graph(path: Path, index: faiss.IndexHNSWFlat, settings: Settings) -> None:
    """The places of links fit the rows' levels, and above the lowest level links name rows that stand there."""
    storage, graph = faiss.downcast_index(index.storage), index.hnsw
    width = settings["m"]
    _compare(
        path,
        {"stored": "IndexFlatIP", "stored rows": index.ntotal, "stored dim": index.d, "links": [2 * width, width]},
        {
            "stored": type(storage).__name__,
            "stored rows": storage.ntotal,
            "stored dim": storage.d,
            "links": [graph.nb_neighbors(0), graph.nb_neighbors(1)],
        },
    )
    levels = faiss.vector_to_array(graph.levels).astype(np.int64)  # 1: the lowest only
    places = faiss.vector_to_array(graph.offsets).astype(np.int64)
    links = faiss.rev_swig_ptr(graph.neighbors.data(), graph.neighbors.size())
    entry = graph.entry_point
    sound = (
        levels.min() >= 1
        and 0 <= entry < len(levels)
        and levels[entry] == levels.max() == graph.max_level + 1
        and np.array_equal(np.diff(places, prepend=0), np.r_[0, 2 * width + (levels - 1) * width])
        and places[-1] == len(links)
    )
    for level in range(1, int(levels.max()) if sound else 0):
        rows = np.flatnonzero(levels > level)
        first = places[rows] + 2 * width + (level - 1) * width
        linked = links[first[:, None] + np.arange(width)]
        sound = sound and bool((levels[linked[linked >= 0]] > level).all())
    if not sound:
        raise IntegrityError(f"{path}: its links do not fit its rows")


def _check_lists(path: Path, index: faiss.IndexIVFPQ, settings: Settings) -> None:
    """Lists and codes have the expected numbers, and every row stands in one list, once."""
    centres = faiss.downcast_index(index.quantizer)
    nlist = settings["nlist"]
    _compare(
        path,
        {
            "centres": "IndexFlatIP",
            "lists": [nlist, nlist, nlist],
            "dim of centres": index.d,
            "parts": settings["m"],
            "bits": settings["bits"],
            "rows in lists": index.ntotal,
            "bytes of a code": [-(-settings["m"] * settings["bits"] // 8)] * 2,
        },
        {
            "centres": type(centres).__name__,
            "lists": [index.nlist, centres.ntotal, index.invlists.nlist],
            "dim of centres": centres.d,
            "parts": index.pq.M,
            "bits": index.pq.nbits,
            "rows in lists": sum(index.invlists.list_size(number) for number in range(index.invlists.nlist)),
            "bytes of a code": [index.code_size, index.invlists.code_size],
        },
    )
    if (list_of_rows(index) < 0).any():
        raise IntegrityError(f"{path}: a row stands in no list")


def _compare(path: Path, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if found[name] != value:
            raise IntegrityError(f"{path}: expected {name} {value}, got {found[name]}")
