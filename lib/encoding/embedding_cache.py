"""Embeddings kept by content, so that only what changed is computed again.

A key is the sha256 of an image's or text's bytes; a *space* holds the embeddings of one way to compute them
(`Encoder.facts`: backbone, preprocessing, batch shape, threads, libraries, processor, code), so that old and new
never mix. Within a space, rows lie in chunks, files that are written once and never changed:

    8 bytes magic | uint32 rows | uint32 dim | rows × 32 bytes keys | rows × dim float32 | sha256 of all before

The name of a chunk is its checksum. A damaged chunk is dropped and computed again: the cache is never the truth.
Several processes may share it; eviction waits until nobody else has it open.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from lib.base.artifacts import FloatArray, read_json, sequence_sha256, write_json
from lib.base.atomic import replacing
from lib.base.errors import IntegrityError

KEY_BYTES = 32
FACTS = "space.json"
_MAGIC = b"EMBROWS1"
_HEAD = struct.Struct("<8sII")
_SUM = 32

IntArray = npt.NDArray[np.int64]
KeyArray = npt.NDArray[np.uint8]


def content_key(content: bytes) -> bytes:
    """The key of an image's or text's bytes; 32 bytes."""
    return hashlib.sha256(content).digest()


def as_keys(keys: Sequence[bytes] | bytearray) -> KeyArray:
    """Keys one after the other as (n, 32) uint8."""
    joined = keys if isinstance(keys, bytearray) else b"".join(keys)
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, KEY_BYTES)


class EmbeddingCache:
    """A folder of spaces. A context manager: while it is open, no other process evicts.

    Args:
        folder: created if needed.
        max_bytes: the chunks that were not used for the longest time go first when `evict` finds more than this.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> EmbeddingCache:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.folder / "lock", "ab")  # closed by __exit__
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        return self

    def __exit__(self, *reason: object) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def space(self, facts: Mapping[str, Any], *, dim: int) -> Space:
        """The space for embeddings that were computed in one way.

        Args:
            facts: everything that the bytes of an embedding depend on besides the content; plain values.
            dim: length of an embedding.
        """
        whole = {**facts, "dim": dim}
        name = sequence_sha256(f"{key}={whole[key]!r}" for key in sorted(whole))[:32]
        return Space(self.folder / name, dim=dim, facts=whole)

    def evict(self, max_bytes: int | None = None) -> int:
        """Delete the longest unused chunks until at most `max_bytes` are left; returns the bytes deleted.

        Nothing is deleted while another process has the cache open: that one may still read them.
        """
        if self._lock is None:
            raise RuntimeError("the cache is not open")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._lock, fcntl.LOCK_SH)  # a failed exchange may have dropped it
            return 0
        limit = self.max_bytes if max_bytes is None else max_bytes
        for leftover in self.folder.glob("*/.*"):  # of a killed writer
            leftover.unlink()
        chunks = [(path.stat(), path) for path in self.folder.glob("*/*.rows")]
        total, deleted = sum(stat.st_size for stat, _ in chunks), 0
        for stat, path in sorted(chunks, key=lambda chunk: (chunk[0].st_mtime_ns, chunk[1].name)):
            if total - deleted <= limit:
                break
            path.unlink()
            deleted += stat.st_size
        for facts in self.folder.glob(f"*/{FACTS}"):
            if not any(facts.parent.glob("*.rows")):
                facts.unlink()
                facts.parent.rmdir()
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        return deleted


