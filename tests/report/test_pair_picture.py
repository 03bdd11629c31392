"""The picture of pair scores: drawn with much, little and nothing to show, the same bytes every time."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lib.report.pair_picture import plot_pair_scores


def shown(n: int, seed: int = 0, apart: float = 0.5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return {
        "labels": labels,
        "baseline": rng.uniform(-0.2, 1, n),
        "head": np.clip(rng.normal(size=n) * 0.2 + apart * labels, -1, 1),
    }


FIGURES = {split: {"auc": 0.7, "baseline_auc": 0.5} for split in ("validation", "test")}


def picture(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG" and "Software" not in image.info
        return np.asarray(image.convert("RGB"))


def test_same_scores_same_bytes_other_scores_another_picture() -> None:
    one, other = ({"test": shown(200, apart=apart)} for apart in (0.5, 0.0))
    assert plot_pair_scores(one, FIGURES) == plot_pair_scores(one, FIGURES)
    assert (picture(plot_pair_scores(one, FIGURES)) != picture(plot_pair_scores(other, FIGURES))).any()


def test_a_row_per_split() -> None:
    both = {split: shown(60) for split in ("validation", "test")}
    assert (
        picture(plot_pair_scores(both, FIGURES)).shape[0]
        > picture(plot_pair_scores({"test": shown(60)}, FIGURES)).shape[0]
    )


@pytest.mark.parametrize("figures", [{"skipped": "no pairs"}, {"test": {"skipped": "one label"}}])
def test_nothing_to_show(figures: dict[str, object]) -> None:
    assert picture(plot_pair_scores({}, figures)).std() > 0


@pytest.mark.parametrize("value", [1.0, -1.0, 0.3])
def test_equal_scores(value: float) -> None:
    same = np.full(2, value)
    assert (
        picture(
            plot_pair_scores({"test": {"labels": np.array([0, 1]), "baseline": same, "head": same}}, FIGURES)
        ).std()
        > 0
    )
