"""Whole garments for the upper body, and dresses, put together from cloth, sleeves and necklines."""

from __future__ import annotations

import numpy as np

from lib.catalog.drawing.bottom import draw_skirt, seam
from lib.catalog.drawing.canvas import Canvas
from lib.catalog.drawing.curve import Points, bezier, closed, flipped, mirrored, offset, pts, ribbon
from lib.catalog.drawing.cut import Cut, neck_path, side_path
from lib.catalog.drawing.fabric import Rgb, shade
from lib.catalog.drawing.motif import draw_motif
from lib.catalog.drawing.neckline import draw_behind, draw_front_opening, draw_neckline, neck_full
from lib.catalog.drawing.plan import Product
from lib.catalog.drawing.sleeve import Pose, draw_arm, draw_sleeve

INNER: tuple[Rgb, ...] = ((244, 243, 240), (30, 30, 34), (150, 152, 156), (226, 214, 190), (52, 70, 110))


def draw_top(canvas: Canvas, product: Product, cut: Cut, pose: Pose, back: bool) -> None:
    """Draw a top or dress in the given pose, from the front or the back; the body must be drawn before."""
    kind = product.neckline or "round neck"
    off = kind == "off shoulder"
    dress = product.category == "dresses"
    worn = pose.skin is not None
    bottom = 0.98 if dress else cut.length
    hem = cut.waist if dress else cut.hem
    for side in (0, 1):
        draw_arm(canvas, cut, pose, side)
    if not worn or kind in ("hood", "shirt collar", "polo collar", "mandarin collar"):
        draw_behind(canvas, kind, cut, back, worn)
        if worn and not back:
            draw_neck(canvas, pose)
    blocked = product.pattern == "colourblock"
    block = cut.choice // 7 % 4
    split = (0.52, 0.70, None, 0.85)[block] if blocked else None
    if dress:
        draw_skirt(canvas, cut, cut.waist, 0.95, cut.length, second=blocked and block in (0, 2))
    neck = neck_path(kind, cut, back)
    sides = side_path(cut, kind, bottom, hem)
    dip = 0.02 if dress else (0.05 if product.category == "shirts" else 0.015)
    base = bezier((hem, bottom), (hem * 0.6, bottom + dip), (0.0, bottom + dip), n=6)
    if product.category == "shirts" and cut.choice % 3:
        base = bezier((hem, bottom - 0.13), (hem * 0.75, bottom + 0.05), (0.0, bottom + 0.05), n=8)
        sides = side_path(cut, kind, bottom - 0.13, hem)
    body = closed(np.vstack([neck, sides[1:], base[1:]]))
    open_front = cut.opening == "open" and not back
    if open_front:
        _layer(canvas, cut)
    _body(canvas, cut, body, split, open_front)
    if product.pattern == "graphic print" and not back:
        high = cut.neck_depth + (0.40 if kind != "v-neck" else 0.26)
        wide = 0.19 + 0.025 * (cut.choice // 5 % 4)
        draw_motif(canvas, cut.choice, high, wide, cut.cloth.base, cut.cloth.accent)
    _yoke(canvas, product, cut, back)
    _hem(canvas, product, cut, np.vstack([mirrored(base[::-1])[:-1], base[::-1]]) if not dress else None)
    if not back:
        _pockets(canvas, product, cut)
        if cut.opening in ("buttons", "zip"):
            low = cut.length - 0.03 if (not dress or cut.choice % 2) else 1.0
            draw_front_opening(canvas, cut, cut.neck_depth, low, cut.opening)
        if product.category == "cardigans":
            _button_band(canvas, kind, cut, open_front)
    if dress:
        _waist(canvas, cut)
    for side in (0, 1):
        draw_sleeve(canvas, cut, pose, side, cut.cloth, second=blocked and block in (1, 2), off=off)
        if cut.sleeve_length <= 0.0 and not off:
            arm = flipped(
                bezier((cut.shoulder, cut.drop), (cut.shoulder - 0.07, 0.30), (cut.chest - 0.005, 0.47)),
                1.0 - 2 * side,
            )
            canvas.line(arm, cut.seam_colour, 0.016, 0.5)
    if not (product.category == "cardigans" and kind == "v-neck" and not back):
        draw_neckline(canvas, kind, cut, back)


def draw_neck(canvas: Canvas, pose: Pose) -> None:
    """Draw the bare neck in front of a collar's rear part."""
    if pose.skin is not None:
        neck = closed(
            np.vstack(
                [
                    pts((0.0, -0.3), (0.115, -0.3)),
                    bezier((0.115, -0.12), (0.12, 0.0), (0.2, 0.05)),
                    pts((0.1, 0.3), (0.0, 0.42)),
                ]
            )
        )
        canvas.shape(neck, pose.skin)
        canvas.shape(closed(bezier((0.0, -0.12), (0.12, -0.16), (0.115, -0.3), n=8)), shade(pose.skin, 0.72), 0.5)


def _body(canvas: Canvas, cut: Cut, body: Points, split: float | None, open_front: bool) -> None:
    shift = (0.13 * (cut.choice % 11), 0.17 * (cut.choice % 13))
    if not open_front:
        canvas.paint(body, cut.cloth, split=split, shift=shift, edge=0.34)
        return
    # Two fronts hang apart: clip the outline at the inner edges.
    gap = 0.07 + 0.03 * (cut.choice % 4)
    for side in (1.0, -1.0):
        half = body[: len(body) // 2].copy()
        inner = half[:, 0] < gap * np.clip(half[:, 1] + 0.3, 0.3, 1.4)
        half[inner, 0] = (gap * np.clip(half[:, 1] + 0.3, 0.3, 1.4))[inner]
        canvas.paint(flipped(half, side), cut.cloth, split=split, shift=shift, edge=0.4)
        edge = half[inner]
        if len(edge) > 1:
            rim = pts((float(edge[0, 0]), float(edge[0, 1])), (float(edge[-1, 0]), float(edge[-1, 1])))
            canvas.line(flipped(rim, side), shade(cut.lining, 0.6), 0.016, 0.7)


def _layer(canvas: Canvas, cut: Cut) -> None:
    """The plain top worn under an open jacket or cardigan."""
    colour = INNER[cut.choice // 11 % len(INNER)]
    low = min(cut.length - 0.02, 1.35)
    canvas.shape(
        closed(
            np.vstack([bezier((0.0, 0.13), (0.13, 0.13), (0.19, 0.0)), pts((0.30, 0.1), (0.34, low), (0.0, low))])
        ),
        colour,
    )
    neck = bezier((0.0, 0.13), (0.13, 0.13), (0.19, 0.0))
    canvas.line(np.vstack([mirrored(neck)[:-1], neck]), shade(colour, 0.75), 0.02, 0.7)
    canvas.shape(
        closed(pts((0.0, low - 0.02), (0.36, low - 0.02), (0.36, low + 0.01), (0.0, low + 0.01))),
        shade(colour, 0.7),
        0.5,
    )


def _yoke(canvas: Canvas, product: Product, cut: Cut, back: bool) -> None:
    worked = product.material in ("denim", "leather") or product.category in ("shirts", "jackets")
    if not worked or product.neckline == "off shoulder":
        return
    high = 0.26
    reach = cut.shoulder - 0.06
    if (back or product.category == "jackets") and product.subcategory != "bomber jackets":
        for side in (1.0, -1.0):
            seam(canvas, flipped(pts((0.1 if not back else 0.0, high), (reach, high - 0.03)), side), cut)
    if product.category == "jackets" and product.material in ("denim", "leather"):
        for side in (1.0, -1.0):
            seam(canvas, flipped(pts((reach - 0.10, high), (0.16, cut.length - 0.1)), side), cut)


def _hem(canvas: Canvas, product: Product, cut: Cut, edge: Points | None) -> None:
    if edge is None:
        return
    knitted = product.category in ("sweaters", "hoodies", "cardigans") or (
        product.category == "jackets" and (product.subcategory == "bomber jackets" or cut.cuff == "rib")
    )
    if knitted:
        deep = 0.09
        band = np.vstack([edge, (edge - np.array([0.0, deep]))[::-1]])
        canvas.paint(band, cut.trim, shade=0.88, edge=0.1, folds=0.3)
        canvas.line(edge - np.array([0.0, deep]), cut.seam_colour, 0.01, 0.6)
        for x in np.linspace(-0.94, 0.94, 19) * cut.hem:
            y = float(np.interp(x, edge[:, 0], edge[:, 1])) if edge[0, 0] < edge[-1, 0] else cut.length
            canvas.line(pts((x, y - deep), (x, y)), cut.seam_colour, 0.006, 0.3)
    else:
        up = edge - np.array([0.0, 0.045])
        seam(canvas, up, cut)


def _pockets(canvas: Canvas, product: Product, cut: Cut) -> None:
    sides: tuple[float, ...] = (1.0, -1.0)
    if cut.pocket == "kangaroo":
        top, low = cut.length - 0.42, cut.length - 0.12
        shape = closed(pts((0.0, top), (0.17, top), (0.28, low - 0.08), (0.28, low), (0.0, low)))
        canvas.paint(shape, cut.cloth, shade=1.02, edge=0.2, shift=(0.3, 0.2))
        canvas.line(np.vstack([shape, shape[:1]]), cut.seam_colour, 0.011, 0.7)
        return
    if cut.pocket == "patch":
        sides = (1.0,)
    if cut.pocket in ("patch", "flap"):
        x0, x1, y0, y1 = 0.12, 0.31, 0.40, 0.62
        for side in sides:
            box = flipped(pts((x0, y0), (x1, y0), (x1, y1 - 0.03), (0.5 * (x0 + x1), y1), (x0, y1 - 0.03)), side)
            seam(canvas, np.vstack([box, box[:1]]), cut)
            if cut.pocket == "flap":
                flap = flipped(
                    pts(
                        (x0 - 0.01, y0),
                        (x1 + 0.01, y0),
                        (x1 + 0.01, y0 + 0.07),
                        (0.5 * (x0 + x1), y0 + 0.10),
                        (x0 - 0.01, y0 + 0.07),
                    ),
                    side,
                )
                canvas.paint(flap, cut.cloth, shade=0.93, edge=0.15)
                seam(canvas, np.vstack([flap, flap[:1]]), cut)
                canvas.dot(side * 0.5 * (x0 + x1), y0 + 0.065, 0.017, cut.button)
    elif cut.pocket == "slant":
        for side in sides:
            canvas.line(
                flipped(pts((0.20, cut.length - 0.48), (0.30, cut.length - 0.26)), side),
                shade(cut.lining, 0.5),
                0.022,
                0.85,
            )
    elif cut.pocket == "low":
        low = min(cut.length, 1.5)
        for side in sides:
            box = flipped(pts((0.12, low - 0.34), (0.32, low - 0.34), (0.32, low - 0.12), (0.12, low - 0.12)), side)
            seam(canvas, np.vstack([box, box[:1]]), cut)


def _button_band(canvas: Canvas, kind: str, cut: Cut, open_front: bool) -> None:
    width = 0.075
    neck = neck_path(kind, cut)
    gap = 0.07 + 0.03 * (cut.choice % 4) if open_front else 0.0
    for side in (-1.0, 1.0):
        down = pts((0.0, cut.neck_depth), (0.0, cut.length - 0.01))
        path = np.vstack([neck[::-1], down[1:]])
        if open_front:
            least = gap * np.clip(path[:, 1] + 0.3, 0.3, 1.4)
            path[:, 0] = np.maximum(path[:, 0], least)
        band = flipped(ribbon(offset(path, -width * 0.3), width), side)
        canvas.paint(band, cut.trim, shade=0.9, edge=0.1, folds=0.3)
        canvas.line(flipped(offset(path, -width * 0.8), side), cut.seam_colour, 0.012, 0.6)
        canvas.line(flipped(offset(path, width * 0.2), side), cut.seam_colour, 0.012, 0.6)
    for y in np.linspace(cut.neck_depth + 0.07, cut.length - 0.07, cut.buttons):
        x = gap * float(np.clip(y + 0.3, 0.3, 1.4)) + 0.022 if open_front else 0.0
        canvas.dot(x, float(y), 0.026, cut.button, shade(cut.button, 0.6))


def _waist(canvas: Canvas, cut: Cut) -> None:
    w = cut.waist + 0.005
    if cut.belt:
        colour = shade(cut.cloth.base, 0.6) if cut.choice % 2 else cut.cloth.accent
        canvas.shape(pts((-w, 0.93), (w, 0.93), (w, 1.0), (-w, 1.0)), colour)
        canvas.shape(pts((-0.05, 0.93), (0.05, 0.93), (0.05, 1.0), (-0.05, 1.0)), shade(colour, 0.6))
    else:
        canvas.line(pts((-w, 0.965), (w, 0.965)), cut.seam_colour, 0.012, 0.55)


def outline_parts(product: Product, cut: Cut) -> list[Points]:
    """Rough outlines (units) of the garment, for its shadow and its framing."""
    kind = product.neckline or "round neck"
    bottom = 0.98 if product.category == "dresses" else cut.length
    parts = [closed(np.vstack([neck_path(kind, cut), side_path(cut, kind, bottom, cut.hem)[1:], pts((0.0, bottom))]))]
    if product.category == "dresses":
        wide = cut.waist + 0.06 + cut.flare * (cut.length - 0.95)
        parts.append(pts((-cut.waist, 0.95), (cut.waist, 0.95), (wide, cut.length), (-wide, cut.length)))
    return parts


__all__ = ["draw_neck", "draw_top", "neck_full", "outline_parts"]
