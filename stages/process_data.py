"""Process a raw catalogue: photos made upright, attributes extracted, products grouped, splits drawn.

With `--photos`, the two-tower model's tables and the photos that they name as well.
"""

import argparse
from pathlib import Path

from lib.base import stage
from lib.base.params import Params
from lib.catalog.picture_pairs import PictureSources, process_pictures
from lib.catalog.process import process_catalog


def run(args: argparse.Namespace, params: Params) -> str:
    """Process the catalogue into `--out`."""
    cache = Path(args.image_cache) if args.image_cache else None
    workers = params.runtime.threads
    report = process_catalog(args.raw, args.schema, args.out, params.data, workers=workers, image_cache=cache)
    sizes = ", ".join(f"{counts['items']} {split}" for split, counts in report["splits"].items())
    known = ", ".join(f"{name} {entry['coverage']:.0%}" for name, entry in report["attributes"].items())
    reasons = ", ".join(f"{n} {reason}" for reason, n in report["quarantined_by_reason"].items()) or "none"
    photos = two_tower_tables(args, params) if args.photos else ""
    return (
        f"{report['ok']} of {report['rows']} rows in {report['products']['count']} products: {sizes}; "
        f"quarantined: {reasons}\nknown: {known}; details in {args.out / 'report.json'}{photos}"
    )


def two_tower_tables(args: argparse.Namespace, params: Params) -> str:
    sources = PictureSources(
        pairs=params.two_tower.pairs,
        candidates=params.two_tower.candidates,
        query_gt=params.two_tower.query_gt,
        images_root=params.two_tower.images_root,
        max_bad_fraction=params.two_tower.max_bad_fraction,
    )
    sides = {"max_side": params.data.max_image_side, "max_pixels": params.data.max_pixels}
    report = process_pictures(args.raw, sources, Path(args.photos), workers=params.runtime.threads, **sides)
    if report is None:
        return ""
    used = ", ".join(f"{part['used']} of {part['rows']} {table}" for table, part in report.items())
    return f"; of the two-tower tables: {used}"


if __name__ == "__main__":
    names = ("--raw", "--schema", "--out")
    stage.main(run, name="process_data", paths=names, options=("--image-cache", "--photos"))
