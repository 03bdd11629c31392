"""A product as a passer-by sees it: worn in a street, badly framed, in whatever light there is.

A shop's photographs and these differ as they do outside: the background is busy, the garment is smaller, tilted and
partly cut off or covered by a bag, the picture is blurred, tinted, over- or underexposed and compressed hard.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from lib.catalog.drawing.body import HAIR, SKINS
from lib.catalog.drawing.cut import Cut
from lib.catalog.drawing.fabric import Rgb, shade
from lib.catalog.drawing.plan import Product
from lib.catalog.drawing.scene import SUPERSAMPLE, Staging, draw_wearer

_FACADES: tuple[Rgb, ...] = (
    (176, 150, 130),
    (148, 96, 78),
    (196, 190, 178),
    (120, 124, 130),
    (206, 176, 122),
    (92, 100, 112),
)
_SKIES: tuple[Rgb, ...] = ((190, 210, 230), (220, 222, 224), (150, 180, 214), (226, 200, 176), (58, 62, 84))
_GROUNDS: tuple[Rgb, ...] = ((120, 118, 116), (96, 98, 104), (160, 148, 134), (96, 118, 84))
_THINGS: tuple[Rgb, ...] = (
    (170, 44, 44),
    (40, 62, 120),
    (230, 190, 60),
    (34, 36, 40),
    (236, 236, 232),
    (60, 110, 72),
    (150, 90, 50),
)


def draw_street_view(product: Product, cut: Cut, staging: Staging, rng: Generator, size: int) -> Image.Image:
    """One RGB picture (size x size pixels) of the product worn in a street.

    Args:
        product, cut: as the shop's views have them: it is the same garment.
        staging: of the shop; only the colours of what is worn with it are kept, since the wearer is another one.
        rng: source of every draw.
        size: in pixels.
    """
    wearer = replace(
        staging,
        stand="worn",
        skin=SKINS[int(rng.integers(len(SKINS)))],
        hair=HAIR[int(rng.integers(len(HAIR)))],
    )
    big = size * SUPERSAMPLE
    image = draw_wearer(product, cut, wearer, rng, _street(rng, big), zoom=float(rng.uniform(0.62, 0.85)))
    if rng.random() < 0.4:
        _bag(ImageDraw.Draw(image), rng, big)
    return _snapshot(_framed(image, rng, size), rng)


def _pick(rng: Generator, colours: tuple[Rgb, ...]) -> Rgb:
    r, g, b = (
        int(np.clip(c + d, 0, 255))
        for c, d in zip(colours[int(rng.integers(len(colours)))], rng.normal(0.0, 14.0, 3), strict=True)
    )
    return r, g, b


def _street(rng: Generator, size: int) -> Image.Image:
    """Sky, a row of houses, the pavement, people and things; out of focus. Drawn small: it is blurred anyway."""
    small = size // 2
    image = Image.new("RGB", (small, small), _pick(rng, _SKIES))
    pen = ImageDraw.Draw(image)
    ground = int(small * rng.uniform(0.62, 0.88))
    left = -int(small * rng.uniform(0.0, 0.3))
    while left < small:
        right = left + int(small * rng.uniform(0.2, 0.55))
        _house(pen, rng, (left, int(small * rng.uniform(-0.1, 0.3)), right, ground))
        left = right
    pen.rectangle((0, ground, small, small), fill=_pick(rng, _GROUNDS))
    for _ in range(int(rng.integers(2, 6))):
        _thing(pen, rng, small, ground)
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 2.2)))).resize(
        (size, size), Image.Resampling.BILINEAR
    )


def _house(pen: ImageDraw.ImageDraw, rng: Generator, box: tuple[int, int, int, int]) -> None:
    left, top, right, ground = box
    wall = _pick(rng, _FACADES)
    pen.rectangle(box, fill=wall)
    glass = shade(wall, float(rng.uniform(0.35, 0.6))) if rng.random() < 0.7 else (236, 220, 160)
    across, down = int(rng.integers(2, 5)), int(rng.integers(3, 7))
    wide, high = (right - left) / across, (ground - top) / down
    for i in range(across):
        for j in range(down):
            x, y = left + wide * (i + 0.25), top + high * (j + 0.25)
            pen.rectangle((x, y, x + 0.5 * wide, y + 0.55 * high), fill=glass)


def _thing(pen: ImageDraw.ImageDraw, rng: Generator, size: int, ground: int) -> None:
    """A passer-by, a parked car, a tree or a sign."""
    x, kind = float(rng.uniform(0.0, 1.0)) * size, int(rng.integers(4))
    colour = _pick(rng, _THINGS)
    if kind == 0:
        tall = size * float(rng.uniform(0.3, 0.5))
        top, half = ground + 0.1 * size - tall, 0.11 * tall
        pen.ellipse((x - half, top, x + half, top + 2 * half), fill=SKINS[int(rng.integers(len(SKINS)))])
        pen.rectangle((x - 1.5 * half, top + 2 * half, x + 1.5 * half, top + 0.55 * tall), fill=colour)
        pen.rectangle((x - 1.2 * half, top + 0.55 * tall, x + 1.2 * half, top + tall), fill=shade(colour, 0.5))
    elif kind == 1:
        half, high = size * float(rng.uniform(0.18, 0.3)), 0.13 * size
        pen.rounded_rectangle((x - half, ground - high, x + half, ground + 0.04 * size), 0.04 * size, fill=colour)
        pen.rounded_rectangle(
            (x - 0.6 * half, ground - 1.7 * high, x + 0.6 * half, ground - high), 0.03 * size, fill=shade(colour, 0.7)
        )
        for wheel in (x - 0.6 * half, x + 0.6 * half):
            pen.ellipse(
                (wheel - 0.05 * size, ground - 0.01 * size, wheel + 0.05 * size, ground + 0.09 * size),
                fill=(28, 28, 30),
            )
    elif kind == 2:
        pen.rectangle((x - 0.02 * size, ground - 0.4 * size, x + 0.02 * size, ground), fill=(92, 70, 52))
        for _ in range(5):
            cx, cy = x + size * rng.normal(0.0, 0.07), ground + size * (rng.normal(0.0, 0.06) - 0.45)
            r = 0.1 * size
            pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=shade((74, 118, 66), float(rng.uniform(0.7, 1.2))))
    else:
        top = size * float(rng.uniform(0.1, 0.4))
        pen.rectangle((x - 0.01 * size, top, x + 0.01 * size, ground), fill=(70, 72, 76))
        pen.rectangle((x - 0.1 * size, top, x + 0.1 * size, top + 0.13 * size), fill=colour)


def _bag(pen: ImageDraw.ImageDraw, rng: Generator, size: int) -> None:
    """A strap from a shoulder to the other hip, and the bag that hangs on it."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    colour = _pick(rng, _THINGS)
    x, y = size * (0.5 + side * rng.uniform(0.14, 0.22)), size * rng.uniform(0.62, 0.78)
    pen.line((size * (0.5 - side * 0.13), 0.24 * size, x, y), fill=shade(colour, 0.8), width=max(2, size // 45))
    wide, high = size * rng.uniform(0.08, 0.13), size * rng.uniform(0.09, 0.15)
    pen.rounded_rectangle(
        (x - wide, y, x + wide, y + 2 * high), 0.03 * size, fill=colour, outline=shade(colour, 0.6), width=2
    )


def _framed(image: Image.Image, rng: Generator, size: int) -> Image.Image:
    """A tilted square out of the middle, off centre: sleeves, hem or collar may lie outside."""
    big = image.width
    angle = float(rng.normal(0.0, 0.12))
    side = big * float(rng.uniform(0.55, 0.8))
    reach = side * (abs(math.cos(angle)) + abs(math.sin(angle))) / 2.0
    room = max(big / 2.0 - reach, 0.0)  # the square stays inside the picture
    spread = min(room, 0.09 * big)
    cx, cy = (big / 2.0 + float(rng.uniform(-spread, spread)) for _ in range(2))
    step = side / size
    a, b = step * math.cos(angle), -step * math.sin(angle)
    d, e = -b, a
    half = size / 2.0
    rows = (a, b, cx - a * half - b * half, d, e, cy - d * half - e * half)
    return image.transform((size, size), Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR)


def _snapshot(image: Image.Image, rng: Generator) -> Image.Image:
    """What a telephone's camera makes of it: softness, tint, exposure, a shadow's edge, dark corners and grain."""
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.3))))
    size = image.width
    pixels = np.asarray(image, dtype=np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    light = float(rng.uniform(0.62, 1.22)) * (1.0 - float(rng.uniform(0.0, 0.5)) * (x * x + y * y))
    if rng.random() < 0.35:
        turn = float(rng.uniform(0.0, 6.28))
        edge = np.cos(turn) * x + np.sin(turn) * y - float(rng.uniform(-0.2, 0.2))
        light *= 1.0 - float(rng.uniform(0.2, 0.45)) / (1.0 + np.exp(-60.0 * edge))
    light = light.astype(np.float32)
    warm = float(rng.normal(0.0, 0.13))
    tint = np.array([1.0 + warm, 1.0 + float(rng.normal(0.0, 0.04)), 1.0 - warm], dtype=np.float32)
    grain = float(rng.uniform(1.0, 8.0)) * rng.standard_normal((size, size), dtype=np.float32)
    developed = np.empty((size, size, 3), dtype=np.uint8)
    for channel in range(3):
        plane = pixels[:, :, channel] * light
        plane *= tint[channel]
        plane += grain
        developed[:, :, channel] = np.clip(plane, 0, 255, out=plane)
    return Image.fromarray(developed)
