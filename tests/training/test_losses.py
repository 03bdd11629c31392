"""Every loss against a slow reference with loops, and by hand where that is possible."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from lib.training.losses import (
    attribute_contrastive,
    attribute_cross_entropy,
    identity_distance,
    log_shares,
    logit_adjusted,
    masked_cross_entropy,
    multi_positive_info_nce,
    one_hot,
    symmetric_info_nce,
)

seeds = st.integers(0, 10_000)


def unit(n: int, dim: int, generator: torch.Generator) -> Tensor:
    return F.normalize(torch.randn(n, dim, generator=generator), dim=1)


def slow_info_nce(logits, positives, negatives, row_weights, weights) -> float:
    total = weight = 0.0
    for i in range(len(logits)):
        found = [j for j in range(logits.shape[1]) if positives[i, j]]
        if not found:
            continue
        others = found + [j for j in range(logits.shape[1]) if negatives[i, j]]
        bottom = sum(weights[i, j] * math.exp(logits[i, j]) for j in others)
        loss = sum(-math.log(math.exp(logits[i, p]) / bottom) for p in found) / len(found)
        total += row_weights[i] * loss
        weight += row_weights[i]
    return total / weight if weight else 0.0


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(1, 6), m=st.integers(1, 7))
def test_info_nce_against_the_reference(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, m))
    role = rng.integers(0, 3, size=(n, m))  # positive, negative, neither
    row_weights, weights = rng.random(n), rng.random((n, m)) + 0.1
    found = multi_positive_info_nce(
        torch.tensor(logits),
        torch.tensor(role == 0),
        torch.tensor(role == 1),
        row_weights=torch.tensor(row_weights),
        column_log_weights=torch.tensor(np.log(weights)),
    )
    assert found.item() == pytest.approx(slow_info_nce(logits, role == 0, role == 1, row_weights, weights), abs=1e-9)


def test_a_masked_false_negative_changes_nothing() -> None:
    positives = torch.tensor([[True, False, False]])
    negatives = torch.tensor([[False, True, False]])
    low, high = (
        multi_positive_info_nce(torch.tensor([[1.0, 0.0, masked]]), positives, negatives) for masked in (-50.0, 50.0)
    )
    assert low == high


def test_rows_without_a_positive_or_a_negative_give_no_nan() -> None:
    logits = torch.zeros(3, 2, requires_grad=True)
    positives = torch.tensor([[False, False], [False, False], [True, False]])
    negatives = torch.tensor([[False, False], [True, True], [False, False]])
    loss = multi_positive_info_nce(logits, positives, negatives)
    loss.backward()
    assert loss.item() == 0.0 and torch.isfinite(logits.grad).all()
    assert multi_positive_info_nce(logits, positives & False, negatives).item() == 0.0


def test_image_text_with_different_texts_is_clips_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    image, text, scale = unit(7, 5, generator), unit(7, 5, generator), torch.tensor(12.0)
    logits, labels = scale * image @ text.T, torch.arange(7)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    found = symmetric_info_nce(image, text, scale, torch.eye(7, dtype=torch.bool))
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_image_text_does_not_punish_a_shared_caption_and_skips_an_empty_one() -> None:
    generator = torch.Generator().manual_seed(1)
    image, text, scale = unit(4, 5, generator), unit(4, 5, generator), torch.tensor(5.0)
    codes = torch.tensor([0, 0, 1, -1])  # items 0 and 1 share a caption, item 3 has none
    same = (codes[:, None] == codes[None, :]) & (codes >= 0)[:, None]
    found = symmetric_info_nce(image, text, scale, same)
    logits = (scale * image @ text.T)[:3, :3].double().numpy()
    positives = same[:3, :3].numpy()
    ones = np.ones((3, 3))
    expected = sum(slow_info_nce(z, positives, ~positives, np.ones(3), ones) for z in (logits, logits.T)) / 2
    assert found.item() == pytest.approx(expected, rel=1e-5)


def slow_attribute_contrastive(x, codes, weights, temperature, excluded) -> float:
    total = 0.0
    for a in range(codes.shape[1]):
        losses = []
        for i in range(len(x)):
            known = [j for j in range(len(x)) if codes[i, a] >= 0 and codes[j, a] >= 0 and not excluded[i, j]]
            same = [j for j in known if codes[j, a] == codes[i, a]]
            if same:
                scores = {j: math.exp(float(x[i] @ x[j]) / temperature) for j in known}
                losses.append(-math.log(sum(scores[p] for p in same) / sum(scores.values())))
        total += float(weights[a]) * (sum(losses) / len(losses) if losses else 0.0)
    return total


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(1, 9), temperature=st.sampled_from([0.05, 0.1, 1.0]))
def test_attribute_contrastive_against_the_reference(seed: int, n: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = unit(n, 4, generator).double()
    codes = torch.randint(-1, 3, (n, 3), generator=generator)
    products = torch.randint(0, max(n - 1, 1), (n,), generator=generator)
    excluded = products[:, None] == products[None, :]
    weights = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    found = attribute_contrastive(x, codes, weights=weights, temperature=temperature, excluded=excluded)
    assert found.item() == pytest.approx(
        slow_attribute_contrastive(x, codes, weights, temperature, excluded), rel=1e-6, abs=1e-9
    )


def test_attribute_contrastive_ignores_the_unknown_and_has_finite_gradients() -> None:
    x = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.7, 0.7]]), dim=1).requires_grad_()
    codes = torch.tensor([[0], [0], [1], [-1]])
    loss = attribute_contrastive(
        x, codes, weights=torch.ones(1), temperature=0.1, excluded=torch.eye(4, dtype=torch.bool)
    )
    loss.backward()
    assert x.grad[3].tolist() == [0.0, 0.0] and torch.isfinite(x.grad).all() and loss > 0
    alone = attribute_contrastive(
        x.detach(), codes * 0 - 1, weights=torch.ones(1), temperature=0.1, excluded=torch.eye(4, dtype=torch.bool)
    )
    assert alone.item() == 0.0


def test_masked_cross_entropy() -> None:
    logits = torch.tensor([[0.0, 0.0], [100.0, 0.0], [3.0, 1.0]])
    assert masked_cross_entropy(logits, torch.tensor([1, 0, -1])).item() == pytest.approx(math.log(2) / 2)
    assert masked_cross_entropy(logits, torch.tensor([-1, -1, -1])).item() == 0.0
    weighted = masked_cross_entropy(logits, torch.tensor([1, 0, -1]), torch.tensor([1.0, 3.0]))
    by_hand = sum(w * -torch.log_softmax(logits[i], 0)[c] for i, c, w in ((0, 1, 3.0), (1, 0, 1.0))) / 2
    assert weighted.item() == pytest.approx(float(by_hand))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(1, 6))
def test_attribute_cross_entropy_against_the_reference(seed: int, n: int) -> None:
    """Attributes of two, three and four values; one of them may be known of no item."""
    rng, sizes, weights = np.random.default_rng(seed), (2, 3, 4), (2.0, 0.5, 1.0)
    logits = np.full((n, 3, 4), -np.inf)
    for column, size in enumerate(sizes):
        logits[:, column, :size] = rng.normal(size=(n, size))
    codes = np.stack([rng.integers(-1, size, n) for size in sizes], axis=1)
    expected = 0.0
    for column, weight in enumerate(weights):
        known = [i for i in range(n) if codes[i, column] >= 0]
        costs = [math.log(np.exp(logits[i, column]).sum()) - logits[i, column, codes[i, column]] for i in known]
        expected += weight * sum(costs) / max(len(costs), 1)
    leaf = torch.from_numpy(logits).requires_grad_()
    loss = attribute_cross_entropy(leaf.log_softmax(2), torch.from_numpy(codes), torch.tensor(weights).double())
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    loss.backward()
    assert leaf.grad is not None and torch.isfinite(leaf.grad).all()
    assert not leaf.grad[torch.from_numpy(codes) < 0].any()


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(0, 6), strength=st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_logit_adjustment_against_the_reference(seed: int, n: int, strength: float) -> None:
    """Attributes of two, three and four values in rows of five places; what nobody has is left as it is."""
    rng, sizes = np.random.default_rng(seed), (2, 3, 4)
    codes = np.stack([rng.integers(-1, size, 12) for size in sizes], axis=1)
    logits = np.full((n, 3, 5), -np.inf)
    for column, size in enumerate(sizes):
        logits[:, column, :size] = rng.normal(size=(n, size))
    leaf = torch.from_numpy(logits).requires_grad_()
    shares = log_shares(torch.from_numpy(codes), 5)
    adjusted = logit_adjusted(leaf.log_softmax(2), strength * shares)
    for column, size in enumerate(sizes):
        n_known = sum(code >= 0 for code in codes[:, column])
        for i in range(n):
            terms = []
            for value in range(size):
                count = sum(code == value for code in codes[:, column])
                terms.append(math.exp(logits[i, column, value]) * ((count / n_known) ** strength if count else 1.0))
            for value in range(size):
                expected = math.log(terms[value] / sum(terms))
                assert adjusted[i, column, value].item() == pytest.approx(expected, abs=1e-5)
        assert (adjusted[:, column, size:] == -math.inf).all()
    attribute_cross_entropy(adjusted, torch.from_numpy(codes[:n]), torch.ones(3).double()).backward()
    assert leaf.grad is not None and torch.isfinite(leaf.grad).all()


def test_under_full_adjustment_the_least_loss_believes_all_values_alike() -> None:
    """Nothing to see, shares 8 to 1 to 1: without adjustment the shares are believed, with half of it their roots."""
    codes = torch.tensor([[0]] * 8 + [[1], [2]])
    for strength in (0.0, 0.5, 1.0):
        logits = torch.zeros(1, 1, 3, requires_grad=True)
        descent = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

        def loss(logits: torch.Tensor = logits, strength: float = strength) -> torch.Tensor:
            read = logit_adjusted(logits.log_softmax(2), strength * log_shares(codes, 3)).expand(10, 1, 3)
            value = attribute_cross_entropy(read, codes, torch.ones(1))
            logits.grad = None
            value.backward()
            return value

        descent.step(loss)
        believed = logits.detach().softmax(2).flatten()
        expected = torch.tensor([0.8, 0.1, 0.1]) ** (1.0 - strength)
        assert torch.allclose(believed, expected / expected.sum(), atol=1e-3), strength


def test_identity_distance() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert identity_distance(x, x).item() == 0.0
    assert identity_distance(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), x).item() == 0.5


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(1, 6), m=st.integers(1, 7))
def test_info_nce_has_the_gradient_of_its_definition(seed: int, n: int, m: int) -> None:
    """Rows with a positive; what is left out, and negatives of weight 0, among the others."""
    rng = np.random.default_rng(seed)
    role = rng.integers(0, 3, size=(n, m))
    role[:, 0] = 0
    positives, negatives = torch.tensor(role == 0), torch.tensor(role == 1)
    row_weights = torch.tensor(rng.random(n))
    weights = torch.tensor(rng.integers(0, 3, size=(n, m))).double().where(negatives, 1.0)
    logits = torch.tensor(rng.normal(size=(n, m)), requires_grad=True)
    bottom = (weights * logits.exp() * (positives | negatives)).sum(dim=1, keepdim=True)
    losses = -((logits - bottom.log()) * positives).sum(dim=1) / positives.sum(dim=1)
    (expected,) = torch.autograd.grad(3.0 * (row_weights * losses).sum() / row_weights.sum(), logits)
    loss = 3.0 * multi_positive_info_nce(
        logits, positives, negatives, row_weights=row_weights, column_log_weights=weights.log()
    )
    loss.backward()
    torch.testing.assert_close(logits.grad, expected)


def test_one_hot_counts_what_is_known_to_be_equal() -> None:
    rows = one_hot(torch.tensor([[0, 1, -1], [-1, -1, -1]]), [1, 3, 3])
    columns = one_hot(torch.tensor([[0, -1, 2], [0, 2, 2], [0, 1, -1]]), [1, 3, 3])
    assert (rows @ columns.T).tolist() == [[1, 1, 2], [0, 0, 0]]
    assert one_hot(torch.zeros(2, 0, dtype=torch.int64), []).shape == (2, 0)
