"""Train the compatibility head on labelled pairs of items, and say how well it tells held-out ones apart."""

import argparse

import pandas as pd

from lib.base import stage
from lib.base.artifacts import write_bytes, write_json
from lib.base.params import Params
from lib.catalog.item_pairs import read_item_pairs
from lib.catalog.partner_kinds import PARTNERS, partner_kinds, save_partner_kinds
from lib.embeddings import EmbeddingSet, load_embedding_set
from lib.evaluation.compatibility import held_out_pairs, measure_head, summary
from lib.report.pair_picture import plot_pair_scores
from lib.training.compatibility_training import Embed, cached_rows, train_compatibility, train_nothing


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    recipe = params.compatibility
    if recipe.pairs:
        embedded = load_embedding_set(args.embeddings)
        embed = cached_rows(embedded) if recipe.inputs == "embeddings" else image_rows(args, params, embedded)
        items = pd.concat([embedded.catalog.meta, embedded.queries.meta], ignore_index=True)
        pairs = read_item_pairs(args.raw / recipe.pairs, items, max_bad_fraction=recipe.max_bad_fraction)
        held_out = {split: held_out_pairs(pairs.of_split(split), items, embed) for split in ("validation", "test")}
        learnt, meta, validate = pairs.of_split("train"), embedded.catalog.meta, held_out["validation"].auc
        head = train_compatibility(
            learnt, meta, embed=embed, backbone=embedded.fingerprint, params=recipe, validate=validate, out=args.out
        )
        figures, shown = measure_head(held_out, head, bootstrap=recipe.bootstrap)
        report, partners = pairs.report, partner_kinds(learnt, meta)
    else:
        report = train_nothing(args.out, "compatibility.pairs names no table of pairs")
        figures, shown, partners = report, {}, {}
    save_partner_kinds(args.out / PARTNERS, partners)
    write_json(args.out / "metrics.json", figures)
    write_json(args.out / "pairs_report.json", report)
    write_bytes(args.out / "histogram.png", plot_pair_scores(shown, figures))
    return summary(report, figures)


def image_rows(args: argparse.Namespace, params: Params, embedded: EmbeddingSet) -> Embed:
    from lib.encoding.item_images import open_image_rows  # seconds for which cached embeddings need not wait

    return open_image_rows(
        args.processed,
        args.backbone,
        batch_size=params.embed.batch_size,
        fingerprint=embedded.fingerprint,
        augment=params.compatibility.augment,
        seed=params.compatibility.seed,
    )


if __name__ == "__main__":
    stage.main(run, name="train_compatibility", paths=("--raw", "--processed", "--backbone", "--embeddings", "--out"))
