"""One flipped bit, and how to tell whether anything else was touched."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

PRIVATE = (".cache", ".git", ".dvc", "__pycache__")
"""Folders in which a command may write whatever happens: locks and logs."""


@contextmanager
def flipped_bit(path: Path) -> Iterator[None]:
    """The file with one bit of its middle half turned over, chosen by its name; afterwards it is as it was."""
    before, stamp = path.read_bytes(), path.stat()
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    place = int(rng.integers(len(before) // 4, max(3 * len(before) // 4, len(before) // 4 + 1)))
    damaged = bytearray(before)
    damaged[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(damaged)
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, time and size of every file: a file that was written again has another inode."""
    found = {}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.is_file() and not any(part in PRIVATE for part in place.parts):
            stat = path.stat()
            found[str(place)] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return found
