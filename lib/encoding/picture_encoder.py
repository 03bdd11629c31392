"""Single photos to embeddings of the two-tower model, for queries: with the backbone, where the towers need it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.base.artifacts import FloatArray
from lib.base.errors import IntegrityError
from lib.catalog.picture_store import IntArray
from lib.encoding.backbone import load_backbone
from lib.encoding.encoder import Encoder
from lib.encoding.tower_inputs import decoded, pixels
from lib.training.two_tower import Side, TwoTowerModel


def picture_encoder(model: TwoTowerModel, backbone: Path) -> Callable[[bytes, Side], FloatArray]:
    """A function from an upright encoded image and a side to its (1, dim) embedding, for single queries.

    Batches have one row, so that an answer is quick; the backbone's embeddings then differ by up to 3e-6 from those
    of full batches.

    Raises:
        IntegrityError: the backbone is damaged or not the one that the towers were trained on.
    """
    encoder: Encoder | None = None
    if model.config.tower == "backbone":
        encoder = Encoder(load_backbone(backbone), batch_size=1)
        if encoder.fingerprint != model.config.backbone:
            raise IntegrityError(
                f"{backbone}: expected backbone {model.config.backbone[:12]}, which the towers were trained on, got "
                f"{encoder.fingerprint[:12]}; run `dvc repro train_two_tower`"
            )
    model.batch_size = 1

    def encode(image: bytes, side: Side) -> FloatArray:
        def one(numbers: IntArray, rng: np.random.Generator | None) -> Tensor:
            if encoder is None:
                return pixels(decoded(image), side=model.config.image_size)[None]
            return torch.from_numpy(encoder.encode_images([encoder.preprocess(image)]))

        return model.encode(side, np.zeros(1, dtype=np.int64), one)

    return encode
