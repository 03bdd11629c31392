"""What the towers take of a picture: its embedding by the frozen backbone, or its pixels, augmented in training."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from lib.base.artifacts import FloatArray
from lib.base.params import TowerNetwork
from lib.catalog.picture_store import IntArray, Pictures
from lib.encoding.crops import crop_and_mirror

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, which pretrained weights expect and others do not mind."""


class FrozenInputs:
    """Embeddings that are looked up; there is nothing to augment.

    Args:
        numbers: (n,) the pictures that there are embeddings of.
        rows: (n, dim) float32.
        n_pictures: of all tables.
    """

    def __init__(self, numbers: IntArray, rows: FloatArray, *, n_pictures: int) -> None:
        self._rows = torch.from_numpy(rows)
        self._at = np.full(n_pictures, -1, dtype=np.int64)
        self._at[numbers] = np.arange(len(numbers))

    def __call__(self, numbers: IntArray, rng: np.random.Generator | None) -> Tensor:
        """(n,) picture numbers -> (n, dim)."""
        return self._rows[torch.from_numpy(self._at[numbers])]


class PixelInputs:
    """Pictures as a network takes them, decoded when they are asked for.

    Args:
        pictures: of the tables.
        params: the section `two_tower.network`.
        workers: threads that decode.
    """

    def __init__(self, pictures: Pictures, params: TowerNetwork, *, workers: int) -> None:
        self._pictures = pictures
        self._params = params
        self._pool = ThreadPoolExecutor(workers)

    def __call__(self, numbers: IntArray, rng: np.random.Generator | None) -> Tensor:
        """(n,) picture numbers -> (n, 3, side, side) float32; with a generator, each augmented by its own seed."""
        seeds = [None] * len(numbers) if rng is None else rng.integers(2**63, size=len(numbers)).tolist()
        found = self._pool.map(self._one, numbers.tolist(), seeds)
        return torch.stack(list(found)) if len(numbers) else torch.zeros(0, 3, 0, 0)

    def _one(self, number: int, seed: int | None) -> Tensor:
        picture = decoded(self._pictures.read(number))
        if seed is not None:
            picture = augmented(picture, self._params, np.random.default_rng(seed))
        return pixels(picture, side=self._params.image_size)


def decoded(image: bytes) -> Image.Image:
    """An encoded image as RGB."""
    with Image.open(io.BytesIO(image)) as opened:
        return opened.convert("RGB")


def augmented(picture: Image.Image, params: TowerNetwork, rng: np.random.Generator) -> Image.Image:
    """Another part of a picture, mirrored now and then, in other colours: as somebody else might have taken it."""
    picture = crop_and_mirror(picture, rng, min_area=params.min_area, mirror=params.mirror)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = change(picture).enhance(float(rng.uniform(1.0 - params.colour, 1.0 + params.colour)))
    return picture


def pixels(picture: Image.Image, *, side: int) -> Tensor:
    """A picture scaled to a square, as (3, side, side) float32 of mean 0 and deviation 1 on ImageNet."""
    small = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0), dtype=np.float32)
    scaled = (small / 255.0 - np.array(MEAN, dtype=np.float32)) / np.array(DEVIATION, dtype=np.float32)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))
