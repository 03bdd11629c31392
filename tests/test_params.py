"""params.yaml: what a mistyped key says, and that every profile is whole."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lib.base.errors import ConfigError
from lib.base.params import load_params, parse_params

ROOT = Path(__file__).resolve().parent.parent
PROFILES = sorted([*ROOT.glob("profiles/*.yaml"), *ROOT.glob("tests/real/*.yaml"), ROOT / "params.yaml"])


@pytest.fixture
def raw() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("file", PROFILES, ids=lambda path: path.name)
def test_profiles_are_complete(file: Path) -> None:
    load_params(file)


def test_sample_profile_equals_params() -> None:
    assert (ROOT / "profiles/sample.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()


def test_unknown_key_names_itself_the_allowed_and_the_nearest(raw: dict[str, Any]) -> None:
    raw["train"]["learning_rate"] = 1.0
    raw["train"]["epoch"] = 3
    with pytest.raises(ConfigError) as caught:
        parse_params(raw)
    text = str(caught.value)
    assert "unknown key 'train.epoch'. Did you mean 'epochs'?" in text
    assert "unknown key 'train.learning_rate'" in text
    assert "Allowed here: lr, weight_decay, batch_size, epochs" in text


def test_unknown_section(raw: dict[str, Any]) -> None:
    raw["trian"] = raw["train"]
    with pytest.raises(ConfigError, match=r"unknown key 'trian'\. Did you mean 'train'\?"):
        parse_params(raw)


def test_unknown_key_in_a_list_item(raw: dict[str, Any]) -> None:
    raw["train"]["sampler"]["boosts"][0]["wieght"] = 2
    with pytest.raises(ConfigError, match=r"boosts\.0\.wieght'\. Did you mean 'weight'\?"):
        parse_params(raw)


def test_unknown_key_in_a_mapping_of_models(raw: dict[str, Any]) -> None:
    raw["scoreboard"]["classes"]["denim"]["colunm"] = "x"
    with pytest.raises(ConfigError, match=r"denim\.colunm'\. Did you mean 'column'\?"):
        parse_params(raw)


def test_renamed_key_is_missing_and_recognised(raw: dict[str, Any]) -> None:
    raw["train"]["lrr"] = raw["train"].pop("lr")
    with pytest.raises(ConfigError, match=r"missing key 'train\.lr'\. Is 'lrr' meant to be it\?"):
        parse_params(raw)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("data", "source"), "tabel", "'data.source'"),
        (("train", "lr"), "fast", "'train.lr'"),
        (("train", "lr"), -1, "'train.lr'"),
        (("data", "splits", "train"), 0.9, "must be 1"),
        (("pairs", "shares", "easy"), 0.5, "add up to 1"),
        (("backbone", "train", "embed_dim"), 128, "fixed_dim 128 leaves nothing to learn of embed_dim 128"),
    ],
)
def test_bad_values(raw: dict[str, Any], path: tuple[str, ...], value: Any, says: str) -> None:
    section = copy.deepcopy(raw)
    inner = section
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    with pytest.raises(ConfigError, match=says):
        parse_params(section)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: [1", "\x00"])
def test_not_a_mapping(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_params(tmp_path / "params.yaml")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="profiles/sample"):
        load_params(tmp_path / "none.yaml")


@pytest.mark.parametrize("stage", ["make_sample", "build_groups"])
def test_a_stage_stops_with_exit_code_2_and_no_traceback(tmp_path: Path, raw: dict[str, Any], stage: str) -> None:
    raw["train"]["lrr"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    paths = ["--out", "out"] if stage == "make_sample" else ["--embeddings", "x", "--out", "out"]
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", *paths],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "train.lrr" in done.stderr and "'lr'" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
