"""What training shows of a picture: random crops and mirror images of it, and collars in random colours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from lib.encoding import torchvision_ops  # noqa: F401  # must come before open_clip

import open_clip  # isort: skip

COLLAR_SCALE_MIN = 0.45
"""Smallest share of the area that a crop of a collar keeps."""
COLLAR_TURN = 0.15
"""Radians by which a collar is turned at most."""


def to_unit(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """(n, height, width, 3) uint8 -> (n, 3, height, width) from 0 to 1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255.0)


def to_bytes(pixels: torch.Tensor) -> npt.NDArray[np.uint8]:
    """The reverse of `to_unit`, rounded; changes `pixels`."""
    return pixels.mul_(255.0).round_().clamp_(0.0, 255.0).byte().permute(0, 2, 3, 1).numpy()


def random_collars(pixels: torch.Tensor, size: int, rng: np.random.Generator) -> torch.Tensor:
    """Random crops of collars, turned by up to 9 degrees, brighter or darker, their colour channels exchanged.

    A few hundred labels would be learnt by heart from the garments' colours: those the whole picture shows.
    """
    cropped = random_crops(pixels, size, COLLAR_SCALE_MIN, rng, turn=COLLAR_TURN)
    n = len(pixels)
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(3), (n, 1)), axis=1))
    cropped = cropped.gather(1, order[:, :, None, None].expand_as(cropped))
    contrast = torch.from_numpy(rng.uniform(0.6, 1.4, (n, 1, 1, 1)).astype(np.float32))
    brightness = torch.from_numpy(rng.uniform(-0.2, 0.2, (n, 3, 1, 1)).astype(np.float32))
    return (cropped - 0.5) * contrast + 0.5 + brightness


def random_crops(
    pixels: torch.Tensor, size: int, scale_min: float, rng: np.random.Generator, *, turn: float = 0.0
) -> torch.Tensor:
    """Random crops and mirror images of a (batch, 3, height, width) tensor, scaled to `size`.

    `scale_min` is the smallest share of the area that a crop keeps, `turn` the largest angle in radians.
    """
    n = len(pixels)
    side = np.sqrt(rng.uniform(scale_min, 1.0, n))
    shift = rng.uniform(-1.0, 1.0, (n, 2)) * (1.0 - side)[:, None]
    mirror = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    transform = np.zeros((n, 2, 3), dtype=np.float32)
    transform[:, 0, 0] = side * mirror
    transform[:, 1, 1] = side
    transform[:, :, 2] = shift
    if turn:
        angle = rng.uniform(-turn, turn, n)
        transform[:, 0, 0], transform[:, 0, 1] = side * mirror * np.cos(angle), -side * np.sin(angle)
        transform[:, 1, 0], transform[:, 1, 1] = side * mirror * np.sin(angle), side * np.cos(angle)
    grid = functional.affine_grid(torch.from_numpy(transform), [n, 3, size, size], align_corners=False)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """(n, 3, height, width) from 0 to 1 -> OpenCLIP's normalised units."""
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    return (pixels - mean) / std
