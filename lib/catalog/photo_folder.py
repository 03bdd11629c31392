"""A folder of photos by their names under it. Where a folder is missing, a ZIP archive of its name stands for it.

`images/red/1.jpg` is a file, or `red/1.jpg` in `images.zip`, or `1.jpg` in `images/red.zip`. Thousands of small files
in one are kept, hashed and sent as one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from threading import Lock

from lib.base.errors import DataError
from lib.catalog.images import ImageError, read_file, resolve_under
from lib.catalog.photo_archive import PhotoArchive

PHOTO_ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"))
ARCHIVE = ".zip"


class PhotoFolder:
    """The photos under `root`; nothing outside it is read, whatever a name says.

    Args:
        root: a folder; or one that is not there and has an archive beside it; or an archive.
        key: the parameter that names it, for messages.
    """

    def __init__(self, root: Path, *, key: str = "data.image_root") -> None:
        self.root = root
        self._key = key
        self._archives: dict[Path, PhotoArchive | None] = {}
        self._lock = Lock()

    @property
    def is_there(self) -> bool:
        """Whether there is a folder, or an archive that stands for it."""
        return self.root.is_dir() or _archive_of(self.root) is not None

    def holds(self, folder: str) -> bool:
        """Whether there is a folder of this name, on the disk or in an archive."""
        if (self.root / folder).is_dir():
            return True
        found = self._in_archive(f"{folder}/*")
        return found is not None and any(name.startswith(found[1][:-1]) for name in found[0].names())

    def size(self, name: str) -> int | None:
        """Bytes of a photo, None where it cannot be read."""
        try:
            return resolve_under(self.root, name, key=self._key).stat().st_size
        except ImageError as error:
            if error.reason == "missing_file" and (found := self._in_archive(name)) is not None:
                return found[0].size(found[1])
        except OSError:
            pass
        return None

    def read(self, name: str) -> bytes:
        """A photo's bytes; may be called from several threads.

        Raises:
            ImageError: it lies elsewhere, is missing, no file, empty, or cannot be read.
            DataError: what should be an archive is none.
        """
        try:
            return read_file(self.root, name, key=self._key)
        except ImageError as error:
            if error.reason != "missing_file" or (found := self._in_archive(name)) is None:
                raise
        archive, member = found
        return archive.read(member)

    def names(self) -> Iterator[str]:
        """Names of all photos, sorted within each folder and archive."""
        if not self.root.is_dir():
            if (archive := self._archive(self.root)) is not None:
                yield from _photos(archive.names())
            return
        for folder, subfolders, files in os.walk(self.root):
            subfolders.sort()
            here = Path(folder).relative_to(self.root)
            yield from ((here / name).as_posix() for name in _photos(sorted(files)))
            for name in sorted(files):
                if name.lower().endswith(ARCHIVE):
                    yield from self._names_in(here / Path(name).stem)

    def _names_in(self, folder: Path) -> Iterator[str]:
        """Names in an archive that stands for a folder; none in a file that only looks like one."""
        try:
            archive = None if (self.root / folder).is_dir() else self._archive(self.root / folder)
        except DataError:
            return
        if archive is not None:
            yield from ((folder / name).as_posix() for name in _photos(archive.names()))

    def _in_archive(self, name: str) -> tuple[PhotoArchive, str] | None:
        """The archive that stands for one of the folders of a name, and the rest of the name."""
        parts = PurePosixPath(os.path.normpath(name)).parts
        for depth in range(len(parts)):
            folder = self.root.joinpath(*parts[:depth])
            if not folder.is_dir():
                archive = self._archive(folder)
                return None if archive is None else (archive, "/".join(parts[depth:]))
        return None

    def _archive(self, folder: Path) -> PhotoArchive | None:
        with self._lock:
            if folder not in self._archives:
                path = _archive_of(folder)
                if path is not None and folder != self.root:
                    inside = path.resolve().is_relative_to(self.root.resolve())
                    path = path if inside else None
                self._archives[folder] = None if path is None else PhotoArchive(path)
            return self._archives[folder]


def _archive_of(folder: Path) -> Path | None:
    for path in (folder, folder.with_name(folder.name + ARCHIVE)):
        if path.name.lower().endswith(ARCHIVE) and path.is_file():
            return path
    return None


def _photos(names: Iterator[str] | list[str]) -> Iterator[str]:
    return (name for name in names if PurePosixPath(name).suffix.lower() in PHOTO_ENDINGS)
