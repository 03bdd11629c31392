"""The compatibility head: maps embeddings to where items lie near each other that go together.

One head for all items, whatever their kind: `y = last(gelu(first(z)))` with `z` the standardised embedding, or
`y = last(z)` without a hidden layer, scaled to length 1. The score of two items is the cosine of their outputs, so
that it is the same whichever comes first and any index can search it. A cosine cannot say that an item does not go
with one like it: who looks for a skirt to a blouse searches among skirts.

A hidden layer matters: on the sample's validation pairs a linear head gains a fifth less over the embeddings' own
cosines (`python -m benchmarks.compatibility`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.base.artifacts import MANIFEST, FloatArray, file_sha256, read_json, read_torch, write_torch
from lib.base.errors import IntegrityError
from lib.training.heads import dropped, linear

BATCH = 1024
"""Rows per inference batch; the last one is padded, so that a row's bytes do not depend on its neighbours."""
REMEDY = "re-run train_compatibility"


class CompatibilityHead(nn.Module):
    """(n, in_dim) embeddings to (n, out_dim) unit rows."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, in_dim: int, out_dim: int, *, hidden: int, dropout: float = 0.0, generator: torch.Generator
    ) -> None:
        """Build an untrained head.

        Args:
            in_dim, out_dim: dimensions of the embeddings and of the output.
            hidden: width of the hidden layer; 0 for a linear head.
            dropout: on the input of the last layer, while training only.
            generator: draws the weights.
        """
        super().__init__()
        self.in_dim, self.out_dim, self.dropout = in_dim, out_dim, dropout
        self.register_buffer("mean", torch.zeros(in_dim))
        self.register_buffer("deviation", torch.ones(in_dim))
        self.first = linear(in_dim, hidden, generator) if hidden else None
        self.last = linear(hidden or in_dim, out_dim, generator)

    def standardise(self, x: Tensor) -> None:
        """Take mean and standard deviation of each dimension from (n, in_dim) embeddings; once, before training."""
        self.mean.copy_(x.mean(dim=0))
        if len(x) > 1:
            self.deviation.copy_(x.std(dim=0).clamp(min=1e-6))

    def forward(self, x: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """(n, in_dim) -> (n, out_dim) unit rows; `dropout` is the generator of the dropout mask, None for none."""
        z = (x - self.mean) / self.deviation
        if self.first is not None:
            z = F.gelu(self.first(z))
        return F.normalize(self.last(dropped(z, self.dropout, dropout)), dim=1)

    def encode(self, embeddings: FloatArray) -> FloatArray:
        """Apply the head.

        Args:
            embeddings: (n, in_dim) float32, unit rows.

        Returns:
            (n, out_dim) float32, unit rows, C-contiguous. Empty in, empty out. A row's result does not depend on
            the other rows (seen for dimensions that are multiples of 8; others differ in the last bit).

        Raises:
            IntegrityError: another dimension, or a row that is not finite.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.in_dim:
            raise IntegrityError(
                f"compatibility head: expected embeddings (n, {self.in_dim}), got {embeddings.shape}; {REMEDY}"
            )
        out = np.empty((len(embeddings), self.out_dim), dtype=np.float32)
        padded = np.zeros((BATCH, self.in_dim), dtype=np.float32)
        for start in range(0, len(embeddings), BATCH):
            rows = embeddings[start : start + BATCH]
            padded[: len(rows)] = rows
            with torch.no_grad():
                out[start : start + BATCH] = self(torch.from_numpy(padded))[: len(rows)].numpy()
        bad = np.flatnonzero(~np.isfinite(out).all(axis=1))
        if len(bad):
            raise IntegrityError(
                f"compatibility head: the output of row {bad[0]} is not finite; look at its embedding"
            )
        return out


def save_head(path: Path, head: CompatibilityHead) -> None:
    """Write exactly `{"head": state_dict, "in_dim": …, "out_dim": …}`."""
    write_torch(path, {"head": dict(head.state_dict()), "in_dim": head.in_dim, "out_dim": head.out_dim})


def load_head(path: Path, *, in_dim: int, backbone: str | None = None) -> CompatibilityHead:
    """Load a trained head for embeddings of `in_dim`.

    Where the training's `manifest.json` stands two folders up and names the file, its bytes are checked.

    Args:
        path: `artifacts/compatibility/checkpoints/best.pt` or one of its neighbours.
        in_dim: dimension of the embeddings to encode.
        backbone: fingerprint of these embeddings, compared with the manifest's; None: not compared.

    Raises:
        IntegrityError: the file is missing, damaged, no compatibility head, holds code, or was trained on
            embeddings of another dimension or backbone.
    """
    folder = path.parent.parent
    manifest: dict[str, Any] = {}
    if backbone is not None or (folder / MANIFEST).is_file():
        manifest = read_json(folder / MANIFEST)
    if backbone is not None and manifest.get("backbone") != backbone:
        found = str(manifest.get("backbone", "none"))[:12]
        raise IntegrityError(f"{path}: expected a head for backbone {backbone[:12]}, got {found}; {REMEDY}")
    listed = manifest.get("files", {}).get(f"{path.parent.name}/{path.name}")
    if listed is not None and path.is_file() and file_sha256(path) != listed["sha256"]:
        raise IntegrityError(f"{path}: damaged: its bytes are not those its manifest names; {REMEDY}")
    return _opened(read_torch(path), path, in_dim)


def _opened(content: Any, path: Path, in_dim: int) -> CompatibilityHead:
    if not isinstance(content, dict) or set(content) != {"head", "in_dim", "out_dim"}:
        raise IntegrityError(f"{path}: not a checkpoint of the compatibility head; {REMEDY}")
    if content["in_dim"] != in_dim:
        raise IntegrityError(
            f"{path}: expected a head for embeddings of {in_dim} dimensions, got {content['in_dim']}; {REMEDY}"
        )
    weights, out_dim = content["head"], content["out_dim"]
    last, first = _matrix(weights, "last.weight"), _matrix(weights, "first.weight")
    if last is None or len(last) != out_dim:  # before anything of the size that the file claims is built
        found = "none" if last is None else f"{len(last)} rows"
        raise IntegrityError(f"{path}: expected a last layer of out_dim {out_dim} rows, got {found}; {REMEDY}")
    hidden = 0 if first is None else len(first)
    head = CompatibilityHead(in_dim, out_dim, hidden=hidden, generator=torch.Generator())
    try:
        head.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        first_line = str(error).strip().splitlines()[-1].strip()
        raise IntegrityError(
            f"{path}: weights do not fit a head {in_dim} -> {out_dim} ({first_line}); {REMEDY}"
        ) from None
    return head.eval()


def _matrix(weights: Any, name: str) -> Tensor | None:
    found = weights.get(name) if isinstance(weights, dict) else None
    return found if isinstance(found, Tensor) and found.ndim == 2 else None
