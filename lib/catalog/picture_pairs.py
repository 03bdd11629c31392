"""Photos of two sides and which of them belong together: the three tables of the two-tower model.

`pairs` (`query_path,cand_path`) is what is learnt from, `candidates` (`cand_path`) what can be found, and `query_gt`
(`query_path,gt_cand_path`) what has to be found. Photos are told apart by what they show, not by their names: two
files with the same upright bytes are one picture, so that a copy under another name cannot leak into training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from lib.base.atomic import replacing_folder
from lib.base.errors import ConfigError, DataError
from lib.catalog.bad_rows import BadRows
from lib.catalog.images import ImageError, normalise_image
from lib.catalog.photo_folder import PhotoFolder
from lib.catalog.picture_store import PictureWriter, save_no_pictures, write_tables
from lib.catalog.sources.cells import DELIMITERS, CellTable

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "pairs": ("query_path", "cand_path"),
    "candidates": ("cand_path",),
    "query_gt": ("query_path", "gt_cand_path"),
}
_SHOWN = 5
_AHEAD = 256
"""Photos that are in memory at once, beside those that are being written."""


@dataclass(frozen=True)
class PictureSources:
    """What is read, as in section `two_tower`.

    Attributes:
        pairs, candidates, query_gt: files under the raw folder; `pairs` is "" where there are none.
        images_root: folder under the raw folder that the photos' names are under.
        max_bad_fraction: more unusable rows of a table than this are an error.
    """

    pairs: str
    candidates: str
    query_gt: str
    images_root: str
    max_bad_fraction: float


class _Row(NamedTuple):
    line: int
    names: tuple[str, ...]


_Kept = tuple[_Row, tuple[int, ...]]
"""A row that can be used, with its pictures."""


def process_pictures(
    raw: Path, sources: PictureSources, out: Path, *, max_side: int, max_pixels: int, workers: int
) -> dict[str, Any] | None:
    """Read the tables, decode every photo that they name, and keep both in `out`, which is replaced as a whole.

    A row cannot be used when it is ragged, lacks a name, names a photo that cannot be used (for a reason of
    `lib.catalog.images`, such as `missing_file`, `path_escape` or `truncated`), repeats an earlier row, pairs a photo
    with itself, or asks for what is no candidate. Candidates that show the same picture count once.

    Args:
        raw: folder that the tables and `sources.images_root` are under.
        sources: the tables.
        out: folder to write; see `lib.catalog.picture_store`.
        max_side, max_pixels: as in section `data`.
        workers: threads that decode.

    Returns:
        Counts by table, as in `report.json`; None where there are no tables, which `out` then says.

    Raises:
        ConfigError: no such file or folder, or one outside `raw`.
        DataError: a column is missing, too many rows of a table cannot be used, none is left, or a photo that is to
            be evaluated on is learnt from.
        BusyError: the disk is full; what was there before is intact.
    """
    if not sources.pairs:
        save_no_pictures(out)
        return None
    root = _folder(raw, sources.images_root)
    paths = {"pairs": sources.pairs, "candidates": sources.candidates, "query_gt": sources.query_gt}
    bad = {table: BadRows(Path(name).name) for table, name in paths.items()}
    tables = {table: _open(raw / name, table) for table, name in paths.items()}
    rows = {table: _rows(tables[table], table, bad[table]) for table in paths}
    n_rows = {table: len(found) + bad[table].count for table, found in rows.items()}
    names = dict.fromkeys(name for found in rows.values() for row in found for name in row.names)
    with replacing_folder(out) as fresh:
        with PictureWriter(fresh) as writer:
            opened = _decoded(root, list(names), writer, max_side=max_side, max_pixels=max_pixels, workers=workers)
        kept = {table: _usable(found, opened, writer.numbers, bad[table]) for table, found in rows.items()}
        kept["query_gt"] = _answerable(kept, bad["query_gt"], Path(sources.candidates).name)
        for table, name in paths.items():
            _check_share(raw / name, bad[table], n_rows[table], sources.max_bad_fraction, len(kept[table]))
        _check_leakage(kept["pairs"], kept["query_gt"], {t: Path(name).name for t, name in paths.items()})
        numbers = {
            table: np.array([pictures for _, pictures in found], dtype=np.int64) for table, found in kept.items()
        }
        numbers["candidates"] = np.array(list(dict.fromkeys(numbers["candidates"].ravel().tolist())), dtype=np.int64)
        report = {
            table: {
                "file": Path(name).name,
                "rows": n_rows[table],
                "used": len(kept[table]),
                "unusable": bad[table].count,
                "unusable_by_reason": bad[table].report(),
                "notes": tables[table].notes,
            }
            for table, name in paths.items()
        }
        report["candidates"]["copies"] = len(kept["candidates"]) - len(numbers["candidates"])
        write_tables(fresh, numbers, report, root=root.as_posix())
    return report


def photo_folder(root: Path) -> PhotoFolder:
    """The folder that the photos' names are under."""
    return PhotoFolder(root, key="two_tower.images_root")


def upright(photos: PhotoFolder, name: str, *, max_side: int, max_pixels: int) -> bytes:
    """A photo as `process_data` would keep it; see `normalise_image`."""
    return normalise_image(photos.read(name), max_side=max_side, max_pixels=max_pixels).data


def _folder(raw: Path, name: str) -> Path:
    root = raw / name
    if not photo_folder(root).is_there or not root.resolve().is_relative_to(raw.resolve()):
        raise ConfigError(
            f"{root}: no such folder or ZIP archive under {raw}; two_tower.images_root names it under data.raw_dir"
        )
    return root


