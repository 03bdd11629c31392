"""A folder of photos, by their paths under it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lib.catalog.images import ImageError, read_file, resolve_under
from lib.catalog.sources.table import PHOTO_ENDINGS


class PhotoFolder:
    """The photos under `root`; nothing outside it is read, whatever a path says."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def size(self, name: str) -> int | None:
        """Bytes of a photo, None where it cannot be read."""
        try:
            return resolve_under(self.root, name).stat().st_size
        except (ImageError, OSError):
            return None

    def read(self, name: str) -> bytes:
        """A photo's bytes.

        Raises:
            ImageError: it lies elsewhere, is missing, no file, empty, or cannot be read.
        """
        return read_file(self.root, name)

    def names(self) -> Iterator[str]:
        """Names of all photo files, sorted within each folder."""
        for folder, subfolders, files in os.walk(self.root):
            subfolders.sort()
            for name in sorted(files):
                if Path(name).suffix.lower() in PHOTO_ENDINGS:
                    yield Path(folder, name).relative_to(self.root).as_posix()
