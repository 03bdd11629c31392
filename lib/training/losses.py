"""Losses as pure functions of tensors; each returns a scalar and says what a row without evidence adds: nothing.

Codes are integers per item with -1 for "unknown". Unknown is never "different": such entries are left out.
The tests hold a slow reference, written with loops, for every function here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@dataclass(frozen=True)
class Roles:
    """What every candidate is to every row of a contrast: prepared once, for all scores of the same candidates.

    Attributes:
        shares: (n_rows, n_candidates) `1/|P(i)|` where a candidate is a positive, else 0.
        bias: (n_rows, n_candidates), or (n_candidates,) for every row: log weight in the denominator, -inf for what
            is left out of it.
        weights: (n_rows,) what a row counts; they add up to 1, or are all 0 where nothing is there to learn.
    """

    shares: Tensor
    bias: Tensor
    weights: Tensor

    @classmethod
    def of(
        cls,
        positives: Tensor,
        negatives: Tensor,
        *,
        row_weights: Tensor | None = None,
        column_log_weights: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Roles:
        """Prepare masks and weights as `multi_positive_info_nce` takes them."""
        shares = positives.to(dtype)
        n_positives = shares.sum(dim=1)
        has_positive = n_positives > 0
        shares /= n_positives.clamp(min=1)[:, None]
        # a row without candidates would give log 0 = -inf and a NaN gradient: it keeps all and weighs nothing
        left_out = ~(positives | negatives) & has_positive[:, None]
        base = torch.zeros_like(shares) if column_log_weights is None else column_log_weights
        bias = base.masked_fill(left_out, float("-inf"))
        weights = has_positive.to(dtype) if row_weights is None else row_weights * has_positive
        return cls(shares, bias, weights / weights.sum().clamp(min=torch.finfo(dtype).tiny))


def info_nce(logits: Tensor, roles: Roles) -> Tensor:
    """`multi_positive_info_nce` of (n_rows, n_candidates) logits whose masks and weights were prepared before."""
    loss: Tensor = _InfoNCE.apply(logits, roles.shares, roles.bias, roles.weights)  # type: ignore[no-untyped-call]
    return loss


class _InfoNCE(torch.autograd.Function):
    """Its gradient is the softmax over the denominator less the shares: two passes over what is kept."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, shares: Tensor, bias: Tensor, weights: Tensor) -> Tensor:
        terms = logits + bias
        highest = terms.amax(dim=1, keepdim=True)
        sums = terms.sub_(highest).exp_().sum(dim=1, keepdim=True)
        ctx.save_for_backward(terms, sums, shares, weights)
        denominator = (sums.log() + highest).squeeze(1)
        loss: Tensor = weights @ (denominator - torch.linalg.vecdot(logits, shares))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        terms, sums, shares, weights = ctx.saved_tensors
        weights = (gradient * weights)[:, None]
        return (terms * (weights / sums)).addcmul_(shares, weights, value=-1.0), None, None, None


def multi_positive_info_nce(
    logits: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    row_weights: Tensor | None = None,
    column_log_weights: Tensor | None = None,
) -> Tensor:
    """InfoNCE with any number of positives per row; columns in neither mask are left out.

    `loss_i = -1/|P(i)| * sum_{p in P(i)} log( exp(z_ip) / sum_{c in P(i) + N(i)} w_ic exp(z_ic) )`,
    the form `L_out` of SupCon (Khosla et al. 2020, eq. 2). Leaving a suspected false negative out of both
    masks removes it from the denominator.

    Args:
        logits: (n_rows, n_candidates) float, similarity divided by temperature.
        positives: (n_rows, n_candidates) bool.
        negatives: (n_rows, n_candidates) bool, disjoint from `positives`.
        row_weights: (n_rows,) float >= 0; the result is the weighted mean over rows. Default: all 1.
        column_log_weights: (n_rows, n_candidates) float, `log w` added in the denominator only: a negative
            of weight 2 counts like two of them.

    Returns:
        A scalar; 0 when no row with a positive and a weight above 0 exists.

    Example:
        >>> z = torch.tensor([[0.0, 0.0]])
        >>> loss = multi_positive_info_nce(z, torch.tensor([[True, False]]), torch.tensor([[False, True]]))
        >>> round(loss.item(), 4)  # log 2
        0.6931
    """
    return info_nce(
        logits,
        Roles.of(
            positives,
            negatives,
            row_weights=row_weights,
            column_log_weights=column_log_weights,
            dtype=logits.dtype,
        ),
    )


