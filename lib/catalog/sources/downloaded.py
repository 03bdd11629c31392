"""Downloaded photos behind any adapter: rows that only have an address get the photo that the cache has for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lib.catalog.download.photo_index import Failure, PhotoIndex
from lib.catalog.images import ImageError, read_file
from lib.catalog.schema import BadRow, RawRow
from lib.catalog.sources.registry import Source

COMMAND = "python -m stages.download_images"
_PREFIX = "downloaded:"


class DownloadedPhotos:
    """A source whose rows find their photo in the cache where they name an address and no photo of their own.

    Args:
        inner: the catalogue's adapter.
        cache: folder that `lib.catalog.download.photos` filled; may be missing.

    Raises:
        IntegrityError: the cache's index is damaged.
    """

    def __init__(self, inner: Source, cache: Path) -> None:
        self._inner = inner
        self._cache = cache
        self._index = PhotoIndex(cache)

    @property
    def name(self) -> str:
        """See the inner source."""
        return self._inner.name

    @property
    def notes(self) -> list[str]:
        """See the inner source."""
        return self._inner.notes

    def rows(self) -> Iterator[RawRow | BadRow]:
        """The inner source's rows; a row without photo says in `no_photo` why the cache has none for it."""
        for row in self._inner.rows():
            if isinstance(row, BadRow):
                yield row
            elif row.image is not None:
                yield replace(row, image=_outer(row.image))
            elif row.image_url is not None:
                yield self._from_cache(row, row.image_url)
            else:
                yield row

    def image_size(self, image: str) -> int | None:
        """Bytes of a photo, None where it cannot be read."""
        if not image.startswith(_PREFIX):
            return self._inner.image_size(_inner(image))
        photo = self._index.photo_in(image.removeprefix(_PREFIX))
        return photo.size if photo is not None and self._index.is_there(photo) else None

    def image_bytes(self, image: str) -> bytes:
        """A photo's bytes.

        Raises:
            ImageError: see the inner source; `damaged_download` when the cache does not hold what was fetched.
        """
        if not image.startswith(_PREFIX):
            return self._inner.image_bytes(_inner(image))
        file = image.removeprefix(_PREFIX)
        data = read_file(self._cache, file)
        photo = self._index.photo_in(file)
        if photo is None or hashlib.sha256(data).hexdigest() != photo.sha256:
            raise ImageError(
                "damaged_download", f"not what was fetched; delete {self._cache / file}, run `{COMMAND}`"
            )
        return data

    def same_photo(self, row: int, image: str) -> bool:
        """See the inner source; the address of a downloaded photo is a cell."""
        return image.startswith(_PREFIX) or self._inner.same_photo(row, _inner(image))

    def photos(self) -> Iterator[str]:
        """The inner source's photos, then those of the cache."""
        for name in self._inner.photos():
            yield _outer(name)
        for photo in self._index.photos():
            yield f"{_PREFIX}{photo.file}"

    def _from_cache(self, row: RawRow, address: str) -> RawRow:
        known = self._index.find(row.item_id)
        if known is None or known.address != address:
            return replace(row, no_photo=f"not fetched yet; run `{COMMAND}`")
        if isinstance(known, Failure):
            return replace(row, no_photo=f"{known.reason}: {known.detail}; `{COMMAND}` tries again")
        if not self._index.is_there(known):
            return replace(row, no_photo=f"{self._cache / known.file} is gone or cut; run `{COMMAND}`")
        return replace(row, image=f"{_PREFIX}{known.file}", image_name=known.file)


def _outer(image: str) -> str:
    """A photo's name among those of the cache: an inner one that looks like a cached one is told apart."""
    return f"./{image}" if image.startswith(_PREFIX) else image


def _inner(image: str) -> str:
    return image.removeprefix("./") if image.startswith(f"./{_PREFIX}") else image
