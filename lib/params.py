"""Typed, read-only view of `params.yaml`.

One frozen pydantic model per section. An unknown key, a wrong type or a value out of range raises
`ConfigError` with the key, what is allowed and the nearest known key. Stages read `params.<section>`;
nothing else in `lib` reads the file.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lib.errors import ConfigError

ATTRIBUTES = ("neckline", "sleeve", "pattern", "material")
"""Attributes with a value schema; `color` and the categories are plain columns."""

Attribute = Literal["neckline", "sleeve", "pattern", "material"]
QueryMode = Literal["image_to_image", "text_to_image", "fused"]
PairKind = Literal["strong", "medium", "weak", "hard", "easy"]
PAIR_KINDS: tuple[PairKind, ...] = get_args(PairKind)
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of the parameter file: frozen, strict about keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Runtime(Section):
    """Processor threads; results are bitwise reproducible for one value of it."""

    threads: Positive = 2


class Sample(Section):
    """The embedded sample catalogue."""

    n_products: Annotated[int, Field(ge=0)]
    image_size: Annotated[int, Field(ge=32, le=1024)]
    seed: int


class Columns(Section):
    """Which column (or template) of the metadata table holds what; a key left out is derived."""

    item_id: str | None = None
    image: str | None = None
    image_url: str | None = None
    text: tuple[str, ...] = ()
    category1: str | None = None
    category2: str | None = None
    category3: str | None = None
    color: str | None = None
    product_id: str | None = None
    neckline: str | None = None
    sleeve: str | None = None
    pattern: str | None = None
    material: str | None = None


class Splits(Section):
    """Shares of the products; they add up to 1."""

    train: Fraction
    validation: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _sum(self) -> Splits:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, got {total:g}")
        return self


class Data(Section):
    """From raw files to the processed catalogue."""

    source: Literal["sample", "table", "huggingface"]
    raw_dir: str
    metadata: str
    image_root: str
    columns: Columns
    missing_values: tuple[str, ...] = ("", "#N/A")
    duplicate_ids: Literal["error", "keep_first"] = "error"
    attribute_schema: str
    pattern_only_categories: tuple[str, ...] = ()
    product_keys: tuple[Literal["column", "item_id", "image_url", "sku"], ...]
    sku_pattern: str | None = None
    max_bad_fraction: Fraction
    max_image_side: Annotated[int, Field(ge=32)]
    max_pixels: Annotated[int, Field(ge=1024, le=178_956_970)]  # above that Pillow itself refuses
    splits: Splits
    seed: int


class BackboneTraining(Section):
    """A small OpenCLIP model trained from scratch on the train split (`source: train`)."""

    image_size: Annotated[int, Field(ge=32)]
    vision_width: Literal[8, 16, 24, 32, 48, 64]
    vision_grid: Literal[4, 6, 8]
    text_width: Positive
    text_heads: Positive
    text_layers: Positive
    context_length: Annotated[int, Field(ge=8, le=77)]
    embed_dim: Positive
    epochs: Positive
    batch_size: Annotated[int, Field(ge=2)]
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_fraction: Fraction
    crop_scale_min: Annotated[float, Field(gt=0, le=1)]
    attribute_loss: Annotated[float, Field(ge=0)]
    seed: int


class Backbone(Section):
    """Where the frozen OpenCLIP backbone comes from."""

    source: Literal["train", "checkpoint", "hub"]
    model: str
    pretrained: str
    checkpoint: str
    train: BackboneTraining


class Embed(Section):
    """How the catalogue is embedded."""

    batch_size: Positive
    decode_workers: Positive


class Bootstrap(Section):
    """Product-clustered bootstrap."""

    resamples: Annotated[int, Field(ge=100)]
    seed: int


class Evaluate(Section):
    """Retrieval evaluation, the same for every model."""

    k: Positive
    modes: tuple[QueryMode, ...]
    fused_image_weight: Fraction
    bootstrap: Bootstrap
    gallery_queries: Annotated[int, Field(ge=0)]


class Groups(Section):
    """Which derived product groups are good enough to train on."""

    min_confidence: Fraction
    max_size: Annotated[int, Field(ge=2)]
    spot_check: Annotated[int, Field(ge=0)]
    seed: int


class Mine(Section):
    """Attribute-controlled hard negatives from the baseline's own mistakes."""

    max_anchors: Positive
    depth: Positive
    per_anchor: Positive
    max_positive_ratio: Annotated[float, Field(gt=0, le=1)]
    attributes: tuple[Attribute, ...]
    suspects: Annotated[int, Field(ge=0)]
    seed: int


