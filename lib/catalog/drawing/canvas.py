"""A supersampled canvas on which garments are painted in body units.

Body units: x is 0 on the centre line and about +-0.47 at the shoulders; y is 0 at the base of the neck
and grows downwards (armpit 0.46, waist 0.95, hips 1.25, knee 2.25, ankle 3.15).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from lib.catalog.drawing.fabric import TILE, Cloth, fold_tile

Points = NDArray[np.float64]
Rgb = tuple[int, int, int]

# Tile pixels of cloth per body unit: one tile is two units wide, so a torso shows about half a tile.
TILE_PER_UNIT = 128.0


@dataclass(frozen=True)
class Camera:
    """How body units land on the picture.

    scale is pixels per unit, (cx, cy) the unit point shown in the middle of the picture, angle the rotation
    in radians, shear the sideways lean per unit, squeeze the sideways compression and turn the sideways
    shift of the centre line that together imitate a body turned to the side.
    """

    scale: float
    cx: float
    cy: float
    angle: float = 0.0
    shear: float = 0.0
    squeeze: float = 1.0
    turn: float = 0.0
    mirror: bool = False


class Canvas:
    """A square RGB picture of `size` pixels that understands body units and cloth."""

    def __init__(self, image: Image.Image, camera: Camera) -> None:
        self.image = image
        self.size = image.size[0]
        self.camera = camera
        self.pen = ImageDraw.Draw(image, "RGBA")
        cos, sin = float(np.cos(camera.angle)), float(np.sin(camera.angle))
        flip = -1.0 if camera.mirror else 1.0
        lean = np.array([[camera.squeeze * flip, camera.shear], [0.0, 1.0]])
        self._matrix = camera.scale * np.array([[cos, -sin], [sin, cos]]) @ lean
        self._inverse = np.linalg.inv(self._matrix)

    def place(self, points: Points) -> Points:
        """Turn (n, 2) body units into (n, 2) pixels."""
        moved = np.array(points, dtype=np.float64)
        turn = self.camera.turn
        if turn:
            # A quadratic shift moves the centre line but leaves the outline where it was, as turning does.
            moved[:, 0] += turn * np.maximum(1.0 - (moved[:, 0] / 0.62) ** 2, 0.0)
        moved -= (self.camera.cx, self.camera.cy)
        placed: Points = moved @ self._matrix.T + self.size / 2.0
        return placed

    def _flat(self, points: Points) -> list[float]:
        """Pixels of (n, 2) body units as Pillow reads them fastest: x, y, x, y, …"""
        flat: list[float] = self.place(points).ravel().tolist()
        return flat

    def shape(self, points: Points, colour: Rgb, alpha: float = 1.0) -> None:
        """Fill a polygon of body units with one colour, blended with opacity alpha in [0, 1]."""
        self.pen.polygon(self._flat(points), fill=(*colour, int(255 * alpha)))

    def line(self, points: Points, colour: Rgb, width: float, alpha: float = 1.0) -> None:
        """Draw a polyline of body units, `width` units thick (never thinner than one pixel)."""
        pixels = max(1, round(width * self.camera.scale))
        self.pen.line(self._flat(points), fill=(*colour, int(255 * alpha)), width=pixels, joint="curve")

    def dashes(self, points: Points, colour: Rgb, width: float, alpha: float = 1.0, step: float = 0.03) -> None:
        """Draw a stitched seam: dashes of `step` units along a polyline of body units."""
        gaps = np.diff(points, axis=0)
        along = np.concatenate([[0.0], np.cumsum(np.hypot(gaps[:, 0], gaps[:, 1]))])
        count = max(1, int(along[-1] / step))
        marks = np.linspace(0.0, along[-1], 2 * count + 1)
        dotted = np.column_stack([np.interp(marks, along, points[:, k]) for k in (0, 1)])
        pixels = max(1, round(width * self.camera.scale))
        flat = self._flat(dotted)
        for k in range(0, 4 * count, 4):
            self.pen.line(flat[k : k + 4], fill=(*colour, int(255 * alpha)), width=pixels)

    def dot(self, x: float, y: float, radius: float, colour: Rgb, edge: Rgb | None = None) -> None:
        """Draw a round spot (a button, an eyelet) of `radius` units at a body point."""
        px, py = self._flat(np.array([[x, y]]))
        r = max(1.0, radius * self.camera.scale)
        self.pen.ellipse((px - r, py - r, px + r, py + r), fill=(*colour, 255), outline=edge)

    def paint(
        self,
        points: Points,
        cloth: Cloth,
        *,
        angle: float = 0.0,
        fan: float = 0.0,
        shift: tuple[float, float] = (0.0, 0.0),
        second: bool = False,
        split: float | None = None,
        shade: float = 1.0,
        edge: float = 0.3,
        folds: float = 1.0,
    ) -> None:
        """Fill a polygon of body units with cloth.

        angle turns the weave (radians, along a sleeve), fan spreads the folds with depth (skirts), shift moves
        the weave (units), second takes the cloth's second colour, split is the height (units) below which the
        second colour begins, shade scales the light, edge darkens the rim, folds scales the fold depth.
        """
        placed = self.place(points)
        (x_low, y_low), (x_high, y_high) = placed.min(axis=0).tolist(), placed.max(axis=0).tolist()
        left, top = max(0, int(x_low) - 1), max(0, int(y_low) - 1)
        right, bottom = min(self.size, int(x_high) + 2), min(self.size, int(y_high) + 2)
        if right - left < 2 or bottom - top < 2:
            return
        mask = Image.new("L", (right - left, bottom - top), 0)
        ImageDraw.Draw(mask).polygon((placed - (left, top)).ravel().tolist(), fill=255)
        u, v = self._weave(left, top, right, bottom, angle, shift)
        if fan:
            u = u / np.maximum(1.0 + fan * v / TILE_PER_UNIT, 0.2)
        crease = fold_tile(cloth.fold, cloth.variant).reshape(-1).take(_index(u, v))
        u += (cloth.warp * folds) * crease
        index = _index(u, v)
        tile = (cloth.second if second else cloth.tile).reshape(-1, 3)
        patch = np.take(tile, index, axis=0)
        if split is not None:
            rows = self._inverse[1, 1] * (np.arange(top, bottom) - self.size / 2.0) + self.camera.cy
            below = rows > split
            patch[below] = np.take(cloth.second.reshape(-1, 3), index[below], axis=0)
        rim = mask.filter(ImageFilter.BoxBlur(max(2.0, 0.07 * self.camera.scale)))
        light = np.array(rim, dtype=np.float32)
        # (1 - edge) + edge * how far inside the rim, times shade * (1 + depth * crease); in place, for speed
        light *= 1.0 / 127.0
        light -= 1.0
        np.clip(light, 0.0, 1.0, out=light)
        light *= edge
        light += 1.0 - edge
        swell = crease * (cloth.depth * folds)
        swell += 1.0
        swell *= shade
        light *= swell
        lit = np.multiply(patch, light[:, :, None], dtype=np.float32)
        if cloth.gloss:
            shine = np.clip(crease - cloth.gloss_from, 0.0, 1.0) * (cloth.gloss * 255.0)
            lit += shine[:, :, None]
        if cloth.holes is not None:
            veil = cloth.holes.reshape(-1).take(index)
            mask = Image.fromarray(np.minimum(np.asarray(mask), veil))
        elif cloth.alpha < 1.0:
            mask = mask.point([int(k * cloth.alpha) for k in range(256)])
        if cloth.fuzz:
            mask = mask.filter(ImageFilter.BoxBlur(cloth.fuzz))
        np.clip(lit, 0.0, 255.0, out=lit)
        self.image.paste(Image.fromarray(lit.astype(np.uint8)), (left, top), mask)

    def _weave(
        self, left: int, top: int, right: int, bottom: int, angle: float, shift: tuple[float, float]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Tile coordinates (h, w) of the pixels of a box, for a weave turned by angle."""
        px = (np.arange(left, right) - self.size / 2.0).astype(np.float32)
        py = (np.arange(top, bottom) - self.size / 2.0).astype(np.float32)
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        turn = TILE_PER_UNIT * np.array([[cos, sin], [-sin, cos]]) @ self._inverse
        start = (
            TILE_PER_UNIT
            * np.array([[cos, sin], [-sin, cos]])
            @ np.array([self.camera.cx + shift[0], self.camera.cy + shift[1]])
        )
        u = (turn[0, 0] * px + start[0]).astype(np.float32)[None, :] + (turn[0, 1] * py).astype(np.float32)[:, None]
        v = (turn[1, 0] * px + start[1]).astype(np.float32)[None, :] + (turn[1, 1] * py).astype(np.float32)[:, None]
        return u, v


def _index(u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.int32]:
    """Flat tile positions of tile coordinates, wrapping round (TILE is a power of two)."""
    wrapped, across = v.astype(np.int32), u.astype(np.int32)
    wrapped &= TILE - 1
    wrapped *= TILE
    across &= TILE - 1
    wrapped += across
    return wrapped