def _open(path: Path, table: str) -> CellTable:
    endings = (*DELIMITERS, ".parquet", ".pq")
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file; two_tower.{table} names it under data.raw_dir. Without such data set "
            'two_tower.pairs to ""'
        )
    if path.suffix.lower() not in endings:
        raise ConfigError(f"{path}: two_tower.{table} must end with one of {', '.join(endings)}")
    opened = CellTable(path)
    missing = [name for name in COLUMNS[table] if name not in opened.columns]
    if missing:
        raise DataError(
            f"{path}:1: column {', '.join(missing)} is missing; expected {', '.join(COLUMNS[table])}; "
            f"got {', '.join(opened.columns)}"
        )
    return opened


def _rows(opened: CellTable, table: str, bad: BadRows) -> list[_Row]:
    at = [opened.columns.index(name) for name in COLUMNS[table]]
    found: list[_Row] = []
    for row in opened.rows():
        if len(row.cells) != len(opened.columns):
            bad.add("ragged_row", row.number, f"expected {len(opened.columns)} cells, got {len(row.cells)}")
            continue
        names = tuple(row.cells[place].strip() for place in at)
        if all(names):
            found.append(_Row(row.number, names))
        else:
            bad.add("empty_path", row.number, f"{COLUMNS[table][names.index('')]} is empty")
    return found


def _decoded(
    root: Path, names: Sequence[str], writer: PictureWriter, *, max_side: int, max_pixels: int, workers: int
) -> dict[str, bytes | ImageError]:
    """By name, the sha256 of the upright bytes, or why the photo cannot be used; the usable ones are written."""

    photos = photo_folder(root)

    def load(name: str) -> bytes | ImageError:
        try:
            return upright(photos, name, max_side=max_side, max_pixels=max_pixels)
        except ImageError as error:
            return error

    found: dict[str, bytes | ImageError] = {}
    with ThreadPoolExecutor(workers) as pool, tqdm(total=len(names), desc="two-tower photos", mininterval=1) as bar:
        waiting: Iterable[str] = iter(names)
        while block := list(islice(waiting, _AHEAD)):
            for name, image in zip(block, pool.map(load, block), strict=True):
                if isinstance(image, bytes):
                    found[name] = digest = sha256(image).digest()
                    writer.add(name, digest, image)
                else:
                    found[name] = image
            bar.update(len(block))
    return found


def _usable(
    rows: Sequence[_Row], opened: Mapping[str, bytes | ImageError], numbers: Mapping[bytes, int], bad: BadRows
) -> list[_Kept]:
    kept: list[_Kept] = []
    seen: dict[tuple[int, ...] | tuple[str, ...], int] = {}
    for row in rows:
        found = [opened[name] for name in row.names]
        broken = next(((n, e) for n, e in zip(row.names, found, strict=True) if isinstance(e, ImageError)), None)
        if broken is not None:
            bad.add(broken[1].reason, row.line, f"{broken[0]}: {broken[1]}")
            continue
        pictures = tuple(numbers[digest] for digest in found if isinstance(digest, bytes))
        key = pictures if len(pictures) > 1 else row.names  # candidates may be copies of one another
        if len(pictures) > 1 and len(set(pictures)) == 1:
            bad.add("same_photo", row.line, f"{row.names[0]} and {row.names[1]} are one picture")
        elif key in seen:
            bad.add("duplicate", row.line, f"{', '.join(row.names)}: stands in line {seen[key]} already")
        else:
            seen[key] = row.line
            kept.append((row, pictures))
    return kept


def _answerable(kept: Mapping[str, Sequence[_Kept]], bad: BadRows, candidates: str) -> list[_Kept]:
    """Rows of `query_gt` that ask for a candidate."""
    known = {pictures[0] for _, pictures in kept["candidates"]}
    asked = []
    for row, pair in kept["query_gt"]:
        if pair[1] in known:
            asked.append((row, pair))
        else:
            bad.add("not_a_candidate", row.line, f"{row.names[1]} is not in {candidates}")
    return asked


def _check_share(path: Path, bad: BadRows, n_rows: int, allowed: float, kept: int) -> None:
    if bad.count > allowed * n_rows:
        raise DataError(
            f"{path}: {bad.count} of {n_rows} rows ({bad.count / n_rows:.1%}) cannot be used, more than "
            f"two_tower.max_bad_fraction {allowed:g} allows:\n{bad.lines()}\n"
            "Mend the table, or allow more with two_tower.max_bad_fraction."
        )
    if not kept:
        raise DataError(f'{path}: no row is left of {n_rows}; add some, or set two_tower.pairs to ""')


def _check_leakage(
    pairs: Sequence[_Kept],
    asked: Sequence[_Kept],
    files: Mapping[str, str],
) -> None:
    learnt: dict[int, tuple[int, str]] = {}
    for row, pair in pairs:
        for number, name in zip(pair, row.names, strict=True):
            learnt.setdefault(number, (row.line, name))
    leaks = [
        (row.line, name, *learnt[number])
        for row, pair in asked
        for number, name in zip(pair, row.names, strict=True)
        if number in learnt
    ]
    if leaks:
        shown = "\n".join(
            f"  {files['query_gt']}:{line}: {name} is in {files['pairs']}:{other}"
            + ("" if name == as_ else f" under the name {as_}")
            for line, name, other, as_ in leaks[:_SHOWN]
        )
        raise DataError(
            f"leakage: {len({line for line, *_ in leaks})} of {len(asked)} rows of {files['query_gt']} name a photo "
            f"that is learnt from:\n{shown}\nTake them out of {files['pairs']} or {files['query_gt']}; best, give a "
            "product to one of them only."
        )
