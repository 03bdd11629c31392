"""Draw the embedded sample catalogue."""

import argparse

from lib.base import stage
from lib.base.params import Params
from lib.catalog.sample.catalogue import draw_sample


def run(args: argparse.Namespace, params: Params) -> str:
    """Draw `sample.n_products` products into `--out`."""
    drawn = draw_sample(
        args.out,
        n_products=params.sample.n_products,
        image_size=params.sample.image_size,
        seed=params.sample.seed,
        workers=params.runtime.threads,
    )
    categories = ", ".join(f"{name} {count}" for name, count in drawn["category"].items())
    return f"drew {drawn['n_items']} photos of {drawn['n_products']} products\n{categories or 'nothing to draw'}"


if __name__ == "__main__":
    stage.main(run, name="make_sample", paths=("--out",))
