"""Embed the catalogue's images and captions with the frozen backbone; nothing is computed twice.

With `--photos` and `--rows`, the photos of the two-tower model's tables as well.
"""

import argparse
from pathlib import Path

from lib.base import stage
from lib.base.errors import ConfigError
from lib.base.params import Params
from lib.catalog.picture_store import load_picture_tables
from lib.encoding.backbone import load_backbone
from lib.encoding.embed import embed_catalog, embed_pictures
from lib.encoding.embedding_cache import EmbeddingCache
from lib.encoding.encoder import Encoder
from lib.encoding.engine import opened_engine


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    if bool(args.photos) != bool(args.rows):
        raise ConfigError("--photos names what is read and --rows what is written of it: give both or neither")
    tables = load_picture_tables(Path(args.photos)) if args.photos else None
    pictures = tables.pictures if tables is not None else None
    encoder = Encoder(load_backbone(args.backbone), batch_size=params.embed.batch_size)
    with EmbeddingCache(stage.shared_state("embeddings"), max_bytes=int(params.embed.cache_gb * 1e9)) as cache:
        with opened_engine(encoder, args.backbone, params.embed) as engine:
            done = embed_catalog(args.processed, args.out, encoder, cache, engine)
            computed = embed_pictures(pictures, Path(args.rows), encoder, cache, engine) if args.rows else 0
        deleted = cache.evict()
    sizes = f"{done.n_items['catalog']} gallery items, {done.n_items['queries']} queries"
    notes = f"; {done.damaged} damaged chunks of the cache dropped" if done.damaged else ""
    notes += f"; {deleted / 1e6:.1f} MB of the cache deleted (embed.cache_gb)" if deleted else ""
    photos = f"; {len(pictures)} two-tower photos, {computed} of them computed" if pictures is not None else ""
    return (
        f"embedded {sizes}, dim {encoder.dim}: {done.computed} images and captions computed, "
        f"{done.found} known already{photos}{notes}\nfingerprint {encoder.fingerprint[:16]}"
    )


if __name__ == "__main__":
    places = ("--processed", "--backbone", "--out")
    stage.main(run, name="embed_catalog", paths=places, options=("--photos", "--rows"))
