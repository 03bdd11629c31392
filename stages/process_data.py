"""Process a raw catalogue: photos made upright, attributes extracted, products grouped, splits drawn."""

import argparse
from pathlib import Path

from lib import stage
from lib.catalog.process import process_catalog
from lib.params import Params


def run(args: argparse.Namespace, params: Params) -> str:
    """Process the catalogue into `--out`."""
    cache = Path(args.image_cache) if args.image_cache else None
    workers = params.runtime.threads
    report = process_catalog(args.raw, args.schema, args.out, params.data, workers=workers, image_cache=cache)
    sizes = ", ".join(f"{counts['items']} {split}" for split, counts in report["splits"].items())
    known = ", ".join(f"{name} {entry['coverage']:.0%}" for name, entry in report["attributes"].items())
    reasons = ", ".join(f"{n} {reason}" for reason, n in report["quarantined_by_reason"].items()) or "none"
    return (
        f"{report['ok']} of {report['rows']} rows in {report['products']['count']} products: {sizes}; "
        f"quarantined: {reasons}\nknown: {known}; details in {args.out / 'report.json'}"
    )


if __name__ == "__main__":
    stage.main(run, name="process_data", paths=("--raw", "--schema", "--out"), options=("--image-cache",))
