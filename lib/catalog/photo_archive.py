"""A ZIP archive of photos: read where it stands, never unpacked."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from lib.base.errors import DataError
from lib.catalog.images import MAX_FILE_BYTES, ImageError

_ENCRYPTED = 1  # bit of a member's flags
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Python unpacks the others without any bound
_NO_PHOTOS = "__MACOSX/"  # what a Mac says of each file, under its name


class PhotoArchive:
    """The files in an archive by their paths; where all lie in one folder named like the archive, by those under it.

    Raises:
        DataError: it is no ZIP archive, or its list of files cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise DataError(f"{path}: no ZIP archive that can be read ({error}); pack the photos again") from None
        found = {info.filename: info for info in self._file.infolist() if not info.is_dir()}
        found = {name: info for name, info in found.items() if not name.startswith(_NO_PHOTOS)}
        top = f"{path.stem}/"  # `zip -r images.zip images`
        if all(name.startswith(top) for name in found):
            found = {name.removeprefix(top): info for name, info in found.items()}
        self._members = found

    def names(self) -> Iterator[str]:
        """Names of all files, sorted."""
        yield from sorted(self._members)

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where there is none of this name."""
        info = self._members.get(name)
        return None if info is None else info.file_size

    def read(self, name: str) -> bytes:
        """A file's bytes, checked against the archive's own sum; may be called from several threads.

        Raises:
            ImageError: `missing_file`, `zero_bytes`, `file_too_large`, or `unreadable`: encrypted, damaged, longer
                than it says, or compressed in another way than deflate.
        """
        info = self._members.get(name)
        if info is None:
            raise ImageError("missing_file", f"no such file in {self.path.name}")
        if info.file_size == 0:
            raise ImageError("zero_bytes", "the file is empty")
        if info.file_size > MAX_FILE_BYTES:
            raise ImageError("file_too_large", f"{info.file_size} bytes, more than {MAX_FILE_BYTES}")
        if info.flag_bits & _ENCRYPTED:
            raise ImageError("unreadable", f"it is encrypted in {self.path.name}")
        if info.compress_type not in _READ:
            raise ImageError("unreadable", f"in {self.path.name}: neither stored nor deflated; pack the photos again")
        try:
            with self._file.open(info) as file:
                return file.read(info.file_size + 1)  # a length: without one, what a false size hides is unpacked too
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise ImageError("unreadable", f"in {self.path.name}: {error}") from None
