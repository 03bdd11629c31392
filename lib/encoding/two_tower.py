"""The two-tower model with what feeds it: built for training, or loaded for use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from lib.base.artifacts import FloatArray, file_sha256, sequence_sha256
from lib.base.errors import ConfigError, IntegrityError
from lib.base.params import TwoTower
from lib.catalog.picture_store import IntArray, Pictures
from lib.encoding.picture_rows import PictureRows
from lib.encoding.tower_inputs import FrozenInputs, PixelInputs
from lib.training.checkpoint import load_checkpoint
from lib.training.heads import seeded_generator
from lib.training.two_tower import (
    STAGE,
    FrozenTower,
    Inputs,
    TowerConfig,
    TwoTowerModel,
    config_from_checkpoint,
    load_weights,
)

FROZEN_BATCH, NETWORK_BATCH = 1024, 64
"""Rows per batch of inference, of the frozen backbone's embeddings and of pictures."""
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Feed:
    """The pictures of the tables, as they are and as the frozen backbone sees them.

    Attributes:
        pictures: of the tables.
        embedded: of these pictures.
        params: the section `two_tower`.
        workers: threads that decode pictures for networks.
    """

    pictures: Pictures
    embedded: PictureRows
    params: TwoTower
    workers: int

    def frozen(self, numbers: IntArray) -> FloatArray:
        """(n,) picture numbers -> (n, dim) embeddings of the backbone."""
        return np.asarray(self.embedded.rows[numbers])

    def inputs(self, numbers: IntArray) -> Inputs:
        """What the towers of `params.tower` take of these pictures."""
        if self.params.tower == "backbone":
            used = np.unique(numbers)
            return FrozenInputs(used, self.frozen(used), n_pictures=len(self.pictures))
        return PixelInputs(self.pictures, self.params.network, workers=self.workers)

    @cached_property
    def digests(self) -> list[str]:
        """The sha256 of every picture, in hex."""
        return [digest.hex() for digest in self.pictures.digests]


def new_model(feed: Feed, pairs: IntArray, inputs: Inputs) -> TwoTowerModel:
    """An untrained model as `feed.params` says, on the device that they name.

    Args:
        feed: of the tables.
        pairs: (n_pairs, 2) that are learnt from; towers of the backbone take mean and deviation of their side.
        inputs: of the pictures.

    Raises:
        BusyError: pretrained weights cannot be fetched.
        ConfigError: no such device.
    """
    params, frozen = feed.params, feed.params.tower == "backbone"
    config = TowerConfig(
        tower=params.tower,
        shared=params.shared,
        backbone=feed.embedded.fingerprint if frozen else "",
        dim=feed.embedded.rows.shape[1] if frozen else params.network.dim,
        head=params.head.kind,
        hidden=params.head.hidden,
        dropout=params.head.dropout,
        image_size=0 if frozen else params.network.image_size,
        initial_temperature=params.initial_temperature,
    )
    model = _build(config, pretrained=params.network.pretrained, seed=params.seed)
    sides = (pairs[:, 0], pairs[:, 1]) if len(model.towers) > 1 else (pairs.ravel(),)
    for tower, numbers in zip(model.towers, sides, strict=True):
        if isinstance(tower, FrozenTower):
            tower.standardise(inputs(np.unique(numbers), None))
    return model if frozen else model.to(choose_device(params.network.device))


def choose_device(name: Device) -> torch.device:
    """`auto`: the graphics processor where there is one.

    Raises:
        ConfigError: cuda is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("two_tower.network.device: cuda is asked for and torch finds none; say auto or cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it its products are not reproducible
    return torch.device("cuda")


def load_two_tower(path: Path, *, backbone: str | None) -> TwoTowerModel:
    """Load `best.pt`, on the processor.

    Args:
        path: the checkpoint.
        backbone: fingerprint of the backbone at hand; None does not look.

    Raises:
        IntegrityError: the checkpoint is missing, damaged, or was trained on another backbone.
    """
    content = load_checkpoint(path, stage=STAGE)
    config = config_from_checkpoint(content, name=str(path))
    if backbone is not None and config.backbone not in ("", backbone):
        raise IntegrityError(
            f"{path}: expected towers for backbone {backbone[:12]}, got {config.backbone[:12]}; re-run stage {STAGE}"
        )
    model = _build(config, pretrained=False, seed=0)
    load_weights(model, content, name=str(path))
    return model.eval()


def towers_fingerprint(checkpoint: Path) -> str:
    """Names the embeddings of a model: another training, another name."""
    return sequence_sha256([STAGE, file_sha256(checkpoint)])


def _build(config: TowerConfig, *, pretrained: bool, seed: int) -> TwoTowerModel:
    count = 1 if config.shared else 2
    if config.tower == "backbone":
        generator = seeded_generator(seed, 0)
        towers: list[nn.Module] = [FrozenTower(config, generator=generator) for _ in range(count)]
        return TwoTowerModel(config, towers, batch_size=FROZEN_BATCH)
    from lib.encoding.tower_network import build_network  # timm takes seconds that heads on embeddings need not wait

    networks = [
        build_network(
            config.tower, dim=config.dim, image_size=config.image_size, pretrained=pretrained, seed=seed + number
        )
        for number in range(count)
    ]
    return TwoTowerModel(config, networks, batch_size=NETWORK_BATCH)
