"""Tables on disk as a stream of rows of text cells: CSV, TSV and parquet."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lib.base.errors import ConfigError, DataError

CHUNK = 1000
DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}


@dataclass(frozen=True)
class CellRow:
    """A row as text: `number` is its first line (CSV, the header is line 1) or its row (parquet, from 1)."""

    number: int
    cells: tuple[str, ...]
    last_line: int


class CellTable:
    """A table of text cells. Nothing is interpreted: `001`, `NA`, `nan` and `5.0` stay what they are.

    Attributes:
        path: the file.
        columns: header names without surrounding blanks.
        notes: what was found out about the file, for the report.

    Raises:
        ConfigError: the file does not exist or has an unknown ending.
        DataError: it has no header, or two columns of one name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; data.raw_dir and data.metadata name it")
        self._is_parquet = path.suffix.lower() in (".parquet", ".pq")
        if self._is_parquet:
            header = self._parquet_header()
        elif path.suffix.lower() in DELIMITERS:
            self._encoding = find_encoding(path)
            if self._encoding == "latin-1":
                self.notes.append(f"{path.name}: not UTF-8, read as latin-1")
            self._delimiter, header = self._text_header()
        else:
            known = ", ".join((*DELIMITERS, ".parquet"))
            raise ConfigError(f"{path}: data.metadata must end with one of {known}; got '{path.suffix}'")
        self.columns = tuple(name.strip() for name in header)
        if not any(self.columns):
            raise DataError(f"{path}:1: no header; the first line must name the columns")
        for name in self.columns:
            if name and self.columns.count(name) > 1:
                places = ", ".join(str(i + 1) for i, other in enumerate(self.columns) if other == name)
                raise DataError(f"{path}:1: the header names '{name}' twice (columns {places}); rename one")

    def rows(self) -> Iterator[CellRow]:
        """All rows in file order; blank lines are no rows. Rows may have too few or too many cells."""
        return self._parquet_rows() if self._is_parquet else self._text_rows()

    def _text_header(self) -> tuple[str, list[str]]:
        delimiter = DELIMITERS[self.path.suffix.lower()]
        with open(self.path, encoding=self._encoding, newline="") as file:
            line = file.readline()
            if delimiter not in line:
                found = max(",;\t|", key=line.count)
                if found in line:
                    delimiter = found
                    self.notes.append(f"{self.path.name}: columns are separated by {found!r}")
            file.seek(0)
            try:
                return delimiter, next(csv.reader(file, delimiter=delimiter), [])
            except csv.Error as error:
                raise DataError(f"{self.path}:1: no header that can be read ({error})") from None

    def _text_rows(self) -> Iterator[CellRow]:
        header = True
        with open(self.path, encoding=self._encoding, newline="") as file:
            for number, lines, cells in _logical_rows(file, self._delimiter):
                if cells and not header:
                    yield CellRow(number, tuple(cells), number + lines - 1)
                header = False

    def _parquet_header(self) -> list[str]:
        try:
            schema = pq.read_schema(self.path)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{self.path}: not a readable parquet file ({error})") from None
        plain = [field.name for field in schema if not is_opaque(field.type)]
        if len(plain) < len(schema):
            left_out = ", ".join(sorted(set(schema.names) - set(plain)))
            self.notes.append(f"{self.path.name}: columns without text left out: {left_out}")
        self._stored = plain
        return plain

    def _parquet_rows(self) -> Iterator[CellRow]:
        number = 0
        try:
            with pq.ParquetFile(self.path, pre_buffer=False) as file:  # the default reads all of it ahead
                for batch in file.iter_batches(batch_size=CHUNK, columns=self._stored):
                    columns = [column.to_pylist() for column in batch.columns]
                    for cells in zip(*columns, strict=True):
                        number += 1
                        yield CellRow(number, as_text(cells), number)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            where = f"{self.path}: not a readable parquet file after row {number}"
            raise DataError(f"{where} ({error}); get it again") from None


def _logical_rows(file: Iterable[str], delimiter: str) -> Iterator[tuple[int, int, list[str]]]:
    """(first line, number of lines, cells) of each row of a CSV text.

    A quote that is opened by mistake would swallow the rows up to the next quote. So a row of several lines is
    kept only when it is well-formed; otherwise each of its lines is a row of its own, and none is lost.
    """
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in file:
            taken.append(line)
            yield line

    feed = lines()
    reader = csv.reader(feed, delimiter=delimiter)
    number = 1
    while True:
        taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:  # a cell beyond the limit of 131,072 characters: an open quote, as a rule
            cells = [""]
            reader = csv.reader(feed, delimiter=delimiter)
        if len(taken) > 1 and not _is_well_formed(taken, delimiter):
            for offset, line in enumerate(taken):
                yield number + offset, 1, _one_line(line, delimiter)
        else:
            yield number, len(taken), cells
        number += len(taken)


def _is_well_formed(lines: list[str], delimiter: str) -> bool:
    try:
        return len(list(csv.reader(lines, delimiter=delimiter, strict=True))) == 1
    except csv.Error:
        return False


def _one_line(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return [""]


def as_text(values: Iterable[object]) -> tuple[str, ...]:
    """Values of a parquet row as text cells; null becomes empty."""
    return tuple("" if value is None else str(value) for value in values)


def is_opaque(kind: pa.DataType) -> bool:
    """Whether a parquet column of this type holds no text: lists, structs and bytes."""
    return bool(pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def find_encoding(path: Path) -> str:
    """UTF-8 (with or without a byte-order mark), UTF-16 with one, or else latin-1, which accepts any byte.

    Raises:
        DataError: it begins as UTF-16 does and does not go on so.
    """
    with open(path, "rb") as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        decoder = codecs.getincrementaldecoder("utf-16" if wide else "utf-8")()
        file.seek(0)
        try:
            while block := file.read(2**20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            if wide:
                raise DataError(f"{path}: damaged UTF-16 ({error.reason}); save it again, as UTF-8") from None
            return "latin-1"
    return "utf-16" if wide else "utf-8-sig"
