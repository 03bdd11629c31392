"""The text files of DeepFashion In-shop's release: lists that begin with their length, and the descriptions.

None of them is trusted: what does not fit is told in notes, which end up in the report, and the rest is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.base.errors import ConfigError, DataError
from lib.catalog.sources.cells import find_encoding

FOLDERS = ("", "Eval", "Anno", "Anno/attributes")
"""Where a release keeps its text files; some copies have all of them at the top."""
MAX_NOTED = 20
ITEM_ID = re.compile(r"id_[0-9]{8}")


@dataclass(frozen=True)
class Line:
    """A line that is neither blank, nor the length, nor the header."""

    number: int
    text: str


@dataclass(frozen=True)
class Description:
    """What the release says about an item; None where it says nothing."""

    color: str | None
    lines: tuple[str, ...]


def find_file(raw: Path, name: str) -> Path | None:
    """The file of this name in one of `FOLDERS` under `raw`; None where there is none.

    Raises:
        ConfigError: it is in two of them.
    """
    found = [path for folder in FOLDERS if (path := raw / folder / name).is_file()]
    if len(found) > 1:
        raise ConfigError(f"{found[0]} and {found[1]}: only one of them can be meant; remove the other")
    return found[0] if found else None


def read_list(path: Path, columns: Sequence[str]) -> tuple[list[Line], list[str]]:
    """The entries of a list: a line with their number, a line with the names of the columns, a line for each.

    Args:
        path: in any encoding that `find_encoding` tells; line ends of any system.
        columns: names of the first columns; none means that the file has no such line.

    Returns:
        The entries without blanks around them, and notes: a length that is wrong or missing, a missing header.

    Raises:
        DataError: the header names other columns.
    """
    encoding = find_encoding(path)
    notes = [f"{path.name}: not UTF-8, read as latin-1"] if encoding == "latin-1" else []
    with open(path, encoding=encoding) as file:
        lines = [Line(number, text) for number, line in enumerate(file, start=1) if (text := line.strip())]
    stated = lines.pop(0) if lines and lines[0].text.isdecimal() else None
    if columns:
        names = lines[0].text.split() if lines else []
        if names[: len(columns)] == list(columns):
            del lines[0]
        elif set(names) & set(columns):
            raise DataError(
                f"{path}:{lines[0].number}: expected the columns {', '.join(columns)}, got {', '.join(names)}"
            )
        else:
            notes.append(f"{path.name}: no line names the columns {', '.join(columns)}")
    if stated is None:
        notes.append(f"{path.name}: the first line does not say how many entries there are ({len(lines)})")
    elif int(stated.text) != len(lines):
        notes.append(f"{path.name}:{stated.number}: says {stated.text} entries, there are {len(lines)}")
    return lines, notes


def read_items(path: Path) -> tuple[list[str], list[str]]:
    """Ids of `list_item_inshop.txt`, each once and in order, and notes."""
    lines, notes = read_list(path, ())
    bad = [f"{path.name}:{line.number}: no item id: {line.text[:60]!r}" for line in lines if not _is_id(line.text)]
    ids = [line.text for line in lines if _is_id(line.text)]
    if len(set(ids)) < len(ids):
        notes.append(f"{path.name}: {len(ids) - len(set(ids))} ids are listed again")
    return list(dict.fromkeys(ids)), notes + first_of(bad)


def read_colors(path: Path) -> tuple[dict[str, str], list[str]]:
    """Colour by image name of `list_color_cloth.txt`, and notes; of two lines for an image the first counts."""
    lines, notes = read_list(path, ("image_name",))
    colors: dict[str, str] = {}
    bad = []
    for line in lines:
        name, _, color = line.text.partition(" ")
        if not (color := color.strip()):
            bad.append(f"{path.name}:{line.number}: no colour: {line.text[:60]!r}")
        elif colors.setdefault(name, color) != color:
            bad.append(f"{path.name}:{line.number}: '{name}' had another colour before")
    return colors, notes + first_of(bad)


def read_descriptions(path: Path) -> tuple[dict[str, Description], list[str]]:
    """Descriptions by item id, and notes; of two different ones for an item the first counts.

    Raises:
        DataError: the file is no JSON list.
    """
    encoding = find_encoding(path)
    notes = [f"{path.name}: not UTF-8, read as latin-1"] if encoding == "latin-1" else []
    try:
        entries = json.loads(path.read_text(encoding=encoding))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); take it from the release again") from None
    if not isinstance(entries, list):
        raise DataError(f"{path}: expected a list of items, got {type(entries).__name__}")
    found: dict[str, Description] = {}
    bad: list[str] = []
    for number, entry in enumerate(entries, start=1):
        item = entry.get("item") if isinstance(entry, dict) else None
        if not isinstance(item, str) or not _is_id(item):
            bad.append(f"{path.name}: entry {number} has no item id: {str(entry)[:60]!r}")
            continue
        described, wrong = _describe(entry)
        bad += [f"{path.name}: entry {number}, {item}: {cause}" for cause in wrong]
        if found.setdefault(item, described) != described:
            bad.append(f"{path.name}: entry {number} says something else about {item} than an entry before")
    return found, notes + first_of(bad)


def first_of(notes: Sequence[str]) -> list[str]:
    """At most `MAX_NOTED` notes and how many more there are."""
    more = len(notes) - MAX_NOTED
    return [*notes[:MAX_NOTED], f"… and {more} more of this kind"] if more > 0 else list(notes)


def some(ids: Iterable[str]) -> str:
    """At most `MAX_NOTED` ids in order, for a note.

    >>> some(["b", "a"])
    'a, b'
    """
    ordered = sorted(ids)
    return ", ".join(ordered[:MAX_NOTED]) + (", …" if len(ordered) > MAX_NOTED else "")


def _is_id(text: str) -> bool:
    return ITEM_ID.fullmatch(text) is not None


def _describe(entry: Mapping[str, Any]) -> tuple[Description, list[str]]:
    """What an entry says, and what in it cannot be read."""
    color, lines = entry.get("color"), entry.get("description")
    wrong = []
    if color is not None and not isinstance(color, str):
        wrong.append(f"color is no text: {str(color)[:60]!r}")
        color = None
    if isinstance(lines, str):
        lines = [lines]
    if lines is None:
        lines = []
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        wrong.append(f"description is no list of texts: {str(lines)[:60]!r}")
        lines = []
    return Description(_plain(color) if color else None, tuple(_plain(line) for line in lines)), wrong


def _plain(text: str) -> str:
    """Without half characters (`\\ud800`), which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode("utf-8")
