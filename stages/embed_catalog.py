"""Embed the catalogue's images and captions with the frozen backbone."""

import argparse

from lib import stage
from lib.embeddings import save_embedding_set
from lib.encoding.backbone import load_backbone
from lib.encoding.embed import embed_catalog
from lib.encoding.encoder import Encoder
from lib.params import Params


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    encoder = Encoder(load_backbone(args.backbone), batch_size=params.embed.batch_size)
    embedded = embed_catalog(args.processed, encoder, decode_workers=params.embed.decode_workers)
    save_embedding_set(args.out, embedded)
    sizes = f"{len(embedded.catalog)} gallery items, {len(embedded.queries)} queries"
    return f"embedded {sizes}, dim {encoder.dim}\nfingerprint {embedded.fingerprint[:16]}"


if __name__ == "__main__":
    stage.main(run, name="embed_catalog", paths=("--processed", "--backbone", "--out"))
