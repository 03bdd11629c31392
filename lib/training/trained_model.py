"""A protocol model from its checkpoint, and the catalogue's embeddings seen through it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lib.base.artifacts import file_sha256, sequence_sha256
from lib.base.errors import IntegrityError
from lib.embeddings import Embeddings, EmbeddingSet
from lib.training.checkpoint import REMEDY, load_checkpoint
from lib.training.protocol_model import ModelConfig, ProtocolModel


def load_model(path: Path, *, dim: int, backbone: str) -> ProtocolModel:
    """Load a trained model for embeddings of `dim` made by `backbone`.

    Raises:
        IntegrityError: the checkpoint is damaged, or was trained on another backbone or dimension.
    """
    return model_from_checkpoint(load_checkpoint(path), name=str(path), dim=dim, backbone=backbone)


def model_from_checkpoint(content: Mapping[str, Any], *, name: str, dim: int, backbone: str) -> ProtocolModel:
    """Build the model of an opened checkpoint; see `load_model`."""
    try:
        config = ModelConfig.from_dict(content["model_config"])
        weights = content["model"]
    except (KeyError, TypeError, AttributeError) as error:
        said = f"expected a checkpoint as this version writes it, got another ({error})"
        raise IntegrityError(f"{name}: {said}; {REMEDY}") from None
    if config.dim != dim:
        raise IntegrityError(f"{name}: expected a model for dimension {dim}, got {config.dim}; {REMEDY}")
    if config.backbone != backbone:
        raise IntegrityError(
            f"{name}: expected a model for backbone {backbone[:12]}, got {config.backbone[:12]}; {REMEDY}"
        )
    model = ProtocolModel(config, generator=torch.Generator())
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise IntegrityError(f"{name}: weights do not fit the configuration ({error}); {REMEDY}") from None
    return model


def untrained(model: ProtocolModel) -> ProtocolModel:
    """A model of the same configuration that changes nothing: the baseline."""
    return ProtocolModel(model.config, generator=torch.Generator())


def embed_with(model: ProtocolModel, baseline: EmbeddingSet, *, checkpoint: Path) -> EmbeddingSet:
    """The baseline's embedded catalogue seen through the heads.

    Its fingerprint is the sha256 of the backbone's fingerprint and the checkpoint file's, so that an index or
    evaluation built from other weights is never mistaken for this one. The learnt weight of the image in fused
    queries goes with it.
    """
    fingerprint = sequence_sha256([baseline.fingerprint, file_sha256(checkpoint)])
    catalog, queries = (
        Embeddings(model.encode_image_numpy(part.images), model.encode_text_numpy(part.texts), part.meta)
        for part in (baseline.catalog, baseline.queries)
    )
    return EmbeddingSet(catalog, queries, fingerprint, round(float(model.image_weight.detach()), 6))
