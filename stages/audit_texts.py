"""Audit the texts: do they read labels back to whoever asks for them, and what does the token limit cut off."""

import argparse

import numpy as np

from lib.base import stage
from lib.base.artifacts import write_json, write_text
from lib.base.errors import IntegrityError
from lib.base.params import Params
from lib.catalog.attributes import load_attribute_schema
from lib.catalog.processed import read_rows
from lib.catalog.text_budget import measure_budget
from lib.embeddings import load_embedding_set
from lib.encoding.backbone import load_backbone
from lib.encoding.encoder import Encoder
from lib.encoding.tokens import TokenCounter
from lib.evaluation.text_audit import markdown_report, summary_lines
from lib.evaluation.text_leakage import measure_leakage


def run(args: argparse.Namespace, params: Params) -> str:
    stage.pin_threads(params.runtime.threads)
    embedded, rows = load_embedding_set(args.embeddings), read_rows(args.processed)
    schema, backbone = load_attribute_schema(args.schema), load_backbone(args.backbone)
    if embedded.fingerprint != backbone.fingerprint:
        raise IntegrityError(f"{args.embeddings}: not embedded by {args.backbone}; run `dvc repro embed_catalog`")
    leakage = measure_leakage(
        embedded,
        rows,
        Encoder(backbone, batch_size=params.embed.batch_size),
        schema,
        pattern_only=params.data.pattern_only_categories,
        k=params.evaluate.k,
        image_weight=params.evaluate.fused_image_weight,
        bootstrap=params.evaluate.bootstrap,
    )
    rng = np.random.default_rng(params.evaluate.bootstrap.seed)
    budget = measure_budget(rows, schema, TokenCounter(backbone), rng=rng)
    report = {"leakage": leakage, "budget": budget}
    write_json(args.out / "text_audit.json", report)
    write_text(args.out / "text_audit.md", markdown_report(report))
    return summary_lines(report)


if __name__ == "__main__":
    stage.main(run, name="audit_texts", paths=("--processed", "--schema", "--backbone", "--embeddings", "--out"))
