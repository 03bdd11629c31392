"""A key that nobody knows, a value that cannot be meant, anywhere in params.yaml: 2, and what to write instead."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stage_server import ROOT, StageServer, command

from lib.base.errors import ConfigError
from lib.base.params import Params, parse_params

RAW: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
SECTIONS = list(Params.model_fields)
FREE = ("train.loss.attribute_weights", "scoreboard.classes", "train.loss.kind_weights")
"""Mappings whose keys are data."""
STAGE = {
    "runtime": "build_groups", "sample": "make_sample", "data": "process_data", "download": "process_data",
    "audit": "grounding_audit", "backbone": "prepare_backbone", "embed": "embed_catalog", "evaluate": "evaluate",
    "groups": "build_groups", "mine": "mine_hard_negatives", "pairs": "build_pairs", "train": "train_protocol",
    "compatibility": "train_compatibility", "scoreboard": "scoreboard", "embedding_map": "embedding_map",
    "index": "build_index", "two_tower": "train_two_tower",
}  # fmt: skip


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value of the file with its path, mappings and lists before what they hold."""
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))


MAPPINGS = [path for path, value in places(RAW) if isinstance(value, dict) and dotted(path) not in FREE]
VALUES = [path for path, value in places(RAW) if path and not isinstance(value, dict | list)]


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The file with another value at a path."""
    raw = copy.deepcopy(RAW)
    inner: Any = raw
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return raw


def at(path: tuple[str | int, ...]) -> Any:
    value: Any = RAW
    for key in path:
        value = value[key]
    return value


def refused(stages: StageServer, folder: Path, section: str, raw: dict[str, Any]) -> str:
    """Run the section's stage on the parameters; it must end with 2 and write nothing. Returns what it said."""
    (folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    ended = stages.run(folder, command(STAGE[section], "baseline"))
    assert ended.code == 2 and ended.said.startswith(f"error: {STAGE[section]}: params.yaml: "), ended
    assert "Traceback" not in ended.said and [path.name for path in folder.iterdir()] == ["params.yaml"]
    return ended.said


def test_every_section_has_a_stage() -> None:
    assert list(STAGE) == SECTIONS == list(RAW)


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_stops_the_stage(stages: StageServer, tmp_path: Path, section: str) -> None:
    keys = list(Params.model_fields[section].annotation.model_fields)  # type: ignore[union-attr]
    said = refused(stages, tmp_path, section, changed((section, f"{keys[0]}s_"), 1))
    assert f"unknown key '{section}.{keys[0]}s_'. Did you mean '{keys[0]}'?" in said
    assert f"Allowed here: {', '.join(keys)}." in said


@pytest.mark.parametrize("section", SECTIONS)
def test_a_wrong_type_stops_the_stage(stages: StageServer, tmp_path: Path, section: str) -> None:
    first = next(path for path in VALUES if path[0] == section)
    said = refused(stages, tmp_path, section, changed(first, {"a": "mapping"}))
    assert f"bad value for '{dotted(first)}': " in said and "got {'a': 'mapping'}" in said


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_that_is_none_stops_the_stage(stages: StageServer, tmp_path: Path, section: str) -> None:
    assert f"bad value for '{section}': " in refused(stages, tmp_path, section, changed((section,), "nothing"))
    raw = {key: value for key, value in RAW.items() if key != section}
    said = refused(stages, tmp_path, section, {**raw, f"{section}x": 1})
    assert f"missing key '{section}'. Is '{section}x' meant to be it?" in said
    assert f"unknown key '{section}x'. Did you mean '{section}'?" in said


@pytest.mark.parametrize("path", MAPPINGS, ids=dotted)
def test_an_unknown_key_is_named_at_any_depth(path: tuple[str | int, ...]) -> None:
    known = next(iter(at(path)))
    with pytest.raises(ConfigError) as caught:
        parse_params(changed((*path, f"{known}x"), 1))
    said = str(caught.value)
    assert f"unknown key '{dotted((*path, f'{known}x'))}'. Did you mean '{known}'?" in said
    assert all(key in said.split("Allowed here: ")[1] for key in at(path))


@pytest.mark.parametrize("path", VALUES, ids=dotted)
def test_a_value_of_another_type_is_named_at_any_depth(path: tuple[str | int, ...]) -> None:
    wrong = [{"a": 1}, [[1]]]
    if isinstance(at(path), bool):
        wrong += ["perhaps", 2]
    elif isinstance(at(path), int | float):
        wrong += ["many", True, float("nan"), float("inf"), [1]]
    elif at(path) == "auto":  # or a number, or a name
        wrong += ["many", True, 1.5]
    else:
        wrong += [5, True, 1.5]
    for value in wrong:
        with pytest.raises(ConfigError) as caught:
            parse_params(changed(path, value))
        in_a_list = value is True and isinstance(path[-1], int)
        place = path[:-1] if in_a_list or dotted(path[:-1]) in FREE else path
        assert f"'{dotted(place)}" in str(caught.value) and "got " in str(caught.value), value


def test_a_choice_names_what_there_is_to_choose(stages: StageServer, tmp_path: Path) -> None:
    said = refused(stages, tmp_path, "data", changed(("data", "source"), "tabel"))
    assert "'data.source'" in said and all(f"'{name}'" in said for name in ("sample", "table", "huggingface"))
    said = refused(stages, tmp_path, "train", changed(("train", "lr"), -1))
    assert "'train.lr'" in said and "greater than 0" in said and "got -1" in said


@pytest.mark.parametrize("text", ["", "- a\n", "a: [1", "\x00", "train: &a [*a]\n"])
def test_a_file_that_holds_no_parameters_stops_the_stage(stages: StageServer, tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    ended = stages.run(tmp_path, command("build_groups"))
    assert ended.code == 2 and "params.yaml" in ended.said and "Traceback" not in ended.said
    (tmp_path / "params.yaml").unlink()
    ended = stages.run(tmp_path, command("build_groups"))
    assert ended.code == 2 and "no such parameter file; cp profiles/sample.yaml" in ended.said
