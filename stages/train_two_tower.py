"""Train an encoder for photos of customers and one for those of the shop, on pairs of both."""

import argparse

import numpy as np

from lib import stage
from lib.artifacts import write_json
from lib.catalog.picture_pairs import read_picture_tables
from lib.catalog.picture_products import held_out, validation_gallery
from lib.encoding.backbone import load_backbone
from lib.encoding.embedding_cache import EmbeddingCache
from lib.encoding.encoder import Encoder
from lib.encoding.two_tower import Feed, new_model
from lib.evaluation.picture_recall import PictureTask, validation_recall
from lib.params import Params
from lib.training.two_tower_training import LAST, best_epoch, train_nothing, train_two_tower

REPORT = "pairs_report.json"
GALLERY = 5000
"""Candidates that a validation searches: enough to be hard, few enough for every epoch."""


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    recipe, workers = params.two_tower, params.embed.decode_workers
    if not recipe.pairs:
        skipped = train_nothing(args.out, "two_tower.pairs names no table of pairs")
        write_json(args.out / REPORT, skipped)
        return f"nothing trained: {skipped['skipped']}"
    encoder = Encoder(load_backbone(args.backbone), batch_size=params.embed.batch_size)
    tables = read_picture_tables(
        args.raw, recipe, max_side=params.data.max_image_side, max_pixels=params.data.max_pixels, workers=workers
    )
    rng = np.random.default_rng(recipe.seed)
    validates = held_out(tables.pairs, fraction=recipe.validation_fraction, rng=rng)
    learnt = tables.pairs[~validates]
    task = PictureTask.of(tables.pairs[validates], validation_gallery(tables, limit=GALLERY, rng=rng))
    validate = validation_recall(task)
    with EmbeddingCache(stage.shared_state("embeddings"), max_bytes=int(params.embed.cache_gb * 1e9)) as cache:
        feed = Feed(tables.pictures, encoder, cache, recipe, workers)
        inputs = feed.inputs(np.concatenate([tables.pairs.ravel(), task.candidates]))
        history = train_two_tower(
            new_model(feed, learnt, inputs),
            learnt,
            inputs=inputs,
            pictures=feed.digests,
            params=recipe,
            validate=lambda model: validate(lambda side, numbers: model.encode(side, numbers, inputs)),
            out=args.out,
            resume=args.out / LAST if args.resume else None,
        )
    held = {"learnt": len(learnt), "validation": int(validates.sum()), "validation_queries": len(task.queries)}
    write_json(args.out / REPORT, {**tables.report, "pairs_held_out": held})
    best, start = history[best_epoch(history)]["validation"]["recall@10"], history[0]["validation"]["recall@10"]
    unusable = sum(tables.report[name]["unusable"] for name in tables.report)
    return (
        f"{len(learnt)} pairs learnt from, {held['validation']} for validation, {unusable} rows unusable\n"
        f"recall@10 on validation {start:.3f} -> {best:.3f}, epoch {best_epoch(history)} of {len(history) - 1}"
    )


if __name__ == "__main__":
    stage.main(run, name="train_two_tower", paths=("--raw", "--backbone", "--out"), flags=("--resume",))
