"""Skirts, pants and shorts, and the skirt part of dresses."""

from __future__ import annotations

import numpy as np

from lib.catalog.drawing.canvas import Canvas
from lib.catalog.drawing.curve import Points, bezier, closed, flipped, mirrored, pts, spline
from lib.catalog.drawing.cut import Cut
from lib.catalog.drawing.fabric import shade
from lib.catalog.drawing.neckline import draw_front_opening
from lib.catalog.drawing.plan import Product


def seam(canvas: Canvas, path: Points, cut: Cut) -> None:
    """Draw a seam the way the material shows it: contrast stitches, a ridge in leather, a faint line."""
    if cut.cloth.material == "denim":
        canvas.line(path, shade(cut.cloth.base, 0.6), 0.012, 0.7)
        canvas.dashes(path + np.array([0.012, 0.016]), cut.seam_colour, 0.013, 0.95)
    elif cut.cloth.material == "leather":
        canvas.line(path + np.array([0.0, 0.014]), shade(cut.cloth.base, 2.4), 0.010, 0.6)
        canvas.line(path, shade(cut.cloth.base, 0.3), 0.014, 0.9)
    else:
        canvas.line(path, cut.seam_colour, 0.010, 0.5)


def draw_skirt(canvas: Canvas, cut: Cut, top_half: float, top: float, low: float, *, second: bool = False) -> None:
    """Draw a skirt from the waist (half width top_half at height top) down to low; all in units."""
    hip = max(top_half + 0.07, 0.42 if cut.bottom == "pencil" else top_half + 0.05)
    hem = max(hip + cut.flare * (low - top - 0.25), 0.33)
    if cut.bottom == "pencil":
        hem = hip - 0.02 - 0.03 * (low - top)
    right = spline([(top_half, top), (hip, top + 0.28), (0.5 * (hip + hem), 0.5 * (top + 0.28 + low)), (hem, low)])
    wave = np.linspace(hem, -hem, 25)
    ripple = 0.0 if cut.bottom == "pencil" else 0.022
    edge = np.column_stack(
        [wave, low + 0.035 * (1 - (wave / hem) ** 2) + ripple * np.sin(wave * 26.0 + cut.choice % 7)]
    )
    body = np.vstack([pts((0.0, top)), right, edge[1:-1], mirrored(right)])
    fan = 0.0 if cut.bottom == "pencil" else 0.55
    folds = {"pencil": 0.7, "aline": 1.0}.get(cut.bottom, 1.15)
    canvas.paint(
        body, cut.cloth, fan=fan, second=second, folds=folds, shift=(0.11 * (cut.choice % 9), -top), edge=0.36
    )
    if cut.bottom in ("pleated", "gathered"):
        count = 9 if cut.bottom == "pleated" else 7
        for k, f in enumerate(np.linspace(-0.85, 0.85, count)):
            end = low - 0.01 if cut.bottom == "pleated" else top + (0.35 + 0.4 * (k % 2)) * (low - top)
            reach = f * (top_half + (hem - top_half) * (end - top) / (low - top))
            path = bezier((f * top_half, top + 0.02), (f * hip, top + 0.3), (float(reach), float(end)), n=8)
            canvas.line(path, shade(cut.lining, 0.7), 0.016 if cut.bottom == "pleated" else 0.012, 0.5)
            canvas.line(path + np.array([0.022, 0.0]), shade(cut.cloth.base, 1.25), 0.010, 0.35)
    if cut.choice % 5 == 0 and cut.bottom == "gathered":
        for y in np.linspace(top, low, 4)[1:-1]:
            half = float(np.interp(y, right[:, 1], right[:, 0]))
            x = np.linspace(-half, half, 20)
            canvas.line(np.column_stack([x, y + 0.012 * np.sin(x * 40)]), shade(cut.lining, 0.7), 0.02, 0.55)
    seam(canvas, edge[1:-1] - np.array([0.0, 0.05]), cut)


def _waistband(canvas: Canvas, cut: Cut, half: float, top: float, deep: float, hip: float) -> None:
    wide = half + (hip - half) * 0.3
    band = pts((-half, top), (half, top), (wide, top + deep), (-wide, top + deep))
    canvas.paint(band, cut.trim, shade=0.92, edge=0.1, folds=0.3)
    seam(canvas, band[2:][::-1], cut)
    canvas.line(band[:2], cut.seam_colour, 0.01, 0.4)
    if cut.belt:
        colour = (70, 46, 32) if cut.choice % 2 else (26, 26, 28)
        canvas.shape(band * np.array([1.0, 1.0]), colour, 0.95)
        canvas.shape(pts((-0.05, top), (0.05, top), (0.05, top + deep), (-0.05, top + deep)), (190, 180, 150))
    else:
        for x in (-0.62, -0.25, 0.25, 0.62):
            canvas.line(pts((x * half, top - 0.005), (x * wide, top + deep + 0.01)), cut.seam_colour, 0.02, 0.6)