def symmetric_info_nce(left: Tensor, right: Tensor, logit_scale: Tensor, belong: Tensor) -> Tensor:
    """InfoNCE over the pairs of a batch in both directions (CLIP, Radford et al. 2021), with any number of positives.

    `(L(Z, B) + L(Z^T, B^T)) / 2` with `Z = logit_scale * left @ right^T` and `L` as `multi_positive_info_nce`:
    exchanging the two sides transposes both and leaves the loss as it is; so does exchanging pairs of the batch.
    A batch of one pair has nothing to compare with: its loss is 0.

    Args:
        left: (batch, dim) unit rows: images, queries.
        right: (batch, dim) unit rows: row i belongs to row i of `left`: its caption, its candidate.
        logit_scale: scalar, 1 / temperature.
        belong: (batch, batch) bool: row i of `left` belongs to row j of `right`, for example because captions are
            equal. What does not belong together is a negative. Where the diagonal is False (an item without a
            caption), the row and column are left out; they must be False throughout.

    Returns:
        A scalar, the mean of both directions; with a diagonal `belong` this is CLIP's loss.
    """
    there = belong.diagonal()
    logits = logit_scale * left @ right.T
    weights = there / there.sum().clamp(min=1)
    # what is not there is left out of every row; not by infinity, for the row of one that is alone
    bias = torch.where(there, 0.0, torch.finfo(logits.dtype).min / 2).to(logits.dtype)
    shares = belong.to(logits.dtype)
    to_right = Roles(shares / shares.sum(dim=1, keepdim=True).clamp(min=1), bias, weights)
    to_left = Roles((shares / shares.sum(dim=0).clamp(min=1)).T, bias, weights)
    return (info_nce(logits, to_right) + info_nce(logits.T, to_left)) / 2


def attribute_contrastive(
    embeddings: Tensor, codes: Tensor, *, weights: Tensor, temperature: float, excluded: Tensor
) -> Tensor:
    """Supervised contrast per attribute: *some* neighbour of equal known value must win against the different ones.

    `loss_ia = -log( sum_{j: same value} exp(z_ij) / sum_{j: known value} exp(z_ij) )`, the form `L_in` of SupCon
    (Khosla et al. 2020, eq. 3), known as neighbourhood components analysis (Goldberger et al. 2004). Six
    attributes share one embedding, so not every item of equal neckline can be near, which is what `L_out` asks
    for. In six comparisons at equal weights (drawn sample and a synthetic set, one seed each) neckline@10 on
    validation was -0.1 to +1.4 points higher with this form: a small effect, near the noise. An item whose
    value is unknown is neither anchor, positive nor negative for that attribute.

    Args:
        embeddings: (n, dim) unit rows.
        codes: (n, n_attributes) integer value codes, -1 unknown.
        weights: (n_attributes,) float; attributes are averaged over anchors, then summed with these weights.
        temperature: above 0; from about 0.03 on, float32 holds every term.
        excluded: (n, n) bool, pairs that are never compared (the diagonal, and duplicates of one item).

    Returns:
        A scalar; an attribute without any positive pair adds 0.
    """
    known = (codes >= 0).to(embeddings.dtype)  # (n, n_attributes)
    one_hot = (codes[:, :, None] == torch.arange(int(codes.max()) + 1)).to(embeddings.dtype)
    logits = embeddings @ embeddings.T / temperature
    highest = logits.detach().masked_fill(excluded, float("-inf")).amax(dim=1, keepdim=True)
    # rows without any candidate stay finite
    exponentials = (logits - highest.clamp(min=-1.0 / temperature)).exp() * ~excluded
    # i: anchors, j: candidates, a: attributes, v: values; sums over candidates are matrix products, so that
    # nothing of size attributes x n x n is made
    everyone = torch.einsum("ij,ja->ia", exponentials, known)
    same = torch.einsum("ij,jav,iav->ia", exponentials, one_hot, one_hot)
    tiny = torch.finfo(embeddings.dtype).tiny
    has_positive = (same > tiny).to(embeddings.dtype)
    per_anchor = (everyone.clamp(min=tiny).log() - same.clamp(min=tiny).log()) * has_positive
    per_attribute = per_anchor.sum(dim=0) / has_positive.sum(dim=0).clamp(min=1)
    return (weights * per_attribute).sum()


