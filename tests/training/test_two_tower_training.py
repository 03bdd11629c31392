"""The two-tower model: its loss, its batches, what a training leaves, and going on after a kill to the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_towers import tiny_two_tower
from tiny_training import folder_bytes
from torch import Tensor
from torch.nn import functional as F

from lib.base.errors import IntegrityError
from lib.base.params import TwoTower
from lib.training.checkpoint import load_checkpoint
from lib.training.heads import seeded_generator
from lib.training.losses import symmetric_info_nce
from lib.training.two_tower import FrozenTower, IntArray, TowerConfig, TwoTowerModel
from lib.training.two_tower_training import (
    BEST,
    LAST,
    Belonging,
    batches_of,
    best_epoch,
    train_nothing,
    train_two_tower,
)

DIM, N = 8, 40
OUTS = {"config.json", "manifest.json", "train_curves.csv", "train_log.jsonl", BEST, LAST}


def unit(rng: np.random.Generator, n: int, dim: int = DIM) -> Tensor:
    return F.normalize(torch.from_numpy(rng.normal(size=(n, dim)).astype(np.float32)), dim=1)


def slow_info_nce(left: Tensor, right: Tensor, scale: float, belong: Tensor) -> float:
    """With loops, in float64: the mean over rows of both directions."""
    total, n = 0.0, len(left)
    for a, b, mask in ((left, right, belong), (right, left, belong.T)):
        for i in range(n):
            scores = [scale * float(a[i].double() @ b[j].double()) for j in range(n)]
            everyone = np.log(sum(np.exp(score) for score in scores))
            own = [scores[j] for j in range(n) if mask[i, j]]
            total += sum(everyone - score for score in own) / len(own) / n / 2
    return total


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_equals_a_slow_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = unit(rng, 7), unit(rng, 7)
    pairs = np.column_stack([rng.integers(0, 4, size=7), rng.integers(10, 14, size=7)])
    belong = torch.from_numpy(Belonging(pairs).of(pairs))
    found = symmetric_info_nce(left, right, torch.tensor(9.0), belong)
    assert float(found) == pytest.approx(slow_info_nce(left, right, 9.0, belong), rel=1e-5)


def test_swapping_the_towers_and_permuting_the_batch_change_nothing() -> None:
    rng = np.random.default_rng(3)
    left, right = unit(rng, 6), unit(rng, 6)
    belong = torch.eye(6, dtype=torch.bool)
    belong[0, 3] = True  # on purpose in one direction only: the mask is transposed with the logits
    loss = symmetric_info_nce(left, right, torch.tensor(5.0), belong)
    torch.testing.assert_close(symmetric_info_nce(right, left, torch.tensor(5.0), belong.T), loss)
    order = torch.from_numpy(rng.permutation(6))
    permuted = symmetric_info_nce(left[order], right[order], torch.tensor(5.0), belong[order][:, order])
    torch.testing.assert_close(permuted, loss)
    assert symmetric_info_nce(right, left, torch.tensor(5.0), belong) != pytest.approx(float(loss), rel=1e-3)


def test_one_pair_has_nothing_to_compare_with() -> None:
    left = unit(np.random.default_rng(0), 1).requires_grad_()
    loss = symmetric_info_nce(left, -left.detach(), torch.tensor(50.0), torch.ones(1, 1, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0 and left.grad is not None and float(left.grad.abs().max()) == 0


def test_pairs_of_one_candidate_or_query_are_no_negatives_of_each_other() -> None:
    table = np.array([[0, 10], [1, 10], [2, 11], [2, 12], [0, 12]])
    found = Belonging(table).of(table[:4])
    expected = [
        [True, True, False, True],  # query 0 belongs to 10, and by a row outside the batch to 12
        [True, True, False, False],
        [False, False, True, True],
        [False, False, True, True],
    ]
    assert found.tolist() == expected


def test_every_pair_once_and_no_batch_of_one() -> None:
    for n in range(2, 40):
        steps = list(batches_of(n, batch_size=8, accumulate=2, rng=np.random.default_rng(n)))
        batches = [batch for step in steps for batch in step]
        assert sorted(np.concatenate(batches)) == list(range(n))
        assert all(2 <= len(batch) <= 8 for batch in batches) and all(len(step) <= 2 for step in steps)


class Shop:
    """Queries are the candidates' embeddings, turned: each of N products has a query i and a candidate N + i."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        candidates = unit(rng, N)
        turn = torch.linalg.qr(torch.from_numpy(rng.normal(size=(DIM, DIM)).astype(np.float32))).Q
        self.rows = F.normalize(torch.cat([candidates @ turn, candidates]), dim=1)
        self.pairs = np.column_stack([np.arange(N), N + np.arange(N)])
        self.calls = 0

    def inputs(self, numbers: IntArray, rng: np.random.Generator | None) -> Tensor:
        return self.rows[torch.from_numpy(numbers)]

    def validate(self, model: TwoTowerModel) -> dict[str, float]:
        found = [
            model.encode("query", self.pairs[:, 0], self.inputs),
            model.encode("candidate", self.pairs[:, 1], self.inputs),
        ]
        first = (found[0] @ found[1].T).argmax(axis=1)
        return {"recall@10": float((first == np.arange(N)).mean())}

    def model(self, params: TwoTower) -> TwoTowerModel:
        config = TowerConfig(
            "backbone", params.shared, "b" * 64, DIM, params.head.kind, 16, params.head.dropout, 0, 0.07
        )
        generator = seeded_generator(params.seed, 0)
        towers = [FrozenTower(config, generator=generator) for _ in range(1 if params.shared else 2)]
        for tower, column in zip(towers, (0, 1), strict=False):
            tower.standardise(self.rows[torch.from_numpy(self.pairs[:, column])])
        return TwoTowerModel(config, towers, batch_size=16)

    def train(self, params: TwoTower, out: Path, *, resume: Path | None = None) -> list[dict[str, object]]:
        digests = [f"{number:02d}" for number in range(2 * N)]
        return train_two_tower(
            self.model(params),
            self.pairs,
            inputs=self.inputs,
            pictures=digests,
            params=params,
            validate=self.validate,
            out=out,
            resume=resume,
        )


