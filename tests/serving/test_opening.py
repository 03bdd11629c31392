"""What the server opens belongs together, or is refused at start with what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_server as tiny

from lib.base.artifacts import read_torch, sequence_sha256, write_manifest, write_torch
from lib.base.errors import IntegrityError
from lib.base.params import load_params
from lib.embeddings import EmbeddingSet, load_embedding_set, save_embedding_set
from lib.retrieval.index import build_indexes
from lib.serving.opening import Places
from lib.serving.query import Query


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(built: Path, tmp_path: Path) -> Places:
    shutil.copytree(built, tmp_path / "shop")
    return Places.under(tmp_path / "shop")


def reopened(places: Places) -> None:
    tiny.open_tiny(places.processed.parents[2]).encoder.close()


def test_everything_that_was_built_is_served(built: Path) -> None:
    searcher = tiny.open_tiny(built)
    assert searcher.indexes == ["flat", "hnsw", "exact"]
    assert searcher.reranks == ["none", "protocol", "compatibility"] and searcher.models == ["protocol", "baseline"]
    answers = [searcher.search(Query(item="P000_A", index=kind)) for kind in searcher.indexes]
    assert [answer.index for answer in answers] == searcher.indexes
    found = [[(result.item["item_id"], result.score) for result in answer.results] for answer in answers]
    assert found[0] == found[1] == found[2] and len(found[0]) == 20
    searcher.encoder.close()


def test_without_pairs_there_is_no_goes_with(shop: Places) -> None:
    (shop.compatibility / "checkpoints/best.pt").unlink()
    searcher = tiny.open_tiny(shop.processed.parents[2])
    assert searcher.reranks == ["none", "protocol"]
    searcher.encoder.close()


def other_backbone(places: Places) -> None:
    save_embedding_set(places.baseline, replace(load_embedding_set(places.baseline), fingerprint="0" * 64))


def other_checkpoint(places: Places) -> None:
    content = read_torch(places.checkpoint)
    content["model"] = {name: weight * 1.5 for name, weight in content["model"].items()}
    write_torch(places.checkpoint, content)


def index_of_other_embeddings(places: Places) -> None:
    protocol = load_embedding_set(places.protocol)
    kinds = load_params(tiny.ROOT / "params.yaml").index.model_copy(update={"build": ("flat",)})
    baseline = load_embedding_set(places.baseline)
    other = EmbeddingSet(baseline.catalog, protocol.queries, protocol.fingerprint)
    build_indexes(places.index, other, kinds, rng=np.random.default_rng(0))


def index_of_other_rows(places: Places) -> None:
    ids = json.loads((places.index / "ids.json").read_text(encoding="utf-8"))
    (places.index / "ids.json").write_text(json.dumps(ids[::-1]), encoding="utf-8")


def catalogue_of_other_rows(places: Places) -> None:
    """Embeddings and indexes agree about items that the baseline does not have."""
    protocol = load_embedding_set(places.protocol)
    meta = protocol.catalog.meta.assign(item_id=[f"x{name}" for name in protocol.catalog.meta["item_id"]])
    save_embedding_set(places.protocol, replace(protocol, catalog=replace(protocol.catalog, meta=meta)))


def no_index(places: Places) -> None:
    shutil.rmtree(places.index)


def damaged_index(places: Places) -> None:
    file = places.index / "flat.faiss"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))


def no_pictures(places: Places) -> None:
    shutil.rmtree(places.processed)


def pictures_of_other_items(places: Places) -> None:
    for path in places.processed.glob("*.parquet"):
        table = pq.read_table(path)
        names = pa.array([f"x{name}" for name in table["item_id"].to_pylist()])
        pq.write_table(table.set_column(table.schema.get_field_index("item_id"), "item_id", names), path)
    write_manifest(places.processed, [path.name for path in places.processed.glob("*.parquet")], facts={})


def head_of_another_backbone(places: Places) -> None:
    facts = {"backbone": sequence_sha256(["other"])}
    write_manifest(places.compatibility, ["checkpoints/best.pt"], facts=facts)


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        (other_backbone, "embed_catalog"),
        (other_checkpoint, "run `dvc repro embed_protocol`"),
        (catalogue_of_other_rows, "run `dvc repro embed_protocol`"),
        (index_of_other_embeddings, "built from other embeddings.*run `dvc repro build_index`"),
        (index_of_other_rows, "ids.json: damaged.*dvc repro"),
        (no_index, "index/manifest.json: missing; run `dvc repro`"),
        (damaged_index, "flat.faiss: damaged.*dvc repro"),
        (no_pictures, "hf/manifest.json: missing; run `dvc repro`"),
        (pictures_of_other_items, "hf: item 'P000_A' .* is not there; run `dvc repro`"),
        (head_of_another_backbone, "expected a head for backbone.*train_compatibility"),
    ],
)
def test_what_does_not_belong_together_is_refused_with_the_remedy(
    shop: Places, mix: Callable[[Places], None], words: str
) -> None:
    mix(shop)
    with pytest.raises(IntegrityError, match=words):
        reopened(shop)


def test_the_schema_is_the_one_that_the_parameters_name(shop: Places) -> None:
    root = shop.processed.parents[2]
    params = (tiny.ROOT / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(params.replace("lib/catalog/attributes.yaml", "own.yaml"), encoding="utf-8")
    assert Places.under(root) == replace(shop, schema=root / "own.yaml")
