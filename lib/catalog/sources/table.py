"""Adapter for a table (CSV, TSV, parquet) with a folder of photos."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from lib.catalog.images import ImageError, read_file, resolve_under
from lib.catalog.schema import SOURCED, BadRow, RawRow
from lib.catalog.sources.cells import CellRow, CellTable
from lib.errors import ConfigError
from lib.params import Columns, Data

PHOTO_ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2"))
TEXT_JOIN = " || "
_PLACE = re.compile(r"\{([^{}]+)\}")
_SINGLE_COLUMNS = ("item_id", "image_url", "category1", "category2", "category3", "product_id", *SOURCED)

Cells = tuple[str, ...]
Reader = Callable[[Cells], str]


class TableSource:
    """Rows and photos of a table, as `data` describes them.

    Args:
        raw: folder that holds `data.metadata` and `data.image_root`.
        data: the section of the parameters.

    Raises:
        ConfigError: the table or the photo folder is missing, or a mapped column is not in the table.
        DataError: the table cannot be read; see `CellTable`.
    """

    def __init__(self, raw: Path, data: Data) -> None:
        self._table = CellTable(raw / data.metadata)
        self._root = raw / data.image_root
        if not self._root.is_dir():
            raise ConfigError(f"{self._root}: no such folder; data.raw_dir and data.image_root name it")
        self._missing = frozenset(data.missing_values)
        self._columns = data.columns
        self._read = {name: self._column(name, getattr(data.columns, name)) for name in _SINGLE_COLUMNS}
        self._read_text = [self._cell(f"text[{i}]", name) for i, name in enumerate(data.columns.text)]
        self._read_image = self._image_reader(data.columns)
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
        """Rows in file order; ragged rows and rows without an id come as `BadRow`."""
        width = len(self._table.columns)
        for row in self._table.rows():
            yield self._raw(row) if len(row.cells) == width else self._ragged(row, width)

    def image_size(self, image: str) -> int | None:
        """Bytes of a photo, None where it cannot be read."""
        try:
            return resolve_under(self._root, image).stat().st_size
        except (ImageError, OSError):
            return None

    def image_bytes(self, image: str) -> bytes:
        """A photo's bytes.

        Raises:
            ImageError: it lies elsewhere, is missing, no file, empty, or cannot be read.
        """
        return read_file(self._root, image)

    def photos(self) -> Iterator[str]:
        """Names of all photo files under the photo folder, sorted within each folder."""
        for folder, subfolders, files in os.walk(self._root):
            subfolders.sort()
            for name in sorted(files):
                if Path(name).suffix.lower() in PHOTO_ENDINGS:
                    yield Path(folder, name).relative_to(self._root).as_posix()

    def _raw(self, row: CellRow) -> RawRow | BadRow:
        cells = row.cells
        image = (self._read_image(cells).strip() or None) if self._read_image else None
        item_id = self._cell_or_none("item_id", cells)
        if self._columns.item_id is None and image is not None:
            item_id = PurePosixPath(image).stem
        if item_id is None or not item_id.strip():
            return BadRow(row.number, item_id, image, "empty_id", "the row has no id")
        texts = [cell for read in self._read_text if (cell := self._known(read(cells))) is not None]
        return RawRow(
            row=row.number,
            item_id=item_id,
            image=image,
            image_url=self._cell_or_none("image_url", cells),
            category1=self._value("category1", cells),
            category2=self._value("category2", cells),
            category3=self._value("category3", cells),
            product_id=self._cell_or_none("product_id", cells),
            text=TEXT_JOIN.join(texts) or None,
            attributes={name: self._value(name, cells) for name in SOURCED},
            digest=hashlib.sha256("\0".join(cells).encode("utf-8", "surrogatepass")).digest()[:16],
        )

    def _ragged(self, row: CellRow, width: int) -> BadRow:
        detail = f"expected {width} cells, got {len(row.cells)}"
        if row.last_line > row.number:
            detail += f"; the row runs to line {row.last_line}: is a quote left open?"
        padded = (*row.cells, *[""] * width)[:width]
        return BadRow(row.number, self._cell_or_none("item_id", padded), None, "ragged_row", detail)

    def _value(self, name: str, cells: Cells) -> str | None:
        read = self._read[name]
        return None if read is None else self._known(read(cells))

    def _known(self, cell: str) -> str | None:
        """A cell without surrounding blanks; None when it is empty or listed in `data.missing_values`."""
        cell = cell.strip()
        return None if not cell or cell in self._missing else cell

    def _cell_or_none(self, name: str, cells: Cells) -> str | None:
        """A cell as it stands: ids are never looked up in `data.missing_values`."""
        read = self._read[name]
        return (read(cells) or None) if read is not None else None

    def _column(self, key: str, column: str | None) -> Reader | None:
        return None if column is None else self._cell(key, column)

    def _cell(self, key: str, column: str) -> Reader:
        if column not in self._table.columns:
            near = difflib.get_close_matches(column, self._table.columns, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ConfigError(
                f"data.columns.{key}: no column '{column}' in {self._table.path}.{hint} "
                f"It has: {', '.join(self._table.columns)}."
            )
        position = self._table.columns.index(column)
        return lambda cells: cells[position]

    def _image_reader(self, columns: Columns) -> Reader | None:
        template = columns.image
        if template is None or template in self._table.columns or not _PLACE.search(template):
            return self._column("image", template)
        parts = [
            (text, self._cell("image", text) if i % 2 else None) for i, text in enumerate(_PLACE.split(template))
        ]
        return lambda cells: "".join(read(cells) if read else text for text, read in parts)
