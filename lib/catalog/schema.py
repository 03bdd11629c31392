"""Row types of the catalogue and the arrow schemas of the files of `data/processed/hf/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import pyarrow as pa

from lib.base.params import ATTRIBUTES

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

SOURCED = (*ATTRIBUTES, "color")
"""Columns that come from a column or from the text; each has a `<name>_source` beside it."""

ProductKey = Literal["column", "same_image", "sku", "item_id", "image_url", "single"]
PRODUCT_KEYS: tuple[ProductKey, ...] = get_args(ProductKey)
"""What can tie an item to its product, strongest first; `single` is an item without a sibling."""

Partition = Literal["train", "query", "gallery"]
PARTITIONS: tuple[Partition, ...] = get_args(Partition)
"""Parts of an official retrieval protocol, where a data set brings one."""

STRING_COLUMNS = (
    "item_id",
    "product_id",
    "product_key",
    "category1",
    "category2",
    "category3",
    "color",
    "text",
    "caption",
    "material",
    "pattern",
    "neckline",
    "sleeve",
    *(f"{name}_source" for name in SOURCED),
    "partition",
    "partition_item",
)
"""Every column of a processed row except `image`; nullable strings, `None` is unknown.

`partition` is the item's part in the data set's official protocol, `partition_item` the id by which that protocol
matches items: null where a data set has none.
"""


def _features() -> str:
    """The Hugging Face `features` of the files, so that `datasets` decodes `image` without being told."""
    features: dict[str, dict[str, str]] = {"image": {"_type": "Image"}}
    features |= {name: {"dtype": "string", "_type": "Value"} for name in STRING_COLUMNS}
    return json.dumps({"info": {"features": features}})


IMAGE_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
ITEM_SCHEMA = pa.schema(
    [pa.field("image", IMAGE_TYPE), *(pa.field(name, pa.string()) for name in STRING_COLUMNS)],
    metadata={"huggingface": _features()},
)
"""`{train,validation,test}-00000-of-0000N.parquet`."""

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("item_id", pa.string()),
        pa.field("path", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)
"""`quarantine.parquet`: `row` is the 1-based line (CSV) or row (parquet) of the source."""


@dataclass(frozen=True)
class RawRow:
    """One row as a source delivers it: missing cells are `None`, nothing is interpreted yet.

    Attributes:
        row: 1-based line (CSV) or row (parquet) in the source.
        item_id: as it stands in the source; never empty.
        image: what the source needs to read the photo, for a table its path under the image root.
        image_name: the photo's own file name, which may hold a SKU.
        image_url: address of the photo, where the catalogue has one.
        no_photo: why there is no photo behind the address.
        text: the text columns, joined by ` || `.
        attributes: structured values of `SOURCED`, as they stand in their columns.
        partition, partition_item: part in the official protocol and the id that it matches by.
        digest: of all cells, to tell an exact copy of a row.
    """

    row: int
    item_id: str
    image: str | None = None
    image_name: str | None = None
    image_url: str | None = None
    no_photo: str | None = None
    category1: str | None = None
    category2: str | None = None
    category3: str | None = None
    product_id: str | None = None
    text: str | None = None
    attributes: Mapping[str, str | None] = field(default_factory=dict)
    partition: Partition | None = None
    partition_item: str | None = None
    digest: bytes = b""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, on its way to `quarantine.parquet`."""

    row: int
    item_id: str | None
    path: str | None
    reason: str
    detail: str
