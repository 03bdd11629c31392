"""Small curve geometry in body units."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def pts(*pairs: tuple[float, float]) -> Points:
    """The (n, 2) array of the given points."""
    return np.array(pairs, dtype=np.float64)


# The views of a product share its cut, and all products the measures of the body: curves are drawn again and again.
_CURVES = 1024


@lru_cache(maxsize=_CURVES)
def bezier(*control: tuple[float, float], n: int = 14) -> Points:
    """n points on the Bezier curve with the given two to four control points; shared, so read-only."""
    t = np.linspace(0.0, 1.0, n)[:, None]
    layer = [np.array(c, dtype=np.float64)[None, :] for c in control]
    while len(layer) > 1:
        layer = [a * (1.0 - t) + b * t for a, b in pairwise(layer)]
    layer[0].setflags(write=False)
    return layer[0]


def spline(points: Sequence[tuple[float, float]], n: int = 8) -> Points:
    """A smooth (Catmull-Rom) open curve through the points, n points per span; shared, so read-only."""
    return _spline(tuple(points), n)


@lru_cache(maxsize=_CURVES)
def _spline(points: tuple[tuple[float, float], ...], n: int) -> Points:
    p = np.array(points, dtype=np.float64)
    p = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    t = np.linspace(0.0, 1.0, n, endpoint=False)[:, None]
    spans = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        spans.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        )
    curve = np.vstack([*spans, p[-2:-1]])
    curve.setflags(write=False)
    return curve


def mirrored(points: Points) -> Points:
    """The points on the other side of the centre line, in the opposite order (so outlines close)."""
    other: Points = points[::-1] * np.array([-1.0, 1.0])
    return other


def flipped(points: Points, side: float) -> Points:
    """The points with x multiplied by side (+1 or -1)."""
    other: Points = points * np.array([side, 1.0])
    return other


def closed(right: Points) -> Points:
    """A symmetric outline from its right half (from the top centre down to the bottom centre)."""
    return np.vstack([right, mirrored(right)])


def ribbon(path: Points, start: float, end: float | None = None) -> Points:
    """The outline of a band along a path, `start` units wide at its beginning and `end` at its end."""
    wide = np.linspace(start, start if end is None else end, len(path))[:, None]
    along = _directions(path)
    side = np.column_stack([-along[:, 1], along[:, 0]]) * wide / 2.0
    return np.vstack([path + side, (path - side)[::-1]])


def offset(path: Points, by: float) -> Points:
    """The path moved sideways by `by` units (to its left when positive, y growing downwards)."""
    along = _directions(path)
    moved: Points = path + by * np.column_stack([-along[:, 1], along[:, 0]])
    return moved


def _directions(path: Points) -> Points:
    """(n, 2) unit vectors along a path, by central differences."""
    along = np.empty_like(path)
    along[0], along[-1] = path[1] - path[0], path[-1] - path[-2]
    along[1:-1] = (path[2:] - path[:-2]) / 2.0
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    return along
