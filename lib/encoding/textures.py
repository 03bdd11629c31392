"""Texture energies as a fixed layer: how strong the finest differences are, by direction, octave and place.

Laws 1980, "Rapid Texture Identification": small difference filters, then the local mean of their magnitude; here the
filters of the Haar wavelet and its diagonals, on blocks of 2 x 2 pixels side by side, octave after octave. Weave,
knit and grain are differences between neighbouring pixels, which a picture scaled down for a network has lost.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

OCTAVES = 3
"""The picture itself, at half, and at a quarter of its size."""
FILTERS = 5
"""Differences across, down, along both diagonals, and the mixed second difference."""
FLOOR = 4e-3
"""Added to a magnitude before its logarithm; an eight-bit pixel's step is 0.015 in OpenCLIP's normalised units."""


class TextureEnergies(nn.Module):
    """(n, 3, height, width) images -> (n, 3 octaves * 5 filters * grid * grid) logarithms of mean magnitudes.

    Args:
        grid: places per side; of images with fewer than 8 * grid pixels a side, places share blocks.
    """

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.num_features = OCTAVES * FILTERS * grid * grid

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Magnitudes of the mean of the colour channels, averaged by place."""
        plane = images.mean(dim=1, keepdim=True)
        read = []
        for _ in range(OCTAVES):
            plane = plane[..., : plane.shape[2] // 2 * 2, : plane.shape[3] // 2 * 2]
            a, b, c, d = (plane[..., row::2, column::2] for row in (0, 1) for column in (0, 1))
            differences = torch.cat([b - a, c - a, d - a, c - b, a + d - b - c], dim=1)
            read.append(functional.adaptive_avg_pool2d(differences.abs_(), self.grid))
            plane = functional.avg_pool2d(plane, 2)
        return torch.cat(read, dim=1).add_(FLOOR).log_().flatten(1)
