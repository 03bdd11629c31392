"""Rows that can be searched, with their ids, on disk: what an index is built over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lib.base.artifacts import (
    FloatArray,
    read_array,
    read_json,
    read_manifest,
    sequence_sha256,
    write_array,
    write_json,
    write_manifest,
)
from lib.base.atomic import replacing_folder
from lib.base.errors import IntegrityError
from lib.embeddings import check_unit_rows

ROWS, QUERIES, IDS = "candidates.npy", "queries.npy", "ids.json"


class Searchable(Protocol):
    """What an index needs to know of the rows that it is built over."""

    @property
    def gallery(self) -> FloatArray:
        """(n_items, dim) float32, unit rows."""
        ...

    @property
    def gallery_ids(self) -> list[str]:
        """An id per row."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names the model that embedded them."""
        ...


@dataclass(frozen=True)
class Gallery:
    """Embedded candidates, and queries to measure an index with.

    Attributes:
        gallery: (n_items, dim) float32, unit rows.
        gallery_ids: n_items ids.
        queries: (n_queries, dim) float32, unit rows.
        fingerprint: names the model.
        facts: what else the manifest says.
    """

    gallery: FloatArray
    gallery_ids: list[str]
    queries: FloatArray
    fingerprint: str
    facts: Mapping[str, Any]


def save_gallery(folder: Path, rows: Gallery) -> None:
    """Write the folder as a whole.

    Raises:
        IntegrityError: a row is not finite or not of length 1.
        BusyError: the disk is full; the old folder is intact.
    """
    for name, array in ((ROWS, rows.gallery), (QUERIES, rows.queries)):
        check_unit_rows(array, name=f"{folder}/{name}")
    with replacing_folder(folder) as fresh:
        write_array(fresh / ROWS, rows.gallery)
        write_array(fresh / QUERIES, rows.queries)
        write_json(fresh / IDS, rows.gallery_ids)
        facts = {**rows.facts, "fingerprint": rows.fingerprint, "ids": sequence_sha256(rows.gallery_ids)}
        write_manifest(fresh, [ROWS, QUERIES, IDS], facts=facts)


def save_nothing(folder: Path, reason: str) -> None:
    """Write a folder that says why there are no rows."""
    with replacing_folder(folder) as fresh:
        write_manifest(fresh, [], facts={"skipped": reason})


def load_gallery(folder: Path) -> Gallery | None:
    """Verify and open the folder, the arrays memory-mapped; None where there was nothing to embed.

    Raises:
        IntegrityError: a file is missing, damaged, or rows and ids do not belong together.
    """
    facts = read_manifest(folder)
    if "skipped" in facts:
        return None
    ids: list[str] = read_json(folder / IDS)
    gallery = read_array(folder / ROWS)
    if len(ids) != len(gallery) or sequence_sha256(ids) != facts["ids"]:
        raise IntegrityError(f"{folder}: {len(gallery)} rows and {len(ids)} ids; run `dvc repro evaluate_two_tower`")
    return Gallery(gallery, ids, read_array(folder / QUERIES), str(facts["fingerprint"]), facts)