class Space:
    """The embeddings of one way to compute them; see the module. Opening it checks every chunk.

    Attributes:
        damaged: chunks that were dropped because their bytes are not those that were written.
    """

    def __init__(self, folder: Path, *, dim: int, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        self.dim = dim
        self.damaged = 0
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / FACTS).is_file():
            write_json(folder / FACTS, dict(facts))
        self._chunks: list[Path] = []
        self._noted: set[Path] = set()
        self._used: set[int] = set()
        self._keys = np.zeros((0, KEY_BYTES), dtype=np.uint8)
        self._places: IntArray = np.zeros((0, 2), dtype=np.int64)
        self._fresh: list[tuple[KeyArray, IntArray]] = []
        found = [(path, _checked_keys(path, dim)) for path in sorted(folder.glob("*.rows"))]
        for path, keys in found:
            if keys is None:
                path.unlink(missing_ok=True)
                self.damaged += 1
            else:
                self._note(path, keys)
        self._settle()

    def __len__(self) -> int:
        self._settle()
        return len(self._keys)

    def find(self, keys: KeyArray) -> IntArray:
        """(n, 2) int64: chunk and row of each of (n, 32) keys, -1 where it is not there.

        Rows added since the space was opened or last read are not looked for: whoever adds knows them.
        """
        found = np.full((len(keys), 2), -1, dtype=np.int64)
        if not len(self._keys):
            return found
        words = _first_words(keys)
        at = np.searchsorted(self._words, words)
        open_ = np.arange(len(keys))
        while len(open_):  # more than once only where two keys begin with the same eight bytes
            open_ = open_[at[open_] < len(self._words)]
            open_ = open_[self._words[at[open_]] == words[open_]]
            same = (self._keys[at[open_]] == keys[open_]).all(axis=1)
            found[open_[same]] = self._places[at[open_[same]]]
            open_ = open_[~same]
            at[open_] += 1
        return found

    def add(self, keys: Sequence[bytes], rows: FloatArray) -> None:
        """Keep embeddings as one chunk.

        Args:
            keys: n distinct keys.
            rows: (n, dim) float32.

        Raises:
            BusyError: the disk is full; nothing was changed.
        """
        if not len(keys):
            return
        body = _HEAD.pack(_MAGIC, len(keys), self.dim) + b"".join(keys) + np.ascontiguousarray(rows, "<f4").tobytes()
        digest = hashlib.sha256(body)
        path = self.folder / f"{digest.hexdigest()[:32]}.rows"
        with replacing(path) as temporary:
            temporary.write_bytes(body + digest.digest())
        self._note(path, as_keys(keys))

    def read(self, keys: KeyArray) -> FloatArray:
        """(n, dim) float32 rows of (n, 32) keys that are there.

        Raises:
            IntegrityError: a key is not there, or its chunk vanished.
        """
        self._settle()
        places = self.find(keys)
        if (places < 0).any():
            missing = int((places[:, 0] < 0).sum())
            raise IntegrityError(f"{self.folder}: {missing} embeddings are not in the cache; run again")
        out = np.empty((len(keys), self.dim), dtype=np.float32)
        order = np.lexsort((places[:, 1], places[:, 0]))
        borders = np.flatnonzero(np.diff(places[order, 0])) + 1
        for part in np.split(order, borders):
            if len(part):
                number = int(places[part[0], 0])
                self._used.add(number)
                out[part] = self._rows_of(self._chunks[number], places[part, 1])
        return out

    def touch(self) -> None:
        """Count the chunks that were read as used now."""
        for number in sorted(self._used):
            os.utime(self._chunks[number])

    def _rows_of(self, path: Path, wanted: IntArray) -> FloatArray:
        """Rows of one chunk, `wanted` ascending; what lies together is read at once."""
        width = 4 * self.dim
        out = np.empty((len(wanted), self.dim), dtype="<f4")
        starts = np.concatenate(([0], np.flatnonzero(np.diff(wanted) > 1) + 1, [len(wanted)]))
        try:
            with open(path, "rb") as file:
                n = _HEAD.unpack(file.read(_HEAD.size))[1]
                for start, end in pairwise(starts):
                    first, last = int(wanted[start]), int(wanted[end - 1])
                    data = os.pread(
                        file.fileno(), (last - first + 1) * width, _HEAD.size + n * KEY_BYTES + first * width
                    )
                    block = np.frombuffer(data, dtype="<f4").reshape(-1, self.dim)
                    out[start:end] = block[wanted[start:end] - first]
        except (OSError, struct.error, ValueError) as error:
            raise IntegrityError(f"{path}: vanished or changed while it was read ({error}); run again") from None
        return out

    def _note(self, path: Path, keys: KeyArray) -> None:
        if path in self._noted:
            return
        self._noted.add(path)
        self._chunks.append(path)
        places = np.column_stack((np.full(len(keys), len(self._chunks) - 1), np.arange(len(keys))))
        self._fresh.append((keys, places.astype(np.int64)))

    def _settle(self) -> None:
        """Sort what was added since into the index."""
        if self._fresh or not hasattr(self, "_words"):
            keys = np.concatenate([self._keys, *(keys for keys, _ in self._fresh)])
            places = np.concatenate([self._places, *(places for _, places in self._fresh)])
            order = np.argsort(_first_words(keys), kind="stable")
            self._keys, self._places = keys[order], places[order]
            self._words = _first_words(self._keys)
            self._fresh = []