def test_untrained_towers_are_the_backbone() -> None:
    shop = Shop()
    for kind in ("linear", "mlp"):
        model = shop.model(tiny_two_tower(head={"kind": kind, "hidden": 16, "dropout": 0.5}))
        for side in ("query", "candidate"):
            found = model.encode(side, np.arange(2 * N), shop.inputs)
            np.testing.assert_array_equal(found, shop.rows.numpy())
    assert model.encode("query", np.zeros(0, dtype=np.int64), shop.inputs).shape == (0, DIM)


@pytest.mark.parametrize("shared", [False, True])
def test_training_learns_what_turns_one_side_into_the_other(shared: bool, tmp_path: Path) -> None:
    shop = Shop()
    params = tiny_two_tower(
        epochs=30, patience=0, lr=0.02, shared=shared, head={"kind": "linear", "hidden": 16, "dropout": 0.0}
    )
    history = shop.train(params, tmp_path)
    start, best = history[0]["validation"]["recall@10"], history[best_epoch(history)]["validation"]["recall@10"]
    assert start < 0.2
    assert best > 0.9 if not shared else best > start
    assert set(folder_bytes(tmp_path)) == OUTS
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["best_epoch"] == best_epoch(history) and config["model_config"]["shared"] == shared
    content = load_checkpoint(tmp_path / BEST)
    assert content["epoch"] == config["best_epoch"]
    assert len({name.split(".")[1] for name in content["model"] if name.startswith("towers.")}) == (
        1 if shared else 2
    )
    assert 0.01 <= history[-1]["temperature"] <= 1.0 and history[-1]["temperature"] != 0.07


