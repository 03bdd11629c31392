"""Fetch the photos that a catalogue names by address (`data.columns.image_url`); for people, no DVC stage.

python -m stages.download_images [--sample N]
"""

import argparse
import sys
from pathlib import Path

from lib.base import stage
from lib.base.errors import ConfigError
from lib.base.params import Params
from lib.catalog.download.addresses import public_only, public_or_test_server
from lib.catalog.download.photos import download_photos
from lib.catalog.sources.registry import open_source


def run(args: argparse.Namespace, params: Params) -> str:
    """Fill `data.image_cache`."""
    if params.data.columns.image_url is None:
        raise ConfigError("data.columns.image_url is not set; it names the column of the photos' addresses")
    if args.sample is not None and not (args.sample.isdecimal() and int(args.sample) > 0):
        raise ConfigError(f"--sample: expected how many photos to fetch, a whole number above 0; got {args.sample!r}")
    try:
        summary = download_photos(
            open_source(Path(params.data.raw_dir), params.data),
            Path(params.data.image_cache),
            params.download,
            max_pixels=params.data.max_pixels,
            decoders=params.runtime.threads,
            sample=None if args.sample is None else int(args.sample),
            seed=params.data.seed,
            judge=public_or_test_server if args.allow_test_server_on_loopback else public_only,
        )
    except KeyboardInterrupt:
        print("stopped; run it again to go on", file=sys.stderr)
        sys.exit(130)
    return f"{summary}\nnow: dvc repro process_data"


if __name__ == "__main__":
    flags = ("--allow-test-server-on-loopback",)  # for the project's own tests
    stage.main(run, name="download_images", paths=(), options=("--sample",), flags=flags)
