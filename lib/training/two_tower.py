"""Two encoders, one for photos of customers and one for those of the shop, into one space.

The tower of the frozen backbone is `y = x + f((x - mean) / deviation)` with `f` zero before training, so that an
untrained model *is* the backbone on both sides; mean and deviation are those of its own side. The other towers are
networks that are trained as a whole (`lib.encoding.tower_network`). The score of two photos is the cosine of their
outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.base.artifacts import FloatArray
from lib.base.errors import IntegrityError
from lib.training.heads import ResidualHead
from lib.training.protocol_model import MAX_LOG_SCALE, unit_rows

IntArray = npt.NDArray[np.int64]
Side = Literal["query", "candidate"]
SIDES: tuple[Side, Side] = ("query", "candidate")
TowerKind = Literal["backbone", "resnet18", "vit_b_16"]
STAGE = "train_two_tower"

Inputs = Callable[[IntArray, np.random.Generator | None], Tensor]
"""Picture numbers (n,) -> what a tower takes of them, (n, ...) float32; augmented where a generator is given."""


@dataclass(frozen=True)
class TowerConfig:
    """What must be known to build the model before its weights are loaded.

    Attributes:
        tower: what an encoder is made of.
        shared: one encoder for both sides.
        backbone: fingerprint of the backbone whose embeddings go in; "" for a network.
        dim: of the output; of the backbone's embeddings too.
        head: `linear` or `mlp`, with `hidden` and `dropout`: what is trained on top of the backbone.
        image_size: pixels a side, of a network's input.
        initial_temperature: of the loss; learnable.
    """

    tower: TowerKind
    shared: bool
    backbone: str
    dim: int
    head: Literal["linear", "mlp"]
    hidden: int
    dropout: float
    image_size: int
    initial_temperature: float

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON and checkpoints."""
        return asdict(self)


class FrozenTower(nn.Module):
    """A residual head on the embeddings of the frozen backbone."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: TowerConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(config.dim))
        self.register_buffer("deviation", torch.ones(config.dim))
        self.head = ResidualHead(
            config.dim, kind=config.head, hidden=config.hidden, dropout=config.dropout, generator=generator
        )

    def standardise(self, x: Tensor) -> None:
        """Take mean and standard deviation of each dimension from (n, dim) embeddings; once, before training."""
        self.mean.copy_(x.mean(dim=0))
        if len(x) > 1:
            self.deviation.copy_(x.std(dim=0).clamp(min=1e-6))

    def forward(self, x: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """(n, dim) unit rows -> (n, dim), not normalised; `dropout` draws the mask, None for no dropout."""
        moved: Tensor = x + self.head((x - self.mean) / self.deviation, dropout)
        return moved


class TwoTowerModel(nn.Module):
    """Both towers and the temperature.

    Args:
        config: of both.
        towers: one per side, or a single one that is shared; called with (n, ...) inputs and the generator of the
            dropout mask or None, they return (n, config.dim).
        batch_size: rows per batch of `encode`.
    """

    def __init__(self, config: TowerConfig, towers: Sequence[nn.Module], *, batch_size: int) -> None:
        super().__init__()
        self.config = config
        self.batch_size = batch_size
        self.towers = nn.ModuleList(towers)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.initial_temperature)))

    @property
    def logit_scale(self) -> Tensor:
        """1 / temperature, clamped to [1, 100] as CLIP does."""
        return self.log_scale.clamp(0.0, MAX_LOG_SCALE).exp()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.log_scale.device

    def tower(self, side: Side) -> nn.Module:
        """The encoder of a side."""
        return self.towers[0 if len(self.towers) == 1 else SIDES.index(side)]

    def forward(self, side: Side, x: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """(n, ...) inputs -> (n, dim) float32 unit rows."""
        return F.normalize(self.tower(side)(x, dropout).float(), dim=1)

    def encode(self, side: Side, numbers: IntArray, inputs: Inputs) -> FloatArray:
        """Embed pictures without augmentation, in batches of one shape (the last one is padded).

        Args:
            side: whose tower.
            numbers: (n,) picture numbers.
            inputs: of the pictures.

        Returns:
            (n, dim) float32, unit rows. Empty in, empty out. An untrained tower of the backbone returns the
            embeddings that go in.

        Raises:
            IntegrityError: an output is zero or not finite.
        """
        out = np.empty((len(numbers), self.config.dim), dtype=np.float32)
        was_training = self.training
        self.eval()
        for start in range(0, len(numbers), self.batch_size):
            part = numbers[start : start + self.batch_size]
            padded = np.concatenate([part, np.repeat(part[-1:], self.batch_size - len(part))])
            with torch.inference_mode():
                rows = self.tower(side)(inputs(padded, None).to(self.device), None).float().cpu().numpy()
            out[start : start + len(part)] = unit_rows(rows[: len(part)])
        self.train(was_training)
        return out


def config_from_checkpoint(content: Mapping[str, Any], *, name: str) -> TowerConfig:
    """The configuration in an opened checkpoint.

    Raises:
        IntegrityError: it is none of this stage's, or of another version.
    """
    try:
        return TowerConfig(**content["model_config"])
    except (KeyError, TypeError) as error:
        raise IntegrityError(
            f"{name}: expected a checkpoint of {STAGE} as this version writes it, got another ({error}); "
            f"re-run stage {STAGE}"
        ) from None


def load_weights(model: TwoTowerModel, content: Mapping[str, Any], *, name: str) -> None:
    """Put a checkpoint's weights into a model of its configuration.

    Raises:
        IntegrityError: they do not fit.
    """
    try:
        model.load_state_dict(content["model"])
    except (KeyError, TypeError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise IntegrityError(
            f"{name}: weights do not fit the configuration ({first}); re-run stage {STAGE}"
        ) from None
