"""How a backbone's parameters are optimised: AdamW, and a learning rate that rises and falls as in CLIP's recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from lib.base.params import BackboneTraining

MAX_GRADIENT = 10.0
"""Norm at which gradients are clipped: early steps only."""


class Descent:
    """Steps of gradient descent on the parameters of a model."""

    def __init__(self, model: torch.nn.Module, params: BackboneTraining, *, n_steps: int) -> None:
        """Prepare `n_steps` steps."""
        self._parameters = list(model.parameters())
        self._optimizer = torch.optim.AdamW(
            _parameter_groups(model, params.weight_decay), lr=params.lr, betas=(0.9, 0.98), fused=True
        )
        warmup = max(1, round(n_steps * params.warmup_fraction))
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: _cosine(step, n_steps, warmup)
        )

    def step(self, loss: torch.Tensor) -> None:
        """Descend once."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, MAX_GRADIENT)
        self._optimizer.step()
        self._schedule.step()


def _parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices only, as CLIP's recipe does; gains, biases and the temperature are left alone."""
    decayed: Sequence[torch.nn.Parameter] = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _cosine(step: int, n_steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, n_steps - warmup)))
