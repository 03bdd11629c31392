"""Where the collar of a drawn person is, and what is cut out there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from lib.encoding.collars import ABOVE, REACH, _wall, collar_places, cut_out
from lib.encoding.random_crops import random_collars

import open_clip  # isort: skip

WALL, SKIN, SHIRT, TROUSERS = (236, 234, 230), (214, 170, 140), (40, 60, 120), (70, 70, 80)


def person(size: int, x: float, top: float, scale: float, *, wall: tuple[int, ...] = WALL) -> Image.Image:
    """A head of width `scale` on a neck, beneath it shoulders three times as wide; all in shares of the picture."""
    picture = Image.new("RGB", (size, size), wall)
    draw = ImageDraw.Draw(picture)

    def box(left: float, upper: float, right: float, lower: float, colour: tuple[int, ...]) -> None:
        draw.rectangle([size * left, size * upper, size * right - 1, size * lower - 1], fill=colour)

    box(x - 0.5 * scale, top, x + 0.5 * scale, top + 1.2 * scale, SKIN)
    box(x - 0.3 * scale, top + 1.2 * scale, x + 0.3 * scale, top + 1.7 * scale, SKIN)
    box(x - 1.5 * scale, top + 1.7 * scale, x + 1.5 * scale, top + 4.0 * scale, SHIRT)
    if top + 4.0 * scale < 1.0:
        box(x - 0.9 * scale, top + 4.0 * scale, x + 0.9 * scale, 1.0, TROUSERS)
    return picture


def normalised(*pictures: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2) / 255.0
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    return (pixels - mean) / std


def shares(images: torch.Tensor) -> np.ndarray:
    """Places as neck across, neck down and body width, in shares of the picture."""
    across, down, half = collar_places(images).double().numpy().T
    return np.stack([(across + 1) / 2, (down + 1) / 2 - (1 - ABOVE) * half / 2, half / 2 / REACH], axis=1)


@pytest.mark.parametrize("size", [112, 160, 224])
@pytest.mark.parametrize(
    ("x", "top", "scale"), [(0.5, 0.05, 0.2), (0.4, 0.1, 0.12), (0.62, 0.02, 0.09), (0.5, 0.0, 0.25)]
)
def test_the_neck_of_whoever_stands_there_is_found(size: int, x: float, top: float, scale: float) -> None:
    across, down, body = shares(normalised(person(size, x, top, scale)))[0]
    assert across == pytest.approx(x, abs=0.02)
    assert down == pytest.approx(top + 1.45 * scale, abs=0.25 * scale + 0.01)
    assert 1.6 * scale < body < 3.3 * scale


def test_a_wall_may_be_dark_or_fade() -> None:
    expected = shares(normalised(person(160, 0.45, 0.08, 0.15)))[0]
    dark = person(160, 0.45, 0.08, 0.15, wall=(20, 22, 20))
    fading = np.asarray(person(160, 0.45, 0.08, 0.15)).astype(float)
    is_wall = (fading == WALL).all(axis=2)
    fading[is_wall] -= np.broadcast_to(np.linspace(0, 90, 160)[:, None, None], fading.shape)[is_wall]
    aside = np.asarray(person(160, 0.45, 0.08, 0.15)).astype(float)
    aside[is_wall] -= np.broadcast_to(np.linspace(0, 90, 160)[None, :, None], aside.shape)[is_wall]
    for picture in (dark, *(Image.fromarray(pixels.round().astype(np.uint8)) for pixels in (fading, aside))):
        np.testing.assert_allclose(shares(normalised(picture))[0], expected, atol=0.03)


def test_what_reaches_the_edge_is_no_wall() -> None:
    """A sleeve in the upper corner, a floor that comes suddenly: the wall goes on; light that fades is followed."""
    top = np.zeros((3, 3), dtype=np.float32)
    edge = np.zeros((3, 112, 3), dtype=np.float32)
    edge[0, :30] = -1.5
    edge[1, 60:] = 1.0
    edge[2] = np.linspace(0.0, 1.5, 112)[:, None]
    found = _wall(edge, top)
    assert not found[0].any() and not found[1].any()
    assert np.abs(found[2] - edge[2]).max() < 0.1


def test_who_leans_is_followed_past_a_raised_arm() -> None:
    picture = Image.new("RGB", (160, 160), WALL)
    draw = ImageDraw.Draw(picture)
    draw.polygon([(72, 8), (88, 8), (104, 40), (88, 40)], fill=SKIN)  # a head and a neck that lean to the right
    draw.rectangle([68, 24, 74, 48], fill=SKIN)  # the arm, nearer to where the head begins
    draw.rectangle([88, 40, 104, 48], fill=SKIN)
    draw.rectangle([56, 49, 136, 159], fill=SHIRT)
    across, down, _ = shares(normalised(picture))[0]
    assert across == pytest.approx(0.6, abs=0.02) and down == pytest.approx(0.29, abs=0.04)


def test_every_image_is_looked_at_by_itself() -> None:
    images = normalised(*(person(160, 0.3 + 0.05 * n, 0.02 * n, 0.1 + 0.01 * n) for n in range(7)))
    together = collar_places(images)
    for n in range(7):
        assert torch.equal(collar_places(images[n : n + 1])[0], together[n])


def test_a_close_up_without_a_neck_is_looked_at_from_its_top() -> None:
    picture = Image.new("RGB", (160, 160), WALL)
    ImageDraw.Draw(picture).rectangle([48, 40, 111, 159], fill=SHIRT)
    across, down, body = shares(normalised(picture))[0]
    assert across == pytest.approx(0.5, abs=0.02) and down == pytest.approx(0.25, abs=0.03)
    assert body == pytest.approx(0.4, abs=0.04)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_where_there_is_nothing_the_place_is_finite_and_reaches_the_picture(level: int) -> None:
    across, down, half = collar_places(normalised(Image.new("RGB", (64, 64), (level,) * 3)))[0].tolist()
    assert abs(across) < 0.05 and abs(down) <= 1.0 and 0.05 < half < 1.0


def test_the_whole_picture_cut_out_is_the_picture_scaled_down() -> None:
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    cut = cut_out(images, torch.tensor([[0.0, 0.0, 1.0]] * 2), 64)
    torch.testing.assert_close(cut, torch.nn.functional.avg_pool2d(images, 2), atol=1e-5, rtol=0)


def test_what_is_cut_out_stands_at_the_place() -> None:
    """A quarter of the picture, pixel by pixel; beyond the picture its edge goes on."""
    images = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    quarter = cut_out(images, torch.tensor([[-0.5, 0.5, 0.5]]), 32)
    torch.testing.assert_close(quarter, torch.nn.functional.avg_pool2d(images[:, :, 64:, :64], 2), atol=1e-5, rtol=0)
    beyond = cut_out(images, torch.tensor([[0.0, -3.0, 1.0]]), 64)
    torch.testing.assert_close(beyond, beyond[:, :, :1].expand_as(beyond))


def test_collars_are_shown_in_other_colours_and_the_same_shape() -> None:
    """A red spot may come in any channel; how many pixels it has is the crop's doing, not the colour's."""
    pixels = torch.zeros(200, 3, 72, 72)
    pixels[:, 0, 18:54, 18:54] = 1.0
    shown = random_collars(pixels, 64, np.random.default_rng(0))
    assert shown.shape == (200, 3, 64, 64)
    contrast = shown.amax(dim=(2, 3)) - shown.amin(dim=(2, 3))  # (200, 3)
    assert set(contrast.argmax(dim=1).tolist()) == {0, 1, 2}
    assert (contrast.amax(dim=1) > 0.5).all() and (contrast.sort(dim=1).values[:, :2] < 1e-5).all()
    spots = (shown.amax(dim=1) > shown.amax(dim=1).amax(dim=(1, 2), keepdim=True) - 0.2).float().mean(dim=(1, 2))
    assert spots.min() > 0.2 and spots.max() < 0.7
    again = random_collars(pixels, 64, np.random.default_rng(0))
    assert torch.equal(shown, again)