def _legs(canvas: Canvas, product: Product, cut: Cut, stance: float, hip: float, top: float) -> tuple[float, float]:
    crotch = 1.52
    low = cut.length
    short = product.category == "shorts"
    spread = stance + (0.02 if short else 0.0)
    ankle = {"skinny": 0.085, "straight": 0.14, "wide": 0.24}[cut.bottom]
    if short:
        ankle = {"straight": 0.215, "wide": 0.27}.get(cut.bottom, 0.22) + 0.5 * max(cut.flare, 0.0)
    centre = 0.215 + spread * (low - crotch)
    out_hem, in_hem = centre + ankle, centre - ankle
    knee = min(2.25, 0.5 * (crotch + low))
    thick = {"skinny": 0.17, "straight": 0.19, "wide": 0.24}[cut.bottom]
    mid = 0.215 + spread * (knee - crotch)
    outer = spline([(cut.waist, top), (hip, top + 0.32), (mid + thick + 0.01, knee), (out_hem, low)])
    inner = spline([(max(in_hem, 0.02), low), (max(mid - thick, 0.012), knee), (0.0, crotch)])
    for side in (-1.0, 1.0):
        leg = flipped(np.vstack([pts((0.0, top)), outer, inner]), side)
        second = product.pattern == "colourblock" and cut.choice % 2 == 0 and side > 0
        shift = (0.17 * (cut.choice % 7) + 0.3 * side, 0.1 * (cut.choice % 5))
        canvas.paint(leg, cut.cloth, second=second, angle=-0.5 * spread * side, shift=shift, edge=0.42)
        canvas.line(flipped(inner, side), shade(cut.lining, 0.6), 0.012, 0.6)
        y = low - 0.06
        wide = np.interp(y, outer[:, 1], outer[:, 0]) - 0.008
        quad = np.array([[max(np.interp(y, inner[::-1, 1], inner[::-1, 0]), 0.0) + 0.012, y], [wide, y]])
        seam(canvas, flipped(quad, side), cut)
        if product.pattern == "colourblock" and cut.choice % 2:
            canvas.line(flipped(outer - np.array([0.03, 0.0]), side), cut.cloth.accent, 0.05)
        if product.material == "denim" and light_enough(cut):
            worn = pts((mid - 0.06, crotch + 0.05), (mid + 0.07, crotch), (mid + 0.06, knee), (mid - 0.05, knee))
            for grow in (1.0, 0.6):
                m = worn.mean(axis=0)
                canvas.shape(flipped((worn - m) * grow + m, side), shade(cut.cloth.base, 1.35), 0.22)
        elif product.material in ("wool", "polyester") and cut.choice % 3 and cut.bottom != "skinny":
            canvas.line(
                flipped(pts((0.2, top + 0.25), (mid, knee), (centre, low)), side),
                shade(cut.lining, 0.8),
                0.012,
                0.45,
            )
    return crotch, knee


def light_enough(cut: Cut) -> bool:
    """Whether the cloth is dyed (not white), so that wear shows as paler patches."""
    return sum(cut.cloth.base) < 560


def draw_bottom(canvas: Canvas, product: Product, cut: Cut, stance: float, back: bool) -> None:
    """Draw a skirt, pants or shorts; stance is how far the legs spread per unit of length."""
    top = cut.rise
    if product.category == "skirts":
        block = product.pattern == "colourblock"
        draw_skirt(canvas, cut, cut.waist, top, cut.length, second=block and cut.choice % 2 == 0)
        if block:
            wide = cut.waist + 0.06
            canvas.paint(
                pts((-cut.waist, top), (cut.waist, top), (wide, top + 0.24), (-wide, top + 0.24)),
                cut.cloth,
                second=cut.choice % 2 == 1,
                edge=0.2,
            )
        if cut.opening == "buttons" and not back:
            draw_front_opening(canvas, cut, top + 0.08, cut.length - 0.03, "buttons")
        hip = cut.waist + 0.08
    else:
        hip = cut.waist + 0.10
        crotch, _ = _legs(canvas, product, cut, stance, hip, top)
        canvas.line(pts((0.0, top + 0.08), (0.0, crotch)), shade(cut.lining, 0.6), 0.014, 0.7)
        if not back:
            fly = bezier((0.07, top + 0.08), (0.075, top + 0.34), (0.0, top + 0.40), n=8)
            seam(canvas, fly, cut)
    _waistband(canvas, cut, cut.waist, top, 0.085, hip)
    if not back:
        canvas.dot(0.0, top + 0.045, 0.022, cut.button, shade(cut.button, 0.6))
        if product.category != "skirts" or product.material in ("denim", "leather"):
            for side in (1.0, -1.0):
                pocket = bezier(
                    (0.45 * cut.waist, top + 0.09),
                    (0.55 * cut.waist, top + 0.24),
                    (hip - 0.01, top + 0.24),
                    n=8,
                )
                seam(canvas, flipped(pocket, side), cut)
    elif product.category != "skirts" or product.material == "denim":
        for side in (1.0, -1.0):
            box = flipped(
                pts(
                    (0.09, top + 0.24),
                    (0.28, top + 0.22),
                    (0.28, top + 0.42),
                    (0.19, top + 0.48),
                    (0.09, top + 0.44),
                ),
                side,
            )
            seam(canvas, np.vstack([box, box[:1]]), cut)
        for side in (1.0, -1.0):
            seam(canvas, flipped(pts((0.0, top + 0.21), (hip - 0.03, top + 0.13)), side), cut)


def bottom_outline(product: Product, cut: Cut, stance: float) -> list[Points]:
    """Rough outline (units) of a skirt, pants or shorts, for shadow and framing."""
    low, top = cut.length, cut.rise
    if product.category == "skirts":
        wide = max(cut.waist + 0.07 + max(cut.flare, 0.0) * (low - top - 0.25), 0.36)
    else:
        wide = 0.44 + max(stance, 0.0) * (low - 1.52)
    return [closed(pts((0.0, top), (cut.waist, top), (cut.waist + 0.09, top + 0.3), (wide, low), (0.0, low)))]
