"""Losses on the scores of pairs: one that goes together against candidates that do not.

Everywhere `positive` is (n,) and `negatives` (n, k), scores of one anchor with its positive and its candidates;
`allowed` is (n, k) bool, which of the candidates count. An anchor without any adds nothing, and the mean is over the
others; it is 0 when there is none. The tests hold a slow reference of every function.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def semi_hard(positive: Tensor, negatives: Tensor, allowed: Tensor) -> Tensor:
    """The candidate to learn from: the highest score below the positive's, or else the lowest of all.

    Schroff et al. 2015 (FaceNet) call these semi-hard. Of the candidates above the positive the easiest is taken:
    the hardest ones are often wrong labels.

    Returns:
        (n,) places of candidates; the first of equals. Without meaning where no candidate is allowed.

    >>> semi_hard(torch.tensor([0.5, 0.1]), torch.tensor([[0.6, 0.4, 0.2], [0.9, 0.3, 0.2]]), torch.ones(2, 3) > 0)
    tensor([1, 2])
    """
    below = allowed & (negatives < positive[:, None])
    nearest = negatives.masked_fill(~below, -torch.inf).argmax(dim=1)
    easiest = negatives.masked_fill(~allowed, torch.inf).argmin(dim=1)
    return torch.where(below.any(dim=1), nearest, easiest)


def triplet(positive: Tensor, negatives: Tensor, allowed: Tensor, *, margin: float) -> Tensor:
    """`max(0, margin - positive + negative)` with the `semi_hard` candidate.

    Returns:
        A scalar, the mean over anchors.
    """
    chosen = semi_hard(positive.detach(), negatives.detach(), allowed)
    lost = F.relu(margin - positive + negatives.gather(1, chosen[:, None]).squeeze(1))
    return _mean_over(lost, allowed.any(dim=1))


def info_nce(positive: Tensor, negatives: Tensor, allowed: Tensor, *, temperature: float) -> Tensor:
    """`-log(exp(p / t) / (exp(p / t) + sum of exp(negative / t)))`, van den Oord et al. 2018.

    Returns:
        A scalar, the mean over anchors.
    """
    logits = torch.cat([positive[:, None], negatives.masked_fill(~allowed, -torch.inf)], dim=1) / temperature
    return _mean_over(-logits.log_softmax(dim=1)[:, 0], allowed.any(dim=1))


def _mean_over(values: Tensor, counted: Tensor) -> Tensor:
    return values.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)
