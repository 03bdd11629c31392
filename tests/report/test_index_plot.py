"""The chart of an index card: the same bytes, a line per kind, drawn also when nothing was measured."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from lib.report.index_plot import Point, card_curves, plot_recall
from lib.report.plots import LINES


def card() -> dict[str, Any]:
    def row(cost: float, recall: float, **effort: int) -> dict[str, float]:
        return {**effort, "ann_recall@10": recall, "distances_per_query": 1, "kilobytes_per_query": cost}

    sweep = [row(10.0, 0.8, ef_search=32), row(20.0, 0.95, ef_search=64)]
    served = row(20.0, 0.95) | {"sweep": sweep}
    flat = row(500.0, 1.0)
    return {
        "k": 10,
        "queries": {"image": 5, "text": 0},
        "kinds": {"flat": {"bytes": 1, "image": flat}, "hnsw": {"bytes": 1, "image": served}},
    }


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG" and not {"Software", "Creation Time", "date"} & set(image.info)
        return np.asarray(image.convert("RGB"))


def count(picture: np.ndarray, colour: str) -> int:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((picture == wanted).all(axis=2).sum())


def draw(panels: dict[str, dict[str, list[Point]]]) -> bytes:
    return plot_recall(panels, title="title", cost="cost", recall="recall")


def test_curves_of_a_card() -> None:
    assert card_curves(card()) == {
        "image": {
            "flat": [Point(500.0, 1.0, "", True)],
            "hnsw": [Point(10.0, 0.8, "32", False), Point(20.0, 0.95, "64", True)],
        }
    }


def test_every_kind_is_drawn_and_the_served_setting_is_filled() -> None:
    panels = card_curves(card())
    picture = pixels(draw(panels))
    assert draw(panels) == draw(card_curves(card()))
    assert count(picture, LINES[0]) > 0 and count(picture, LINES[1]) > 0 and count(picture, LINES[2]) == 0
    hollow = [Point(p.cost, p.recall, p.label) for p in panels["image"]["hnsw"]]
    assert count(pixels(draw({"image": panels["image"] | {"hnsw": hollow}})), LINES[1]) < count(picture, LINES[1])


def test_two_panels_one_and_none() -> None:
    one = card_curves(card())
    widths = [pixels(draw(panels)).shape[1] for panels in ({}, one, one | {"text": one["image"]})]
    assert widths[0] == widths[1] < widths[2]
