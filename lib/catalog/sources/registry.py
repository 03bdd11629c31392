"""Which adapter reads which `data.source`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from lib.base.params import Data
from lib.catalog.schema import BadRow, RawRow
from lib.catalog.sources.deepfashion import DeepFashionSource
from lib.catalog.sources.huggingface import HuggingFaceSource
from lib.catalog.sources.table import TableSource


class Source(Protocol):
    """What every adapter offers; rows can be read more than once, photos in any order and from threads."""

    @property
    def name(self) -> str:
        """Where the rows come from, for messages."""

    @property
    def notes(self) -> list[str]:
        """What was noticed, for the report."""

    def rows(self) -> Iterator[RawRow | BadRow]:
        """Every row of the catalogue, in order."""

    def image_size(self, image: str) -> int | None:
        """Bytes of a photo, None where it cannot be read."""

    def image_bytes(self, image: str) -> bytes:
        """A photo; raises `ImageError`."""

    def same_photo(self, row: int, image: str) -> bool:
        """Whether `image` has the bytes of the photo of row number `row`; asked where all cells are the same."""

    def photos(self) -> Iterator[str]:
        """Names of all photos there are."""


SOURCES: Mapping[str, Callable[[Path, Data], Source]] = {
    "sample": TableSource,  # the drawn catalogue has the form of a table; its columns are in its parameters
    "table": TableSource,
    "huggingface": HuggingFaceSource,
    "deepfashion_inshop": DeepFashionSource,
}


def open_source(raw: Path, data: Data) -> Source:
    """Open the catalogue that `data` describes.

    Raises:
        ConfigError: `data` does not fit what is there.
        DataError: what is there cannot be read.
    """
    return SOURCES[data.source](raw, data)
