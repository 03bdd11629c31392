"""Typed, read-only view of `params.yaml`.

One frozen pydantic model per section (`lib.base.sections`, `lib.base.recipe_sections`). An unknown key, a wrong
type or a value out of range raises `ConfigError` with the key, what is allowed and the nearest known key. Stages read
`params.<section>`; nothing else in `lib` reads the file.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ValidationError

from lib.base.errors import ConfigError
from lib.base.recipe_sections import (
    Boost,
    Cap,
    Compatibility,
    Groups,
    Head,
    Loss,
    Mine,
    Pairs,
    PairShares,
    Sampler,
    TowerHead,
    TowerNetwork,
    Train,
    TwoTower,
    Validation,
)
from lib.base.sections import (
    ATTRIBUTES,
    INDEX_KINDS,
    PAIR_KINDS,
    Attribute,
    Audit,
    Backbone,
    BackboneTraining,
    Bootstrap,
    ClassRow,
    Columns,
    Data,
    Download,
    Embed,
    EmbeddingMap,
    Evaluate,
    Hnsw,
    Index,
    IndexCard,
    IndexKind,
    IvfPq,
    PairKind,
    QueryMode,
    Runtime,
    Sample,
    Scoreboard,
    Section,
    Splits,
    Target,
)

__all__ = [
    "ATTRIBUTES",
    "INDEX_KINDS",
    "PAIR_KINDS",
    "Attribute",
    "Audit",
    "Backbone",
    "BackboneTraining",
    "Boost",
    "Bootstrap",
    "Cap",
    "ClassRow",
    "Columns",
    "Compatibility",
    "Data",
    "Download",
    "Embed",
    "EmbeddingMap",
    "Evaluate",
    "Groups",
    "Head",
    "Hnsw",
    "Index",
    "IndexCard",
    "IndexKind",
    "IvfPq",
    "Loss",
    "Mine",
    "PairKind",
    "PairShares",
    "Pairs",
    "Params",
    "QueryMode",
    "Runtime",
    "Sample",
    "Sampler",
    "Scoreboard",
    "Section",
    "Splits",
    "Target",
    "TowerHead",
    "TowerNetwork",
    "Train",
    "TwoTower",
    "Validation",
    "load_params",
    "parse_params",
    "pattern_only_under",
]


class Params(Section):
    """The whole file."""

    runtime: Runtime
    sample: Sample
    data: Data
    download: Download
    audit: Audit
    backbone: Backbone
    embed: Embed
    evaluate: Evaluate
    groups: Groups
    mine: Mine
    pairs: Pairs
    train: Train
    compatibility: Compatibility
    scoreboard: Scoreboard
    embedding_map: EmbeddingMap
    index: Index
    two_tower: TwoTower


def pattern_only_under(policy: Literal["pattern_only", "ordinary"], categories: tuple[str, ...]) -> tuple[str, ...]:
    """The categories that mining, pairs and training treat as pattern-only; none under the policy `ordinary`.

    Evaluation is not asked: it measures every policy alike.
    """
    return categories if policy == "pattern_only" else ()


def load_params(path: Path | str = "params.yaml") -> Params:
    """Read and validate a parameter file.

    Args:
        path: a YAML file with every section of `Params`.

    Returns:
        The frozen parameters.

    Raises:
        ConfigError: the file is missing, is no YAML mapping, or a key or value is not allowed.
    """
    file = Path(path)
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such parameter file; cp profiles/sample.yaml {file}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: expected a mapping of sections, got {type(raw).__name__}")
    return parse_params(raw, name=str(file))


def parse_params(raw: Mapping[str, Any], *, name: str = "params") -> Params:
    """Validate parameters that are already a mapping; see `load_params`."""
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(raw, dict(problem)) for problem in error.errors()]
        raise ConfigError(f"{name}: " + "\n".join(lines)) from None


def _explain(raw: Mapping[str, Any], problem: dict[str, Any]) -> str:
    location = [*_keys(raw, problem["loc"]), *([str(problem["loc"][-1])] if problem["type"] == "missing" else [])]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        allowed = _allowed_keys(problem["loc"][:-1])
        near = _nearest(location[-1], allowed)
        hint = f" Did you mean '{near}'?" if near else ""
        return f"unknown key '{key}'.{hint} Allowed here: {', '.join(allowed)}."
    if problem["type"] == "missing":
        present = _at(raw, problem["loc"][:-1])
        unknown = [k for k in present if k not in _allowed_keys(problem["loc"][:-1])]
        near = _nearest(location[-1], unknown)
        hint = f" Is '{near}' meant to be it?" if near else ""
        return f"missing key '{key}'.{hint} profiles/sample.yaml shows every key."
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"bad value for '{key}': {message[0].lower()}{message[1:]}; got {problem['input']!r}."


def _keys(raw: Any, location: Sequence[Any]) -> list[str]:
    """A place in the file, without what pydantic adds where one of several types is allowed."""
    keys = []
    for part in location:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            continue
        keys.append(str(part))
    return keys


def _allowed_keys(location: Iterable[Any]) -> list[str]:
    model: type[BaseModel] = Params
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # a list index or a free mapping key: the item model was already entered
        found = _model_in(field.annotation)
        if found is not None:
            model = found
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def _at(raw: Any, location: Iterable[Any]) -> list[str]:
    for part in location:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return []
    return [str(key) for key in raw] if isinstance(raw, Mapping) else []


def _nearest(key: str, known: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def main(argv: list[str] | None = None) -> int:
    """`python -m lib.base.params FILE …`: check parameter files; 0, or 2 with the reason."""
    parser = argparse.ArgumentParser(description="Check parameter files.")
    parser.add_argument("files", nargs="*", type=Path, default=[Path("params.yaml")])
    for file in parser.parse_args(argv).files:
        try:
            load_params(file)
        except ConfigError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
