"""Files and folders that appear as a whole or not at all.

What is written goes to a temporary name on the same disk, is flushed and renamed: a reader sees the old bytes or
the new ones, and a full disk leaves the old ones.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.base.errors import NO_ROOM, BusyError


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Raise `BusyError` instead of the system's error when the block finds no room for `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise BusyError(f"{path}: no room to write it ({error.strerror}); free space, run again") from None
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` and rename it over `path` when the block succeeds.

    Raises:
        BusyError: the disk is full or a file-size limit was hit; the old file is intact.
    """
    with room_for(path):
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
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_files(folder: Path, *, manifest: str) -> Iterator[Path]:
    """Yield an empty folder in `folder` whose files take their places there when the block succeeds, manifest last.

    What has other names stays. What a killed run left behind is removed first; the caller holds the stage's lock.

    Args:
        folder: created if needed.
        manifest: name of the manifest that the block writes with its files.

    Raises:
        BusyError: the disk is full or a file-size limit was hit; the old files are intact.
    """
    fresh = folder / f".{manifest}.partial"
    shutil.rmtree(fresh, ignore_errors=True)
    with room_for(folder):
        try:
            fresh.mkdir(parents=True)
            yield fresh
            for path in sorted(fresh.iterdir(), key=lambda path: (path.name == manifest, path.name)):
                os.replace(path, folder / path.name)
        except BusyError as error:  # of a single file; nobody has heard of the folder that it was written to
            raise BusyError(str(error).replace(str(fresh), str(folder))) from None
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder` and put it in its place when the block succeeds.

    What a killed run left behind is removed first; the caller holds the stage's lock. Files in subfolders are
    not flushed.

    Raises:
        BusyError: the disk is full or a file-size limit was hit; the old folder is intact.
    """
    fresh = folder.with_name(f".{folder.name}.partial")
    old = folder.with_name(f".{folder.name}.old")
    try:
        with room_for(folder):
            for leftover in (fresh, old):
                shutil.rmtree(leftover, ignore_errors=True)
            fresh.mkdir(parents=True)
            yield fresh
            for path in sorted(path for path in fresh.iterdir() if path.is_file()):
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())
            if folder.exists():
                folder.rename(old)
            fresh.rename(folder)
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
