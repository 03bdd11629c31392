"""Losses as pure functions of tensors; each returns a scalar and says what a row without evidence adds: nothing.

Codes are integers per item with -1 for "unknown". Unknown is never "different": such entries are left out.
The tests hold a slow reference, written with loops, for every function here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
    shares = positives.to(logits.dtype)
    n_positives = shares.sum(dim=1)
    has_positive = n_positives > 0
    # a row without candidates would give log 0 = -inf and a NaN gradient: it keeps all and weighs nothing
    kept = positives | negatives | ~has_positive[:, None]
    base = torch.zeros_like(shares) if column_log_weights is None else column_log_weights
    # what needs no gradient is prepared first: two passes over the logits remain, and two on the way back
    denominator: Tensor = torch.logsumexp(logits + base.masked_fill(~kept, float("-inf")), dim=1)
    mean_positive: Tensor = torch.linalg.vecdot(logits, shares / n_positives.clamp(min=1)[:, None])
    weights = has_positive.to(logits.dtype) if row_weights is None else row_weights * has_positive
    total = weights.sum()
    return (weights * (denominator - mean_positive)).sum() / total.clamp(min=torch.finfo(logits.dtype).tiny)


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
    negatives = ~belong & there[:, None] & there[None, :]
    logits = logit_scale * left @ right.T
    to_right = multi_positive_info_nce(logits, belong, negatives)
    to_left = multi_positive_info_nce(logits.T, belong.T, negatives.T)
    return (to_right + to_left) / 2


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


def n_equal(rows: Tensor, columns: Tensor) -> Tensor:
    """In how many attributes two items are known to be equal.

    Args:
        rows: (n_rows, n_attributes) codes, -1 unknown.
        columns: (n_columns, n_attributes) codes.

    Returns:
        (n_rows, n_columns) uint8.
    """
    total = torch.zeros(len(rows), len(columns), dtype=torch.uint8)
    # attribute by attribute: a sum over a last axis of six takes several times as long as six sums; in small numbers
    # they take half of what they do in large ones
    for left, right in zip(rows.T.int().contiguous(), columns.T.int().contiguous(), strict=True):
        total += left[:, None] == right.masked_fill(right < 0, -2)[None, :]  # two unknown values are not equal
    return total


def n_both_known(rows: Tensor, columns: Tensor) -> Tensor:
    """In how many attributes the values of both items are known; above `n_equal` where they are known to differ.

    Takes what `n_equal` takes; returns (n_rows, n_columns) float32.
    """
    return (rows >= 0).float() @ (columns >= 0).float().T
