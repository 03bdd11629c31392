"""Build indexes over the gallery, and a card that says what each finds of the exact search and at what cost."""

import argparse

import numpy as np

from lib.base import stage
from lib.base.artifacts import write_bytes, write_json
from lib.base.params import Params
from lib.embeddings import load_embedding_set
from lib.report.index_plot import card_curves, plot_recall
from lib.retrieval.index import build_indexes, load_indexes
from lib.retrieval.index_card import card_queries, index_card, index_speed


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    embedded = load_embedding_set(args.embeddings)
    rng = np.random.default_rng(params.index.seed)
    built = build_indexes(args.out, embedded, params.index, rng=rng)
    indexes = load_indexes(args.out, embedded)
    queries = card_queries(embedded.queries, params.index.card, rng=rng)
    k = params.index.card.k
    card = index_card(args.out, indexes, embedded.catalog.images, queries, plan=built.plan, k=k)
    write_json(args.out / "index_card.json", card)
    title = f"{card['rows']:,} rows of {card['dim']} dimensions: {card['serves']} serves"
    cost, recall = "kilobytes of rows and codes read per query", f"ann_recall@{k}"
    write_bytes(args.out / "recall_cost.png", plot_recall(card_curves(card), title=title, cost=cost, recall=recall))
    # durations never are in an out
    write_json(stage.STATE / "index_speed.json", index_speed(indexes, queries, seconds=built.seconds, k=k, rng=rng))
    found = (
        f"{kind} {'/'.join(f'{numbers[name][recall]:.3f}' for name in queries if name in numbers)}"
        for kind, numbers in card["kinds"].items()
    )
    return f"{title} ({card['reason']})\n{recall} of {'/'.join(queries)} queries: {', '.join(found)}"


if __name__ == "__main__":
    stage.main(run, name="build_index", paths=("--embeddings", "--out"))
