"""Necklines: bands, collars, plackets and hoods, big enough to be read on a small picture."""

from __future__ import annotations

import numpy as np

from lib.catalog.drawing.canvas import Canvas
from lib.catalog.drawing.curve import Points, bezier, closed, flipped, mirrored, offset, pts, ribbon
from lib.catalog.drawing.cut import Cut, neck_path
from lib.catalog.drawing.fabric import shade

# Necklines whose opening is bound by a band of rib or facing.
_BAND = {
    "round neck": 0.07,
    "henley": 0.06,
    "v-neck": 0.06,
    "scoop neck": 0.035,
    "boat neck": 0.03,
    "square neck": 0.035,
}


def neck_full(kind: str, cut: Cut, back: bool = False) -> Points:
    """The whole neck opening, from the left shoulder seam to the right one."""
    half = neck_path(kind, cut, back)
    return np.vstack([mirrored(half)[:-1], half]) if len(half) else half


def draw_behind(canvas: Canvas, kind: str, cut: Cut, back: bool, worn: bool) -> None:
    """Draw what lies behind the neck: the inside of the back, the rear of a collar, a standing hood."""
    if kind == "off shoulder":
        return
    if kind == "hood" and not back:
        top = -0.16 if worn else -0.42
        outer = np.vstack([bezier((0.0, top), (0.24, top), (0.36, -0.12), (0.33, 0.15)), pts((0.0, 0.2))])
        canvas.paint(closed(outer), cut.cloth, shade=0.92, edge=0.4)
        inner = bezier((0.0, top + 0.07), (0.18, top + 0.07), (0.25, -0.08), (0.17, 0.12))
        canvas.shape(closed(inner), shade(cut.lining, 0.8))
        return
    front, rear = neck_path(kind, cut), neck_path(kind, cut, back=True)
    canvas.shape(closed(np.vstack([rear, front[::-1]])), shade(cut.lining, 0.8))
    if kind in ("shirt collar", "polo collar", "mandarin collar"):
        half = cut.neck_half
        stand = closed(np.vstack([bezier((0.0, -0.09), (half * 0.8, -0.085), (half + 0.01, 0.01)), pts((0.0, 0.05))]))
        canvas.paint(stand, cut.trim, shade=0.8, edge=0.1)
    elif not back:
        rim = bezier((0.0, 0.045), (cut.neck_half * 0.6, 0.045), (cut.neck_half, 0.0))
        canvas.line(np.vstack([mirrored(rim)[:-1], rim]), shade(cut.lining, 0.6), 0.02, 0.8)


def draw_neckline(canvas: Canvas, kind: str, cut: Cut, back: bool) -> None:
    """Draw the neckline over the finished body of the garment."""
    if back:
        _back_neck(canvas, kind, cut)
        return
    if kind in _BAND:
        _band(canvas, kind, cut, _BAND[kind])
    if kind == "henley":
        _placket(canvas, cut, cut.neck_depth, cut.neck_depth + 0.36, 3 + cut.choice % 2)
    elif kind == "polo collar":
        _placket(canvas, cut, cut.neck_depth - 0.02, cut.neck_depth + 0.30, 2 + cut.choice % 2)
        _flaps(canvas, cut, 0.24 + 0.02 * (cut.choice % 3), 0.18, 0.05)
    elif kind == "shirt collar":
        _flaps(canvas, cut, 0.31 + 0.02 * (cut.choice % 3), 0.15, 0.05)
    elif kind == "mandarin collar":
        half, depth = cut.neck_half, cut.neck_depth
        path = bezier((half + 0.012, -0.035), (half, depth * 0.6), (half * 0.5, depth + 0.01), (0.018, depth + 0.03))
        for side in (1.0, -1.0):
            canvas.paint(flipped(ribbon(path, 0.075, 0.085), side), cut.trim, shade=0.93, edge=0.25, folds=0.2)
            for by in (0.038, -0.038):
                canvas.line(flipped(offset(path, by), side), cut.seam_colour, 0.009, 0.6)
    elif kind == "turtleneck":
        _roll(canvas, cut)
    elif kind == "hood":
        _hood_front(canvas, cut)
    elif kind == "off shoulder":
        _frill(canvas, cut)


