"""Cloth: colours, the weave and folds of each material, all as wrapping tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

TILE = 256
Field = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Rgb = tuple[int, int, int]

SHADES: dict[str, tuple[Rgb, ...]] = {
    "black": ((24, 24, 28), (36, 35, 38), (18, 18, 20)),
    "white": ((246, 246, 243), (236, 236, 234), (250, 247, 240)),
    "grey": ((140, 142, 146), (98, 101, 106), (184, 186, 189)),
    "navy blue": ((28, 38, 78), (36, 46, 88), (22, 30, 60)),
    "blue": ((52, 104, 190), (96, 150, 214), (40, 84, 160), (150, 186, 228)),
    "red": ((200, 36, 42), (218, 58, 50), (176, 24, 36)),
    "burgundy": ((112, 24, 44), (94, 22, 34), (128, 34, 56)),
    "pink": ((238, 160, 184), (232, 112, 150), (246, 196, 204)),
    "green": ((46, 132, 84), (28, 98, 66), (112, 178, 126), (40, 140, 132)),
    "olive": ((98, 100, 52), (116, 114, 70), (82, 86, 50)),
    "beige": ((222, 204, 172), (206, 184, 148), (234, 222, 198)),
    "brown": ((112, 74, 46), (88, 56, 36), (140, 94, 60)),
    "yellow": ((238, 200, 60), (248, 222, 110), (214, 164, 40)),
    "purple": ((112, 72, 158), (150, 114, 190), (86, 50, 118)),
}
# Dyes that look unlike the cloth of the same colour name.
DYES: dict[tuple[str, str], tuple[Rgb, ...]] = {
    ("denim", "blue"): ((74, 106, 152), (104, 138, 180), (58, 88, 134), (140, 168, 198)),
    ("denim", "navy blue"): ((42, 56, 92), (50, 66, 102)),
    ("denim", "black"): ((52, 52, 56), (44, 45, 50)),
    ("denim", "grey"): ((128, 132, 138), (100, 104, 110)),
    ("denim", "white"): ((228, 227, 220), (236, 234, 228)),
    ("leather", "black"): ((32, 30, 31), (24, 23, 25)),
    ("leather", "brown"): ((98, 58, 34), (78, 46, 28), (122, 74, 42)),
    ("leather", "beige"): ((176, 128, 82), (188, 142, 98)),
    ("leather", "burgundy"): ((98, 24, 34), (84, 20, 30)),
}


@dataclass(frozen=True)
class Cloth:
    """What a garment is cut from: two colourings of one pattern plus how the material hangs and shines.

    tile and second are (256, 256, 3) wrapping textures, holes an optional (256, 256) opacity; fold names the
    kind of crease, depth its strength (relative light), warp how far it bends the pattern (tile pixels),
    gloss the strength of highlights in [0, 1] above crease height gloss_from, alpha the opacity, fuzz the
    blur of the outline in pixels.
    """

    material: str
    tile: Pixels
    second: Pixels
    base: Rgb
    accent: Rgb
    fold: str
    variant: int
    depth: float
    warp: float
    gloss: float
    gloss_from: float
    alpha: float
    fuzz: float
    holes: Pixels | None


def shade(colour: Rgb, factor: float) -> Rgb:
    """The colour made darker (factor < 1) or lighter (factor > 1), clipped to 0..255."""
    r, g, b = (int(min(255.0, max(0.0, c * factor + (12.0 * (factor - 1.0) if factor > 1 else 0.0)))) for c in colour)
    return r, g, b


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """A colour `share` of the way from a to b."""
    r, g, k = (int(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return r, g, k


def light_of(colour: Rgb) -> float:
    """The perceived brightness of a colour, 0..255."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def tint(rng: Generator, material: str, colour: str) -> Rgb:
    """One concrete shade of a named colour, as this material takes it, with a little jitter."""
    shades = DYES.get((material, colour), SHADES[colour])
    r, g, b = shades[int(rng.integers(len(shades)))]
    drift = rng.normal(0.0, 5.0, 3)
    jittered = [int(np.clip(c + d, 0, 255)) for c, d in zip((r, g, b), drift, strict=True)]
    return jittered[0], jittered[1], jittered[2]


@lru_cache(maxsize=96)
def noise(seed: int, low: float, high: float, stretch: float = 1.0) -> Field:
    """A wrapping (256, 256) noise of zero mean and unit deviation, band-limited to low..high cycles per tile.

    stretch > 1 makes features that many times longer vertically than horizontally.
    """
    rng = np.random.default_rng([77, seed])
    fy = np.fft.fftfreq(TILE)[:, None] * TILE * stretch
    fx = np.fft.rfftfreq(TILE)[None, :] * TILE
    radius = np.hypot(fy, fx)
    band = np.exp(-((radius / high) ** 2)) * (1.0 - np.exp(-((radius / low) ** 2)))
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(TILE, TILE))) * band, s=(TILE, TILE))
    field -= field.mean()
    scaled = (field / max(float(field.std()), 1e-9)).astype(np.float32)
    scaled.setflags(write=False)  # shared by every caller
    return scaled


def _axes() -> tuple[Field, Field]:
    v, u = np.mgrid[0:TILE, 0:TILE].astype(np.float32) / TILE
    return u, v


def _soft(seed: int) -> Field:
    return np.asarray(np.tanh(0.8 * noise(seed, 1.0, 3.5, 0.8)), dtype=np.float32)