def _first_words(keys: KeyArray) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(keys[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def _checked_keys(path: Path, dim: int) -> KeyArray | None:
    """Keys of a chunk, None when its bytes are not those that were written."""
    data = path.read_bytes()
    if len(data) < _HEAD.size + _SUM or hashlib.sha256(data[:-_SUM]).digest() != data[-_SUM:]:
        return None
    magic, n, width = _HEAD.unpack_from(data)
    if magic != _MAGIC or width != dim or len(data) != _HEAD.size + n * (KEY_BYTES + 4 * dim) + _SUM:
        return None
    return np.frombuffer(data, dtype=np.uint8, count=n * KEY_BYTES, offset=_HEAD.size).reshape(n, KEY_BYTES).copy()


@dataclass(frozen=True)
class SpaceStats:
    """What one space holds."""

    name: str
    facts: Mapping[str, Any]
    chunks: int
    rows: int
    bytes: int


def stats(folder: Path) -> Iterator[SpaceStats]:
    """Every space of a cache, by name."""
    for facts in sorted(folder.glob(f"*/{FACTS}")):
        paths = sorted(facts.parent.glob("*.rows"))
        rows = 0
        for path in paths:
            with open(path, "rb") as file:
                head = file.read(_HEAD.size)
            rows += _HEAD.unpack(head)[1] if len(head) == _HEAD.size else 0
        size = sum(path.stat().st_size for path in paths)
        yield SpaceStats(facts.parent.name, read_json(facts), len(paths), rows, size)


def main(argv: list[str] | None = None) -> int:
    """`python -m lib.encoding.embedding_cache [--max-gb N]`: what the cache holds, after evicting with `--max-gb`."""
    parser = argparse.ArgumentParser(description="What the embedding cache holds.")
    parser.add_argument("--folder", type=Path, default=Path(".cache/embeddings"))
    parser.add_argument("--max-gb", type=float, help="first delete the longest unused chunks beyond this size")
    args = parser.parse_args(argv)
    if args.max_gb is not None:
        with EmbeddingCache(args.folder, max_bytes=int(args.max_gb * 1e9)) as cache:
            print(f"deleted {cache.evict() / 1e6:,.1f} MB")
    total = 0
    for space in stats(args.folder):
        total += space.bytes
        backbone, dim = str(space.facts.get("backbone", "?"))[:12], space.facts.get("dim", 0)
        print(
            f"{space.name[:12]}  {space.facts.get('kind', '?'):5}  backbone {backbone}  dim {dim:>4}"
            f"  {space.rows:>9,} rows  {space.chunks:>6,} chunks  {space.bytes / 1e6:>10,.1f} MB"
        )
    print(f"{total / 1e6:,.1f} MB in {args.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
