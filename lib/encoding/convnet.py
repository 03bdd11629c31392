"""The image tower of a backbone trained from scratch: a plain convolutional network, registered with timm.

OpenCLIP builds any timm model by name, so the trained folder stays an ordinary OpenCLIP one for whoever imports
this module first. Its last feature map is read by place as well as pooled: catalogue photographs are aligned (the
collar is at the top, the hem at the bottom), and place is what a network with a few thousand images learns slowest.
The pooled part is for what has no place: the material's texture. Beside the learnt map stand oriented gradients,
which need not be learnt.

An embedding's last dimensions are not learnt at all: principal components of gradients and texture energies of the
picture at full size. A few thousand captions teach a projection to drop part of what the tower sees, and no head can
bring back what a frozen embedding has dropped. They are written small, so that cosine similarity is left to the
learnt part.

With `collar` a second column of convolutions looks at the collar alone (`lib.encoding.collars`), cut out of the
picture at full size.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lib.encoding import torchvision_ops  # noqa: F401  # must come before timm
from lib.encoding.collars import collar_places, cut_out
from lib.encoding.gradients import OrientedGradients
from lib.encoding.textures import TextureEnergies

import timm  # isort: skip

WIDTHS = (8, 16, 24, 32, 48, 64)
GRIDS = (4, 6, 8)
FIXED_DIMS = (0, 16, 32, 64, 128, 256)
DROPOUT = 0.3
TEXTURE_GRID = 4
FIXED_NORM = 0.2
"""Root mean square length of the fixed dimensions beside a learnt part of length 1: 4 % of a cosine."""


class PlainConvNet(nn.Module):
    """Six 3x3 convolutions (VGG, Simonyan & Zisserman 2015, with batch normalisation) and oriented gradients side by
    side, then one linear layer; behind its output the principal components of fixed descriptors.

    What is learnt reads 16 x 16 pixels per place of the last map, so `16 * grid` a side; a larger image is scaled
    down for it. The fixed descriptors, gradients and texture energies, read the image as it is.

    Args:
        width: channels of the second convolution; the last has four times as many.
        grid: the last feature map is `grid` x `grid`.
        fixed: dimensions of the output that are not learnt; zero until `describe` has seen images.
        num_classes: dimension of the output, OpenCLIP's `embed_dim`; more than `fixed`.
        collar: whether the collar is looked at by itself too.
    """

    fixed_weight: Tensor
    fixed_bias: Tensor

    def __init__(self, width: int, grid: int, fixed: int, num_classes: int, *, collar: bool = False) -> None:
        super().__init__()
        self.sight = 16 * grid
        self.gradients = OrientedGradients(2 * grid)
        self.gradients_norm = nn.BatchNorm1d(self.gradients.num_features, affine=False)
        self.textures = TextureEnergies(TEXTURE_GRID)
        self.num_features = 4 * width * (grid * grid + 2) + self.gradients.num_features
        self.features = _column(width)
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.collar = _column(width) if collar else None
        self.n_collar_features = 4 * width * (grid * grid + 1) if collar else 0
        self.num_features += self.n_collar_features
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(self.num_features, num_classes - fixed)
        n_described = self.gradients.num_features + self.textures.num_features
        self.register_buffer("fixed_weight", torch.zeros(fixed, n_described))
        self.register_buffer("fixed_bias", torch.zeros(fixed))

    def forward_features(self, images: Tensor) -> Tensor:
        """(n, 3, height, width) -> what is read off them, (n, num_features)."""
        seen = self._seen(images)
        return self.read(seen, None if self.collar is None else self.collars(images, max(seen.shape[2:])))

    def read(self, seen: Tensor, collars: Tensor | None) -> Tensor:
        """The last map by place, its mean and maximum, the gradients, and the same of the collars' map by place and
        its maximum, (n, num_features).

        Args:
            seen: (n, 3, sight, sight) whole pictures.
            collars: (n, 3, sight, sight) what `collars` cut out of them; None without `collar`.
        """
        maps: Tensor = self.features(seen)
        gradients = self.gradients_norm(self.gradients(seen))
        read = [self.pool(maps).flatten(1), maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3)), gradients]
        if collars is not None:
            read.append(self.read_collars(collars))
        dropped: Tensor = self.dropout(torch.cat(read, dim=1))
        return dropped

    def read_collars(self, collars: Tensor) -> Tensor:
        """(n, 3, sight, sight) -> (n, n_collar_features); only with `collar`."""
        assert self.collar is not None
        maps: Tensor = self.collar(collars)
        return torch.cat([self.pool(maps).flatten(1), maps.amax(dim=(2, 3))], dim=1)

    def forward_head(self, features: Tensor) -> Tensor:
        """(n, num_features) -> the learnt dimensions, (n, num_classes - fixed)."""
        embedded: Tensor = self.head(features)
        return embedded

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, height, width) -> (n, num_classes), the learnt part of length 1 if there is a fixed one."""
        learnt = self.forward_head(self.forward_features(images))
        if not len(self.fixed_bias):
            return learnt
        fixed = functional.linear(self.descriptors(images), self.fixed_weight, self.fixed_bias)
        return torch.cat([functional.normalize(learnt, dim=1), fixed], dim=1)

    @torch.no_grad()
    def collars(self, images: Tensor, side: int) -> Tensor:
        """(n, 3, height, width) -> where the collars probably are, (n, 3, side, side)."""
        return cut_out(images, collar_places(images), side)

    @torch.no_grad()
    def descriptors(self, images: Tensor) -> Tensor:
        """(n, 3, height, width) -> gradients and texture energies, (n, n_descriptors): nothing of them is learnt."""
        return torch.cat([self.gradients(images), self.textures(images)], dim=1)

    @torch.no_grad()
    def describe(self, descriptors: Tensor) -> None:
        """Set the fixed dimensions to the principal components of (n, n_descriptors) `descriptors`.

        Each descriptor is standardised, and gradients and textures have the same total variance. The output has the
        root mean square length `FIXED_NORM` over these images. Dimensions beyond the rank stay zero.
        """
        wide = descriptors.double()
        n_gradients = self.gradients.num_features
        mean = wide.mean(dim=0)
        spread = wide.std(dim=0, correction=0)
        scale = torch.where(spread > 1e-6, 1.0 / spread.clamp(min=1e-6), 0.0)
        scale[:n_gradients] /= n_gradients**0.5
        scale[n_gradients:] /= (len(scale) - n_gradients) ** 0.5
        standard = (wide - mean) * scale
        variances, axes = torch.linalg.eigh(standard.T @ standard / len(standard))
        variances, axes = variances.flip(0)[: len(self.fixed_bias)], axes.flip(1)[:, : len(self.fixed_bias)]
        axes = axes * (variances > 1e-9)
        largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
        axes = axes * torch.where(largest < 0, -1.0, 1.0)  # eigenvectors have no sign of their own
        size = FIXED_NORM / variances.clamp(min=0.0).sum().clamp(min=1e-12).sqrt()
        weight = (axes * scale[:, None]).T * size
        self.fixed_weight.copy_(weight)
        self.fixed_bias.copy_(-weight @ mean)

    def _seen(self, images: Tensor) -> Tensor:
        if max(images.shape[2:]) <= self.sight:
            return images
        scaled: Tensor = functional.interpolate(images, (self.sight, self.sight), mode="bicubic", antialias=True)
        return scaled


def _column(width: int) -> nn.Sequential:
    """(n, 3, side, side) -> (n, 4 * width, side / 16, side / 16)."""
    return nn.Sequential(
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


def _convolution(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def timm_name(width: int, grid: int, fixed: int, collar: bool = False) -> str:
    """Name of the registered model."""
    return f"plain_convnet_{width}x{grid}_{fixed}{'_collar' if collar else ''}"


def _register(width: int, grid: int, fixed: int, collar: bool) -> None:
    def create(pretrained: bool = False, num_classes: int = 1000, **_: Any) -> nn.Module:
        if pretrained:
            raise RuntimeError("plain_convnet has no pretrained weights")
        return PlainConvNet(width, grid, fixed, num_classes, collar=collar)

    create.__name__ = timm_name(width, grid, fixed, collar)
    timm.models.register_model(create)


for _sizes in product(WIDTHS, GRIDS, FIXED_DIMS, (False, True)):
    if not timm.is_model(timm_name(*_sizes)):
        _register(*_sizes)
