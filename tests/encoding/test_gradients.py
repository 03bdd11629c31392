"""Oriented gradients against a pixel-by-pixel reference, and what they must not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lib.encoding.gradients import CLIP, ORIENTATIONS, OrientedGradients


def slow(image: np.ndarray, cells: int) -> np.ndarray:
    """Dalal and Triggs by loops: (3, height, width) -> (9, cells, cells)."""
    _, height, width = image.shape
    side_y, side_x = height // cells, width // cells
    votes = np.zeros((ORIENTATIONS, cells, cells))
    step = max(1, min(height, width) // (8 * cells))
    for y in range(0, height, step):
        for x in range(0, width, step):
            steps = []
            for plane in image:
                across = plane[y, min(x + 1, width - 1)] - plane[y, max(x - 1, 0)]
                down = plane[min(y + 1, height - 1), x] - plane[max(y - 1, 0), x]
                steps.append((across**2 + down**2, across, down))
            power, across, down = max(steps, key=lambda step: step[0])
            place = (math.atan2(down, across) % math.pi) / math.pi * ORIENTATIONS
            low = int(place)
            for bin_, share in ((low, 1 - (place - low)), (low + 1, place - low)):
                votes[bin_ % ORIENTATIONS, y // side_y, x // side_x] += (
                    math.sqrt(power) * share / (side_y * side_x / step**2)
                )
    energy = np.pad((votes**2).sum(0), 1, mode="edge")
    total = np.zeros_like(votes)
    for y in range(cells):
        for x in range(cells):
            for top in (y, y + 1):
                for left in (x, x + 1):
                    block = energy[top : top + 2, left : left + 2].sum()
                    total[:, y, x] += np.minimum(votes[:, y, x] / math.sqrt(block + 1e-3), CLIP)
    return total


@pytest.mark.parametrize(
    ("height", "width", "cells"), [(16, 16, 2), (24, 16, 4), (8, 8, 1), (32, 32, 2), (36, 24, 1)]
)
def test_equals_the_slow_reference(height: int, width: int, cells: int) -> None:
    images = np.random.default_rng(3).random((3, 3, height, width)).astype(np.float32)
    found = OrientedGradients(cells)(torch.from_numpy(images)).numpy()
    assert found.shape == (3, ORIENTATIONS * cells * cells)
    for image, row in zip(images, found, strict=True):
        np.testing.assert_allclose(row, slow(image.astype(np.float64), cells).ravel(), atol=1e-5)


def bars(*, upright: bool) -> torch.Tensor:
    stripes = (torch.arange(32) // 4 % 2).float()
    plane = stripes.expand(32, 32) if upright else stripes[:, None].expand(32, 32)
    return plane.expand(1, 3, 32, 32).contiguous()


def test_an_edge_lands_in_its_orientation() -> None:
    layer = OrientedGradients(4)
    across = layer(bars(upright=True)).view(ORIENTATIONS, -1).sum(1)
    down = layer(bars(upright=False)).view(ORIENTATIONS, -1).sum(1)
    assert across.argmax() == 0 and across[0] > 0.99 * across.sum()
    # 90 degrees lie between the fifth and the sixth of nine bins
    assert set(down.topk(2).indices.tolist()) == {4, 5} and down[4:6].sum() > 0.99 * down.sum()


def test_inverted_colours_and_stronger_contrast_change_little() -> None:
    layer = OrientedGradients(4)
    image = torch.from_numpy(np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32))
    plain = layer(image)
    assert torch.allclose(layer(1.0 - image), plain, atol=1e-4)
    assert (layer(3.0 * image) - plain).abs().max() < 0.02 * plain.abs().max()


def test_an_edge_counts_where_it_is() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, 2:6, 10:14] = 1.0
    found = OrientedGradients(4)(image).view(ORIENTATIONS, 4, 4).sum(0)
    assert found[0, 1] > 0 and found[2:].sum() == 0


def test_a_flat_picture_gives_zeros_and_nothing_to_learn() -> None:
    image = torch.full((2, 3, 16, 16), 0.5, requires_grad=True)
    layer = OrientedGradients(2)
    found = layer(image)
    assert torch.equal(found, torch.zeros(2, 36)) and not found.requires_grad
    assert not list(layer.parameters())
