"""Printed motifs for the chest of graphic tees and hoodies, built from plain shapes."""

from __future__ import annotations

import numpy as np

from lib.catalog.drawing.canvas import Canvas
from lib.catalog.drawing.curve import Points, bezier, closed, pts
from lib.catalog.drawing.fabric import Rgb, light_of

# Block letters on a 3 x 5 grid, one bit per cell, top row first.
_LETTERS = {
    "A": 0b010101111101101,
    "E": 0b111100110100111,
    "L": 0b100100100100111,
    "N": 0b111101101101101,
    "O": 0b111101101101111,
    "R": 0b110101110101101,
    "S": 0b111100111001111,
    "T": 0b111010010010010,
    "U": 0b101101101101111,
    "V": 0b101101101101010,
    "W": 0b101101101111111,
    "Y": 0b101101010010010,
    "2": 0b111001111100111,
    "7": 0b111001001010010,
    "8": 0b111101111101111,
    "9": 0b111101111001111,
}
_WORDS = (
    "WAVES",
    "LOST",
    "TOUR",
    "SOUL",
    "EASY",
    "STARS",
    "ROSE",
    "SUN",
    "NEVER",
    "OUTER",
    "28",
    "79",
    "SALT",
)


def _text(canvas: Canvas, word: str, x: float, y: float, width: float, height: float, ink: Rgb) -> None:
    step = width / (4 * len(word) - 1)
    cell = height / 5.0
    for i, letter in enumerate(word):
        bits = _LETTERS[letter]
        for k in range(15):
            if bits >> (14 - k) & 1:
                left, top = x - width / 2 + (4 * i + k % 3) * step, y + (k // 3) * cell
                right, low = left + step * 1.04, top + cell * 1.04
                canvas.shape(pts((left, top), (right, top), (right, low), (left, low)), ink, 0.95)


def _star(x: float, y: float, r: float, points: int = 5, inner: float = 0.42) -> Points:
    a = np.arange(2 * points) * np.pi / points - np.pi / 2
    rad = np.where(np.arange(2 * points) % 2 == 0, r, r * inner)
    return np.column_stack([x + rad * np.cos(a), y + rad * np.sin(a)])


def _disc(x: float, y: float, r: float) -> Points:
    a = np.linspace(0.0, 2 * np.pi, 28)
    return np.column_stack([x + r * np.cos(a), y + r * np.sin(a)])


def draw_motif(canvas: Canvas, choice: int, y: float, size: float, base: Rgb, accent: Rgb) -> None:
    """Print a motif of about `size` units on the chest, centred at height y (units)."""
    ink: Rgb = (246, 244, 238) if light_of(base) < 125 else (28, 28, 34)
    warm: Rgb = ((232, 84, 60), (244, 176, 58), (64, 150, 200), (226, 92, 140))[choice // 16 % 4]
    if abs(light_of(warm) - light_of(base)) < 25:
        warm = accent
    kind, word = choice % 9, _WORDS[choice // 64 % len(_WORDS)]
    r = size
    if kind in (0, 1):
        tall = 0.9 if len(word) < 4 else 0.55
        _text(canvas, word, 0.0, y - r * tall * 0.5, 2 * r, r * tall, ink if kind else warm)
        if kind:
            canvas.shape(pts((-r, y + r * 0.42), (r, y + r * 0.42), (r, y + r * 0.55), (-r, y + r * 0.55)), warm)
    elif kind == 2:  # a sun setting in bars
        canvas.shape(_disc(0.0, y, r * 0.85), warm)
        for k in range(4):
            top = y + r * (0.1 + 0.2 * k)
            canvas.shape(pts((-r, top), (r, top), (r, top + r * 0.08), (-r, top + r * 0.08)), base)
        _text(canvas, word, 0.0, y + r * 0.98, 1.7 * r, r * 0.3, ink)
    elif kind == 3:
        canvas.shape(_star(0.0, y, r), ink)
        canvas.shape(_star(0.0, y, r * 0.62), warm)
    elif kind == 4:  # heart
        half = np.vstack(
            [
                bezier((0.0, y - r * 0.35), (r * 0.25, y - r), (r * 1.1, y - r * 0.7), (r * 0.8, y)),
                pts((0.0, y + r * 0.85)),
            ]
        )
        canvas.shape(closed(half), warm)
        _text(canvas, word, 0.0, y - r * 0.2, r * 1.2, r * 0.3, ink)
    elif kind == 5:  # mountains in a frame
        canvas.shape(pts((-r, y - r * 0.8), (r, y - r * 0.8), (r, y + r * 0.7), (-r, y + r * 0.7)), ink)
        canvas.shape(_disc(r * 0.4, y - r * 0.35, r * 0.25), warm)
        canvas.shape(pts((-r, y + r * 0.7), (-r * 0.35, y - r * 0.4), (r * 0.1, y + r * 0.7)), (70, 104, 120))
        canvas.shape(pts((-r * 0.3, y + r * 0.7), (r * 0.4, y), (r, y + r * 0.7)), (104, 140, 122))
    elif kind == 6:  # a cat's face
        canvas.shape(_disc(0.0, y + r * 0.1, r * 0.75), ink)
        for s in (1.0, -1.0):
            canvas.shape(pts((s * r * 0.72, y - r * 0.8), (s * r * 0.15, y - r * 0.5), (s * r * 0.72, y)), ink)
            canvas.shape(_disc(s * r * 0.3, y, r * 0.13), warm)
        canvas.shape(pts((-r * 0.1, y + r * 0.25), (r * 0.1, y + r * 0.25), (0.0, y + r * 0.4)), warm)
    elif kind == 7:  # a wheel of petals
        for k in range(8):
            a = k * np.pi / 4
            canvas.shape(_disc(0.6 * r * np.cos(a), y + 0.6 * r * np.sin(a), r * 0.3), warm if k % 2 else ink)
        canvas.shape(_disc(0.0, y, r * 0.3), accent)
    else:  # lightning in a ring
        canvas.shape(_disc(0.0, y, r * 0.95), ink)
        canvas.shape(_disc(0.0, y, r * 0.8), base)
        bolt = pts((0.2, -0.75), (-0.45, 0.1), (-0.05, 0.1), (-0.2, 0.75), (0.45, -0.15), (0.05, -0.15))
        canvas.shape(bolt * r + np.array([0.0, y]), warm)
