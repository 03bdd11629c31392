"""Audit the product groups of the train split and keep those worth training on."""

import argparse

from lib.base import stage
from lib.base.artifacts import with_manifest, write_json
from lib.base.params import Params
from lib.embeddings import load_embedding_set
from lib.supervision.groups import build_groups


def run(args: argparse.Namespace, params: Params) -> str:
    embedded = load_embedding_set(args.embeddings)
    audit = build_groups(embedded.catalog.meta, params=params.groups)
    with with_manifest(args.out / "groups.json", facts={"fingerprint": embedded.fingerprint}) as file:
        write_json(file, audit)
    verdicts = (f"{key}: {row['recommendation']['verdict']}" for key, row in audit["keys"].items())
    return f"kept {audit['n_groups_kept']} groups with {audit['n_items_kept']} items\n{', '.join(verdicts)}"


if __name__ == "__main__":
    stage.main(run, name="build_groups", paths=("--embeddings", "--out"))
