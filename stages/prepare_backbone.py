"""Bring the frozen backbone into one local OpenCLIP folder: trained here, from a file, or from the hub."""

import argparse

from lib.base import stage
from lib.base.params import Params
from lib.encoding.prepare import prepare_backbone


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    fingerprint = prepare_backbone(
        args.processed,
        args.out,
        params.backbone,
        pattern_only=params.data.pattern_only_categories,
        threads=params.runtime.threads,
    )
    return f"backbone: source {params.backbone.source}\nfingerprint {fingerprint[:16]}"


if __name__ == "__main__":
    stage.main(run, name="prepare_backbone", paths=("--processed", "--out"))
