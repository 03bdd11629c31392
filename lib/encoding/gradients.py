"""Histograms of oriented gradients as a fixed layer: edges by place, which nothing has to be learnt for.

Dalal and Triggs 2005, "Histograms of Oriented Gradients for Human Detection".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

ORIENTATIONS = 9
"""Unsigned, over 180 degrees, as in the paper."""
CLIP = 0.2
"""Largest share of a cell in its block's energy, as in the paper: strong edges do not drown faint ones."""


class OrientedGradients(nn.Module):
    """(n, 3, height, width) images -> (n, 9 * cells * cells) histograms, summed over the four blocks of a cell.

    Args:
        cells: cells per side; an image of 8 times as many pixels has the paper's cells of 8 x 8 pixels.
    """

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.num_features = ORIENTATIONS * cells * cells

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Gradient of the strongest colour channel, voted into two neighbouring orientations.

        Of a larger image every second, third ... pixel votes, so that a cell has at least the paper's 8 x 8 voters.
        """
        step = max(1, min(images.shape[2:]) // (8 * self.cells))
        padded = functional.pad(images.contiguous(), (1, 1, 1, 1), mode="replicate")
        across = padded[:, :, 1:-1:step, 2::step] - padded[:, :, 1:-1:step, :-2:step]
        down = padded[:, :, 2::step, 1:-1:step] - padded[:, :, :-2:step, 1:-1:step]
        strength, channel = (across.square() + down.square()).max(dim=1, keepdim=True)
        angle = torch.atan2(down.gather(1, channel), across.gather(1, channel))
        place = torch.remainder(angle.mul_(ORIENTATIONS / math.pi), ORIENTATIONS)
        magnitude = strength.sqrt_()
        cells_of = []
        for orientation in range(ORIENTATIONS):  # one plane at a time: scattering into nine takes longer
            share = (place - orientation).abs_().neg_().add_(1.0).clamp_(min=0.0)
            if orientation == 0:  # the circle closes: the first is the last one's neighbour
                share += (place - (ORIENTATIONS - 1)).clamp_(min=0.0)
            cells_of.append(functional.adaptive_avg_pool2d(share.mul_(magnitude), self.cells))
        histograms = torch.cat(cells_of, dim=1)
        energy = functional.pad(histograms.square().sum(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        blocks = functional.avg_pool2d(energy, 2, 1) * 4.0  # (n, 1, cells + 1, cells + 1)
        norms = (blocks + 1e-3).sqrt()
        cells = self.cells
        normalised = [
            (histograms / norms[:, :, top : top + cells, left : left + cells]).clamp(max=CLIP)
            for top in (0, 1)
            for left in (0, 1)
        ]
        return torch.stack(normalised).sum(dim=0).flatten(1)
