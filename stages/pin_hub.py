"""Pin a data set of the Hugging Face Hub, so that `data.source: huggingface` can read it; for people, no DVC stage.

python -m stages.pin_hub --hub hf://owner/name --out data/raw/name
"""

import argparse

from lib.base import stage
from lib.base.errors import ConfigError
from lib.base.params import Params
from lib.catalog.sources.hub_listing import pin_dataset
from lib.catalog.sources.hub_pin import PIN


def run(args: argparse.Namespace, params: Params) -> str:
    if not args.hub:
        raise ConfigError("--hub is missing: --hub hf://owner/name, or hf://owner/name@revision")
    pin = pin_dataset(args.hub, args.out)
    return (
        f"{pin.repo} at commit {pin.commit}: {len(pin.shards)} shards, {pin.size / 1e6:.1f} MB, in {args.out / PIN}\n"
        f"for params.yaml: data.source: huggingface, data.raw_dir: {args.out}; the shards are fetched by `dvc repro`"
    )


if __name__ == "__main__":
    stage.main(run, name="pin_hub", paths=("--out",), options=("--hub",))
