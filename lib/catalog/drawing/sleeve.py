"""Arms and sleeves, drawn along a bent arm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.catalog.drawing.canvas import Canvas
from lib.catalog.drawing.curve import Points, bezier, flipped, ribbon
from lib.catalog.drawing.cut import ARM, Cut
from lib.catalog.drawing.fabric import Cloth, Rgb, shade


@dataclass(frozen=True)
class Pose:
    """How the wearer holds the arms: outward angles of upper arm and forearm per side, in radians."""

    upper: tuple[float, float]
    fore: tuple[float, float]
    skin: Rgb | None
    stand: str


def arm_path(cut: Cut, pose: Pose, side: int, length: float, off: bool = False) -> Points:
    """(n, 2) points down the middle of the right (side 0) or left (side 1) arm, not mirrored."""
    start = np.array([cut.chest - 0.02, 0.36]) if off else np.array([cut.shoulder - 0.07, cut.drop + 0.15])
    upper, fore = pose.upper[side], pose.fore[side]
    elbow = 0.58
    t = np.linspace(0.0, length, 14)
    # The bend is spread over a third of the arm so that cloth does not break at the elbow.
    angle = upper + (fore - upper) * np.clip((t - elbow + 0.2) / 0.4, 0.0, 1.0)
    angle = angle + 0.35 * np.clip(1.0 - t / 0.35, 0.0, 1.0)  # out over the shoulder first
    step = np.diff(t, prepend=0.0)
    return np.column_stack([start[0] + np.cumsum(step * np.sin(angle)), start[1] + np.cumsum(step * np.cos(angle))])


def draw_arm(canvas: Canvas, cut: Cut, pose: Pose, side: int) -> None:
    """Draw the bare arm with its hand, in the colour of the skin."""
    if pose.skin is None:
        return
    sign = 1.0 if side == 0 else -1.0
    path = arm_path(cut, pose, side, ARM - 0.1)
    canvas.shape(flipped(ribbon(path, 0.21, 0.11), sign), pose.skin)
    inner = ribbon(path + np.array([-0.035, 0.0]), 0.07, 0.03)
    canvas.shape(flipped(inner, sign), shade(pose.skin, 0.8), 0.35)
    reach = path[-1] - path[-3]
    reach = reach / np.hypot(*reach)
    hand = np.vstack([path[-1] - 0.02 * reach, path[-1] + 0.08 * reach, path[-1] + 0.17 * reach])
    canvas.shape(flipped(ribbon(hand, 0.12, 0.06), sign), pose.skin)


def draw_sleeve(
    canvas: Canvas, cut: Cut, pose: Pose, side: int, cloth: Cloth, *, second: bool = False, off: bool = False
) -> None:
    """Draw one sleeve with its cuff; nothing when the garment is sleeveless."""
    if cut.sleeve_length <= 0.0:
        return
    sign = 1.0 if side == 0 else -1.0
    path = arm_path(cut, pose, side, cut.sleeve_length, off)
    n = len(path)
    at = np.linspace(0.0, 1.0, n)
    long = cut.sleeve_length > 0.6
    cap, end = cut.sleeve_width, cut.cuff_width
    if cut.cuff == "puff":
        end = 0.085 if long else 0.13
        width = cap + (0.09 if not long else 0.06) * np.sin(np.pi * at**0.9) - (cap - end - 0.02) * at**2
        width = np.where(at > 0.93, end, width)
    elif cut.cuff == "bell":
        width = cap - 0.03 * at + (0.16 if long else 0.09) * at**2.2
    else:
        width = cap + (end - cap) * at**0.8
    along = np.gradient(path, axis=0)
    along /= np.hypot(along[:, 0], along[:, 1])[:, None]
    side_way = np.column_stack([along[:, 1], -along[:, 0]]) * width[:, None]
    outer, inner = path + side_way, path - side_way
    if off:
        body = np.vstack([outer, inner[::-1]])
        armhole = body[:0]
    else:
        tip, pit = (cut.shoulder, cut.drop), (cut.chest - 0.012, 0.49)
        armhole = bezier(pit, (cut.shoulder - 0.11, 0.38), (cut.shoulder - 0.05, 0.24), tip, n=9)
        keep = outer[:, 1] > cut.drop + 0.04
        keep[0] = False
        free = inner[(inner[:, 1] > 0.5) | (at > 0.7)]
        crown = bezier(tip, (cut.shoulder + 0.05, cut.drop + 0.03), tuple(outer[keep][0]), n=5)
        body = np.vstack([crown[:-1], outer[keep], free[::-1], armhole - np.array([0.012, 0.0])])
    angle = float(np.mean([pose.upper[side], pose.fore[side]]) if long else pose.upper[side])
    shift = (0.37 * (side + 1), 0.21)
    canvas.paint(
        flipped(body, sign),
        cloth,
        angle=-sign * angle,
        shift=shift,
        second=second,
        shade=0.95,
        edge=0.36,
        folds=1.1,
    )
    if not off:
        canvas.line(flipped(armhole, sign), cut.seam_colour, 0.009, 0.4)
    _cuff(canvas, cut, outer, inner, sign, -sign * angle)


def _cuff(canvas: Canvas, cut: Cut, outer: Points, inner: Points, sign: float, angle: float) -> None:
    def across(share: float) -> Points:
        k = share * (len(outer) - 1)
        i = min(int(k), len(outer) - 2)
        f = k - i
        return np.vstack([outer[i] * (1 - f) + outer[i + 1] * f, inner[i] * (1 - f) + inner[i + 1] * f])

    deep = {"rib": 0.09, "shirt": 0.10, "puff": 0.05}.get(cut.cuff, 0.0) / cut.sleeve_length
    if deep:
        start, end = across(1.0 - min(deep, 0.4)), across(1.0)
        quad = flipped(np.vstack([start, end[::-1]]), sign)
        canvas.paint(quad, cut.trim, angle=angle, shade=0.88, edge=0.2, folds=0.3)
        canvas.line(flipped(start, sign), cut.seam_colour, 0.01, 0.6)
        if cut.cuff == "rib":
            for f in np.linspace(0.12, 0.88, 6):
                rib = np.vstack([start[0] * (1 - f) + start[1] * f, end[0] * (1 - f) + end[1] * f])
                canvas.line(flipped(rib, sign), cut.seam_colour, 0.006, 0.35)
        elif cut.cuff == "shirt" and cut.sleeve_length > 0.6:
            x, y = 0.25 * (start[0] + end[0]) + 0.25 * (start[1] + end[1])
            canvas.dot(sign * float(x) + 0.03, float(y), 0.016, cut.button)
    else:
        hem = flipped(across(0.93), sign)
        if cut.cloth.material == "denim":
            canvas.dashes(hem, cut.seam_colour, 0.01, 0.9)
        else:
            canvas.line(hem, cut.seam_colour, 0.008, 0.4)
