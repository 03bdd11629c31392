"""Embeddings without unit rows, with other rows, or of another model: refused, with both sides named."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from damage import stamps
from safetensors.torch import load_file, save_file
from stage_server import Ended, StageServer, command
from workspace import Workspace

from lib.base.artifacts import (
    MANIFEST,
    open_manifest,
    read_parquet,
    verified,
    with_manifest,
    write_array,
    write_manifest,
    write_parquet,
)
from lib.embeddings import EmbeddingSet, load_embedding_set, save_embedding_set
from lib.training.checkpoint import load_checkpoint, save_checkpoint
from lib.training.protocol_model import unit_rows

BASELINE = "artifacts/retrieval/baseline"
WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def whole(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(reproduced.folder, tmp_path_factory.mktemp("rows") / "workspace", symlinks=True))


def with_new_manifest(folder: Path) -> None:
    """The old facts and the checksums of the files as they are now: what somebody's script leaves behind."""
    facts = open_manifest(folder / MANIFEST)
    write_manifest(folder, facts.pop("files"), facts=facts)


def readable(ended: Ended, code: int = 4) -> str:
    assert ended.code == code and "Traceback" not in ended.said, ended
    return ended.said


# --- NaN, infinity, zero --------------------------------------------------------------------------


def spoilt(change: str) -> tuple[str, Callable[[torch.Tensor], torch.Tensor], str]:
    """A weight of the backbone, what happens to it, and what the message speaks of."""
    images, texts = "visual.trunk.head.weight", "text_projection"
    return {
        "NaN": (images, lambda w: torch.full_like(w, torch.nan), "the image of item 'S"),
        "infinity": (images, lambda w: torch.full_like(w, torch.inf), "the image of item 'S"),
        "zero": (texts, torch.zeros_like, "the text"),
    }[change]


@pytest.mark.parametrize("change", ["NaN", "infinity", "zero"])
def test_a_backbone_that_gives_no_unit_rows_changes_nothing(
    stages: StageServer, whole: Path, tmp_path: Path, change: str
) -> None:
    weight, spoil, place = spoilt(change)
    backbone = Path(shutil.copytree(whole / "artifacts/backbone", tmp_path / "backbone"))
    weights = load_file(backbone / WEIGHTS)
    save_file({**weights, weight: spoil(weights[weight])}, backbone / WEIGHTS, metadata={"format": "pt"})
    with_new_manifest(backbone)
    words = ["embed_catalog", "--processed", "data/processed/hf", "--backbone", str(backbone), "--out", BASELINE]
    said = readable(stages.run(whole, words))
    assert "backbone: expected fingerprint" in said, "embeddings that are kept are not those of other weights"
    facts = open_manifest(backbone / MANIFEST)
    checksums = {name: entry["sha256"] for name, entry in facts.pop("files").items()}
    named = hashlib.sha256(json.dumps(checksums, sort_keys=True).encode()).hexdigest()
    write_manifest(backbone, checksums, facts=facts | {"fingerprint": named})
    before = stamps(whole / BASELINE)
    said = readable(stages.run(whole, words))
    assert f"the embedding of {place}" in said and "is not finite or not of length 1" in said
    assert "Warning" not in said
    assert stamps(whole / BASELINE) == before


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_no_unit_rows_are_saved_over_good_ones(whole: Path, value: float) -> None:
    """The last array of the last side: nothing before it is replaced either."""
    good = load_embedding_set(whole / BASELINE)
    texts = good.queries.texts.copy()
    texts[-1] = value
    bad = EmbeddingSet(good.catalog, type(good.queries)(good.queries.images, texts, good.queries.meta), "other")
    before = stamps(whole / BASELINE)
    with pytest.raises(ValueError, match=rf"queries_txt\.npy: row {len(texts) - 1} has length"):
        save_embedding_set(whole / BASELINE, bad)
    assert stamps(whole / BASELINE) == before


def test_a_checkpoint_that_gives_no_unit_rows_changes_nothing(
    stages: StageServer, whole: Path, tmp_path: Path
) -> None:
    content = load_checkpoint(whole / "artifacts/protocol/checkpoints/final.pt")
    content["model"]["image_head.last.bias"] += torch.nan
    save_checkpoint(tmp_path / "nan.pt", content)
    out = "artifacts/retrieval/protocol"
    before = stamps(whole / out)
    words = ["embed_protocol", "--embeddings", BASELINE, "--checkpoint", str(tmp_path / "nan.pt"), "--out", out]
    said = readable(stages.run(whole, words))
    assert "row 0 of a batch has length nan; re-run stage train_protocol" in said
    assert stamps(whole / out) == before


# --- rows of arrays and tables --------------------------------------------------------------------

READERS = ("build_groups", "train_protocol", "embed_protocol", "evaluate", "embedding_map")


def drop_row(folder: Path) -> str:
    array = np.load(folder / "queries_img.npy")
    write_array(folder / "queries_img.npy", array[:-1])
    n = len(array)
    return f"queries has {n - 1} image rows, {n} text rows, {n} meta rows"


def drop_meta(folder: Path) -> str:
    meta = read_parquet(folder / "catalog_meta.parquet")
    write_parquet(folder / "catalog_meta.parquet", meta.iloc[:-3])
    return f"catalog has {len(meta)} image rows, {len(meta)} text rows, {len(meta) - 3} meta rows"


def reorder(folder: Path) -> str:
    meta = read_parquet(folder / "queries_meta.parquet")
    write_parquet(folder / "queries_meta.parquet", pd.concat([meta.iloc[1:], meta.iloc[:1]]))
    return "queries_meta.parquet: the ids are not in the order of the arrays"