class PairShares(Section):
    """Shares of the five kinds of pair; they add up to 1."""

    strong: Fraction
    medium: Fraction
    weak: Fraction
    hard: Fraction
    easy: Fraction

    @model_validator(mode="after")
    def _sum(self) -> PairShares:
        total = self.strong + self.medium + self.weak + self.hard + self.easy
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"the five shares must add up to 1, got {total:g}")
        return self


class Pairs(Section):
    """Training pairs."""

    n_pairs: Positive
    shares: PairShares
    seed: int


class Head(Section):
    """The residual head on frozen embeddings; identity at initialisation."""

    kind: Literal["linear", "mlp", "prototype"]
    hidden: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Loss(Section):
    """Weights of the parts of the training loss; 0 switches a part off."""

    contrastive: Annotated[float, Field(ge=0)]
    image_text: Annotated[float, Field(ge=0)]
    attribute_contrastive: Annotated[float, Field(ge=0)]
    attribute_heads: Annotated[float, Field(ge=0)]
    attribute_weights: Mapping[str, float]
    identity: Annotated[float, Field(ge=0)]
    fusion: Annotated[float, Field(ge=0)] = 0.1
    kind_weights: Mapping[PairKind, float]
    initial_temperature: Annotated[float, Field(gt=0)]
    attribute_temperature: Annotated[float, Field(gt=0)]


class Boost(Section):
    """Rows whose `column` equals one of `values` (any known value when empty) are drawn `weight` times as often."""

    column: str
    values: tuple[str, ...] = ()
    weight: Annotated[float, Field(gt=0)]


class Cap(Section):
    """Rows whose `column` equals one of `values` make up at most `max_share` of a batch."""

    column: str
    values: tuple[str, ...]
    max_share: Annotated[float, Field(gt=0, le=1)]


class Sampler(Section):
    """Composition of training batches."""

    boosts: tuple[Boost, ...]
    caps: tuple[Cap, ...]


class Validation(Section):
    """The quick validation after each epoch."""

    gallery: Positive
    queries: Positive
    select_by: tuple[str, ...]
    max_fall: Annotated[float, Field(ge=0)]
    seed: int


class Train(Section):
    """The protocol model."""

    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=2)]
    epochs: Annotated[int, Field(ge=0)]
    patience: Annotated[int, Field(ge=0)]
    interpolation: tuple[Annotated[float, Field(gt=0)], ...]
    seed: int
    head: Head
    loss: Loss
    sampler: Sampler
    validation: Validation


class ClassRow(Section):
    """A scoreboard row: precision of `metric` over the queries whose `column` is `value`."""

    column: Literal["category2", "material", "pattern", "neckline", "sleeve", "color"]
    value: str


class Target(Section):
    """A declared gain in points (hundredths) of one scoreboard row."""

    row: str
    points: float
    stretch: float | None = None
    headline: bool = False


class Scoreboard(Section):
    """What the scoreboard shows and what counts as success."""

    classes: Mapping[str, ClassRow]
    targets: tuple[Target, ...]
    bootstrap: Bootstrap
    changes_shown: Annotated[int, Field(ge=0)]


class Params(Section):
    """The whole file."""

    runtime: Runtime
    sample: Sample
    data: Data
    backbone: Backbone
    embed: Embed
    evaluate: Evaluate
    groups: Groups
    mine: Mine
    pairs: Pairs
    train: Train
    scoreboard: Scoreboard


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
    location = [str(part) for part in problem["loc"]]
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
    """`python -m lib.params FILE …`: check parameter files; 0, or 2 with the reason."""
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
