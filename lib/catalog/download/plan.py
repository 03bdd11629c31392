"""Which addresses a run asks for, and in which order: on disk, so that memory does not grow with the catalogue."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from lib.catalog.download.photo_index import database_room
from lib.catalog.schema import BadRow, RawRow

READ_AT_ONCE = 256


@dataclass(frozen=True)
class Wanted:
    """An item and where its photo is said to be."""

    item_id: str
    address: str

    @property
    def host(self) -> str:
        """Whom to be considerate of; "" for what is no address."""
        try:
            return (urlsplit(self.address).hostname or "").lower()
        except ValueError:
            return ""


class Plan:
    """The wanted photos of a catalogue: of each id the first row, where that row has an address and no own photo.

    Attributes:
        rows, own_photo, neither: rows read; of these with a photo of their own, and with no address either.
        chosen: photos that the run is about; of a sample its size, otherwise all.
        addresses: wanted photos in all.
    """

    def __init__(self, rows: Iterable[RawRow | BadRow], *, sample: int | None, seed: int) -> None:
        """Read the rows.

        Args:
            rows: of the catalogue; unusable ones are only counted.
            sample: how many photos to choose, None for all. A larger sample holds every smaller one of its seed.
            seed: of the sample.

        Raises:
            BusyError: no room for the temporary database.
        """
        self.rows = self.own_photo = self.neither = 0
        self._base = sqlite3.connect("", isolation_level=None)
        with database_room():
            self._base.executescript(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
                "CREATE TABLE wanted (item_id TEXT PRIMARY KEY, place, address TEXT) WITHOUT ROWID;"
            )
            self._base.execute("BEGIN")
            for row in rows:
                self.rows += 1
                if isinstance(row, RawRow):
                    self._add(row, sampled=sample is not None, seed=seed)
            self._base.execute("CREATE UNIQUE INDEX by_place ON wanted (place)")
            self.addresses: int = self._base.execute("SELECT count(*) FROM wanted WHERE address <> ''").fetchone()[0]
        self.chosen = self.addresses if sample is None else min(sample, self.addresses)

    def _add(self, row: RawRow, *, sampled: bool, seed: int) -> None:
        address = "" if row.image is not None else (row.image_url or "").strip()
        self.own_photo += row.image is not None
        self.neither += row.image is None and not address
        place = hashlib.sha256(f"{seed}\0{row.item_id}".encode()).digest() if sampled else self.rows
        # a row without an address is kept as well: a later one of the same id is a duplicate and counts for nothing
        self._base.execute("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?)", (row.item_id, place, address))

    def wanted(self) -> Iterator[Wanted]:
        """The chosen photos, a few at a time: in the order of the rows, of a sample in the order of its seed."""
        last: int | bytes = -1  # before every number, and numbers come before bytes
        left = self.chosen
        query = "SELECT place, item_id, address FROM wanted WHERE address <> '' AND place > ? ORDER BY place LIMIT ?"
        while left > 0:
            with database_room():
                rows = self._base.execute(query, (last, min(left, READ_AT_ONCE))).fetchall()
            last, left = rows[-1][0], left - len(rows)
            yield from (Wanted(item_id, address) for _, item_id, address in rows)

    def names(self, item_id: str) -> bool:
        """Whether the catalogue wants a photo of this item from an address."""
        query = "SELECT 1 FROM wanted WHERE item_id = ? AND address <> ''"
        with database_room():
            return self._base.execute(query, (item_id,)).fetchone() is not None


class Scheduler:
    """Hands out wanted photos so that no host is asked for more than `per_host` at the same time.

    Looks ahead by `ahead` photos, so that a busy host does not hold up the others.
    """

    def __init__(self, wanted: Iterator[Wanted], *, per_host: int, ahead: int) -> None:
        self._wanted = wanted
        self._per_host = per_host
        self._ahead = ahead
        self._waiting: dict[str, deque[Wanted]] = {}
        self._n_waiting = 0
        self._busy: dict[str, int] = {}

    def next(self) -> Wanted | None:
        """A photo whose host may be asked now; None while there is none, or no more."""
        while self._n_waiting < self._ahead and (wanted := next(self._wanted, None)) is not None:
            self._waiting.setdefault(wanted.host, deque()).append(wanted)
            self._n_waiting += 1
        free = (host for host in self._waiting if self._busy.get(host, 0) < self._per_host)
        host = next(free, None)
        if host is None:
            return None
        line = self._waiting.pop(host)
        wanted = line.popleft()
        if line:
            self._waiting[host] = line  # at the end: hosts take turns
        self._n_waiting -= 1
        self._busy[host] = self._busy.get(host, 0) + 1
        return wanted

    def finished(self, wanted: Wanted) -> None:
        """The host of a photo that `next` gave is free again."""
        self._busy[wanted.host] -= 1
        if not self._busy[wanted.host]:
            del self._busy[wanted.host]