def _band(canvas: Canvas, kind: str, cut: Cut, width: float) -> None:
    path = neck_full(kind, cut)
    band = ribbon(offset(path, width * 0.35), width)
    canvas.paint(band, cut.trim, shade=0.9, edge=0.12, folds=0.2)
    canvas.line(offset(path, width * 0.9), cut.seam_colour, 0.010, 0.55)
    canvas.line(offset(path, -width * 0.15), shade(cut.lining, 0.7), 0.008, 0.5)


def _placket(canvas: Canvas, cut: Cut, top: float, bottom: float, buttons: int) -> None:
    w = 0.07
    canvas.paint(pts((-w, top), (w, top), (w, bottom), (-w, bottom)), cut.trim, shade=0.95, edge=0.08, folds=0.3)
    canvas.line(pts((-w, top), (-w, bottom), (w, bottom), (w, top)), cut.seam_colour, 0.011, 0.7)
    for y in np.linspace(top + 0.05, bottom - 0.06, buttons):
        canvas.dot(0.0, float(y), 0.03, cut.button, shade(cut.button, 0.6))


def draw_front_opening(canvas: Canvas, cut: Cut, top: float, bottom: float, kind: str) -> None:
    """Draw a full-length button placket or zip down the centre from top to bottom."""
    if kind == "buttons":
        w = 0.05
        canvas.paint(pts((-w, top), (w, top), (w, bottom), (-w, bottom)), cut.trim, shade=0.97, edge=0.08, folds=0.5)
        for x in (-w, w):
            canvas.line(pts((x, top), (x, bottom)), cut.seam_colour, 0.010, 0.55)
        for y in np.linspace(top + 0.06, bottom - 0.1, cut.buttons):
            canvas.dot(0.0, float(y), 0.021, cut.button, shade(cut.button, 0.6))
    else:
        canvas.line(pts((0.0, top), (0.0, bottom)), shade(cut.lining, 0.6), 0.05, 0.8)
        canvas.dashes(pts((0.0, top), (0.0, bottom)), (205, 205, 208), 0.026, 1.0, step=0.018)
        canvas.dot(0.0, top + 0.05, 0.022, (214, 214, 218), (90, 90, 90))


def _flaps(canvas: Canvas, cut: Cut, point: float, spread: float, rise: float) -> None:
    half, depth = cut.neck_half, cut.neck_depth
    flap = pts(
        (half * 0.72, -rise - 0.04),
        (half + 0.03, -rise + 0.03),
        (half + 0.06, 0.06),
        (spread + 0.08, point),
        (0.015, depth + 0.02),
        (half * 0.62, 0.03),
    )
    for side in (1.0, -1.0):
        one = flipped(flap, side)
        canvas.shape(one + np.array([0.0, 0.025]), (0, 0, 0), 0.22)
        canvas.paint(one, cut.trim, angle=-0.5 * side, shade=1.04, edge=0.14, folds=0.3)
        canvas.line(np.vstack([one[1:5]]), cut.seam_colour, 0.011, 0.75)
        if cut.cloth.material == "denim":
            canvas.dashes(one[1:5] * 0.94 + np.array([0.0, 0.004]), cut.seam_colour, 0.008)


def _roll(canvas: Canvas, cut: Cut) -> None:
    half = cut.neck_half
    high = -0.20 - 0.03 * (cut.choice % 3)
    tube = closed(
        np.vstack(
            [
                bezier((0.0, high + 0.015), (half * 0.7, high + 0.01), (half * 0.93, high)),
                bezier((half, -0.06), (half + 0.03, 0.05), (half * 0.7, 0.12), (0.0, 0.14)),
            ]
        )
    )
    canvas.paint(tube, cut.trim, shade=0.98, edge=0.4, folds=0.4)
    for x in np.linspace(-0.85, 0.85, 9):
        rib = pts((x * half * 0.93, high + 0.01), (x * half, -0.02), (x * half * 1.02, 0.10))
        canvas.line(rib, cut.seam_colour, 0.007, 0.28)
    fold = bezier((-half, -0.03), (-half * 0.5, 0.03), (half * 0.5, 0.03), (half, -0.03))
    canvas.line(fold, shade(cut.lining, 0.7), 0.016, 0.7)
    hem = bezier((-half * 1.05, 0.03), (-half * 0.6, 0.15), (half * 0.6, 0.15), (half * 1.05, 0.03))
    canvas.line(hem, shade(cut.lining, 0.7), 0.014, 0.6)


