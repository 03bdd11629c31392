"""Print a checkpoint's quick validation against the baseline; for people, no DVC stage.

python -m stages.validate_checkpoint --embeddings artifacts/retrieval/baseline \\
    --checkpoint artifacts/protocol/checkpoints/best.pt
"""

import argparse

from lib.base import stage
from lib.base.params import Params
from lib.embeddings import load_embedding_set
from lib.evaluation.validation import quick_validation
from lib.training.history import delta_table
from lib.training.trained_model import load_model, untrained


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    embedded = load_embedding_set(args.embeddings)
    dim = embedded.catalog.images.shape[1]
    model = load_model(args.checkpoint, dim=dim, backbone=embedded.fingerprint)
    pattern_only = params.data.pattern_only_categories
    validate = quick_validation(embedded, params=params.train.validation, pattern_only=pattern_only)
    return delta_table(validate(untrained(model)), validate(model))


if __name__ == "__main__":
    stage.main(run, name="validate_checkpoint", paths=("--embeddings", "--checkpoint"))
