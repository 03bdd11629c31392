"""What stands behind a garment: studio walls, floors and cluttered rooms."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from lib.catalog.drawing.fabric import TILE, Rgb, noise, shade

_WALLS: tuple[Rgb, ...] = (
    (250, 250, 250),
    (242, 242, 240),
    (232, 233, 236),
    (240, 236, 228),
    (214, 218, 222),
    (226, 218, 210),
    (206, 216, 222),
    (222, 226, 214),
    (190, 184, 178),
    (234, 220, 220),
)


def _jitter(rng: Generator, colour: Rgb, spread: float) -> Rgb:
    r, g, b = (int(np.clip(c + d, 0, 255)) for c, d in zip(colour, rng.normal(0.0, spread, 3), strict=True))
    return r, g, b


def draw_backdrop(rng: Generator, size: int) -> Image.Image:
    """A square RGB backdrop of `size` pixels: plain, shaded, wall and floor, textured, or cluttered."""
    kind = rng.random()
    wall = _jitter(rng, _WALLS[int(rng.integers(len(_WALLS)))], 4.0)
    if kind < 0.50:
        return Image.new("RGB", (size, size), wall)
    if kind < 0.74:
        return _shaded(rng, size, wall)
    image = Image.new("RGB", (size, size), wall)
    pen = ImageDraw.Draw(image)
    if kind < 0.85:
        floor = _jitter(rng, shade(wall, 0.86), 6.0)
        y = int(size * rng.uniform(0.68, 0.86))
        pen.rectangle((0, y, size, size), fill=floor)
        pen.line((0, y, size, y), fill=shade(floor, 0.92), width=3)
    elif kind < 0.93:
        return _textured(rng, size)
    else:
        _clutter(rng, pen, size, wall)
    return image


def _shaded(rng: Generator, size: int, wall: Rgb) -> Image.Image:
    angle, small = float(rng.uniform(0, 6.28)), 32
    y, x = np.mgrid[0:small, 0:small].astype(np.float32) / small - 0.5
    ramp = np.cos(angle) * x + np.sin(angle) * y if rng.random() < 0.5 else 0.35 - np.hypot(x, y)
    light = 1.0 + float(rng.uniform(0.12, 0.4)) * ramp
    pixels = np.clip(np.array(wall, dtype=np.float32) * light[:, :, None], 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)


def _textured(rng: Generator, size: int) -> Image.Image:
    """Wood planks, concrete or brick."""
    choice = int(rng.integers(3))
    y, x = np.mgrid[0:TILE, 0:TILE].astype(np.float32)
    if choice == 0:
        plank = np.floor(x / 43)
        light = 1.0 + 0.06 * np.sin(plank * 7.1) - 0.3 * ((x % 43) < 2) + 0.05 * noise(501, 3, 40, 9.0)
        base = _jitter(rng, (188, 156, 122) if rng.random() < 0.5 else (222, 214, 202), 8.0)
    elif choice == 1:
        light = 1.0 + 0.025 * noise(502, 2, 9) + 0.02 * noise(503, 30, 90)
        base = _jitter(rng, (186, 186, 184), 6.0)
    else:
        row = np.floor(y / 24)
        joint = ((y % 24) < 2.5) | (((x + 24 * (row % 2)) % 48) < 2.5)
        light = 1.0 + 0.22 * joint + 0.05 * noise(504, 4, 30)
        base = _jitter(rng, (176, 122, 104) if rng.random() < 0.4 else (214, 208, 202), 8.0)
    pixels = np.clip(np.array(base, dtype=np.float32) * light[:, :, None], 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)


def _clutter(rng: Generator, pen: ImageDraw.ImageDraw, size: int, wall: Rgb) -> None:
    """A room: frames, a shelf of folded cloth, a plant, a door."""
    floor = int(size * rng.uniform(0.74, 0.9))
    pen.rectangle((0, floor, size, size), fill=_jitter(rng, (170, 142, 112), 16.0))
    for _ in range(int(rng.integers(3, 7))):
        w, h = (int(size * rng.uniform(0.08, 0.3)) for _ in range(2))
        x, y = int(rng.uniform(-0.1, 0.95) * size), int(rng.uniform(-0.1, 0.8) * size)
        colour = _jitter(rng, shade(wall, float(rng.uniform(0.5, 1.05))), 22.0)
        if rng.random() < 0.7:
            pen.rectangle((x, y, x + w, y + h), fill=colour, outline=shade(colour, 0.7), width=3)
        else:
            pen.ellipse((x, y, x + w, y + h), fill=colour)
    if rng.random() < 0.5:
        px = int(size * (0.06 if rng.random() < 0.5 else 0.92))
        for k in range(9):
            a = -1.57 + (k - 4) * 0.28
            tip = (px + 0.24 * size * np.cos(a), floor + 0.3 * size * np.sin(a))
            pen.line((px, floor, *tip), fill=_jitter(rng, (72, 118, 74), 12.0), width=max(3, size // 36))
