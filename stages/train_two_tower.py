"""Train an encoder for photos of customers and one for those of the shop, on pairs of both."""

import argparse

import numpy as np

from lib.base import stage
from lib.base.artifacts import write_json
from lib.base.params import Params
from lib.catalog.picture_products import held_out, validation_gallery
from lib.catalog.picture_store import NO_TABLES, load_picture_tables
from lib.encoding.picture_rows import load_picture_rows
from lib.encoding.two_tower import Feed, new_model
from lib.evaluation.picture_recall import PictureTask, validation_recall
from lib.training.two_tower_training import LAST, best_epoch, train_nothing, train_two_tower

REPORT = "pairs_report.json"
GALLERY = 5000
"""Candidates that a validation searches: enough to be hard, few enough for every epoch."""


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    recipe = params.two_tower
    tables = load_picture_tables(args.photos)
    if tables is None:
        skipped = train_nothing(args.out, NO_TABLES)
        write_json(args.out / REPORT, skipped)
        return f"nothing trained: {skipped['skipped']}"
    embedded = load_picture_rows(args.rows, tables.pictures)
    rng = np.random.default_rng(recipe.seed)
    validates = held_out(tables.pairs, fraction=recipe.validation_fraction, rng=rng)
    learnt = tables.pairs[~validates]
    task = PictureTask.of(tables.pairs[validates], validation_gallery(tables, limit=GALLERY, rng=rng))
    validate = validation_recall(task)
    feed = Feed(tables.pictures, embedded, recipe, params.embed.decode_workers)
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
    stage.main(run, name="train_two_tower", paths=("--photos", "--rows", "--out"), flags=("--resume",))
