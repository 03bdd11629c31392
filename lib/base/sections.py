"""Sections of `params.yaml`, one frozen pydantic model each; `lib.base.params` loads them and explains mistakes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

ATTRIBUTES = ("neckline", "sleeve", "pattern", "material")
"""Attributes with a value schema; `color` and the categories are plain columns."""

Attribute = Literal["neckline", "sleeve", "pattern", "material"]
QueryMode = Literal["image_to_image", "text_to_image", "fused", "fused_learned"]
PairKind = Literal["strong", "medium", "weak", "hard", "easy"]
PAIR_KINDS: tuple[PairKind, ...] = get_args(PairKind)
IndexKind = Literal["flat", "hnsw", "ivf_pq"]
INDEX_KINDS: tuple[IndexKind, ...] = get_args(IndexKind)
Auto = Literal["auto"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of the parameter file: frozen, strict about keys, every number finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads `yes`, `on` and `true` alike, and pydantic would take any of them for 1."""
        kind = cls.model_fields[str(info.field_name)].annotation
        held = value if isinstance(value, list) else [value]
        if isinstance(value, dict) and get_origin(kind) is Mapping:
            held = list(value.values())
        if bool not in (kind, *get_args(kind)) and any(isinstance(one, bool) for one in held):
            raise ValueError("a value is expected, not yes or no, on or off, true or false")
        return value


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

    source: Literal["sample", "table", "huggingface", "deepfashion_inshop"]
    raw_dir: str
    metadata: str
    image_root: str
    image_cache: str
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

    @field_validator("raw_dir")
    @classmethod
    def _is_a_folder(cls, raw_dir: str) -> str:
        if "://" in raw_dir:  # DVC's own message about such a dependency helps nobody
            remedy = f"; pin the data set there: python -m stages.pin_hub --hub {raw_dir} --out data/raw/name"
            raise ValueError(f"it is a folder{remedy if raw_dir.startswith('hf:') else ''}")
        return raw_dir


class Download(Section):
    """How photos are fetched that the catalogue names by address; no stage reads it."""

    workers: Annotated[int, Field(ge=1, le=256)]
    per_host: Positive
    silence_s: Annotated[float, Field(gt=0)]
    deadline_s: Annotated[float, Field(gt=0)]
    max_bytes: Annotated[int, Field(ge=1, le=256 * 2**20)]  # above that the file would be refused when it is read
    attempts: Positive
    backoff_s: Annotated[float, Field(ge=0)]
    max_backoff_s: Annotated[float, Field(ge=0)]


class Audit(Section):
    """Items whose attribute values a reviewer compares with the pictures."""

    n_items: Positive
    min_per_category: Positive
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
    fixed_dim: Literal[0, 16, 32, 64, 128, 256]
    epochs: Positive
    batch_size: Annotated[int, Field(ge=2)]
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_fraction: Fraction
    crop_scale_min: Annotated[float, Field(gt=0, le=1)]
    attribute_loss: Annotated[float, Field(ge=0)]
    collar: bool
    drawn_collars: Annotated[int, Field(ge=0)]
    seed: int

    @model_validator(mode="after")
    def _something_is_learnt(self) -> BackboneTraining:
        if self.fixed_dim >= self.embed_dim:
            raise ValueError(f"fixed_dim {self.fixed_dim} leaves nothing to learn of embed_dim {self.embed_dim}")
        if self.drawn_collars and not self.collar:
            raise ValueError("drawn_collars: only with collar: true is there something to warm up")
        if self.drawn_collars == 1:
            raise ValueError("drawn_collars: 0, or at least 2 pictures")
        return self


class Backbone(Section):
    """Where the frozen OpenCLIP backbone comes from."""

    source: Literal["train", "checkpoint", "hub"]
    model: str
    pretrained: str
    checkpoint: Annotated[str, Field(min_length=1)]  # a dep in dvc.yaml
    train: BackboneTraining


class Embed(Section):
    """How the catalogue is embedded."""

    batch_size: Positive
    decode_workers: Positive
    cache_gb: Annotated[float, Field(ge=0)]
    engine: Literal["local", "ray"] = "local"
    ray_address: str = ""
    ray_workers: Positive = 2

    @field_validator("ray_address")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        if address.startswith("ray://"):
            raise ValueError(
                "addresses of Ray's client are not supported; `ray start --address=host:port` here, then auto"
            )
        if address not in ("", "auto") and not re.fullmatch(r"[^\s:/]+:\d{1,5}", address):
            raise ValueError("expected '' (a private cluster on this machine), auto or host:port")
        return address


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


class EmbeddingMap(Section):
    """The map of both models' embeddings."""

    items: Annotated[int, Field(ge=0, le=3000)]
    perplexity: Annotated[float, Field(gt=1)]
    seed: int


class Hnsw(Section):
    """A graph of near neighbours (Malkov & Yashunin 2016); `ef_search` only concerns searching."""

    m: Annotated[int, Field(ge=2, le=256)]
    ef_construction: Positive
    ef_search: Positive


class IvfPq(Section):
    """Inverted lists of product-quantised rows (Jégou et al. 2011); `nprobe` and `rerank` only concern searching."""

    nlist: Auto | Positive
    m: Auto | Positive
    bits: Annotated[int, Field(ge=4, le=8)]
    nprobe: Positive
    rerank: Positive


class IndexCard(Section):
    """What the index card measures."""

    queries: Positive
    k: Positive


class Index(Section):
    """Which indexes are built over the gallery, and which one serves."""

    build: Auto | tuple[IndexKind, ...]
    default: Auto | IndexKind
    metric: Literal["cosine"]
    memory_gb: Annotated[float, Field(gt=0)]
    hnsw: Hnsw
    ivf_pq: IvfPq
    card: IndexCard
    seed: int

    @model_validator(mode="after")
    def _default_is_built(self) -> Index:
        if self.build == "auto":
            return self
        if not self.build or len(set(self.build)) < len(self.build):
            raise ValueError("build must be auto or name one or more kinds, each once")
        if self.default != "auto" and self.default not in self.build:
            raise ValueError(f"default '{self.default}' is not among build {list(self.build)}")
        return self
