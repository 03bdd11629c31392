"""Draw the training pairs of five kinds."""

import argparse

from lib.base import stage
from lib.base.artifacts import read_json, read_parquet, verified, with_manifest, write_json, write_parquet
from lib.base.params import Params, pattern_only_under
from lib.embeddings import load_embedding_set
from lib.supervision.pairs import build_pairs


def run(args: argparse.Namespace, params: Params) -> str:
    embedded = load_embedding_set(args.embeddings)
    made_from = {"fingerprint": embedded.fingerprint}
    groups = read_json(verified(args.groups, facts=made_from))["groups"]
    negatives = read_parquet(verified(args.negatives, facts=made_from))
    pattern_only = pattern_only_under(params.pairs.graphic_policy, params.data.pattern_only_categories)
    table, facts = build_pairs(
        embedded.catalog.meta, groups, negatives, params=params.pairs, pattern_only=pattern_only
    )
    with with_manifest(args.out / "pairs.parquet", facts=made_from) as file:
        write_parquet(file, table)
    write_json(args.out / "pairs_stats.json", facts)
    made = ", ".join(
        f"{kind} {row['made']}/{row['wanted']}" + (f" ({row['reason']})" if "reason" in row else "")
        for kind, row in facts["kinds"].items()
    )
    return f"{len(table)} pairs of {facts['items_used']} items\n{made}"


if __name__ == "__main__":
    stage.main(run, name="build_pairs", paths=("--embeddings", "--groups", "--negatives", "--out"))
