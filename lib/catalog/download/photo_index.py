"""The index of the cache of downloaded photos: what was fetched from where, or why it was not.

`index.jsonl` holds a line for each item. During a run lines are appended, the later one of an item counts; before and
after a run it is written anew, sorted. A line that a killed run left half-written is passed over: what it would have
said is found out again. In use the index lies in a temporary database on disk, so that memory does not grow with it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lib.base.atomic import replacing
from lib.base.errors import BusyError, IntegrityError
from lib.catalog.download.file_names import FILE_NAME, TEMPORARY_NAME, marked_stem, plain_stem

INDEX = "index.jsonl"


class Photo(BaseModel):
    """A photo in the cache: `file` is its name there, `sha256` and `size` are those of its bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    item_id: Annotated[str, Field(min_length=1)]
    address: str
    file: Annotated[str, Field(pattern=FILE_NAME)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, Field(gt=0, lt=2**63)]


class Failure(BaseModel):
    """An address that gave no photo when it was last asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    item_id: Annotated[str, Field(min_length=1)]
    address: str
    reason: str
    detail: str


_ENTRY: TypeAdapter[Photo | Failure] = TypeAdapter(Photo | Failure)
_TABLES = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    CREATE TABLE entry (item_id TEXT PRIMARY KEY, file TEXT, line TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX by_file ON entry (file) WHERE file IS NOT NULL;
    CREATE TABLE stem (folded TEXT PRIMARY KEY, item_id TEXT NOT NULL) WITHOUT ROWID;
"""


@contextmanager
def database_room() -> Iterator[None]:
    """Turn a full disk under a temporary database into `BusyError`."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            raise BusyError(
                f"no room for a temporary database ({error}); free space, or name another folder with TMPDIR"
            ) from None
        raise


class PhotoIndex:
    """The index of a cache folder; one without an index file is empty. For any number of threads.

    Raises:
        IntegrityError: a line of the file is damaged.
        BusyError: no room for the temporary database.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._base = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        with database_room():
            self._base.executescript(_TABLES)
            self._base.execute("BEGIN")  # never ended: nothing is ever undone, and single commits cost time
            for entry in _read(folder / INDEX):
                self.put(entry)

    def put(self, entry: Photo | Failure) -> None:
        """Take an entry in, in place of the item's earlier one; nothing is written to the file."""
        file = entry.file if isinstance(entry, Photo) else None
        row = (entry.item_id, file, entry.model_dump_json())
        with self._lock, database_room():
            self._base.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", row)
            if file is not None:
                self._base.execute("INSERT OR REPLACE INTO stem VALUES (?, ?)", (_folded(file), entry.item_id))

    def find(self, item_id: str) -> Photo | Failure | None:
        """What is known of an item."""
        return self._one("SELECT line FROM entry WHERE item_id = ?", item_id)

    def photo_in(self, file: str) -> Photo | None:
        """The photo of that file name."""
        found = self._one("SELECT line FROM entry WHERE file = ?", file)
        return found if isinstance(found, Photo) else None

    def photos(self) -> Iterator[Photo]:
        """All photos, sorted by item id."""
        for line in self._lines():
            entry = _ENTRY.validate_json(line)
            if isinstance(entry, Photo):
                yield entry

    def is_there(self, photo: Photo) -> bool:
        """Whether the photo's file is in the cache with the size that it should have."""
        path = self.folder / photo.file
        return path.is_file() and path.stat().st_size == photo.size

    def claim_stem(self, item_id: str) -> str:
        """The file name without ending for an item; nobody else's on a system that ignores case either."""
        plain = plain_stem(item_id)
        with self._lock, database_room():
            self._base.execute("INSERT OR IGNORE INTO stem VALUES (?, ?)", (plain.lower(), item_id))
            owner = self._base.execute("SELECT item_id FROM stem WHERE folded = ?", (plain.lower(),)).fetchone()[0]
        return plain if owner == item_id else marked_stem(item_id)

    def write(self) -> None:
        """Write the file anew, sorted by item id.

        Raises:
            BusyError: the disk is full; the old file is intact.
        """
        with (
            replacing(self.folder / INDEX) as temporary,
            open(temporary, "w", encoding="utf-8", newline="\n") as file,
        ):
            for line in self._lines():
                file.write(line + "\n")

    def _one(self, query: str, value: str) -> Photo | Failure | None:
        with self._lock, database_room():
            row = self._base.execute(query, (value,)).fetchone()
        return None if row is None else _ENTRY.validate_json(row[0])

    def _lines(self) -> Iterator[str]:
        """Lines in the order of item ids, a few at a time: the lock is not held while the caller works."""
        last = ""  # before every id: none is empty
        query = "SELECT item_id, line FROM entry WHERE item_id > ? ORDER BY item_id LIMIT 1000"
        while True:
            with self._lock, database_room():
                rows = self._base.execute(query, (last,)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from (line for _, line in rows)


class IndexWriter:
    """Keeps the index file of a cache in step with a run; one at a time. A context manager.

    On entering, what a killed run left is put right and the file is written anew, so that it is nobody else's by a
    hard link. On leaving without an error it is written sorted.
    """

    def __init__(self, index: PhotoIndex) -> None:
        self.index = index
        self._file = -1

    def __enter__(self) -> IndexWriter:
        folder = self.index.folder
        folder.mkdir(parents=True, exist_ok=True)
        for entry in os.scandir(folder):
            if TEMPORARY_NAME.match(entry.name):
                Path(entry).unlink(missing_ok=True)
        self.index.write()
        self._file = os.open(folder / INDEX, os.O_WRONLY | os.O_APPEND)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        os.close(self._file)
        if kind is None:
            self.index.write()

    def record(self, entry: Photo | Failure) -> None:
        """Take an entry in and append its line.

        Raises:
            BusyError: the disk is full.
        """
        line = f"{entry.model_dump_json()}\n".encode()
        try:
            written = os.write(self._file, line)
        except OSError as problem:
            raise self._full(problem.strerror) from None
        if written < len(line):  # a limit in the middle of the line; the next run passes over the piece
            raise self._full("only a part of a line was written")
        self.index.put(entry)

    def _full(self, why: str | None) -> BusyError:
        return BusyError(f"{self.index.folder / INDEX}: no room to write it ({why}); free space, run again")


def _folded(file: str) -> str:
    return file.rpartition(".")[0].lower()


def _read(path: Path) -> Iterator[Photo | Failure]:
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return  # the last one, torn by a killed run
            try:
                yield _ENTRY.validate_json(line)
            except ValidationError:
                raise IntegrityError(
                    f"{path}:{number}: damaged, no entry of a photo; delete the line and run "
                    "`python -m stages.download_images`, which fetches that photo again"
                ) from None
