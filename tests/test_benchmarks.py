"""The results file keeps the sections of other benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.compatibility import markdown as compatibility_table
from benchmarks.fixed_dims import Reweighed
from benchmarks.results import INTRODUCTION, ROOT, write_section
from benchmarks.seeds import SEED_KEYS, main, markdown
from lib.params import load_params


def test_a_section_takes_the_place_of_its_predecessor(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    for title, body in (("One", "first"), ("Two", "second\n\n| a |\n|---|"), ("One", "third")):
        write_section(title, body, path=path)
    assert path.read_text() == INTRODUCTION + "\n## One\n\nthird\n\n## Two\n\nsecond\n\n| a |\n|---|\n"


def test_the_table_of_seeds_shows_the_least_gain() -> None:
    def row(delta: float) -> dict[str, float]:
        return {"delta": delta, "delta_low": delta - 0.02, "delta_high": delta + 0.02, "n_queries": 60}

    boards = {42: {"a@10": row(0.123), "b@10": row(0.0)}, 1: {"a@10": row(-0.01)}}
    lines = markdown(boards).splitlines()
    assert lines[-1] == "| a@10 | 60 | +12.3 [+10.3, +14.3] | -1.0 [-3.0, +1.0] | +5.7 | -1.0 |"
    assert not any("b@10" in line for line in lines), "a row that a seed lacks is left out"


def test_the_seeds_are_keys_of_the_parameters() -> None:
    raw = load_params(ROOT / "params.yaml").model_dump()
    for key in SEED_KEYS:
        section = raw
        for part in key.split("."):
            section = section[part]
        assert isinstance(section, int)


def test_reweighing_the_fixed_dimensions() -> None:
    x = np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(Reweighed(1, 0.0).encode_image_numpy(x), [[1, 0, 0], [0, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(Reweighed(1, 1.0).encode_image_numpy(x), x, atol=1e-6)
    length = np.hypot(0.6, 1.6)
    np.testing.assert_allclose(Reweighed(1, 2.0).encode_image_numpy(x)[0], [0.6 / length, 0, 1.6 / length], atol=1e-6)


def test_seeds_name_wrong_arguments_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", "x"]) == 2
    assert "the sample draws its own catalogue" in capsys.readouterr().err


def test_the_table_of_the_compatibility_head_means_over_seeds() -> None:
    def run(auc: float) -> dict[str, dict[str, float]]:
        figures = {
            "auc": auc,
            "baseline_auc": 0.5,
            "within_categories_auc": auc,
            "within_categories_baseline_auc": 0.4,
        }
        gain = {"delta": auc - 0.5, "delta_low": auc - 0.6, "delta_high": auc - 0.4}
        return {"validation": figures, "test": figures | gain}

    lines = compatibility_table({"the recipe": [run(0.7), run(0.8), run(0.9)]}).splitlines()
    assert lines[-2].startswith("| the embeddings | 0.500 | 0.500 | 0.400 |")
    assert lines[-1].startswith("| the recipe | 0.800 | 0.800 | 0.800 | +0.200 [+0.100, +0.300] | +0.300 ")
    assert len({line.count("|") for line in lines[-4:]}) == 1
