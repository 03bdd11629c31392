"""A random part of a picture, mirrored now and then: augmentation that every model here shares."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

MAX_STRETCH = 1.15
"""Largest factor between the sides' shares."""


def crop_and_mirror(picture: Image.Image, rng: np.random.Generator, *, min_area: float, mirror: float) -> Image.Image:
    """A random part of a picture of at least the share `min_area`, mirrored with probability `mirror`."""
    area = rng.uniform(min_area, 1.0)
    stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(MAX_STRETCH))
    shares = np.minimum(np.sqrt(area) * np.array([stretch, 1.0 / stretch]), 1.0)
    width, height = np.maximum((shares * picture.size).astype(int), 1).tolist()
    left, top = (
        int(rng.integers(0, whole - part + 1)) for whole, part in zip(picture.size, (width, height), strict=True)
    )
    picture = picture.crop((left, top, left + width, top + height))
    return ImageOps.mirror(picture) if rng.random() < mirror else picture
