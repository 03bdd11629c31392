"""Pictures: PNG, without metadata, the same bytes, and drawn also when there is little to draw."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from lib.report.plots import TONES, plot_scoreboard, plot_training_curves


@dataclass(frozen=True)
class Row:
    name: str
    numbers: dict[str, float]
    tone: str
    verdict: str = ""


def row(name: str, baseline: float, protocol: float) -> Row:
    delta = protocol - baseline
    numbers = {"baseline": baseline, "protocol": protocol, "delta": delta, "n_queries": 5}
    numbers |= {"delta_low": delta - 0.05, "delta_high": delta + 0.05, "chance": 0.1, "ceiling": 0.9}
    return Row(name, numbers, "rose" if delta > 0 else "fell")


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG" and not {"Software", "Creation Time", "date"} & set(image.info)
        return np.asarray(image.convert("RGB"))


def count(picture: np.ndarray, colour: str) -> int:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((picture == wanted).all(axis=2).sum())


def test_scoreboard_shows_falls_and_rises_in_their_colours() -> None:
    up, down = row("neckline@10", 0.2, 0.4), row("color@10", 0.5, 0.3)
    both = plot_scoreboard([up, down], title="title", targets={"neckline@10": 5.0})
    assert both == plot_scoreboard([up, down], title="title", targets={"neckline@10": 5.0})
    picture, only_up = pixels(both), pixels(plot_scoreboard([up], title="title", targets={}))
    assert count(picture, TONES["fell"]) > count(only_up, TONES["fell"])
    assert abs(count(picture, TONES["fell"]) - count(picture, TONES["rose"])) < 0.5 * count(picture, TONES["rose"])


@pytest.mark.parametrize("n", [0, 1, 40])
def test_any_number_of_rows(n: int) -> None:
    assert pixels(plot_scoreboard([row(f"r{i}@10", 0.2, 0.3) for i in range(n)], title="t", targets={})).std() > 0


def test_training_curves() -> None:
    log = [
        {"epoch": 0, "loss": {}, "validation": {"neckline@10": 0.2}, "distribution": {"strong": {"x": 1}}},
        {"epoch": 1, "loss": {"total": 2.0, "contrastive": 1.5}, "validation": {"neckline@10": 0.3}},
        {"epoch": 2, "loss": {"total": 1.0}, "validation": {"neckline@10": 0.35, "color@10": 0.5}},
    ]
    assert plot_training_curves(log) == plot_training_curves(log)
    assert plot_training_curves(log) != plot_training_curves(log[:2])
    for short in ([], log[:1]):
        assert pixels(plot_training_curves(short)).std() > 0
