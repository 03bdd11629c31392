"""The result of an evaluation: its tables, and their save and verified load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from lib.base.artifacts import (
    MANIFEST,
    read_json,
    read_manifest,
    read_parquet,
    write_json,
    write_manifest,
    write_parquet,
)
from lib.base.atomic import replacing_files
from lib.evaluation.measure import Measured
from lib.retrieval.top_k import TopK

LABELS = {
    "neckline": "neckline",
    "sleeve": "sleeve",
    "pattern": "pattern",
    "material": "material",
    "color": "color",
    "category": "category2",
}
"""What `<label>@k` is computed for: name -> meta column."""

PRECISION_NAMES = (*LABELS, *(f"known_{label}" for label in LABELS))
"""Every `<label>@k`, then every `known_<label>@k`, whose gallery is the items with a known value."""

PRODUCT_NAMES = ("product_hit_rate@1", "product_map@{k}")
"""What of finding other views of a query's own product is kept per query; `{k}` stands for the evaluation's k."""

QUERY_SPLITS = ("validation", "test")
UNSEEN: Literal["unseen_gallery"] = "unseen_gallery"
"""The mode in which one query split searches the other."""
OFFICIAL: Literal["official"] = "official"
"""The mode in which official queries search the official gallery; see `lib.evaluation.official`."""
QUERY_COLUMNS = (
    "split",
    "mode",
    "query_id",
    "product_id",
    "partition_item",
    "category2",
    *(c for c in LABELS.values() if c != "category2"),
)
FILES = ("metrics.json", "metrics_by_category.json", "metrics_by_material.json", "per_query.parquet")


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on one embedded catalogue.

    Attributes:
        metrics: `{split: {mode: {metric: {"value", "low", "high", "n_queries", "chance", "ceiling"}}}}` and
            beside the splits `"probe": {split: {label: {"accuracy", "low", "high", "n", "chance", "ceiling"}}}`
            and `"balanced_probe"`, the same with "balanced_accuracy" in place of "accuracy"; when not empty also
            `"skipped": {split: {mode or "probe": {metric: reason}}}`.
        by_category: `{split: {mode: {category2: {metric: …}}}}`, the categories of the queries.
        by_material: the same by material.
        per_query: a row per query and mode: `QUERY_COLUMNS`; `retrieved_ids` and `scores` (lists of k, in mode
            `official` of 50, best first); per name of `PRECISION_NAMES`, `<name>_hits` (matches among the top k),
            `<name>_chance` and `<name>_ceiling` (fractions); per name of `PRODUCT_NAMES` its `product_columns`
            (fractions); and `official_rank`, in mode `official` the rank of the first image of the query's official
            item, 0 for none: null where the query does not count.
        k: results per query.
        fingerprint: names the model that embedded the catalogue.
    """

    metrics: dict[str, Any]
    by_category: dict[str, Any]
    by_material: dict[str, Any]
    per_query: pd.DataFrame
    k: int
    fingerprint: str


def query_table(
    meta: pd.DataFrame,
    gallery: pd.DataFrame,
    mode: str,
    top: TopK,
    measured: Mapping[str, Measured],
    *,
    k: int,
) -> pd.DataFrame:
    """The rows of `per_query` of one search, `official_rank` null.

    Args:
        meta: of the queries, with a fresh index.
        gallery: of what was searched.
        mode: its name.
        top: what was found.
        measured: `<name>@<k>` -> values; of `PRECISION_NAMES` and `PRODUCT_NAMES`, what is missing becomes null.
        k: results per query.
    """
    ids = gallery["item_id"].to_numpy(dtype=object)
    table = meta.rename(columns={"item_id": "query_id"}).assign(mode=mode)[list(QUERY_COLUMNS)]
    shown = top.rows >= 0
    table["retrieved_ids"] = [ids[rows[keep]].tolist() for rows, keep in zip(top.rows, shown, strict=True)]
    table["scores"] = [scores[keep].tolist() for scores, keep in zip(top.scores, shown, strict=True)]
    nothing = np.full(len(meta), np.nan)
    for name in PRECISION_NAMES:
        metric = measured.get(f"{name}@{k}", Measured(nothing, nothing, nothing))
        hits = pd.Series(np.round(metric.value * k), index=table.index)
        table[f"{name}_hits"] = hits.astype("Int64")
        table[f"{name}_chance"] = metric.chance
        table[f"{name}_ceiling"] = metric.ceiling
    for name in PRODUCT_NAMES:
        metric = measured.get(name.format(k=k), Measured(nothing, nothing, nothing))
        for part, column in zip(("value", "chance", "ceiling"), product_columns(name), strict=True):
            table[column] = getattr(metric, part)
    return table.assign(official_rank=pd.Series(pd.NA, index=table.index, dtype="Int64"))


