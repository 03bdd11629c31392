"""Texture energies against a pixel-by-pixel reference, and what they must tell apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lib.encoding.textures import FILTERS, FLOOR, OCTAVES, TextureEnergies


def slow(image: np.ndarray, grid: int) -> np.ndarray:
    """By loops; odd rows and columns at the end are left out."""
    plane = image.mean(axis=0)
    read = []
    for _ in range(OCTAVES):
        height, width = plane.shape[0] // 2, plane.shape[1] // 2
        found, half = np.zeros((FILTERS, height, width)), np.zeros((height, width))
        for y in range(height):
            for x in range(width):
                (a, b), (c, d) = plane[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                found[:, y, x] = np.abs([b - a, c - a, d - a, c - b, a + d - b - c])
                half[y, x] = (a + b + c + d) / 4
        for strength in found:
            for row in range(grid):
                for column in range(grid):
                    part = strength[
                        row * height // grid : math.ceil((row + 1) * height / grid),
                        column * width // grid : math.ceil((column + 1) * width / grid),
                    ]
                    read.append(math.log(part.mean() + FLOOR))
        plane = half
    return np.array(read)


@pytest.mark.parametrize(("height", "width", "grid"), [(32, 32, 4), (40, 24, 2), (21, 34, 1)])
def test_equals_the_slow_reference(height: int, width: int, grid: int) -> None:
    images = np.random.default_rng(4).normal(size=(3, 3, height, width)).astype(np.float32)
    layer = TextureEnergies(grid)
    found = layer(torch.from_numpy(images)).numpy()
    assert found.shape == (3, layer.num_features) == (3, OCTAVES * FILTERS * grid * grid)
    for image, row in zip(images, found, strict=True):
        np.testing.assert_allclose(row, slow(image.astype(np.float64), grid), atol=1e-4)


def test_a_fine_weave_and_a_coarse_one_differ_by_octave() -> None:
    """Stripes of one pixel live in the first octave and are gone at half the size; of four pixels, in the third."""
    columns = torch.arange(64)
    fine, coarse = ((columns // width % 2).float().expand(1, 3, 64, 64) for width in (1, 4))
    layer = TextureEnergies(1)
    of_fine, of_coarse = (layer(image).view(OCTAVES, FILTERS).exp() for image in (fine, coarse))
    across = 0
    torch.testing.assert_close(of_fine[:, across], torch.tensor([1.0, 0.0, 0.0]) + FLOOR)
    torch.testing.assert_close(of_coarse[:, across], torch.tensor([0.0, 0.0, 1.0]) + FLOOR)


def test_brightness_is_not_texture_and_a_flat_picture_is_finite() -> None:
    layer = TextureEnergies(4)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(image + 0.5), layer(image), atol=1e-4, rtol=0)
    flat = layer(torch.full((1, 3, 64, 64), 0.3))
    torch.testing.assert_close(flat, torch.full_like(flat, math.log(FLOOR)), atol=1e-3, rtol=0)


def test_the_images_are_left_as_they_are() -> None:
    images = torch.rand(2, 3, 32, 32)
    before = images.clone()
    TextureEnergies(2)(images)
    assert torch.equal(images, before)
