"""Pictures: PNG, without metadata, the same bytes, and drawn also when there is little to draw."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from lib.report.plots import BAND, LINES, TONES, plot_scoreboard, plot_training_curves


@dataclass(frozen=True)
class Row:
    name: str
    numbers: dict[str, float]
    tone: str
    target_met: bool | None = None


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


def test_a_delta_whose_interval_includes_zero_is_hollow() -> None:
    sure, unsure = row("neckline@10", 0.2, 0.4), row("neckline@10", 0.2, 0.4)
    unsure.numbers["delta_low"] = -0.01
    sure.numbers["delta_low"] = 0.01  # as wide an interval, nearly
    drawn = [count(pixels(plot_scoreboard([r], title="t", targets={})), TONES["rose"]) for r in (sure, unsure)]
    assert drawn[0] > 1.2 * drawn[1]


def test_known_and_unseen_rows_stand_on_bands() -> None:
    names = ("color@10", "known_color@10", "denim@10", "unseen_color@10")
    band = [count(pixels(plot_scoreboard([row(n, 0.2, 0.4) for n in names[:i]], title="t", targets={})), BAND)
            for i in range(1, 5)]  # fmt: skip
    assert band[0] == 0 and band[1] > 0 and band[3] > band[2] > 0


def test_an_unseen_twin_has_its_rows_colour() -> None:
    def lines_of(*names: str) -> list[int]:
        log = [{"epoch": e, "loss": {}, "validation": dict.fromkeys(names, 0.1 * e)} for e in range(5)]
        picture = pixels(plot_training_curves(log))
        return [count(picture, colour) for colour in LINES[:2]]

    twins, strangers = lines_of("color@10", "unseen_color@10"), lines_of("color@10", "neckline@10")
    assert twins[0] > 0 and twins[1] == 0
    assert strangers[0] > 0 and strangers[1] > 0
    solid, dashed = lines_of("color@10")[0], lines_of("unseen_color@10")[0]
    assert 0 < dashed < 0.95 * solid


def test_losses_of_zero_are_drawn_too() -> None:
    log = [{"epoch": e, "loss": {"total": 2.0 - e, "identity": 0.0}, "validation": {}} for e in range(2)]
    picture = pixels(plot_training_curves(log))
    assert count(picture, LINES[0]) > 0 and count(picture, LINES[1]) > 0
    pictures = {plot_training_curves(log, kept=kept) for kept in ([], [1], [0, 1])}
    assert len(pictures) == 3, "the kept epochs are marked"
