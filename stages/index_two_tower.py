"""Build indexes over the two-tower model's candidates, and a card of what each finds of the exact search."""

import argparse

import numpy as np

from lib.base import stage
from lib.base.artifacts import write_json
from lib.base.params import Params
from lib.retrieval.gallery import load_gallery, save_nothing
from lib.retrieval.index import build_indexes, load_indexes
from lib.retrieval.index_card import index_card


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    embedded = load_gallery(args.embeddings)
    folder, card = args.out / "index", args.out / "index_card.json"
    if embedded is None:
        reason = "there are no candidates"
        save_nothing(folder, reason)
        write_json(card, {"skipped": reason})
        return f"nothing indexed: {reason}"
    kinds, numbers = params.two_tower.index, params.index
    numbers = numbers.model_copy(update={"build": kinds, "default": kinds[0]})
    built = build_indexes(folder, embedded, numbers, rng=np.random.default_rng(params.two_tower.seed))
    indexes = load_indexes(folder, embedded, stage="index_two_tower")
    k = numbers.card.k
    asked = {"image": embedded.queries[: numbers.card.queries]}
    figures = index_card(folder, indexes, embedded.gallery, asked, plan=built.plan, k=k)
    write_json(card, figures)
    found = ", ".join(f"{kind} {figures['kinds'][kind]['image'][f'ann_recall@{k}']:.3f}" for kind in kinds)
    size = f"{figures['rows']:,} candidates of {figures['dim']} dimensions"
    return f"{size}: {figures['serves']} serves\nann_recall@{k}: {found}"


if __name__ == "__main__":
    stage.main(run, name="index_two_tower", paths=("--embeddings", "--out"))
