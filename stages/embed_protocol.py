"""Rebuild the embedded catalogue with a trained checkpoint."""

import argparse

from lib.base import stage
from lib.base.params import Params
from lib.embeddings import load_embedding_set, save_embedding_set
from lib.training.trained_model import embed_with, load_model


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    baseline = load_embedding_set(args.embeddings)
    model = load_model(args.checkpoint, dim=baseline.catalog.images.shape[1], backbone=baseline.fingerprint)
    embedded = embed_with(model, baseline, checkpoint=args.checkpoint)
    save_embedding_set(args.out, embedded)
    sizes = f"{len(embedded.catalog)} gallery items, {len(embedded.queries)} queries"
    return f"embedded {sizes} with {args.checkpoint}\nfingerprint {embedded.fingerprint[:16]}"


if __name__ == "__main__":
    stage.main(run, name="embed_protocol", paths=("--embeddings", "--checkpoint", "--out"))
