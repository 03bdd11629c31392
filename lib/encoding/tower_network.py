"""Networks that are trained as a whole as towers of the two-tower model: architectures of timm.

resnet18: He et al. 2016. vit_b_16: Dosovitskiy et al. 2021, ViT-B with patches of 16 pixels.
"""

from __future__ import annotations

from typing import Any, Literal

import httpx2
import torch
from torch import Tensor, nn

from lib.base.errors import BusyError
from lib.encoding import torchvision_ops  # noqa: F401  # must come before timm

import timm  # isort: skip

NetworkKind = Literal["resnet18", "vit_b_16"]
_NAMES = {"resnet18": "resnet18", "vit_b_16": "vit_base_patch16_224"}


class NetworkTower(nn.Module):
    """A network with a linear layer of `dim` outputs instead of its classifier."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """(n, 3, side, side) -> (n, dim), not normalised; `dropout` is not used: these networks have none."""
        embedded: Tensor = self.network(x)
        return embedded


def build_network(kind: NetworkKind, *, dim: int, image_size: int, pretrained: bool, seed: int) -> NetworkTower:
    """A network with weights drawn from `seed`, or with ImageNet weights below a last layer drawn from it.

    Raises:
        BusyError: the weights cannot be fetched.
    """
    sized: dict[str, Any] = {"img_size": image_size} if kind == "vit_b_16" else {}
    with torch.random.fork_rng(devices=[]):  # timm draws from torch's own generator
        torch.manual_seed(seed)
        try:
            network = timm.create_model(_NAMES[kind], pretrained=pretrained, num_classes=dim, **sized)
        except (OSError, RuntimeError, httpx2.HTTPError) as error:
            if not pretrained:
                raise
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise BusyError(
                f"two_tower.network.pretrained: the weights of {_NAMES[kind]} cannot be fetched ({first}); run again "
                "where the Hugging Face Hub can be reached, or say pretrained: false"
            ) from None
    return NetworkTower(network)
