"""The report of `process_data`: where every row went and how well it is described."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lib.catalog.describe import Describer
from lib.catalog.intake import Intake
from lib.catalog.partition import moved_to_test
from lib.catalog.products import Grouping
from lib.catalog.schema import PARTITIONS, PRODUCT_KEYS, SPLITS, Split
from lib.catalog.sources.registry import Source

MAX_EXAMPLES = 20


@dataclass
class PhotoTally:
    """What became of the photos; `notes` lists item ids under what had to be overlooked."""

    unchanged: int = 0
    encoded_again: int = 0
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def account(
    source: Source,
    intake: Intake,
    grouping: Grouping,
    splits: Sequence[Split],
    ok: Sequence[int],
    describer: Describer,
    photos: PhotoTally,
) -> dict[str, Any]:
    """Write up what happened; the same input gives the same report.

    Args:
        source: for its notes and for photos that no row names.
        intake: see there.
        grouping: products of the rows of `intake`.
        splits: of the rows of `intake`.
        ok: indices into the rows of `intake` that were written.
        describer: after all rows were described.
        photos: after all photos were read.
    """
    orphans = intake.unnamed(source.photos())
    notes = list(source.notes)
    for kind, value, count in grouping.ignored[:MAX_EXAMPLES]:
        notes.append(f"product key {kind} '{value}' is shared by {count} items: no product, ignored")
    moved = [str(intake.item_ids[i]) for i in moved_to_test(splits, intake.partitions)]
    if moved:
        notes.append(
            f"{len(moved)} items of the official train partition are tied to query or gallery items (same photo, "
            "product or official item): they stand in the test split, their partition stays train; "
            f"{', '.join(moved[:MAX_EXAMPLES])}{', …' if len(moved) > MAX_EXAMPLES else ''}"
        )
    official = {"partition": _partition(intake, ok)} if any(intake.partitions) else {}
    return {
        "rows": intake.n_rows,
        "ok": len(ok),
        "quarantined": len(intake.bad),
        "quarantined_by_reason": dict(sorted(Counter(bad.reason for bad in intake.bad).items())),
        "splits": {
            split: {
                "items": sum(splits[i] == split for i in ok),
                "products": len({grouping.product_ids[i] for i in ok if splits[i] == split}),
            }
            for split in SPLITS
        },
        **official,
        "products": _products(grouping, ok),
        "photos": {
            "unchanged": photos.unchanged,
            "encoded_again": photos.encoded_again,
            "notes": {note: _examples(ids) for note, ids in sorted(photos.notes.items())},
        },
        "images_without_row": _examples([name.encode("utf-8", "backslashreplace").decode() for name in orphans]),
        "attributes": describer.report(),
        "categories": _categories(intake, splits, ok),
        "notes": notes,
    }


def _examples(names: Sequence[str]) -> dict[str, Any]:
    return {"count": len(names), "first": list(names[:MAX_EXAMPLES])}


def _products(grouping: Grouping, ok: Sequence[int]) -> dict[str, Any]:
    sizes = Counter(grouping.product_ids[i] for i in ok)
    keys = Counter(grouping.keys[i] for i in ok)
    return {
        "count": len(sizes),
        "with_several_items": sum(size > 1 for size in sizes.values()),
        "items_in_them": int(np.sum([size for size in sizes.values() if size > 1], dtype=np.int64)),
        "largest": max(sizes.values(), default=0),
        "items_by_key": {kind: keys[kind] for kind in PRODUCT_KEYS if keys[kind]},
    }


def _partition(intake: Intake, ok: Sequence[int]) -> dict[str, dict[str, int]]:
    """Written images of each part of the official protocol, and how many official items they show."""
    members = {part: [i for i in ok if intake.partitions[i] == part] for part in PARTITIONS}
    return {
        part: {"images": len(found), "items": len({intake.partition_items[i] for i in found})}
        for part, found in members.items()
    }


def _categories(intake: Intake, splits: Sequence[Split], ok: Sequence[int]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for i in ok:
        counts[intake.categories[i] or "(unknown)"][splits[i]] += 1
    return {name: {split: counts[name][split] for split in SPLITS} for name in sorted(counts)}
