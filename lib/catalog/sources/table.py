"""Adapter for a table (CSV, TSV, parquet) with a folder of photos."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.base.errors import ConfigError
from lib.base.params import Data
from lib.catalog.photo_folder import PhotoFolder
from lib.catalog.schema import BadRow, RawRow
from lib.catalog.sources.cells import CellRow, CellTable
from lib.catalog.sources.mapping import Cells, RowMapper, find_column

_PLACE = re.compile(r"\{([^{}]+)\}")

Reader = Callable[[Cells], str]


class TableSource:
    """Rows and photos of a table, as `data` describes them.

    Args:
        raw: folder that holds `data.metadata` and `data.image_root`, a folder or a ZIP archive.
        data: the section of the parameters. Where `columns.image_url` is mapped the photo folder may be missing, as
            long as no row names a photo in it.

    Raises:
        ConfigError: the table or the photo folder is missing, or a mapped column is not in the table.
        DataError: the table cannot be read; see `CellTable`.
    """

    def __init__(self, raw: Path, data: Data) -> None:
        self._table = CellTable(raw / data.metadata)
        self._photos = PhotoFolder(raw / data.image_root)
        self._has_root = self._photos.is_there
        if not self._has_root and data.columns.image_url is None:
            raise self._no_root()
        self._map = RowMapper(data, self._table.columns, where=self._table.path, read_text=str.strip)
        self._read_image = self._image_reader(data.columns.image)
        if data.columns.item_id is None and self._read_image is None:
            raise ConfigError("data.columns needs 'item_id', or 'image', from whose file names ids are derived")

    @property
    def name(self) -> str:
        """The table's path, for messages."""
        return str(self._table.path)

    @property
    def notes(self) -> list[str]:
        """What was noticed about the table, for the report."""
        return self._table.notes

    def rows(self) -> Iterator[RawRow | BadRow]:
        """Rows in file order; ragged rows and rows without an id come as `BadRow`.

        Raises:
            ConfigError: a row names a photo, and there is no photo folder.
        """
        width = len(self._table.columns)
        for row in self._table.rows():
            yield self._raw(row) if len(row.cells) == width else self._ragged(row, width)

    def image_size(self, image: str) -> int | None:
        """Bytes of a photo, None where it cannot be read."""
        return self._photos.size(image)

    def image_bytes(self, image: str) -> bytes:
        """A photo's bytes.

        Raises:
            ImageError: it lies elsewhere, is missing, no file, empty, or cannot be read.
        """
        return self._photos.read(image)

    def same_photo(self, row: int, image: str) -> bool:
        """True: what names a photo is a cell, and the cells are the same."""
        return True

    def photos(self) -> Iterator[str]:
        """Names of all photos under the photo folder, sorted within each folder; none if no column names any."""
        if self._read_image is not None:
            yield from self._photos.names()

    def _no_root(self) -> ConfigError:
        root = self._photos.root
        return ConfigError(f"{root}: no such folder, nor {root.name}.zip; data.raw_dir and data.image_root name it")

    def _raw(self, row: CellRow) -> RawRow | BadRow:
        image = (self._read_image(row.cells).strip() or None) if self._read_image else None
        if image is not None and not self._has_root:
            raise self._no_root()
        return self._map.row(row.number, row.cells, image=image, image_name=image)

    def _ragged(self, row: CellRow, width: int) -> BadRow:
        detail = f"expected {width} cells, got {len(row.cells)}"
        if row.last_line > row.number:
            detail += f"; the row runs to line {row.last_line}: is a quote left open?"
        padded = (*row.cells, *[""] * width)[:width]
        return BadRow(row.number, self._map.given("item_id", padded), None, "ragged_row", detail)

    def _image_reader(self, template: str | None) -> Reader | None:
        if template is None:
            return None
        if template in self._table.columns or not _PLACE.search(template):
            return self._cell(template)
        parts = [(text, self._cell(text) if i % 2 else None) for i, text in enumerate(_PLACE.split(template))]
        return lambda cells: "".join(read(cells) if read else text for text, read in parts)

    def _cell(self, name: str) -> Reader:
        position = find_column("image", name, self._table.columns, where=self._table.path)
        return lambda cells: cells[position]
