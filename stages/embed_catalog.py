"""Embed the catalogue's images and captions with the frozen backbone; nothing is computed twice."""

import argparse

from lib import stage
from lib.encoding.backbone import load_backbone
from lib.encoding.embed import embed_catalog
from lib.encoding.embedding_cache import EmbeddingCache
from lib.encoding.encoder import Encoder
from lib.encoding.engine import opened_engine
from lib.params import Params


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    encoder = Encoder(load_backbone(args.backbone), batch_size=params.embed.batch_size)
    with EmbeddingCache(stage.shared_state("embeddings"), max_bytes=int(params.embed.cache_gb * 1e9)) as cache:
        with opened_engine(encoder, args.backbone, params.embed) as engine:
            done = embed_catalog(args.processed, args.out, encoder, cache, engine)
        deleted = cache.evict()
    sizes = f"{done.n_items['catalog']} gallery items, {done.n_items['queries']} queries"
    notes = f"; {done.damaged} damaged chunks of the cache dropped" if done.damaged else ""
    notes += f"; {deleted / 1e6:.1f} MB of the cache deleted (embed.cache_gb)" if deleted else ""
    return (
        f"embedded {sizes}, dim {encoder.dim}: {done.computed} images and captions computed, "
        f"{done.found} known already{notes}\nfingerprint {encoder.fingerprint[:16]}"
    )


if __name__ == "__main__":
    stage.main(run, name="embed_catalog", paths=("--processed", "--backbone", "--out"))
