"""The image tower of a backbone trained from scratch: a plain convolutional network, registered with timm.

OpenCLIP builds any timm model by name, so the trained folder stays an ordinary OpenCLIP one for whoever imports
this module first. Its last feature map is read by place as well as pooled: catalogue photographs are aligned (the
collar is at the top, the hem at the bottom), and place is what a network with a few thousand images learns slowest.
The pooled part is for what has no place: the material's texture. Beside the learnt map stand oriented gradients,
which need not be learnt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lib.encoding import torchvision_ops  # noqa: F401  # must come before timm
from lib.encoding.gradients import OrientedGradients

import timm  # isort: skip

WIDTHS = (8, 16, 24, 32, 48, 64)
GRIDS = (4, 6, 8)
DROPOUT = 0.3


class PlainConvNet(nn.Module):
    """Six 3x3 convolutions (VGG, Simonyan & Zisserman 2015, with batch normalisation) and oriented gradients side by
    side, then one linear layer.

    Args:
        width: channels of the second convolution; the last has four times as many.
        grid: the last feature map is `grid` x `grid` (averaged down to it if the image is larger than 16 grid).
        num_classes: dimension of the output, OpenCLIP's `embed_dim`.
    """

    def __init__(self, width: int, grid: int, num_classes: int) -> None:
        super().__init__()
        self.gradients = OrientedGradients(2 * grid)
        self.gradients_norm = nn.BatchNorm1d(self.gradients.num_features, affine=False)
        self.num_features = 4 * width * (grid * grid + 2) + self.gradients.num_features
        self.features = nn.Sequential(
            _convolution(3, 3 * width // 4, stride=2),
            _convolution(3 * width // 4, width),
            nn.MaxPool2d(2),
            _convolution(width, 2 * width),
            _convolution(2 * width, 2 * width),
            nn.MaxPool2d(2),
            _convolution(2 * width, 4 * width),
            nn.MaxPool2d(2),
            _convolution(4 * width, 4 * width),
        )
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(self.num_features, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """(n, 3, height, width) -> the last map by place, its mean and maximum, the gradients, (n, num_features)."""
        maps: Tensor = self.features(images)
        gradients = self.gradients_norm(self.gradients(images))
        read = [self.pool(maps).flatten(1), maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3)), gradients]
        dropped: Tensor = self.dropout(torch.cat(read, dim=1))
        return dropped

    def forward_head(self, features: Tensor) -> Tensor:
        """(n, num_features) -> (n, num_classes)."""
        embedded: Tensor = self.head(features)
        return embedded

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, height, width) -> (n, num_classes)."""
        return self.forward_head(self.forward_features(images))


def _convolution(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def timm_name(width: int, grid: int) -> str:
    """Name of the registered model."""
    return f"plain_convnet_{width}x{grid}"


def _register(width: int, grid: int) -> None:
    def create(pretrained: bool = False, num_classes: int = 1000, **_: Any) -> nn.Module:
        if pretrained:
            raise RuntimeError("plain_convnet has no pretrained weights")
        return PlainConvNet(width, grid, num_classes)

    create.__name__ = timm_name(width, grid)
    timm.models.register_model(create)


for _width in WIDTHS:
    for _grid in GRIDS:
        if not timm.is_model(timm_name(_width, _grid)):
            _register(_width, _grid)
