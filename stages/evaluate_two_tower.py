"""Let held-out photos of customers find those of the shop: the trained towers beside the frozen backbone."""

import argparse

import numpy as np

from lib.base import stage
from lib.base.artifacts import read_manifest, write_json, write_parquet, write_text
from lib.base.params import Params
from lib.catalog.picture_store import NO_TABLES, load_picture_tables
from lib.encoding.picture_rows import load_picture_rows
from lib.encoding.two_tower import Feed, choose_device, load_two_tower, towers_fingerprint
from lib.evaluation.picture_recall import PictureTask, measure_recall, no_table, per_query_table, summary
from lib.report.picture_gallery import choose_shown, nothing_to_show, picture_gallery, shown_pictures
from lib.retrieval.gallery import Gallery, save_gallery, save_nothing


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    recipe = params.two_tower
    tables = load_picture_tables(args.photos)
    if tables is None:
        return nothing(args, NO_TABLES)
    read_manifest(args.checkpoint.parents[1])  # of all that the training left
    embedded = load_picture_rows(args.rows, tables.pictures)
    model = load_two_tower(args.checkpoint, backbone=embedded.fingerprint)
    model.to(choose_device(recipe.network.device if model.config.tower != "backbone" else "cpu"))
    task = PictureTask.of(tables.truths, tables.candidates)
    feed = Feed(tables.pictures, embedded, recipe, params.embed.decode_workers)
    frozen = [feed.frozen(task.queries), feed.frozen(task.candidates)]
    inputs = feed.inputs(np.concatenate([task.queries, task.candidates]))
    trained = [model.encode("query", task.queries, inputs), model.encode("candidate", task.candidates, inputs)]
    tops = {"trained": task.rank(*trained), "frozen": task.rank(*frozen)}
    figures = measure_recall(task, tops, bootstrap=recipe.bootstrap)
    names = tables.pictures.names
    per_query = per_query_table(task, tops, names)
    chosen = choose_shown(per_query, count=recipe.gallery_queries, rng=np.random.default_rng(recipe.seed))
    images = {name: tables.pictures.read(names.index(name)) for name in shown_pictures(chosen, per_query)}
    page = picture_gallery(chosen, per_query, metrics=figures, images=images, n_candidates=len(task.candidates))
    facts = {"images": tables.root}
    ids = [names[number] for number in task.candidates.tolist()]
    gallery = Gallery(trained[1], ids, trained[0], towers_fingerprint(args.checkpoint), facts)
    save_gallery(args.out / "embeddings", gallery)
    write_parquet(args.out / "per_query.parquet", per_query)
    write_text(args.out / "gallery.html", page)
    write_json(args.out / "metrics.json", figures)
    return summary(figures)


def nothing(args: argparse.Namespace, reason: str) -> str:
    save_nothing(args.out / "embeddings", reason)
    write_parquet(args.out / "per_query.parquet", no_table())
    write_text(args.out / "gallery.html", nothing_to_show(reason))
    write_json(args.out / "metrics.json", {"skipped": reason})
    return f"nothing evaluated: {reason}"


if __name__ == "__main__":
    stage.main(run, name="evaluate_two_tower", paths=("--photos", "--rows", "--checkpoint", "--out"))
