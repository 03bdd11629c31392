"""Patterns on cloth: the coloured wrapping tile of a product, and the cloth cut from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from lib.catalog.drawing.fabric import (
    SHADES,
    TILE,
    Cloth,
    Field,
    Pixels,
    Rgb,
    lace_holes,
    light_of,
    mix,
    noise,
    shade,
    tint,
    weave,
)

# fold kind, fold depth, pattern warp (tile px), gloss, gloss threshold, opacity, outline blur (px)
_HANG: dict[str, tuple[str, float, float, float, float, float, float]] = {
    "cotton": ("soft", 0.13, 5.0, 0.0, 1.0, 1.0, 0.0),
    "wool": ("soft", 0.12, 4.0, 0.0, 1.0, 1.0, 1.2),
    "linen": ("crumple", 0.15, 4.0, 0.0, 1.0, 1.0, 0.0),
    "silk": ("liquid", 0.30, 9.0, 0.55, 0.25, 1.0, 0.0),
    "polyester": ("drape", 0.15, 5.0, 0.10, 0.30, 1.0, 0.0),
    "fleece": ("soft", 0.11, 3.0, 0.0, 1.0, 1.0, 2.4),
    "chiffon": ("drape", 0.17, 7.0, 0.0, 1.0, 0.66, 0.0),
    "lace": ("soft", 0.06, 2.0, 0.0, 1.0, 1.0, 0.0),
    "denim": ("crumple", 0.11, 2.0, 0.0, 1.0, 1.0, 0.0),
    "leather": ("shell", 0.24, 3.0, 0.40, 0.10, 1.0, 0.0),
}


def accent_for(rng: Generator, base: Rgb) -> Rgb:
    """A second colour that is told apart from base: white on dark cloth, dark on light, or another hue."""
    if rng.random() < 0.5:
        name = "white" if light_of(base) < 120 else str(rng.choice(np.array(["navy blue", "black", "red", "blue"])))
        return tint(rng, "", name)
    for _ in range(12):
        name = str(rng.choice(np.array(list(SHADES))))
        colour = tint(rng, "", name)
        if sum(abs(a - b) for a, b in zip(colour, base, strict=True)) > 170:
            return colour
    return (245, 244, 240) if light_of(base) < 128 else (28, 30, 40)


def _fill(colour: Rgb) -> Field:
    return np.broadcast_to(np.array(colour, dtype=np.float32), (TILE, TILE, 3)).copy()


def _blend(ground: Field, colour: Rgb, share: Field) -> Field:
    mixed: Field = ground + (np.array(colour, dtype=np.float32) - ground) * share[:, :, None]
    return mixed


def _stripes(rng: Generator, base: Rgb, accent: Rgb) -> Field:
    kind = rng.random()
    n = int(rng.integers(6, 17))
    across = np.arange(TILE, dtype=np.float32) / TILE
    width = float(rng.uniform(0.25, 0.55))
    band = (((across * n) % 1.0) < width).astype(np.float32)
    tile = _fill(base)
    upright = kind > 0.62
    share = np.broadcast_to(band[None, :] if upright else band[:, None], (TILE, TILE))
    tile = _blend(tile, accent, share)
    if kind < 0.2:  # a third, thin colour
        thin = (np.abs(((across * n) % 1.0) - (width + 1.0) / 2.0) < 0.07).astype(np.float32)
        tile = _blend(tile, accent_for(rng, base), np.broadcast_to(thin[:, None], (TILE, TILE)))
    return tile


def _grid(line: Field, strength: float) -> Field:
    """Opacity of lines that run both ways, from their (256,) profile across."""
    crossed: Field = np.maximum(line[:, None], line[None, :]) * np.float32(strength)
    return crossed


def _checks(rng: Generator, base: Rgb, accent: Rgb) -> Field:
    n = int(rng.choice(np.array([4, 5, 6, 8, 10])))
    at = (np.arange(TILE, dtype=np.float32) / TILE * n) % 1.0
    tile = _fill(base)
    kind = rng.random()
    if kind < 0.35:  # gingham
        band = (at < 0.5).astype(np.float32)
        return _blend(tile, accent, (0.5 * band[:, None] + 0.5 * band[None, :]).astype(np.float32))
    if kind < 0.8:  # tartan: a broad band, a thin line and a third colour
        broad, thin = (at < 0.42).astype(np.float32), (np.abs(at - 0.7) < 0.05).astype(np.float32)
        edge = ((np.abs(at - 0.04) < 0.04) | (np.abs(at - 0.38) < 0.04)).astype(np.float32)
        dark = shade(mix(base, accent, 0.5), 0.7)
        tile = _blend(tile, dark, 0.55 * broad[:, None] * np.ones((1, TILE), np.float32))
        tile = _blend(tile, dark, 0.55 * broad[None, :] * np.ones((TILE, 1), np.float32))
        third = accent if rng.random() < 0.6 else (250, 244, 230)
        tile = _blend(tile, third, _grid(thin, 0.75))
        return _blend(tile, accent, _grid(edge, 0.35))
    line = (at < 0.10).astype(np.float32)  # window pane
    return _blend(tile, accent, _grid(line, 0.85))


def _wrapped(pen: ImageDraw.ImageDraw, x: float, y: float, r: float, colour: Rgb) -> None:
    for dx in (-TILE, 0, TILE):
        for dy in (-TILE, 0, TILE):
            if -r < x + dx < TILE + r and -r < y + dy < TILE + r:
                pen.ellipse((x + dx - r, y + dy - r, x + dx + r, y + dy + r), fill=colour)


def _dots(rng: Generator, base: Rgb, accent: Rgb) -> Field:
    image = Image.new("RGB", (TILE, TILE), base)
    pen = ImageDraw.Draw(image)
    n = int(rng.choice(np.array([6, 8, 10, 12, 14])))
    step = TILE / n
    r = step * float(rng.uniform(0.20, 0.30))
    for i in range(n):
        for j in range(n):
            _wrapped(pen, (i + 0.5 * (j % 2)) * step, j * step, r, accent)
    return np.asarray(image, dtype=np.float32).copy()


def _flowers(rng: Generator, base: Rgb, accent: Rgb) -> Field:
    image = Image.new("RGB", (TILE, TILE), base)
    pen = ImageDraw.Draw(image)
    size = float(rng.uniform(7.0, 17.0))
    grid = max(4, int(TILE / (size * 3.6)))
    step = TILE / grid
    blooms = [accent, accent_for(rng, base), mix(accent, (255, 255, 255), 0.4)]
    leaf = (60, 112, 66) if light_of(base) > 90 else (120, 164, 112)
    for i in range(grid):
        for j in range(grid):
            x = (i + 0.5 * (j % 2)) * step + float(rng.uniform(-0.22, 0.22)) * step
            y = j * step + float(rng.uniform(-0.22, 0.22)) * step
            r = size * float(rng.uniform(0.65, 1.15))
            turn = float(rng.uniform(0, 6.3))
            petal = blooms[int(rng.integers(3))]
            for k in range(2):
                a = turn + 2.0 + 2.4 * k
                for out in (1.0, 1.4):
                    _wrapped(pen, x + out * r * np.cos(a), y + out * r * np.sin(a), r * 0.30, leaf)
            for k in range(5):
                a = turn + k * 1.2566
                _wrapped(pen, x + 0.62 * r * np.cos(a), y + 0.62 * r * np.sin(a), r * 0.43, petal)
            _wrapped(pen, x, y, r * 0.28, (244, 208, 84) if petal != (244, 208, 84) else (120, 70, 40))
    return np.asarray(image, dtype=np.float32).copy()


def _animal(rng: Generator, base: Rgb, accent: Rgb) -> Field:
    del accent
    skin, mark = (206, 160, 104), (44, 30, 24)
    if light_of(base) > 190 or rng.random() < 0.3:  # zebra or snow leopard
        skin, mark = (238, 234, 224), (34, 32, 34)
    if rng.random() < 0.35:
        field = noise(301, 4.0, 9.0, 0.35)
        return _blend(_fill(skin), mark, (np.abs(field) < 0.42).astype(np.float32))
    spots = noise(302, 9.0, 14.0, 1.0)
    ring = ((spots > 0.55) & (spots < 1.35)).astype(np.float32)
    tile = _blend(_fill(skin), shade(skin, 0.68), (spots >= 1.2).astype(np.float32))
    return _blend(tile, mark, ring)


def _camouflage(rng: Generator, base: Rgb, accent: Rgb) -> Field:
    del accent
    if light_of(base) < 110 or base[1] >= base[2]:
        colours = ((104, 108, 70), (66, 74, 46), (148, 134, 94), (42, 42, 36))
    else:
        colours = ((128, 136, 146), (84, 92, 104), (184, 190, 196), (44, 48, 56))
    first = int(rng.integers(3))
    tile = _fill(colours[0])
    for k, level in ((1, 0.25), (2, 0.65), (3, 0.95)):
        patch = noise(310 + 3 * first + k, 2.0, 6.5, 0.7) > level
        tile = _blend(tile, colours[k], patch.astype(np.float32))
    return tile


def make_cloth(rng: Generator, material: str, pattern: str, colour: str) -> Cloth:
    """The cloth of one product: the pattern in the named colour, printed or woven into the material."""
    base = tint(rng, material, colour)
    accent = accent_for(rng, base)
    variant = int(rng.integers(6))
    contrast = accent if material not in ("leather", "denim") else shade(base, 0.55 if light_of(base) > 90 else 2.2)
    if pattern == "striped":
        tile = _stripes(rng, base, accent)
    elif pattern == "checked":
        tile = _checks(rng, base, accent)
    elif pattern == "polka dot":
        tile = _dots(rng, base, accent)
    elif pattern == "floral print":
        tile = _flowers(rng, base, accent)
    elif pattern == "animal print":
        tile = _animal(rng, base, accent)
    elif pattern == "camouflage":
        tile = _camouflage(rng, base, accent)
    else:
        tile = _fill(base)
    # Black cloth swallows relative light: lift it so that a weave still shows.
    lift = 64.0 if light_of(base) < 70 else 0.0
    finished = _finish(tile, material, variant, lift)
    fold, depth, warp, gloss, gloss_from, alpha, fuzz = _HANG[material]
    return Cloth(
        material=material,
        tile=finished,
        second=_finish(_fill(contrast), material, variant, lift) if pattern == "colourblock" else finished,
        base=base,
        accent=contrast,
        fold=fold,
        variant=variant,
        depth=depth * float(rng.uniform(0.75, 1.25)),
        warp=warp,
        gloss=gloss * float(rng.uniform(0.7, 1.15)),
        gloss_from=gloss_from,
        alpha=alpha,
        fuzz=fuzz,
        holes=lace_holes(variant % 3) if material == "lace" else None,
    )


def _finish(tile: Field, material: str, variant: int, lift: float = 0.0) -> Pixels:
    """The colours under the light of the material's surface; lift adds that light again, `lift` levels strong."""
    surface = np.repeat(weave(material, variant)[:, :, None], 3, axis=2)  # far quicker than a last axis of one
    lit = tile * surface
    if lift:
        lit += lift * (surface - 1.0)
    return np.clip(lit, 0, 255, out=lit).astype(np.uint8)


def plain(cloth: Cloth, colour: Rgb) -> Cloth:
    """The same material in one plain colour (collars, bands and linings)."""
    tile = _finish(_fill(colour), cloth.material, cloth.variant)
    return replace(cloth, tile=tile, second=tile, base=colour)