def _hood_front(canvas: Canvas, cut: Cut) -> None:
    half, depth = cut.neck_half, cut.neck_depth
    edge = bezier((half + 0.06, -0.10), (half + 0.10, 0.10), (half * 0.5, depth + 0.04), (0.0, depth + 0.07))
    for side in (1.0, -1.0):
        canvas.paint(flipped(ribbon(edge, 0.17, 0.09), side), cut.cloth, angle=0.6 * side, shade=0.98, edge=0.4)
        canvas.line(flipped(offset(edge, 0.045), side), cut.seam_colour, 0.009, 0.5)
    cord = (240, 240, 236) if sum(cut.cloth.base) < 330 else (52, 52, 56)
    for side in (1.0, -1.0):
        canvas.dot(0.085 * side, depth + 0.05, 0.014, (190, 190, 192))
        string = bezier((0.085 * side, depth + 0.05), (0.10 * side, depth + 0.2), (0.075 * side, depth + 0.36), n=8)
        canvas.line(string, cord, 0.02)


def _frill(canvas: Canvas, cut: Cut) -> None:
    half = neck_path("off shoulder", cut)
    top = np.vstack([mirrored(half)[:-1], half])
    deep = 0.16 + 0.05 * (cut.choice % 3)
    t = np.linspace(0.0, 1.0, len(top))
    low = top + np.column_stack([0.03 * (2 * t - 1), deep + 0.018 * np.sin(t * 44.0)])
    canvas.shape(np.vstack([top, low[::-1]]) + np.array([0.0, 0.02]), (0, 0, 0), 0.18)
    canvas.paint(np.vstack([top, low[::-1]]), cut.cloth, shade=1.03, edge=0.25, fan=0.2)
    canvas.line(low, cut.seam_colour, 0.009, 0.5)
    canvas.line(offset(top, 0.03), cut.seam_colour, 0.008, 0.5)
    for k in range(2, len(top) - 2, 2):
        canvas.line(np.vstack([top[k], 0.4 * top[k] + 0.6 * low[k]]), cut.seam_colour, 0.006, 0.3)


def _back_neck(canvas: Canvas, kind: str, cut: Cut) -> None:
    half = cut.neck_half
    if kind == "off shoulder":
        _frill(canvas, cut)
    elif kind == "turtleneck":
        _roll(canvas, cut)
    elif kind == "hood":
        fall = closed(
            np.vstack(
                [
                    bezier((0.0, -0.10), (0.28, -0.12), (0.38, 0.10), (0.20, 0.42)),
                    bezier((0.14, 0.50), (0.05, 0.55), (0.0, 0.55), n=6),
                ]
            )
        )
        canvas.shape(fall + np.array([0.0, 0.03]), (0, 0, 0), 0.2)
        canvas.paint(fall, cut.cloth, shade=1.0, edge=0.4)
        canvas.line(pts((0.0, -0.08), (0.0, 0.53)), cut.seam_colour, 0.01, 0.5)
    elif kind in ("shirt collar", "polo collar"):
        collar = closed(
            np.vstack(
                [
                    bezier((0.0, -0.10), (half * 0.8, -0.10), (half + 0.02, -0.02)),
                    bezier((half + 0.05, 0.08), (half * 0.6, 0.09), (0.0, 0.09)),
                ]
            )
        )
        canvas.paint(collar, cut.trim, shade=0.97, edge=0.25, folds=0.3)
        canvas.line(collar[14:42], cut.seam_colour, 0.01, 0.6)
    elif kind == "mandarin collar":
        collar = closed(
            np.vstack(
                [
                    bezier((0.0, -0.08), (half * 0.8, -0.08), (half, -0.03)),
                    bezier((half, 0.01), (half * 0.6, 0.05), (0.0, 0.05)),
                ]
            )
        )
        canvas.paint(collar, cut.trim, shade=0.93, edge=0.2, folds=0.3)
    elif kind in _BAND:
        path = neck_full(kind, cut, back=True)
        canvas.paint(ribbon(offset(path, 0.015), 0.04), cut.trim, shade=0.9, edge=0.1, folds=0.2)
        canvas.line(offset(path, 0.04), cut.seam_colour, 0.008, 0.5)