@pytest.mark.parametrize("change", [drop_row, drop_meta, reorder])
@pytest.mark.parametrize("name", READERS)
def test_rows_that_do_not_belong_together_stop_whoever_reads_them(
    stages: StageServer, whole: Path, tmp_path: Path, name: str, change: Callable[[Path], str]
) -> None:
    folder = Path(shutil.copytree(whole / BASELINE, tmp_path / "embedded"))
    says = change(folder)
    with_new_manifest(folder)
    before = stamps(whole)
    words = [str(folder) if word == BASELINE else word for word in command(name, "baseline")]
    assert says in readable(stages.run(whole, words))
    assert stamps(whole) == before


# --- another shape, another backbone --------------------------------------------------------------


@pytest.fixture(scope="module")
def others(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with embeddings, and the pairs drawn from them, of another dimension and of another backbone."""
    made = {}
    baseline = load_embedding_set(whole / BASELINE)
    facts = {"fingerprint": baseline.fingerprint}
    pairs = read_parquet(verified(whole / "artifacts/supervision/pairs.parquet", facts=facts))
    for name, dim, fingerprint in (("shape", 32, baseline.fingerprint), ("backbone", 48, "a" * 64)):
        made[name] = tmp_path_factory.mktemp(name)
        catalog, queries = (
            type(part)(unit_rows(part.images[:, -dim:] + 0.01), unit_rows(part.texts[:, -dim:] + 0.01), part.meta)
            for part in (baseline.catalog, baseline.queries)
        )
        save_embedding_set(made[name] / "embedded", EmbeddingSet(catalog, queries, fingerprint))
        with with_manifest(made[name] / "pairs.parquet", facts={"fingerprint": fingerprint}) as file:
            write_parquet(file, pairs)
    return made


def expected_and_got(whole: Path) -> dict[str, str]:
    fingerprint = load_embedding_set(whole / BASELINE).fingerprint
    return {
        "shape": "expected a model for dimension 32, got 48; re-run stage train_protocol",
        "backbone": f"expected a model for backbone {'a' * 12}, got {fingerprint[:12]}; re-run stage train_protocol",
    }


@pytest.mark.parametrize("other", ["shape", "backbone"])
@pytest.mark.parametrize("name", ["embed_protocol", "validate_checkpoint"])
def test_a_checkpoint_of_another_model_is_refused(
    stages: StageServer, whole: Path, others: dict[str, Path], name: str, other: str
) -> None:
    checkpoint = "artifacts/protocol/checkpoints/best.pt"
    words = [name, "--embeddings", str(others[other] / "embedded"), "--checkpoint", checkpoint]
    words += ["--out", "artifacts/retrieval/protocol"] if name == "embed_protocol" else []
    before = stamps(whole)
    assert f"{checkpoint}: {expected_and_got(whole)[other]}" in readable(stages.run(whole, words))
    assert stamps(whole) == before


@pytest.mark.parametrize("other", ["shape", "backbone"])
def test_a_run_on_another_model_is_not_resumed(
    stages: StageServer, whole: Path, others: dict[str, Path], other: str
) -> None:
    folder = others[other]
    words = ["train_protocol", "--embeddings", str(folder / "embedded"), "--pairs", str(folder / "pairs.parquet")]
    before = stamps(whole)
    said = readable(stages.run(whole, [*words, "--out", "artifacts/protocol", "--resume"]))
    assert "epoch_02.pt: expected model_config" in said and "re-run stage train_protocol without --resume" in said
    assert ("'dim': 32" in said and "'dim': 48" in said) if other == "shape" else "'backbone': 'aaaa" in said
    assert stamps(whole) == before


def test_a_checkpoint_of_another_version_is_refused(stages: StageServer, whole: Path, tmp_path: Path) -> None:
    """Whole and undamaged, but written by other code: with a setting that is unknown here, or without one."""
    for name in ("unknown", "missing"):
        content = load_checkpoint(whole / "artifacts/protocol/checkpoints/final.pt")
        config = dict(content["model_config"])
        content["model_config"] = config | {"shine": 1} if name == "unknown" else {"dim": 48}
        save_checkpoint(tmp_path / f"{name}.pt", content)
        words = ["validate_checkpoint", "--embeddings", BASELINE, "--checkpoint", str(tmp_path / f"{name}.pt")]
        said = readable(stages.run(whole, words))
        assert f"{name}.pt: expected a checkpoint as this version writes it" in said
        assert "re-run stage train_protocol" in said


def test_what_was_made_from_other_embeddings_is_refused(
    stages: StageServer, whole: Path, others: dict[str, Path]
) -> None:
    """Groups, hard negatives and pairs name the embeddings they were made from; a backbone is compared as well."""
    folder, before = str(others["backbone"] / "embedded"), stamps(whole)
    fingerprint = load_embedding_set(whole / BASELINE).fingerprint
    for name, file in (
        ("mine_hard_negatives", "groups.json"),
        ("build_pairs", "groups.json"),
        ("train_protocol", "pairs.parquet"),
    ):
        words = [folder if word == BASELINE else word for word in command(name)]
        said = readable(stages.run(whole, words))
        expected = f"artifacts/supervision/{file}: expected fingerprint {'a' * 12}, got {fingerprint[:12]}"
        assert f"{expected}; run `dvc repro`" in said
    words = [folder if word == BASELINE else word for word in command("audit_texts")]
    assert "not embedded by artifacts/backbone; run `dvc repro embed_catalog`" in readable(stages.run(whole, words))
    assert stamps(whole) == before
