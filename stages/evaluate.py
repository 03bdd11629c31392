"""Evaluate one model's retrieval in full, the same way for baseline and protocol."""

import argparse

import numpy as np

from lib.base import stage
from lib.base.artifacts import write_text
from lib.base.params import Params
from lib.catalog.processed import read_images, read_rows
from lib.embeddings import load_embedding_set
from lib.evaluation.evaluate import evaluate
from lib.evaluation.evaluation import headline, save_evaluation
from lib.report.gallery import choose_queries, gallery_page, shown_items


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    embedded, items = load_embedding_set(args.embeddings), read_rows(args.images)
    pattern_only = params.data.pattern_only_categories
    evaluation = evaluate(embedded, params.evaluate, pattern_only=pattern_only)
    rng = np.random.default_rng(params.evaluate.bootstrap.seed)
    chosen = choose_queries(evaluation.per_query, count=params.evaluate.gallery_queries, rng=rng)
    page = gallery_page(
        chosen,
        name=args.out.name,
        per_query=evaluation.per_query,
        metrics=evaluation.metrics,
        items=items,
        images=read_images(args.images, shown_items(chosen)),
        pattern_only=pattern_only,
    )
    save_evaluation(args.out, evaluation)
    write_text(args.out / "gallery.html", page)
    return headline(evaluation)


if __name__ == "__main__":
    stage.main(run, name="evaluate", paths=("--embeddings", "--images", "--out"))
