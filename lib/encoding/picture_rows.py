"""The frozen backbone's embeddings of the two-tower model's photos, on disk: a row per picture, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib.base.artifacts import MANIFEST, FloatArray, read_array, read_manifest, write_array, write_manifest
from lib.base.atomic import replacing_files, replacing_folder
from lib.base.errors import IntegrityError
from lib.catalog.picture_store import NO_TABLES, Pictures
from lib.embeddings import check_unit_rows

ROWS = "photos.npy"


@dataclass(frozen=True)
class PictureRows:
    """Embeddings of all pictures.

    Attributes:
        rows: (n_pictures, dim) float32, unit rows.
        fingerprint: of the backbone.
    """

    rows: FloatArray
    fingerprint: str


def save_picture_rows(folder: Path, embedded: PictureRows, pictures: Pictures) -> None:
    """Write the rows and their manifest, which take their places together.

    Raises:
        IntegrityError: a row is not finite or not of length 1.
        BusyError: the disk is full; the old files are intact.
    """
    check_unit_rows(embedded.rows, name=f"{folder}/{ROWS}")
    with replacing_files(folder, manifest=MANIFEST) as fresh:
        write_array(fresh / ROWS, embedded.rows)
        write_manifest(fresh, [ROWS], facts={"fingerprint": embedded.fingerprint, "pictures": pictures.sha256})


def save_no_rows(folder: Path) -> None:
    """Write a folder that says why there are no rows."""
    with replacing_folder(folder) as fresh:
        write_manifest(fresh, [], facts={"skipped": NO_TABLES})


def load_picture_rows(folder: Path, pictures: Pictures) -> PictureRows:
    """Verify and open the folder, the rows memory-mapped.

    Raises:
        IntegrityError: a file is missing or damaged, or the rows are those of other pictures.
    """
    facts = read_manifest(folder)
    if facts.get("pictures") != pictures.sha256:
        raise IntegrityError(
            f"{folder}: embeddings of other photos than {pictures.file.parent} holds; run `dvc repro embed_catalog`"
        )
    return PictureRows(read_array(folder / ROWS), str(facts["fingerprint"]))
