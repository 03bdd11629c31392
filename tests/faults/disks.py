"""Places with little room left: a small disk in memory where the system allows one, else a limit on file sizes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stage_server import Ended, StageServer

DISK_BYTES = 64 * 2**20
BLOCK = 2**20


class SmallDisk:
    """A tmpfs; `filled` leaves as many bytes free as asked for."""

    def __init__(self, place: Path) -> None:
        self.place = place

    @contextmanager
    def filled(self, free: int) -> Iterator[None]:
        filler = self.place / "filler"
        stat = os.statvfs(self.place)
        with open(filler, "wb") as file:
            left = max(stat.f_bavail * stat.f_frsize - free, 0)
            for start in range(0, left, BLOCK):
                file.write(bytes(min(BLOCK, left - start)))
        try:
            yield
        finally:
            filler.unlink()

    def run(self, stages: StageServer, folder: Path, words: list[str], *, free: int) -> Ended:
        with self.filled(free):
            return stages.run(folder, words)


class SmallFiles:
    """An ordinary folder, where no file may grow past the limit: the system refuses in the same way."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def run(self, stages: StageServer, folder: Path, words: list[str], *, free: int) -> Ended:
        largest = max(path.stat().st_size for path in self.place.rglob("*") if path.is_file())
        return stages.run(folder, words, max_file_bytes=min(free, largest // 2))


@contextmanager
def small_disk(place: Path) -> Iterator[SmallDisk | SmallFiles]:
    """A disk of 64 MiB at `place`."""
    place.mkdir()
    size = f"size={DISK_BYTES}"
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], capture_output=True
    )
    if not mounted or mounted.returncode != 0:
        yield SmallFiles(place)
        return
    try:
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", str(place)], check=True)
