"""The seven files of an embedded catalogue: saved whole, loaded only when they belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lib.base.artifacts import write_array, write_manifest, write_parquet
from lib.base.errors import IntegrityError
from lib.embeddings import FILES, META_COLUMNS, Embeddings, EmbeddingSet, load_embedding_set, save_embedding_set
from lib.supervision.codes import codes_of


def _part(ids: list[str], split: str) -> Embeddings:
    rng = np.random.default_rng(len(ids))
    rows = rng.normal(size=(2, len(ids), 4))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    meta = pd.DataFrame({name: pd.Series([None] * len(ids), dtype=object) for name in META_COLUMNS})
    meta["item_id"], meta["product_id"], meta["split"] = ids, ids, split
    return Embeddings(rows[0].astype(np.float32), rows[1].astype(np.float32), meta)


@pytest.fixture
def embedded() -> EmbeddingSet:
    return EmbeddingSet(_part(["001", "NA", "nan"], "train"), _part(["x", "y"], "test"), "abc")


def test_round_trip(tmp_path: Path, embedded: EmbeddingSet) -> None:
    save_embedding_set(tmp_path, embedded)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*FILES, "manifest.json"])
    loaded = load_embedding_set(tmp_path)
    np.testing.assert_array_equal(loaded.catalog.images, embedded.catalog.images)
    assert list(loaded.catalog.meta["item_id"]) == ["001", "NA", "nan"]
    assert loaded.catalog.meta["color"].tolist() == [None, None, None]
    assert loaded.fingerprint == "abc" and loaded.image_weight is None
    assert len(loaded.queries.of_split("test")) == 2 and len(loaded.queries.of_split("validation")) == 0


def test_only_some_columns_are_read(tmp_path: Path, embedded: EmbeddingSet) -> None:
    save_embedding_set(tmp_path, embedded)
    whole, few = load_embedding_set(tmp_path), load_embedding_set(tmp_path, columns=("product_id", "item_id"))
    assert list(few.catalog.meta.columns) == ["product_id", "item_id"] == list(few.queries.meta.columns)
    pd.testing.assert_frame_equal(few.catalog.meta, whole.catalog.meta[["product_id", "item_id"]])


def test_compact_metadata_says_the_same(tmp_path: Path, embedded: EmbeddingSet) -> None:
    embedded.catalog.meta["color"] = ["red", None, "blue"]
    save_embedding_set(tmp_path, embedded)
    whole, compact = (load_embedding_set(tmp_path, compact=compact).catalog.meta for compact in (False, True))
    assert compact["item_id"].tolist() == ["001", "NA", "nan"] and compact["item_id"].notna().all()
    assert list(compact["color"].cat.categories) == ["blue", "red"]
    for name in META_COLUMNS:
        assert compact[name].dtype != object and (codes_of(compact[name]) == codes_of(whole[name])).all()


def test_a_learnt_weight_travels_with_the_embeddings(tmp_path: Path, embedded: EmbeddingSet) -> None:
    save_embedding_set(tmp_path, replace(embedded, image_weight=0.25))
    assert load_embedding_set(tmp_path).image_weight == 0.25


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_rows_that_are_no_unit_rows_are_refused_before_saving(
    tmp_path: Path, embedded: EmbeddingSet, bad: float
) -> None:
    embedded.catalog.images[1] = bad
    with pytest.raises(IntegrityError, match=r"catalog_img\.npy: row 1"):
        save_embedding_set(tmp_path, embedded)


def test_other_row_counts_name_both(tmp_path: Path, embedded: EmbeddingSet) -> None:
    save_embedding_set(tmp_path, embedded)
    write_array(tmp_path / "queries_img.npy", np.asarray(embedded.queries.images[:1]))
    _rewrite_manifest(tmp_path)
    with pytest.raises(IntegrityError, match="1 image rows, 2 text rows, 2 meta rows"):
        load_embedding_set(tmp_path)


def test_reordered_rows_are_refused(tmp_path: Path, embedded: EmbeddingSet) -> None:
    save_embedding_set(tmp_path, embedded)
    write_parquet(tmp_path / "catalog_meta.parquet", embedded.catalog.meta.iloc[::-1])
    _rewrite_manifest(tmp_path)
    with pytest.raises(IntegrityError, match="not in the order"):
        load_embedding_set(tmp_path)


def test_columns_that_nobody_knows_are_strings(tmp_path: Path, embedded: EmbeddingSet) -> None:
    save_embedding_set(tmp_path, embedded)
    schema = pq.read_schema(tmp_path / "catalog_meta.parquet")
    assert schema.names == list(META_COLUMNS) and {str(kind) for kind in schema.types} == {"string"}


def test_embeddings_of_another_version_are_refused(tmp_path: Path, embedded: EmbeddingSet) -> None:
    save_embedding_set(tmp_path, embedded)
    write_parquet(tmp_path / "queries_meta.parquet", embedded.queries.meta.drop(columns="partition"))
    _rewrite_manifest(tmp_path)
    with pytest.raises(IntegrityError, match=r"another version, it has no column 'partition'; run `dvc repro`"):
        load_embedding_set(tmp_path)


def _rewrite_manifest(folder: Path) -> None:
    """Checksums of the new bytes, ids of the old: what a mixed-up folder looks like."""
    import json

    old = json.loads((folder / "manifest.json").read_text())
    write_manifest(folder, FILES, facts={key: old[key] for key in ("fingerprint", "dim", "ids")})
