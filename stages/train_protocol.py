"""Train the protocol model on the cached embeddings."""

import argparse

from lib.base import stage
from lib.base.artifacts import read_json, read_parquet, verified, write_bytes
from lib.base.params import Params, pattern_only_under
from lib.embeddings import load_embedding_set
from lib.evaluation.validation import quick_validation
from lib.report.plots import plot_training_curves
from lib.training.history import last_checkpoint, summary
from lib.training.loop import train


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    embedded = load_embedding_set(args.embeddings)
    pattern_only = pattern_only_under(params.pairs.graphic_policy, params.data.pattern_only_categories)
    history = train(
        embedded.catalog,
        read_parquet(verified(args.pairs, facts={"fingerprint": embedded.fingerprint})),
        backbone=embedded.fingerprint,
        params=params.train,
        pattern_only=pattern_only,
        validate=quick_validation(
            embedded, params=params.train.validation, pattern_only=params.data.pattern_only_categories
        ),
        out=args.out,
        resume=last_checkpoint(args.out) if args.resume else None,
    )
    config = read_json(args.out / "config.json")
    kept = config["averaged_epochs"] or [config["best_epoch"]]
    write_bytes(args.out / "train_curves.png", plot_training_curves(history, kept=kept))
    return summary(history, params.train.validation, config)


if __name__ == "__main__":
    stage.main(run, name="train_protocol", paths=("--embeddings", "--pairs", "--out"), flags=("--resume",))