def _crumple(seed: int) -> Field:
    ridge = 1.0 - 2.2 * np.abs(np.tanh(noise(seed, 2.0, 6.0, 0.7)))
    return np.asarray(0.6 * ridge + 0.4 * _soft(seed + 50), dtype=np.float32)


def _drape(seed: int) -> Field:
    return np.asarray(np.tanh(noise(seed, 2.0, 6.0, 7.0)), dtype=np.float32)


def _liquid(seed: int) -> Field:
    ridge = 1.0 - 2.0 * np.abs(np.tanh(0.9 * noise(seed, 1.5, 3.5, 3.0)))
    return np.asarray(0.7 * ridge + 0.3 * _drape(seed + 60), dtype=np.float32)


def _shell(seed: int) -> Field:
    # Stiff hide: long soft lights between sharp dark creases.
    ridge = np.exp(-((noise(seed, 1.5, 4.5, 2.6) / 0.28) ** 2)) * (0.55 + 0.45 * np.tanh(noise(seed + 72, 1.0, 3.0)))
    crease = np.exp(-((noise(seed + 70, 1.5, 5.0, 0.8) / 0.09) ** 2)) * (noise(seed + 71, 1.0, 3.0) > 0.1)
    return np.asarray(1.5 * ridge - 0.9 * crease - 0.2, dtype=np.float32)


_FOLDS: dict[str, Callable[[int], Field]] = {
    "soft": _soft,
    "crumple": _crumple,
    "drape": _drape,
    "liquid": _liquid,
    "shell": _shell,
}


@lru_cache(maxsize=32)
def fold_tile(kind: str, variant: int) -> Field:
    """The (256, 256) crease map of a kind of fold, about -1..1; variant picks one of a few."""
    return np.ascontiguousarray(_FOLDS[kind](100 * (1 + list(_FOLDS).index(kind)) + variant))


@lru_cache(maxsize=64)
def weave(material: str, variant: int) -> Field:
    """The (256, 256) relative light of a material's surface, mean about 1; variant picks the knit and so on."""
    u, v = _axes()
    tau = np.float32(2.0 * np.pi)
    if material == "wool":
        if variant % 4 == 0:  # rib
            surface = 1.0 + 0.22 * np.cos(tau * u * 24) + 0.05 * np.cos(tau * v * 60)
        elif variant % 4 == 1:  # cable: plaits between ribs
            across = (u * 8) % 1.0 - 0.5
            sway = 0.17 * np.sin(tau * v * 8)
            strands = np.maximum(np.exp(-(((across - sway) / 0.11) ** 2)), np.exp(-(((across + sway) / 0.11) ** 2)))
            surface = 0.74 + 0.42 * strands + 0.16 * np.exp(-(((np.abs(across) - 0.46) / 0.05) ** 2))
        elif variant % 4 == 2:  # stocking stitch: rows of V
            slant = np.abs((u * 24) % 1.0 - 0.5)
            surface = 1.0 + 0.20 * np.cos(tau * (v * 28 + slant * 1.2)) + 0.10 * np.cos(tau * u * 24)
        else:  # moss stitch
            surface = 1.0 + 0.24 * np.cos(tau * u * 22) * np.cos(tau * v * 22)
        surface = surface + 0.05 * noise(1 + variant, 20, 60)
    elif material == "linen":
        threads = noise(11 + variant, 40, 100, 12.0) + noise(12 + variant, 40, 100, 12.0).T
        slub = np.clip(noise(13 + variant, 10, 60, 0.08) - 1.5, 0, 2) + np.clip(noise(14, 10, 60, 12.0) - 1.7, 0, 2)
        surface = 1.0 + 0.07 * threads - 0.15 * slub
    elif material == "denim":
        twill = np.cos(tau * (u * 26 + v * 26))
        faded = np.clip(_soft(23 + variant), 0.0, 1.0)
        surface = 0.97 + 0.13 * twill + 0.06 * noise(21, 30, 90, 6.0) + 0.22 * faded
    elif material == "fleece":
        surface = 1.0 + 0.085 * noise(31 + variant, 10, 34) + 0.05 * noise(32, 40, 90)
    elif material == "leather":
        surface = 1.0 + 0.05 * noise(41, 24, 60) - 0.16 * (np.abs(noise(42 + variant, 2, 7, 1.4)) < 0.04)
    elif material == "polyester":
        surface = 1.0 + 0.045 * np.cos(tau * u * 42) * np.cos(tau * v * 42)
    elif material == "lace":
        surface = 1.0 + 0.05 * noise(51, 20, 60)
    elif material in ("silk", "chiffon"):
        surface = 1.0 + 0.01 * noise(61, 40, 90)
    else:
        surface = 1.0 + 0.03 * noise(71 + variant, 60, 110)
    return np.asarray(surface, dtype=np.float32)


@lru_cache(maxsize=4)
def lace_holes(variant: int) -> Pixels:
    """The (256, 256) opacity of lace: flowers of thread on a net."""
    u, v = _axes()
    n = (8, 10, 7)[variant % 3]
    x, y = (u * n) % 1.0 - 0.5, (v * n + 0.5 * (np.floor(u * n) % 2)) % 1.0 - 0.5
    r, a = np.hypot(x, y), np.arctan2(y, x)
    petal = (r < 0.36 + 0.10 * np.cos(a * 6)) & (np.abs(r - 0.16) > 0.045)
    net = (np.abs((u * 36 + v * 36) % 1.0 - 0.5) > 0.33) | (np.abs((u * 36 - v * 36) % 1.0 - 0.5) > 0.33)
    solid = petal | net
    return np.where(solid, 255, 88).astype(np.uint8)
