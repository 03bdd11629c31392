"""What the baseline gains when its fixed dimensions weigh more: `python -m benchmarks.fixed_dims [--write]`.

A trained backbone's embedding ends in dimensions that are not learnt and count little in a cosine
(`lib/encoding/convnet.py`), but a head reads them at full size. This asks whether the baseline is merely
handicapped: the same embeddings with those dimensions multiplied by a factor, on the validation split, beside the
trained model. Needs a pipeline that has run (`dvc repro`).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np

from benchmarks.results import ROOT, write_section
from lib.base import stage
from lib.base.artifacts import FloatArray
from lib.base.errors import ConfigError, PipelineError
from lib.base.params import load_params
from lib.embeddings import load_embedding_set
from lib.evaluation.validation import ROWS, quick_validation
from lib.training.protocol_model import unit_rows
from lib.training.trained_model import load_model

FACTORS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Reweighed:
    """An encoder that multiplies the last `n_fixed` dimensions by `factor`."""

    n_fixed: int
    factor: float

    def encode_image_numpy(self, x: FloatArray) -> FloatArray:
        """(n, dim) -> (n, dim) float32 unit rows."""
        scaled = x.copy()
        scaled[:, x.shape[1] - self.n_fixed :] *= np.float32(self.factor)
        return unit_rows(scaled)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    args = parser.parse_args()
    try:
        text = table()
    except PipelineError as error:
        print(f"error: fixed_dims: {error}", file=sys.stderr)
        return error.exit_code
    print(text)
    if args.write:
        write_section("Weight of the fixed dimensions", text)
    return 0


def table() -> str:
    """Validation rows at every factor and of the trained model, as Markdown."""
    params = load_params(ROOT / "params.yaml")
    if params.backbone.source != "train" or params.backbone.train.fixed_dim == 0:
        raise ConfigError("params.yaml: this backbone has no fixed dimensions")
    stage.pin_threads(params.runtime.threads)
    embedded = load_embedding_set(ROOT / "artifacts" / "retrieval" / "baseline")
    model = load_model(
        ROOT / "artifacts" / "protocol" / "checkpoints" / "best.pt",
        dim=embedded.catalog.images.shape[1],
        backbone=embedded.fingerprint,
    )
    validate = quick_validation(
        embedded, params=params.train.validation, pattern_only=params.data.pattern_only_categories
    )
    n_fixed = params.backbone.train.fixed_dim
    measured = {f"x {factor:g}": validate(Reweighed(n_fixed, factor)) for factor in FACTORS}
    measured["protocol model"] = validate(model)
    names = [name for name in ROWS if all(name in rows for rows in measured.values())]
    lines = [
        "`python -m benchmarks.fixed_dims --write`: precision at 10 on validation, points; the baseline with its",
        "fixed dimensions multiplied by a factor (x 1: as it is on the scoreboard), and the trained model.",
        "",
        f"| fixed dimensions | {' | '.join(names)} | mean |",
        "|---|" + "---:|" * (len(names) + 1),
    ]
    for title, rows in measured.items():
        points = [100 * rows[name] for name in names]
        cells = " | ".join(f"{value:.1f}" for value in [*points, float(np.mean(points))])
        lines.append(f"| {title} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
