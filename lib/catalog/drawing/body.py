"""The wearer or stand: head, neck and torso, legs, mannequins and hangers; plain shapes in skin tones."""

from __future__ import annotations

import numpy as np

from lib.catalog.drawing.canvas import Canvas
from lib.catalog.drawing.curve import bezier, closed, flipped, pts, ribbon, spline
from lib.catalog.drawing.cut import Cut
from lib.catalog.drawing.fabric import Rgb, shade

SKINS: tuple[Rgb, ...] = (
    (244, 208, 184),
    (232, 188, 160),
    (214, 164, 130),
    (186, 132, 98),
    (142, 96, 70),
    (98, 66, 50),
)
HAIR: tuple[Rgb, ...] = (
    (34, 26, 24),
    (78, 50, 34),
    (134, 92, 54),
    (206, 168, 104),
    (120, 54, 34),
    (120, 118, 116),
)
DOLLS: tuple[Rgb, ...] = ((232, 226, 218), (214, 206, 196), (60, 60, 62), (250, 250, 248))


def draw_torso(canvas: Canvas, skin: Rgb) -> None:
    """Draw the bare torso and neck, so that wide or sheer garments show skin and not the wall."""
    right = np.vstack(
        [
            pts((0.0, -0.32), (0.115, -0.32)),
            bezier((0.115, -0.12), (0.12, 0.0), (0.26, 0.06), (0.42, 0.13), n=8),
        ]
    )
    right = np.vstack(
        [
            right,
            spline([(0.42, 0.14), (0.39, 0.5), (0.31, 0.95), (0.40, 1.3), (0.40, 1.55)]),
            pts((0.0, 1.55)),
        ]
    )
    canvas.shape(closed(right), skin)
    for side in (1.0, -1.0):  # collar bones
        canvas.line(
            flipped(bezier((0.04, 0.13), (0.16, 0.08), (0.33, 0.12), n=6), side),
            shade(skin, 0.85),
            0.014,
            0.6,
        )


def draw_head(canvas: Canvas, skin: Rgb, hair: Rgb, long: bool, back: bool) -> None:
    """Draw a simple head above the neck, without a face."""
    a = np.linspace(0.0, 2 * np.pi, 30)
    if long and not back:
        fall = spline([(0.0, -0.84), (0.21, -0.68), (0.23, -0.35), (0.20, -0.02), (0.10, 0.06)])
        canvas.shape(closed(np.vstack([fall, pts((0.0, 0.0))])), hair)
        draw_neck_only(canvas, skin)
    canvas.shape(np.column_stack([0.172 * np.cos(a), -0.46 + 0.25 * np.sin(a)]), skin)
    cap = np.column_stack([0.188 * np.cos(a[15:]), -0.55 + 0.24 * np.sin(a[15:])])
    if back:
        canvas.shape(np.column_stack([0.185 * np.cos(a), -0.50 + 0.26 * np.sin(a)]), hair)
        if long:
            canvas.shape(closed(pts((0.0, -0.6), (0.19, -0.5), (0.21, 0.1), (0.15, 0.3), (0.0, 0.32))), hair)
    else:
        canvas.shape(
            np.vstack([cap, bezier((0.188, -0.5), (0.10, -0.66), (-0.10, -0.66), (-0.188, -0.5), n=8)]), hair
        )


def draw_neck_only(canvas: Canvas, skin: Rgb) -> None:
    """Draw the neck over hair that falls behind it."""
    canvas.shape(
        closed(
            np.vstack(
                [
                    pts((0.0, -0.32), (0.11, -0.32)),
                    bezier((0.11, -0.12), (0.12, 0.0), (0.24, 0.06)),
                    pts((0.0, 0.3)),
                ]
            )
        ),
        skin,
    )


def draw_legs(canvas: Canvas, skin: Rgb, stance: float, shoe: Rgb) -> None:
    """Draw bare legs from the hips down, with shoes."""
    for side in (1.0, -1.0):
        path = pts((0.20, 1.25), (0.20, 1.55), (0.20 + stance * 0.75, 2.25), (0.20 + stance * 1.6, 3.15))
        smooth = spline([(float(x), float(y)) for x, y in path])
        canvas.shape(flipped(ribbon(smooth, 0.36, 0.12), side), skin)
        canvas.line(flipped(ribbon(smooth, 0.30, 0.08)[: len(smooth)], side), shade(skin, 0.85), 0.02, 0.4)
        x = 0.20 + stance * 1.6
        shoe_shape = pts((x - 0.07, 3.10), (x + 0.07, 3.10), (x + 0.12, 3.27), (x - 0.07, 3.27))
        canvas.shape(flipped(shoe_shape, side), shoe)


def draw_trousers(canvas: Canvas, colour: Rgb, stance: float) -> None:
    """Draw the plain trousers worn under a top."""
    for side in (1.0, -1.0):
        leg = pts(
            (0.0, 0.98),
            (0.34, 0.98),
            (0.43, 1.3),
            (0.33 + stance * 0.75, 2.25),
            (0.30 + stance * 1.6, 3.1),
            (0.10 + stance * 1.6, 3.1),
            (0.06, 2.2),
            (0.0, 1.5),
        )
        canvas.shape(flipped(leg, side), colour)
        canvas.line(flipped(pts((0.0, 1.1), (0.0, 1.5), (0.06, 2.2)), side), shade(colour, 0.7), 0.02, 0.8)


def draw_shirt_above(canvas: Canvas, cut: Cut, colour: Rgb, skin: Rgb, angles: tuple[float, float]) -> None:
    """Draw the plain top worn above a skirt, pants or shorts, with arms."""
    for k, side in enumerate((1.0, -1.0)):
        a = angles[k]
        path = pts(
            (0.40, 0.2),
            (0.40 + 0.55 * np.sin(a), 0.2 + 0.55 * np.cos(a)),
            (0.40 + 0.9 * np.sin(a * 0.6), 0.2 + 1.1 * np.cos(a * 0.6)),
        )
        canvas.shape(flipped(ribbon(path, 0.2, 0.1), side), skin)
        canvas.shape(flipped(ribbon(path[:2], 0.24, 0.22), side), colour)
    low = cut.rise + 0.10 + 0.16 * (cut.choice % 2)
    body = np.vstack(
        [
            bezier((0.0, 0.1), (0.12, 0.1), (0.16, 0.0)),
            pts((0.42, 0.12), (0.40, 0.5), (cut.waist + 0.03, low), (0.0, low)),
        ]
    )
    canvas.shape(closed(body), colour)
    canvas.line(closed(body)[15:19], shade(colour, 0.75), 0.02, 0.5)


def draw_hanger(canvas: Canvas, wood: bool) -> None:
    """Draw a clothes hanger behind the shoulders."""
    colour: Rgb = (170, 122, 78) if wood else (72, 72, 76)
    canvas.line(pts((-0.40, 0.17), (0.0, -0.06), (0.40, 0.17)), colour, 0.045)
    a = np.linspace(np.pi, -0.6 * np.pi, 16)
    hook = np.vstack(
        [
            pts((0.0, -0.06), (0.0, -0.17)),
            np.column_stack([0.065 + 0.065 * np.cos(a), -0.24 - 0.065 * np.sin(a)]),
        ]
    )
    canvas.line(hook, (150, 150, 154), 0.022)