def masked_cross_entropy(logits: Tensor, codes: Tensor, value_weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the rows whose value is known; 0 when none is.

    Args:
        logits: (n, n_values).
        codes: (n,) int64 in [0, n_values), or -1 for unknown.
        value_weights: (n_values,) float, what a row of each value counts. Default: all 1.
    """
    total = F.cross_entropy(logits, codes, weight=value_weights, ignore_index=-1, reduction="sum")
    return total / (codes >= 0).sum().clamp(min=1)


def attribute_cross_entropy(log_probabilities: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over attributes of the mean cross-entropy over the items whose value is known.

    Args:
        log_probabilities: (n, n_attributes, n_places), normalised over the last axis; -inf where no value stands.
        codes: (n, n_attributes) int64 in [0, n_places), or -1 for unknown.
        weights: (n_attributes,) float.

    Returns:
        A scalar; an attribute that is known of no item adds 0.
    """
    known = codes >= 0
    read = log_probabilities.gather(2, codes.clamp(min=0)[:, :, None]).squeeze(2)  # (n, n_attributes)
    per_attribute = -read.masked_fill(~known, 0.0).sum(dim=0) / known.sum(dim=0).clamp(min=1)
    return (weights * per_attribute).sum()


def log_shares(codes: Tensor, n_places: int) -> Tensor:
    """Log share of each value among the items whose value is known; 0 for a value that none has.

    Args:
        codes: (n, n_attributes) int64 in [0, n_places), or -1 for unknown.
        n_places: at least as many as any attribute has values.

    Returns:
        (n_attributes, n_places) float32.

    >>> log_shares(torch.tensor([[0], [0], [1], [2], [-1]]), 4).exp().tolist()
    [[0.5, 0.25, 0.25, 1.0]]
    """
    counts = torch.stack([torch.bincount(column[column >= 0], minlength=n_places) for column in codes.unbind(dim=1)])
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(counts > 0, shares, 1.0).log()


def logit_adjusted(log_probabilities: Tensor, adjustment: Tensor) -> Tensor:
    """What a classifier reads, as it would be if it had been told how frequent the values are.

    `log softmax(z + t log share)`; its cross-entropy is the logit-adjusted loss (Menon et al. 2021, eq. 10). A
    classifier that is trained by it need not learn what is frequent: where this loss is least, it reads by itself
    `P(value | x) / share^t` up to a factor, so that rare values are believed more.

    Args:
        log_probabilities: (n, n_attributes, n_places), normalised over the last axis; -inf where no value stands.
        adjustment: (n_attributes, n_places) finite, `t * log_shares(...)`.

    Returns:
        (n, n_attributes, n_places), normalised over the last axis.
    """
    return (log_probabilities + adjustment).log_softmax(dim=2)


def identity_distance(outputs: Tensor, inputs: Tensor) -> Tensor:
    """Mean cosine distance of a head's outputs to its inputs; what keeps an adapter near its backbone.

    Args:
        outputs: (n, dim) unit rows.
        inputs: (n, dim) unit rows.

    Returns:
        A scalar in [0, 2], 0 for the identity (the penalty of CLAP, Silva-Rodriguez et al. 2024, in its
        cosine form).
    """
    cosines: Tensor = torch.linalg.vecdot(outputs, inputs)
    return (1.0 - cosines).mean()


def one_hot(codes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Codes of several attributes side by side: the product of two such rows counts the attributes known to be equal.

    Args:
        codes: (n, n_attributes) int64 in [0, size), -1 unknown.
        sizes: how many values each attribute has.

    Returns:
        (n, sum of the sizes) float32; nothing stands for an unknown value.

    >>> rows = one_hot(torch.tensor([[0, 1], [0, -1]]), [2, 2])
    >>> (rows @ rows.T).tolist()
    [[2.0, 1.0], [1.0, 1.0]]
    """
    ends = torch.tensor(sizes, dtype=torch.int64).cumsum(0)
    total = int(sum(sizes))
    places = torch.where(codes < 0, total, codes + ends - torch.tensor(sizes))
    # a place more than there are, for what is unknown
    return torch.zeros(len(codes), total + 1).scatter_(1, places, 1.0)[:, :total]
