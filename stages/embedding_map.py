"""Draw both models' embeddings of the test items as maps, with figures that say how far a map may be believed."""

import argparse

from lib.base import stage
from lib.base.artifacts import write_bytes, write_json, write_text
from lib.base.params import Params
from lib.catalog.processed import read_images, read_rows
from lib.embeddings import load_embedding_set
from lib.evaluation.embedding_map import map_embeddings
from lib.report.map_page import map_page
from lib.report.map_picture import plot_map


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    models = (load_embedding_set(args.baseline).queries, load_embedding_set(args.protocol).queries)
    rows = read_rows(args.images, columns=["item_id", "text"])
    drawn = map_embeddings(*models, params=params.embedding_map, pattern_only=params.data.pattern_only_categories)
    ids = drawn.items["item_id"].tolist()
    texts = dict(zip(rows["item_id"], rows["text"], strict=True))
    images = list(read_images(args.images, ids).values())
    page = map_page(drawn.items, drawn.maps, drawn.figures, texts=texts, images=images)
    write_json(args.out / "embedding_map.json", drawn.figures)
    write_bytes(args.out / "embedding_map.png", plot_map(drawn.items, drawn.maps, drawn.figures))
    write_text(args.out / "embedding_map.html", page)
    believed = (
        f"{name} {numbers['trustworthiness']:.3f}" for name, numbers in drawn.figures.get("models", {}).items()
    )
    return f"{len(ids)} test items on the maps\ntrustworthiness: {', '.join(believed) or drawn.figures['skipped']}"


if __name__ == "__main__":
    stage.main(run, name="embedding_map", paths=("--baseline", "--protocol", "--images", "--out"))
