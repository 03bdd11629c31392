"""Losses on pairs against slow references with loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.training.pair_losses import info_nce, semi_hard, triplet

seeds = st.integers(0, 10_000)


def drawn(seed: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, n), rng.uniform(-1, 1, (n, k)).round(1), rng.random((n, k)) < 0.7


def slow_choice(positive: float, negatives: list[float]) -> float:
    below = [score for score in negatives if score < positive]
    return max(below) if below else min(negatives)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, n=st.integers(1, 6), k=st.integers(1, 5), margin=st.sampled_from([0.1, 0.5, 2.0]))
def test_triplet_against_the_reference(seed: int, n: int, k: int, margin: float) -> None:
    positive, negatives, allowed = drawn(seed, n, k)
    lost = []
    for i in range(n):
        own = [negatives[i, j] for j in range(k) if allowed[i, j]]
        if own:
            lost.append(max(0.0, margin - positive[i] + slow_choice(positive[i], own)))
    found = triplet(*map(torch.tensor, (positive, negatives, allowed)), margin=margin)
    assert found.item() == pytest.approx(sum(lost) / len(lost) if lost else 0.0, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, n=st.integers(1, 6), k=st.integers(1, 5), temperature=st.sampled_from([0.05, 0.3, 1.0]))
def test_info_nce_against_the_reference(seed: int, n: int, k: int, temperature: float) -> None:
    positive, negatives, allowed = drawn(seed, n, k)
    lost = []
    for i in range(n):
        own = [math.exp(negatives[i, j] / temperature) for j in range(k) if allowed[i, j]]
        if own:
            top = math.exp(positive[i] / temperature)
            lost.append(-math.log(top / (top + sum(own))))
    found = info_nce(*map(torch.tensor, (positive, negatives, allowed)), temperature=temperature)
    assert found.item() == pytest.approx(sum(lost) / len(lost) if lost else 0.0, rel=1e-9, abs=1e-12)


def test_semi_hard_by_hand() -> None:
    negatives = torch.tensor([[0.6, 0.4, 0.2], [0.9, 0.3, 0.2], [0.6, 0.4, 0.2], [0.1, 0.1, 0.0]])
    allowed = torch.tensor([[True] * 3, [True] * 3, [True, False, True], [True] * 3])
    assert semi_hard(torch.tensor([0.5, 0.1, 0.5, 0.1]), negatives, allowed).tolist() == [1, 2, 2, 2]


@pytest.mark.parametrize("loss", ["triplet", "infonce"])
def test_candidates_that_do_not_count_get_no_gradient(loss: str) -> None:
    positive = torch.tensor([0.1, 0.2], requires_grad=True)
    negatives = torch.tensor([[0.3, 0.05], [0.4, 0.5]], requires_grad=True)
    allowed = torch.tensor([[False, True], [False, False]])
    options = {"margin": 0.5} if loss == "triplet" else {"temperature": 0.3}
    value = (triplet if loss == "triplet" else info_nce)(positive, negatives, allowed, **options)  # type: ignore[operator]
    value.backward()
    assert value > 0 and positive.grad.tolist()[1] == 0.0 and positive.grad[0] < 0
    assert negatives.grad[0, 1] > 0 and negatives.grad[~allowed].tolist() == [0.0] * 3


@pytest.mark.parametrize("loss", ["triplet", "infonce"])
def test_nothing_allowed_is_zero_and_finite(loss: str) -> None:
    negatives = torch.zeros(2, 3, requires_grad=True)
    options = {"margin": 0.5} if loss == "triplet" else {"temperature": 0.3}
    value = (triplet if loss == "triplet" else info_nce)(  # type: ignore[operator]
        torch.zeros(2), negatives, torch.zeros(2, 3, dtype=torch.bool), **options
    )
    value.backward()
    assert value.item() == 0.0 and not negatives.grad.any()
