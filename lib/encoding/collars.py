"""Where the collar of a worn garment is: beneath the narrowest place of the silhouette, above its shoulders.

A collar takes a few pixels of a full-length photograph and half of a close-up, so a network that sees the whole
picture would have to find it before it can tell one from another, which a few hundred labels do not teach. The
silhouette needs no labels: catalogue photographs stand before a plain wall. Where there is nobody to be seen, the
place is the top of what stands out from the wall.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

SIGHT = 112
"""Pixels a side in which the silhouette is looked for."""
CORNER_SPREAD, EDGE_STEP, CONTRAST = 0.9, 0.37, 0.27
"""In OpenCLIP's normalised units (255 levels are about 3.7): how far a picture's edge may be from its upper corners
to be wall, how far the wall's colour may change from a row to the next, how far the silhouette is from the wall."""
NARROW, WIDE = 0.6, 0.75
"""Of the body's width: a neck is narrower, shoulders are wider."""
REACH, ABOVE = 0.38, 0.6
"""Half a side of the place, in body widths, and the share of that half which lies above the neck."""

Rows = npt.NDArray[np.float32]


@torch.no_grad()
def collar_places(images: Tensor) -> Tensor:
    """(n, 3, height, width) normalised images -> (n, 3): centre across, centre down, half a side.

    In shares of the picture, from -1 to 1 as `torch.nn.functional.affine_grid` counts; the place may reach beyond the
    picture. Every image is looked at by itself.
    """
    small = functional.interpolate(images.float().cpu(), (SIGHT, SIGHT), mode="bilinear", antialias=True)
    mask = _silhouettes(small)
    widths, centres, first = _runs(mask)
    across, down, body = _necks(widths, centres, first)
    half = REACH * body
    places = np.stack([across, down + (1.0 - ABOVE) * half, half], axis=1) * (2.0 / SIGHT)
    places[:, :2] -= 1.0
    return torch.from_numpy(places.astype(np.float32)).to(images.device)


def cut_out(images: Tensor, places: Tensor, side: int) -> Tensor:
    """The squares at (n, 3) `places` of (n, 3, height, width) images, (n, 3, side, side); edges are continued."""
    n = len(images)
    transform = images.new_zeros(n, 2, 3)
    transform[:, 0, 0] = transform[:, 1, 1] = places[:, 2]
    transform[:, :, 2] = places[:, :2]
    # twice the size, then halved: a large square is scaled down without aliasing
    grid = functional.affine_grid(transform, [n, 3, 2 * side, 2 * side], align_corners=False)
    fine = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return functional.avg_pool2d(fine, 2)


def _silhouettes(images: Tensor) -> npt.NDArray[np.bool_]:
    """(n, 3, SIGHT, SIGHT) -> what differs from the wall, (n, SIGHT, SIGHT)."""
    pixels = images.permute(0, 2, 3, 1).numpy()
    corner = SIGHT // 6
    corners = np.concatenate([pixels[:, :3, :corner], pixels[:, :3, -corner:]], axis=2)
    top = np.median(corners.reshape(len(pixels), -1, 3), axis=1)
    left, right = (_wall(np.median(edge, axis=2), top) for edge in (pixels[:, :, :3], pixels[:, :, -3:]))
    share = np.linspace(0.0, 1.0, SIGHT, dtype=np.float32)[:, None]
    wall = left[:, :, None] * (1.0 - share) + right[:, :, None] * share
    contrast = torch.from_numpy(np.square(pixels - wall).sum(axis=3))[:, None].sqrt()
    mask = (functional.avg_pool2d(contrast, 3, 1, 1) > CONTRAST).float()
    for sign in (1, -1, -1, 1):  # closed, then opened
        mask = sign * functional.max_pool2d(sign * mask, 3, 1, 1)
    return (mask[:, 0] > 0.5).numpy()


def _wall(edge: Rows, top: Rows) -> Rows:
    """The wall's colour down one edge, (n, SIGHT, 3): where something else reaches the edge, that of above."""
    start = np.abs(edge[:, 0] - top).max(axis=1, keepdims=True) < CORNER_SPREAD
    colour = np.where(start, edge[:, 0], top)
    wall = np.empty_like(edge)
    for row in range(SIGHT):
        near = np.abs(edge[:, row] - colour).max(axis=1, keepdims=True) < EDGE_STEP
        colour = np.where(near, 0.7 * colour + 0.3 * edge[:, row], colour)
        wall[:, row] = colour
    return wall


def _runs(mask: npt.NDArray[np.bool_]) -> tuple[Rows, Rows, npt.NDArray[np.int64]]:
    """Follow each silhouette down from its top.

    Returns:
        (n, SIGHT) width and centre of the run of silhouette that continues the one above, 0 above the top; and
        (n,) the first row.
    """
    n = len(mask)
    everyone = np.arange(n)
    columns = np.arange(SIGHT)
    first = mask.any(axis=2).argmax(axis=1)
    rows = np.minimum(first[:, None] + np.arange(SIGHT // 20), SIGHT - 1)
    top = mask[everyone[:, None], rows].any(axis=1)
    counted = np.maximum(top.sum(axis=1), 1)
    place = np.where(top.any(axis=1), (top * columns).sum(axis=1) / counted, (SIGHT - 1) / 2)
    before = np.maximum.accumulate(np.where(mask, -1, columns), axis=2)
    behind = np.minimum.accumulate(np.where(mask, SIGHT, columns)[:, :, ::-1], axis=2)[:, :, ::-1]
    widths, centres = np.zeros((2, n, SIGHT), dtype=np.float32)
    for row in range(SIGHT):
        distance = np.where(mask[:, row], np.abs(columns - place[:, None]), np.inf)
        nearest = distance.argmin(axis=1)
        there = mask[everyone, row, nearest]
        start, end = before[everyone, row, nearest], behind[everyone, row, nearest]
        widths[:, row] = np.where(there, end - start - 1, 0)
        place = np.where(there & (end - start - 1 < 0.4 * SIGHT), (start + end) / 2, place)
        centres[:, row] = np.where(there, (start + end) / 2, place)
    smooth = functional.avg_pool1d(torch.from_numpy(widths)[:, None], 3, 1, 1, count_include_pad=False)
    return smooth[:, 0].numpy(), centres, first


def _necks(widths: Rows, centres: Rows, first: npt.NDArray[np.int64]) -> tuple[Rows, Rows, Rows]:
    """Column and row of the neck, and the body's width, (n,) each."""
    rows = np.arange(SIGHT)
    across, down, bodies = np.zeros((3, len(widths)), dtype=np.float32)
    for number, (width, start) in enumerate(zip(widths, first, strict=True)):
        body = float(np.percentile(width[start:], 80))
        below = width[np.minimum(rows + max(2, int(0.25 * body)), SIGHT - 1)]
        upper = (rows >= start) & (rows < start + 0.45 * SIGHT)
        narrow = np.flatnonzero(upper & (width < NARROW * body) & (below > WIDE * body))
        if len(narrow):
            last = int(narrow[-1])
            above = max(int(start), last - int(0.35 * body))
            neck = last - int(width[above : last + 1][::-1].argmin())  # of equals the lowest
            across[number], down[number] = centres[number, neck], (neck + last) / 2
        else:
            across[number], down[number] = centres[number, start], start
        bodies[number] = max(body, SIGHT / 8)
    return across, down, bodies
