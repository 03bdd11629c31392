"""From a raw catalogue to the processed one: two passes over the rows, one over the photos.

The first pass reads the cells of every row, sets unusable rows aside and collects what ties items together;
products and splits are decided from that. The second pass decodes the photos and writes the rows, in the
order of the source, into the shards of their split. Only ids and keys of all rows are held in memory.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from lib.base.artifacts import sequence_sha256, write_json, write_manifest, write_parquet
from lib.base.atomic import replacing_folder
from lib.base.errors import DataError
from lib.base.params import Data
from lib.catalog.account import PhotoTally, account
from lib.catalog.attributes import load_attribute_schema
from lib.catalog.describe import Describer
from lib.catalog.images import ImageError, NormalImage, normalise_image
from lib.catalog.intake import Intake, read_cells, same_images, spooled_rows
from lib.catalog.partition import split_by_partition
from lib.catalog.products import Grouping, assign_splits, group_products
from lib.catalog.schema import QUARANTINE_SCHEMA, SPLITS, BadRow, Split
from lib.catalog.shards import SplitWriter
from lib.catalog.sources.downloaded import DownloadedPhotos
from lib.catalog.sources.registry import Source, open_source


def process_catalog(
    raw: Path, schema: Path, out: Path, data: Data, *, workers: int, image_cache: Path | None = None
) -> dict[str, Any]:
    """Process a catalogue into `out`, which is replaced as a whole.

    Writes `{train,validation,test}-*.parquet` (rows in source order), `quarantine.parquet`, `report.json`
    and `manifest.json`. Every row read is either in a split or in the quarantine. Items of one product, and
    items with byte-identical photos, share a split. Where the source brings an official partition, its query and
    gallery items are the test split. The bytes written depend on the input only.

    Args:
        raw: folder of the raw catalogue.
        schema: attribute schema, see `lib.catalog.attributes`.
        out: folder to write.
        data: the section of the parameters.
        workers: threads that decode photos.
        image_cache: folder of downloaded photos, for rows that only name an address.

    Returns:
        The report, as in `report.json`.

    Raises:
        ConfigError: parameters or schema do not fit the catalogue.
        DataError: no rows, an id twice (where `data.duplicate_ids` is `error`), more unusable rows than
            `data.max_bad_fraction`, or nothing left for the train split.
        BusyError: the disk is full; what was there before is intact.
    """
    describer = Describer(load_attribute_schema(schema), data.pattern_only_categories)
    source = open_source(raw, data)
    if image_cache is not None and data.columns.image_url is not None:
        source = DownloadedPhotos(source, image_cache)
    with replacing_folder(out) as folder, ThreadPoolExecutor(workers) as pool:
        spool = folder / "spool.parquet"
        intake = read_cells(source, describer, data, spool)
        if intake.n_rows == 0:
            raise DataError(f"{source.name}: it has no rows; nothing to process")
        _check_bad(source, intake, data.max_bad_fraction)
        intake.keys["same_image"] = same_images(source, spool, pool)
        grouping = group_products(intake.item_ids, intake.keys)
        splits = _splits(intake, grouping, data)
        photos, ok = _write_items(source, spool, folder, intake, grouping, splits, data, pool)
        spool.unlink()
        _check_bad(source, intake, data.max_bad_fraction)
        if not any(splits[i] == "train" for i in ok):
            raise DataError(
                f"{source.name}: no item is left for the train split ({len(ok)} usable rows of {intake.n_rows}, "
                f"{len(set(grouping.product_ids))} products); add products or change data.splits or data.seed"
            )
        write_parquet(folder / "quarantine.parquet", _quarantine_table(intake.bad))
        report = account(source, intake, grouping, splits, ok, describer, photos)
        write_json(folder / "report.json", report)
        names = [path.name for path in folder.iterdir()]
        ids = {split: sequence_sha256(str(intake.item_ids[i]) for i in ok if splits[i] == split) for split in SPLITS}
        write_manifest(folder, names, facts={"ids": ids})
    return report


def _splits(intake: Intake, grouping: Grouping, data: Data) -> list[Split]:
    """Splits of the rows of `intake`: by the official partition where there is one, else by `data.splits`."""
    shares = data.splits.model_dump()
    if not any(intake.partitions):
        return assign_splits(grouping.product_ids, intake.categories, shares, data.seed)
    return split_by_partition(
        grouping.product_ids,
        intake.categories,
        partitions=intake.partitions,
        partition_items=intake.partition_items,
        shares=shares,
        seed=data.seed,
    )


def _write_items(
    source: Source,
    spool: Path,
    folder: Path,
    intake: Intake,
    grouping: Grouping,
    splits: Sequence[Split],
    data: Data,
    pool: ThreadPoolExecutor,
) -> tuple[PhotoTally, Sequence[int]]:
    """Second pass: photos decoded, rows written; returns what happened to photos and the indices written."""
    tally, ok = PhotoTally(), array("q")

    def load(row: Mapping[str, Any]) -> tuple[NormalImage, bool] | ImageError:
        try:
            original = source.image_bytes(row["photo"])
            image = normalise_image(original, max_side=data.max_image_side, max_pixels=data.max_pixels)
            return image, image.data is original
        except ImageError as error:
            return error

    with ExitStack() as stack:
        writers = {split: stack.enter_context(SplitWriter(folder, split)) for split in SPLITS}
        progress = stack.enter_context(tqdm(total=len(splits), desc="photos", mininterval=1))
        index = 0
        for rows in spooled_rows(spool):
            for row, loaded in zip(rows, pool.map(load, rows), strict=True):
                number, photo, name = row.pop("row"), row.pop("photo"), row.pop("image_name")
                if isinstance(loaded, ImageError):
                    intake.bad.append(BadRow(number, row["item_id"], photo, loaded.reason, str(loaded)))
                else:
                    image, unchanged = loaded
                    tally.unchanged += unchanged
                    tally.encoded_again += not unchanged
                    for note in image.notes:
                        tally.notes[note].append(row["item_id"])
                    writers[splits[index]].add(
                        {
                            "image": {"bytes": image.data, "path": name},
                            "product_id": grouping.product_ids[index],
                            "product_key": grouping.keys[index],
                            **row,
                        }
                    )
                    ok.append(index)
                index += 1
            progress.update(len(rows))
    return tally, ok


def _check_bad(source: Source, intake: Intake, max_bad_fraction: float) -> None:
    share = len(intake.bad) / intake.n_rows
    if share <= max_bad_fraction:
        return
    firsts = {bad.reason: bad for bad in sorted(intake.bad, key=lambda bad: -bad.row)}
    lines = [
        f"  {count} × {reason}, first in row {firsts[reason].row}, id {firsts[reason].item_id!r}, "
        f"path {firsts[reason].path!r}: {firsts[reason].detail}"
        for reason, count in Counter(bad.reason for bad in intake.bad).most_common(5)
    ]
    raise DataError(
        f"{source.name}: {len(intake.bad)} of {intake.n_rows} rows ({share:.1%}) cannot be used, more than "
        f"data.max_bad_fraction {max_bad_fraction:g} allows:\n" + "\n".join(lines) + "\n"
        "Mend the catalogue or the data section, or allow more with data.max_bad_fraction."
    )


def _quarantine_table(bad: Sequence[BadRow]) -> pa.Table:
    rows = sorted(bad, key=lambda row: row.row)
    return pa.Table.from_pylist([vars(row) for row in rows], schema=QUARANTINE_SCHEMA)
