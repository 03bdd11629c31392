"""The audit as a CSV for a spreadsheet: written without formulas, read back to the same strings.

A cell that a spreadsheet would take for a formula gets an apostrophe in front, which reading takes off again.
Nothing is interpreted: `001`, `NA`, `nan` and `5.0` stay what they are.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.base.artifacts import write_text
from lib.base.errors import DataError
from lib.catalog.grounding.claims import CLAIM_COLUMNS
from lib.catalog.sources.cells import DELIMITERS, CellTable

REVIEW_COLUMNS = ("verdict", "true_value", "note")
"""Empty until the reviewer fills them in."""
SHEET_COLUMNS = (*CLAIM_COLUMNS, *REVIEW_COLUMNS)
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


@dataclass(frozen=True)
class SheetRow:
    """A row of a sheet: its line in the file (the header is line 1) and its cells by column."""

    line: int
    cells: dict[str, str]


def neutralise(cell: str) -> str:
    """The cell as a spreadsheet shows it without computing anything.

    >>> [neutralise(cell) for cell in ("=1+1", "'=1+1", "'90s tee", "V-neck")]
    ["'=1+1", "''=1+1", "'90s tee", 'V-neck']
    """
    return f"'{cell}" if _FORMULA.match(cell) else cell


def restore(cell: str) -> str:
    """What `neutralise` was given.

    >>> [restore(neutralise(cell)) for cell in ("=1+1", "'=1+1", "'90s tee")]
    ['=1+1', "'=1+1", "'90s tee"]
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def write_sheet(path: Path, claims: pd.DataFrame) -> None:
    """Write the columns `SHEET_COLUMNS` as UTF-8 CSV, the reviewer's ones empty."""
    buffer = io.StringIO()
    # Everything in quotes: Python leaves a lone carriage return without them, and it would end the row.
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(SHEET_COLUMNS)
    for row in claims[list(CLAIM_COLUMNS)].itertuples(index=False):
        writer.writerow([*map(neutralise, row), *("" for _ in REVIEW_COLUMNS)])
    write_text(path, buffer.getvalue())


def read_sheet(path: Path) -> list[SheetRow]:
    """Read a sheet, as written or as a spreadsheet saved it (other separators and encodings, more columns).

    Raises:
        DataError: no such file or not a text table; a column is missing or there twice; a row has more cells than
            the header. Cells missing at the end of a row are empty.
    """
    if path.suffix.lower() not in DELIMITERS:
        raise DataError(f"{path}: expected a CSV, got '{path.suffix}'; save the spreadsheet as CSV (UTF-8)")
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; `dvc repro grounding_audit` makes the sheet, a reviewer completes a copy of it"
        )
    table = CellTable(path)
    missing = [name for name in SHEET_COLUMNS if name not in table.columns]
    if missing:
        raise DataError(
            f"{path}:1: column {', '.join(missing)} is missing; expected {', '.join(SHEET_COLUMNS)}; "
            f"got {', '.join(table.columns)}"
        )
    rows = []
    for row in table.rows():
        extra = [cell for cell in row.cells[len(table.columns) :] if cell.strip()]
        if extra:
            raise DataError(
                f"{path}:{row.number}: more cells than the header has columns ({len(table.columns)}); the first "
                f"one too many is {extra[0]!r}: put a text with separators in quotes"
            )
        cells = dict.fromkeys(table.columns, "") | dict(zip(table.columns, row.cells, strict=False))
        if any(cell.strip() for cell in row.cells):
            rows.append(SheetRow(row.number, {name: restore(cells[name]) for name in SHEET_COLUMNS}))
    return rows
