"""What every adapter does alike: the text cells of a row, by the mapping in `data.columns`, as a `RawRow`."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from lib.base.errors import ConfigError
from lib.base.params import Columns, Data
from lib.catalog.schema import SOURCED, BadRow, RawRow

TEXT_JOIN = " || "
_SINGLE_COLUMNS = ("item_id", "image_url", "category1", "category2", "category3", "product_id", *SOURCED)

Cells = tuple[str, ...]


def mapped_columns(columns: Columns) -> dict[str, str]:
    """Column names by their key in `data.columns` (`text[0]`, `text[1]` …), without the photo's."""
    named = {key: getattr(columns, key) for key in _SINGLE_COLUMNS}
    named |= {f"text[{i}]": name for i, name in enumerate(columns.text)}
    return {key: name for key, name in named.items() if name is not None}


def find_column(key: str, name: str, names: Sequence[str], *, where: Path | str) -> int:
    """Position of a mapped column among the names of the columns that hold text.

    Raises:
        ConfigError: it is not there; the message has the nearest name.
    """
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"data.columns.{key}: no column '{name}' in {where}.{hint} It has: {', '.join(names)}.")


class RowMapper:
    """Makes rows of cells into `RawRow`s.

    Args:
        data: the section of the parameters; used are `columns` and `missing_values`.
        names: of the cells of a row, in order.
        where: the file, for messages.
        read_text: what a cell of a text column says.

    Raises:
        ConfigError: a mapped column is not among the names.
    """

    def __init__(self, data: Data, names: Sequence[str], *, where: Path, read_text: Callable[[str], str]) -> None:
        mapped = mapped_columns(data.columns)
        self._at = {key: find_column(key, name, names, where=where) for key, name in mapped.items()}
        self._text_at = [at for key, at in self._at.items() if key.startswith("text[")]
        self._read_text = read_text
        self._missing = frozenset(data.missing_values)

    def row(self, number: int, cells: Cells, *, image: str | None, image_name: str | None) -> RawRow | BadRow:
        """The row; a `BadRow` when it has no id.

        Args:
            number: of the row in its source.
            cells: in the order of the names.
            image: what the source needs to read the photo.
            image_name: the photo's own file name; ids are derived from it where none are mapped.
        """
        item_id = self.given("item_id", cells)
        if "item_id" not in self._at and image_name is not None:
            item_id = PurePosixPath(image_name).stem
        if item_id is None or not item_id.strip():
            return BadRow(number, item_id, image, "empty_id", "the row has no id")
        texts = [text for at in self._text_at if (text := self._known(self._read_text(cells[at]))) is not None]
        return RawRow(
            row=number,
            item_id=item_id,
            image=image,
            image_name=image_name,
            image_url=self._value("image_url", cells),
            category1=self._value("category1", cells),
            category2=self._value("category2", cells),
            category3=self._value("category3", cells),
            product_id=self.given("product_id", cells),
            text=TEXT_JOIN.join(dict.fromkeys(texts)) or None,  # two columns often say the same
            attributes={name: self._value(name, cells) for name in SOURCED},
            digest=hashlib.sha256("\0".join(cells).encode("utf-8", "surrogatepass")).digest()[:16],
        )

    def given(self, key: str, cells: Cells) -> str | None:
        """A cell as it stands: ids are never looked up in `data.missing_values`."""
        at = self._at.get(key)
        return None if at is None else cells[at] or None

    def _value(self, key: str, cells: Cells) -> str | None:
        at = self._at.get(key)
        return None if at is None else self._known(cells[at])

    def _known(self, cell: str) -> str | None:
        """A cell without surrounding blanks; None when it is empty or listed in `data.missing_values`."""
        cell = cell.strip()
        return None if not cell or cell in self._missing else cell