def product_columns(name: str) -> tuple[str, str, str]:
    """Columns of `per_query` for value, chance and ceiling of one of `PRODUCT_NAMES`."""
    plain = name.partition("@")[0]
    return plain, f"{plain}_chance", f"{plain}_ceiling"


def save_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write the four files of an evaluation and their manifest, together."""
    table = pa.Table.from_pandas(evaluation.per_query, schema=_schema(), preserve_index=False)
    with replacing_files(folder, manifest=MANIFEST) as fresh:
        write_json(fresh / "metrics.json", evaluation.metrics)
        write_json(fresh / "metrics_by_category.json", evaluation.by_category)
        write_json(fresh / "metrics_by_material.json", evaluation.by_material)
        write_parquet(fresh / "per_query.parquet", table.replace_schema_metadata(None))
        write_manifest(fresh, FILES, facts={"fingerprint": evaluation.fingerprint, "k": evaluation.k})


def load_evaluation(folder: Path) -> Evaluation:
    """Verify and read an evaluation.

    Raises:
        IntegrityError: a file is missing or damaged.
    """
    manifest = read_manifest(folder)
    return Evaluation(
        metrics=read_json(folder / "metrics.json"),
        by_category=read_json(folder / "metrics_by_category.json"),
        by_material=read_json(folder / "metrics_by_material.json"),
        per_query=read_parquet(folder / "per_query.parquet"),
        k=int(manifest["k"]),
        fingerprint=str(manifest["fingerprint"]),
    )


def headline(evaluation: Evaluation) -> str:
    """The plain precisions of test, image to image, in at most two lines and in points."""
    numbers = evaluation.metrics.get("test", {}).get("image_to_image", {})
    names = [f"{label}@{evaluation.k}" for label in LABELS]
    parts = [f"{name} {100 * numbers[name]['value']:.1f}" for name in names if name in numbers]
    table = evaluation.per_query
    modes = table.loc[table["split"] == "test", "mode"].value_counts(sort=False)
    counts = ", ".join(f"{mode} {count}" for mode, count in modes.items() if mode != UNSEEN)
    official = evaluation.metrics.get("test", {}).get(OFFICIAL, {}).get("official_hit_rate@1")
    recall = f"; official hit rate@1 {100 * official['value']:.1f}" if official else ""
    first = f"test, image to image: {', '.join(parts) or 'nothing could be measured'}"
    return f"{first}\ntest queries: {counts or 'none'}{recall}"


def _schema() -> pa.Schema:
    """Stated, not inferred: an attribute that nobody knows would otherwise get a column of type null."""
    fields = [pa.field(name, pa.string()) for name in QUERY_COLUMNS]
    fields += [pa.field("retrieved_ids", pa.list_(pa.string())), pa.field("scores", pa.list_(pa.float64()))]
    for label in PRECISION_NAMES:
        fields.append(pa.field(f"{label}_hits", pa.int64()))
        fields += [pa.field(f"{label}_{part}", pa.float64()) for part in ("chance", "ceiling")]
    fields += [pa.field(column, pa.float64()) for name in PRODUCT_NAMES for column in product_columns(name)]
    fields.append(pa.field("official_rank", pa.int64()))
    return pa.schema(fields)
