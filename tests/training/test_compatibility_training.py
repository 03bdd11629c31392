"""Training of the compatibility head: what it learns, what it does not, and that it does so to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_outfits import BACKBONE, DIM, items_of, tiny_compatibility, tiny_pairs, tiny_set
from tiny_training import folder_bytes

from lib.base.errors import DataError, IntegrityError
from lib.base.params import Compatibility
from lib.embeddings import EmbeddingSet
from lib.evaluation.compatibility import HeldOutPairs, held_out_pairs, measure_head
from lib.training.compatibility_head import CompatibilityHead, load_head
from lib.training.compatibility_training import PairBatches, cached_rows, train_compatibility, train_nothing


@pytest.fixture(scope="module")
def shop() -> EmbeddingSet:
    torch.set_num_threads(1)
    return tiny_set()


@pytest.fixture(scope="module")
def pairs(shop: EmbeddingSet) -> pd.DataFrame:
    return tiny_pairs(shop)


def held_out(shop: EmbeddingSet, pairs: pd.DataFrame, split: str) -> HeldOutPairs:
    return held_out_pairs(pairs[pairs["split"] == split], items_of(shop), cached_rows(shop))


def run(out: Path, shop: EmbeddingSet, pairs: pd.DataFrame, params: Compatibility | None = None) -> CompatibilityHead:
    return train_compatibility(
        pairs[pairs["split"] == "train"],
        shop.catalog.meta,
        embed=cached_rows(shop),
        backbone=BACKBONE,
        params=tiny_compatibility() if params is None else params,
        validate=held_out(shop, pairs, "validation").auc,
        out=out,
    )


@pytest.mark.parametrize("loss", ["triplet", "infonce"])
def test_a_planted_rule_is_learnt(tmp_path: Path, shop: EmbeddingSet, pairs: pd.DataFrame, loss: str) -> None:
    head = run(tmp_path, shop, pairs, tiny_compatibility(loss=loss))
    figures, _ = measure_head({"test": held_out(shop, pairs, "test")}, head, bootstrap=tiny_compatibility().bootstrap)
    found = figures["test"]
    assert found["baseline_auc"] < 0.75 and found["auc"] > 0.85
    assert found["delta_low"] > 0.1
    assert found["mean_cosine_goes_together"] > found["mean_cosine_does_not"] + 0.3


def test_shuffled_labels_teach_nothing(tmp_path: Path, shop: EmbeddingSet, pairs: pd.DataFrame) -> None:
    shuffled = pairs.copy()
    shuffled["label"] = np.random.default_rng(5).permutation(pairs["label"])
    head = run(tmp_path, shop, shuffled)
    figures, _ = measure_head(
        {"test": held_out(shop, shuffled, "test")}, head, bootstrap=tiny_compatibility().bootstrap
    )
    assert figures["test"]["auc_low"] < 0.5 < figures["test"]["auc_high"]
    assert figures["test"]["delta_low"] < 0 < figures["test"]["delta_high"]


def test_two_runs_write_the_same_bytes_and_nothing_old_stays(
    tmp_path: Path, shop: EmbeddingSet, pairs: pd.DataFrame
) -> None:
    run(tmp_path / "one", shop, pairs, tiny_compatibility(epochs=2))
    stale = tmp_path / "two" / "checkpoints"
    stale.mkdir(parents=True)
    (stale / "epoch_07.pt").write_bytes(b"old")
    (stale / ".epoch_01.pt.abc").write_bytes(b"half")
    run(tmp_path / "two", shop, pairs, tiny_compatibility(epochs=2))
    first = folder_bytes(tmp_path / "one")
    assert first == folder_bytes(tmp_path / "two")
    assert sorted(first) == [
        "checkpoints/best.pt",
        "checkpoints/epoch_01.pt",
        "checkpoints/epoch_02.pt",
        "manifest.json",
        "train_log.jsonl",
    ]
    run(tmp_path / "three", shop, pairs, tiny_compatibility(epochs=2, seed=7))
    assert folder_bytes(tmp_path / "three")["checkpoints/best.pt"] != first["checkpoints/best.pt"]


def test_the_best_epoch_on_validation_is_kept(tmp_path: Path, shop: EmbeddingSet, pairs: pd.DataFrame) -> None:
    answers = iter([0.6, 0.8, 0.8, 0.7])
    head = train_compatibility(
        pairs[pairs["split"] == "train"],
        shop.catalog.meta,
        embed=cached_rows(shop),
        backbone=BACKBONE,
        params=tiny_compatibility(epochs=4),
        validate=lambda head: next(answers),
        out=tmp_path,
    )
    folder = tmp_path / "checkpoints"
    assert (folder / "best.pt").read_bytes() == (folder / "epoch_02.pt").read_bytes()
    assert (folder / "best.pt").read_bytes() != (folder / "epoch_03.pt").read_bytes()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["best_epoch"] == 2 and manifest["backbone"] == BACKBONE and manifest["in_dim"] == DIM
    loaded = load_head(folder / "epoch_02.pt", in_dim=DIM, backbone=BACKBONE)
    assert torch.equal(loaded.last.weight, head.last.weight)


def test_without_validation_pairs_the_last_epoch_is_kept(
    tmp_path: Path, shop: EmbeddingSet, pairs: pd.DataFrame
) -> None:
    run(tmp_path, shop, pairs[pairs["split"] != "validation"], tiny_compatibility(epochs=3))
    folder = tmp_path / "checkpoints"
    assert (folder / "best.pt").read_bytes() == (folder / "epoch_03.pt").read_bytes()
    assert "validation_auc" not in (tmp_path / "train_log.jsonl").read_text()


@pytest.mark.parametrize("label", [0, 1])
def test_pairs_of_one_label_cannot_be_trained_on(
    tmp_path: Path, shop: EmbeddingSet, pairs: pd.DataFrame, label: int
) -> None:
    with pytest.raises(DataError, match="both are needed"):
        run(tmp_path, shop, pairs[pairs["label"] == label])


def test_a_pair_of_another_catalogue_is_refused(tmp_path: Path, shop: EmbeddingSet, pairs: pd.DataFrame) -> None:
    foreign = pairs[pairs["split"] == "train"].replace({"a_id": {pairs["a_id"].iloc[0]: "zz"}}).assign(split="train")
    foreign.loc[foreign.index[0], "a_id"] = "zz"
    with pytest.raises(IntegrityError, match="not in it"):
        run(tmp_path, shop, foreign)
    with pytest.raises(IntegrityError, match="item 'zz' has no embedding"):
        cached_rows(shop)(["i000_0", "zz"], 0)


def test_cached_rows_come_from_both_sides_in_the_order_asked_for(shop: EmbeddingSet) -> None:
    items = items_of(shop)
    every = np.concatenate([shop.catalog.images, shop.queries.images])
    asked = [5, 250, 5, 0]
    assert (cached_rows(shop)(items["item_id"].iloc[asked].tolist(), 3) == every[asked]).all()
    assert cached_rows(shop)([], 0).shape == (0, DIM)


PAIRS = pd.DataFrame(
    [("a0", "b0", 1), ("c0", "a1", 0), ("a0", "d0", 0), ("b0", "d1", 1)], columns=["a_id", "b_id", "label"]
)
ITEMS = pd.DataFrame(
    {"item_id": ["x0", "a0", "a1", "b0", "c0", "d0", "d1"], "product_id": ["x", "a", "a", "b", "c", "d", "d"]}
)


def epochs(params: Compatibility, n: int = 40) -> list[tuple[list[str], list[str], list[list[str]]]]:
    """Ids of anchors, positives and candidates that count, of each batch of n epochs."""
    batches = PairBatches(PAIRS, ITEMS, params=params)
    found = []
    for epoch in range(n):
        for anchors, positives, candidates, allowed in batches.epoch(np.random.default_rng(epoch)):
            names = np.array(batches.item_ids)
            kept = [names[row[counts]].tolist() for row, counts in zip(candidates, allowed, strict=True)]
            found.append((names[anchors].tolist(), names[positives].tolist(), kept))
    return found


def test_batches_hold_labelled_negatives_of_the_anchor() -> None:
    negatives = {"a": {"c0", "d0", "d1"}, "c": {"a0", "a1"}, "d": {"a0", "a1"}}
    seen: dict[str, set[str]] = {}
    met = set()
    for anchors, positives, candidates in epochs(tiny_compatibility(neg_pool_ratio=3)):
        assert sorted({a[0] + p[0] for a, p in zip(anchors, positives, strict=True)}) in (
            [x, y] for x in ("ab", "ba") for y in ("bd", "db")
        )
        met |= {*anchors, *positives}
        for anchor, own in zip(anchors, candidates, strict=True):
            assert len(own) == 3
            seen.setdefault(anchor[0], set()).update(own)
    for product in ("a", "d"):
        assert seen[product] == negatives[product]
    # b has none of its own: any item that goes with somebody else not
    assert seen["b"] == {"a0", "a1", "c0", "d0", "d1"}
    assert met == {"a0", "a1", "b0", "d0", "d1"}, "every view of a pair's products, nothing else"
    assert "x0" not in PairBatches(PAIRS, ITEMS, params=tiny_compatibility()).item_ids


def test_an_item_stands_for_itself_when_views_do_not() -> None:
    seen: dict[str, set[str]] = {}
    for anchors, positives, candidates in epochs(tiny_compatibility(views="item", neg_pool_ratio=2)):
        assert {frozenset(two) for two in zip(anchors, positives, strict=True)} == {
            frozenset(("a0", "b0")),
            frozenset(("b0", "d1")),
        }
        for anchor, own in zip(anchors, candidates, strict=True):
            seen.setdefault(anchor, set()).update(own)
    assert seen["a0"] == {"d0"}


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, [0, 1]), (1, [1, 1]), (2.5, [2, 3]), (0.25, [0, 0])])
def test_candidates_per_anchor(ratio: float, expected: list[int]) -> None:
    for _, _, candidates in epochs(tiny_compatibility(neg_pool_ratio=ratio), 3):
        assert [len(own) for own in candidates] == expected


def test_batch_size_cuts_the_epoch() -> None:
    assert [len(anchors) for anchors, _, _ in epochs(tiny_compatibility(batch_size=1), 1)] == [1, 1]


@pytest.mark.parametrize(
    "changed",
    [
        {"margin": 0.9},
        {"loss": "infonce"},
        {"neg_pool_ratio": 1},
        {"weight_decay": 5.0},
        {"lr_head": 1e-3},
        {"dropout": 0.6},
        {"batch_size": 16},
        {"views": "item"},
        {"hidden": 0},
        {"head_out_dim": 5},
    ],
)
def test_every_knob_reaches_the_weights(
    tmp_path: Path, shop: EmbeddingSet, pairs: pd.DataFrame, changed: dict[str, object]
) -> None:
    few = pairs.iloc[:300]
    plain, other = (
        run(tmp_path / str(n), shop, few, tiny_compatibility(epochs=1, **c)) for n, c in enumerate(({}, changed))
    )
    assert plain.last.weight.shape != other.last.weight.shape or not torch.equal(plain.last.weight, other.last.weight)


def test_temperature_reaches_the_weights(tmp_path: Path, shop: EmbeddingSet, pairs: pd.DataFrame) -> None:
    heads = [
        run(tmp_path / str(t), shop, pairs.iloc[:300], tiny_compatibility(epochs=1, loss="infonce", temperature=t))
        for t in (0.1, 0.5)
    ]
    assert not torch.equal(heads[0].last.weight, heads[1].last.weight)


def test_nothing_to_train_leaves_a_reason(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("best.pt", "epoch_01.pt"):
        (tmp_path / "checkpoints" / name).write_bytes(b"old")
    assert train_nothing(tmp_path, "why") == {"skipped": "why"}
    assert sorted(folder_bytes(tmp_path)) == ["manifest.json", "train_log.jsonl"]
    assert (tmp_path / "checkpoints").is_dir()
    assert json.loads((tmp_path / "manifest.json").read_text())["skipped"] == "why"
