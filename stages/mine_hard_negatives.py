"""Mine attribute-controlled hard negatives from the baseline's top ranks."""

import argparse

from lib.base import stage
from lib.base.artifacts import read_json, verified, with_manifest, write_json, write_parquet
from lib.base.params import Params, pattern_only_under
from lib.embeddings import load_embedding_set
from lib.supervision.codes import group_pairs
from lib.supervision.hard_negatives import READ, mine_hard_negatives


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    embedded = load_embedding_set(args.embeddings, columns=READ, compact=True)
    made_from = {"fingerprint": embedded.fingerprint}
    groups = verified(args.groups, facts=made_from)
    siblings = group_pairs(read_json(groups)["groups"], embedded.catalog.meta["item_id"].tolist())
    pattern_only = pattern_only_under(params.pairs.graphic_policy, params.data.pattern_only_categories)
    table, facts = mine_hard_negatives(embedded.catalog, siblings, params=params.mine, pattern_only=pattern_only)
    with with_manifest(args.out / "hard_negatives.parquet", facts=made_from) as file:
        write_parquet(file, table)
    write_json(args.out / "mining_stats.json", facts)
    found = f"{facts['negatives']} hard negatives for {facts['anchors_with_negative']} of {facts['anchors']} anchors"
    return f"{found}, {facts['suspects']} suspects for review\ndiffer in {facts['differs_in']}"


if __name__ == "__main__":
    stage.main(run, name="mine_hard_negatives", paths=("--embeddings", "--groups", "--out"))