def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    shop, params = Shop(), tiny_two_tower(epochs=6, patience=0, accumulate=2)
    shop.train(params, tmp_path / "whole")
    shop.train(params.model_copy(update={"epochs": 3}), tmp_path / "killed")
    (tmp_path / "killed" / "manifest.json").unlink()  # as a kill leaves it
    (tmp_path / "killed" / "checkpoints" / ".last.pt.half").write_bytes(b"half")
    shop.train(params, tmp_path / "killed", resume=tmp_path / "killed" / LAST)
    assert folder_bytes(tmp_path / "killed") == folder_bytes(tmp_path / "whole")


def test_going_on_with_other_data_is_refused(tmp_path: Path) -> None:
    shop, params = Shop(), tiny_two_tower(epochs=2, patience=0)
    shop.train(params, tmp_path)
    other = Shop()
    other.pairs = other.pairs[:-1]
    with pytest.raises(IntegrityError, match=r"expected inputs .* re-run stage train_two_tower without --resume"):
        other.train(params, tmp_path, resume=tmp_path / LAST)
    with pytest.raises(IntegrityError, match="expected train_config"):
        shop.train(params.model_copy(update={"lr": 0.5}), tmp_path, resume=tmp_path / LAST)
    with pytest.raises(IntegrityError, match=r"expected recall@10 .* re-run stage train_two_tower"):
        shop.validate = lambda model: {"recall@10": 0.75}  # type: ignore[method-assign]
        shop.train(params, tmp_path, resume=tmp_path / LAST)


def test_patience_ends_a_training_that_gains_nothing(tmp_path: Path) -> None:
    shop = Shop()
    shop.validate = lambda model: {"recall@10": 0.5}  # type: ignore[method-assign]
    history = shop.train(tiny_two_tower(epochs=9, patience=2), tmp_path)
    assert [row["epoch"] for row in history] == [0, 1, 2] and load_checkpoint(tmp_path / BEST)["epoch"] == 0


def test_accumulated_batches_are_one_step_along_the_mean_of_their_gradients(tmp_path: Path) -> None:
    """Each batch has its own negatives; AdamW's first moment after one step is a tenth of the gradient."""
    shop = Shop()
    params = tiny_two_tower(
        epochs=1, batch_size=20, accumulate=2, head={"kind": "linear", "hidden": 16, "dropout": 0.0}
    )
    shop.train(params, tmp_path)
    state = load_checkpoint(tmp_path / LAST)["optimizer"]["state"]
    model, belong = shop.model(params), Belonging(shop.pairs)
    (step,) = batches_of(N, batch_size=20, accumulate=2, rng=np.random.default_rng([params.seed, 1]))
    losses = []
    for batch in step:
        pairs = shop.pairs[batch]
        sides = [model(side, shop.inputs(pairs[:, i], None)) for i, side in enumerate(("query", "candidate"))]
        losses.append(symmetric_info_nce(*sides, model.logit_scale, torch.from_numpy(belong.of(pairs))))
    (sum(losses) / 2).backward()
    for number, parameter in enumerate(model.parameters()):
        assert float(state[number]["step"]) == 1
        torch.testing.assert_close(state[number]["exp_avg"], 0.1 * parameter.grad)


def test_every_epoch_has_batches_of_its_own(tmp_path: Path) -> None:
    shop = Shop()
    seen: list[list[int]] = []
    look_up = shop.inputs

    def inputs(numbers: IntArray, rng: np.random.Generator | None) -> Tensor:
        if rng is not None:
            seen.append(numbers.tolist())
        return look_up(numbers, rng)

    shop.inputs = inputs  # type: ignore[method-assign]
    shop.train(tiny_two_tower(epochs=2, patience=0, batch_size=40), tmp_path)
    assert len(seen) == 4 and seen[0] != seen[2] and sorted(seen[0]) == sorted(seen[2])


def test_nothing_to_train_on_leaves_every_out_without_checkpoints(tmp_path: Path) -> None:
    Shop().train(tiny_two_tower(epochs=1), tmp_path)
    assert train_nothing(tmp_path, "no table") == {"skipped": "no table"}
    assert set(folder_bytes(tmp_path)) == OUTS - {BEST, LAST} and (tmp_path / "checkpoints").is_dir()
    shutil.rmtree(tmp_path)
