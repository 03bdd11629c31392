"""From a product and its cut to a finished picture: pose, framing, light and camera noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from lib.catalog.drawing.assortment import BOTTOMS
from lib.catalog.drawing.backdrop import draw_backdrop
from lib.catalog.drawing.body import (
    DOLLS,
    HAIR,
    SKINS,
    draw_hanger,
    draw_head,
    draw_legs,
    draw_shirt_above,
    draw_torso,
    draw_trousers,
)
from lib.catalog.drawing.bottom import bottom_outline, draw_bottom
from lib.catalog.drawing.canvas import Camera, Canvas
from lib.catalog.drawing.cut import Cut
from lib.catalog.drawing.fabric import Rgb
from lib.catalog.drawing.garment import draw_top, outline_parts
from lib.catalog.drawing.plan import Product, draw
from lib.catalog.drawing.sleeve import Pose, arm_path

SUPERSAMPLE = 2
_NEUTRAL: tuple[Rgb, ...] = (
    (30, 31, 36),
    (54, 70, 104),
    (120, 122, 126),
    (206, 190, 162),
    (240, 239, 236),
    (84, 64, 52),
)


@dataclass(frozen=True)
class Staging:
    """What all views of one product share: the wearer and the way of showing."""

    stand: str
    skin: Rgb
    hair: Rgb
    long_hair: bool
    other: Rgb
    shoe: Rgb


def make_staging(rng: Generator, product: Product) -> Staging:
    """How the shop photographs this product: worn, on a mannequin, on a hanger, or lying flat."""
    stand = draw(rng, {"worn": 0.46, "doll": 0.14, "hanger": 0.14, "flat": 0.26})
    if product.category in BOTTOMS and stand == "hanger":
        stand = "flat"
    if product.neckline == "off shoulder" and stand in ("flat", "hanger"):
        stand = "worn" if rng.random() < 0.7 else "flat"
    skin = SKINS[int(rng.integers(len(SKINS)))]
    if stand == "doll":
        skin = DOLLS[int(rng.integers(len(DOLLS)))]
    hair = HAIR[int(rng.integers(len(HAIR)))]
    other = _NEUTRAL[int(rng.integers(len(_NEUTRAL)))]
    shoe = _NEUTRAL[int(rng.integers(len(_NEUTRAL)))]
    return Staging(stand, skin, hair, product.gender == "women" and bool(rng.random() < 0.7), other, shoe)


def _pose(rng: Generator, staging: Staging) -> Pose:
    low, high = {"worn": (0.06, 0.38), "doll": (0.10, 0.28), "hanger": (0.06, 0.24), "flat": (0.2, 0.48)}[
        staging.stand
    ]
    upper = tuple(float(rng.uniform(low, high)) for _ in range(2))
    if staging.stand == "flat" and rng.random() < 0.7:
        upper = (upper[0], upper[0] + float(rng.normal(0.0, 0.04)))
    fore = tuple(u + float(rng.uniform(-0.22, 0.12)) for u in upper)
    if staging.stand == "worn" and rng.random() < 0.3:  # a hand on the hip or forward
        fore = (upper[0] + float(rng.uniform(-0.9, -0.3)), fore[1])
    worn = staging.stand in ("worn", "doll")
    return Pose((upper[0], upper[1]), (fore[0], fore[1]), staging.skin if worn else None, staging.stand)


def _camera(rng: Generator, product: Product, cut: Cut, pose: Pose, view: str, stance: float, size: int) -> Camera:
    bottom = product.category in BOTTOMS
    outline = np.vstack(bottom_outline(product, cut, stance) if bottom else outline_parts(product, cut))
    top, low = float(outline[:, 1].min()), float(outline[:, 1].max())
    wide = float(np.abs(outline[:, 0]).max())
    if not bottom and cut.sleeve_length > 0.6:
        wide = max(wide, float(arm_path(cut, pose, 0, cut.sleeve_length)[:, 0].max()) + 0.06)
        wide = max(wide, float(arm_path(cut, pose, 1, cut.sleeve_length)[:, 0].max()) + 0.06)
    if not bottom:
        top -= 0.44 if product.neckline == "hood" and pose.skin is None else 0.26  # an empty hood stands up
    # A shop's studio hangs every top at one height and distance, so the frame starts at the neck (or the waist)
    # and its size changes little from product to product.
    extent = max(low - top, 2 * wide, 1.3 if bottom else 1.72)
    if product.category == "dresses" and rng.random() < 0.4:
        extent = min(extent, 2.1)
    cx = float(rng.normal(0.0, 0.02)) * extent
    extent *= float(rng.uniform(1.0, 1.12))
    zoom = size / extent
    cy = top + extent * (0.5 - float(rng.uniform(0.0, 0.05)))
    if view == "detail":
        closer = float(rng.uniform(1.2, 1.7)) if product.category != "dresses" else float(rng.uniform(1.5, 2.3))
        zoom *= closer
        window = size / zoom
        cy = top + window * float(rng.uniform(0.40, 0.54)) + (0.04 if not bottom else 0.0)
        cx = float(rng.normal(0.0, 0.07)) * window
    elif rng.random() < 0.08:  # a tight crop that cuts sleeves or hem off
        zoom *= float(rng.uniform(1.1, 1.25))
        cy = top + size / zoom * float(rng.uniform(0.45, 0.55))
    squeeze, turn = 1.0, 0.0
    if view == "side":
        squeeze, turn = (
            float(rng.uniform(0.74, 0.9)),
            float(rng.choice(np.array([-1.0, 1.0]))) * float(rng.uniform(0.05, 0.14)),
        )
    elif pose.stand == "worn":
        squeeze, turn = float(rng.uniform(0.94, 1.04)), float(rng.normal(0.0, 0.02))
    tilt = 0.05 if pose.stand == "flat" else 0.025
    return Camera(
        scale=zoom,
        cx=cx,
        cy=cy,
        angle=float(rng.normal(0.0, tilt)),
        shear=float(rng.normal(0.0, 0.03)),
        squeeze=squeeze,
        turn=turn,
        mirror=bool(rng.random() < 0.5) and product.pattern != "graphic print",
    )


def _shadow(canvas: Canvas, product: Product, cut: Cut, pose: Pose, stance: float, rng: Generator) -> None:
    size = canvas.size
    small = size // 4
    cast = Image.new("L", (small, small), 0)
    pen = ImageDraw.Draw(cast)
    bottom = product.category in BOTTOMS
    parts = bottom_outline(product, cut, stance) if bottom else outline_parts(product, cut)
    for part in parts:
        pen.polygon([(float(x) / 4, float(y) / 4) for x, y in canvas.place(part)], fill=255)
    if not bottom and cut.sleeve_length > 0.0:
        for side in (0, 1):
            path = arm_path(cut, pose, side, cut.sleeve_length) * np.array([1.0 - 2 * side, 1.0])
            line = [(float(x) / 4, float(y) / 4) for x, y in canvas.place(path)]
            pen.line(line, fill=255, width=max(2, int(0.3 * canvas.camera.scale / 4)))
    far = pose.stand != "flat"
    dx, dy = (int(v) for v in rng.uniform(-1.0, 1.0, 2) * size * (0.05 if far else 0.02))
    cast = cast.filter(ImageFilter.GaussianBlur(5.0 if far else 2.5)).resize((size, size), Image.Resampling.BILINEAR)
    strength = float(rng.uniform(0.15, 0.5))
    canvas.image.paste((24, 22, 26), (dx, dy + size // 60), cast.point([int(k * strength) for k in range(256)]))


def draw_view(product: Product, cut: Cut, staging: Staging, view: str, rng: Generator, size: int) -> Image.Image:
    """One finished RGB picture (size x size pixels) of the product; view is front, side, back or detail."""
    pose = _pose(rng, staging)
    stance = float(rng.uniform(0.0, 0.10))
    big = size * SUPERSAMPLE
    canvas = Canvas(draw_backdrop(rng, big), _camera(rng, product, cut, pose, view, stance, big))
    if rng.random() < (0.85 if staging.stand == "flat" else 0.5):
        _shadow(canvas, product, cut, pose, stance, rng)
    _dress(canvas, product, cut, staging, pose, stance, back=view == "back")
    return _develop(canvas.image, rng, size)


def draw_wearer(
    product: Product, cut: Cut, staging: Staging, rng: Generator, backdrop: Image.Image, *, zoom: float
) -> Image.Image:
    """The product from the front before a square RGB backdrop, neither developed nor scaled down.

    zoom scales the garment: 1 fills the picture as a shop's view does.
    """
    pose = _pose(rng, staging)
    stance = float(rng.uniform(0.0, 0.10))
    camera = _camera(rng, product, cut, pose, "front", stance, backdrop.width)
    canvas = Canvas(backdrop, replace(camera, scale=zoom * camera.scale))
    _dress(canvas, product, cut, staging, pose, stance, back=False)
    return canvas.image


def _dress(
    canvas: Canvas, product: Product, cut: Cut, staging: Staging, pose: Pose, stance: float, *, back: bool
) -> None:
    """The garment on its wearer, or by itself."""
    bottom = product.category in BOTTOMS
    worn = pose.skin is not None
    if worn:
        if product.category not in ("pants",) and (bottom or product.category == "dresses"):
            draw_legs(canvas, staging.skin, stance, staging.shoe)
        draw_torso(canvas, staging.skin)
        if staging.stand == "worn":
            draw_head(canvas, staging.skin, staging.hair, staging.long_hair, back)
        if bottom:
            if staging.stand == "worn":
                draw_shirt_above(canvas, cut, staging.other, staging.skin, pose.upper)
        elif product.category != "dresses" and staging.stand == "worn":
            draw_trousers(canvas, staging.other, stance)
    elif staging.stand == "hanger":
        draw_hanger(canvas, bool(cut.choice % 2))
    if bottom:
        draw_bottom(canvas, product, cut, stance, back)
    else:
        draw_top(canvas, product, cut, pose, back)


def _develop(image: Image.Image, rng: Generator, size: int) -> Image.Image:
    """Downscale and add what a camera adds: a light gradient, a colour cast, softness and grain."""
    image = image.reduce(SUPERSAMPLE)
    soft = float(rng.random())
    if soft < 0.15:
        image = image.filter(ImageFilter.GaussianBlur(0.4 + 2.5 * soft))
    pixels = np.asarray(image, dtype=np.float32)
    angle = float(rng.uniform(0, 6.28))
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    light = np.cos(angle) * ramp[None, :] + np.sin(angle) * ramp[:, None]
    gain = float(rng.uniform(0.9, 1.08)) * (1.0 + float(rng.uniform(0.0, 0.25)) * light)
    cast = np.array([1.0 + float(rng.normal(0.0, 0.03)), 1.0, 1.0 + float(rng.normal(0.0, 0.04))], dtype=np.float32)
    grain = float(rng.uniform(0.0, 4.0)) * rng.standard_normal((size, size), dtype=np.float32)
    developed = np.empty((size, size, 3), dtype=np.uint8)
    gain = gain.astype(np.float32)
    for channel in range(3):  # a product over a last axis of three takes twice as long
        plane = pixels[:, :, channel] * gain
        plane *= cast[channel]
        plane += grain
        developed[:, :, channel] = np.clip(plane, 0, 255, out=plane)
    return Image.fromarray(developed)
