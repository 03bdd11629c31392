"""The heads of the protocol model: what is added to a frozen embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

HeadKind = Literal["linear", "mlp", "prototype"]
SHRINKAGE = 0.1
"""Of the mean variance between views of one product, added to every direction's before it is evened out."""
GROUP_ROWS = 384
"""At most so many rows of a batch lose the same hidden units."""


class ResidualHead(nn.Module):
    """`linear` or `mlp`: a residual of the embedding; zero until its last layer is trained."""

    def __init__(self, dim: int, *, kind: HeadKind, hidden: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.dropout = dropout
        self.first = linear(dim, hidden, generator) if kind == "mlp" else None
        self.last = nn.utils.skip_init(nn.Linear, hidden if kind == "mlp" else dim, dim)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """(n, dim) -> residuals (n, dim); `dropout` is the generator of the dropout mask, None for no dropout."""
        hidden = x if self.first is None else F.gelu(self.first(x))
        residual: Tensor = self.last(dropped(hidden, self.dropout, dropout))
        return residual


class AttributeHead(nn.Module):
    """One hidden layer that reads attribute values off a standardised embedding.

    Standardising matters: the directions that tell collars apart carry little of a frozen embedding's variance,
    and a layer that sees them at their own size learns them last.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int, n_values: int, *, hidden: int, dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.dropout = dropout
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.full((dim,), 1.0 / math.sqrt(dim)))
        self.first = linear(dim, hidden, generator)
        self.last = linear(hidden, n_values, generator)

    def standardise(self, x: Tensor) -> None:
        """Take mean and standard deviation of each dimension from (n, dim) embeddings."""
        self.mean.copy_(x.mean(dim=0))
        if len(x) > 1:
            self.deviation.copy_(x.std(dim=0).clamp(min=1e-6))

    def forward(self, x: Tensor, dropout: torch.Generator | None = None) -> Tensor:
        """(n, dim) -> logits of all values of all attributes, (n, n_values)."""
        z = (x - self.mean).div_(self.deviation)
        if dropout is None or self.dropout == 0:
            logits: Tensor = self.last(F.gelu(self.first(z)))
            return logits
        groups = max(-(-len(x) // GROUP_ROWS), 1)
        units = kept_units(self.first.out_features, self.dropout, groups=groups, generator=dropout)
        parameters = self.first.weight, self.first.bias, self.last.weight, self.last.bias
        logits = _DroppedLayers.apply(z, units, *parameters)  # type: ignore[no-untyped-call]
        return logits


class _DroppedLayers(torch.autograd.Function):
    """`last(scale * gelu(first(z)))`, each group of rows with the hidden units that it keeps; no gradient for `z`.

    Batchwise dropout (Graham, Reizenstein and Robinson 2015): what is lost is not computed, at a rate of one half
    that is half of the work. `units` is what `kept_units` draws, a row for each group.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, units: Tensor, first: Tensor, first_bias: Tensor, last: Tensor, bias: Tensor
    ) -> Tensor:
        n = len(units)
        scale = len(first) / units.shape[1]
        logits = z.new_empty(len(z), len(bias))
        parts = []
        for rows, out, kept in zip(z.tensor_split(n), logits.tensor_split(n), units, strict=True):
            kept_first, kept_last = first.index_select(0, kept), last.index_select(1, kept)
            before = torch.addmm(first_bias.index_select(0, kept), rows, kept_first.T)
            hidden = F.gelu(before)
            torch.addmm(bias, hidden, kept_last.T, alpha=scale, out=out)
            parts += [before, hidden, kept_last]
        ctx.save_for_backward(z, units, first, last, *parts)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z, units, first, last, *parts = ctx.saved_tensors
        n = len(units)
        scaled = gradient * (len(first) / units.shape[1])
        of_first, of_first_bias, of_last = (
            torch.zeros_like(first),
            first.new_zeros(len(first)),
            torch.zeros_like(last),
        )
        groups = zip(z.tensor_split(n), scaled.tensor_split(n), units, *(parts[k::3] for k in range(3)), strict=True)
        for rows, of_logits, kept, before, hidden, kept_last in groups:
            of_before = torch.ops.aten.gelu_backward(of_logits @ kept_last, before)
            of_first.index_add_(0, kept, of_before.T @ rows)
            of_first_bias.index_add_(0, kept, of_before.sum(dim=0))
            of_last.index_add_(1, kept, of_logits.T @ hidden)
        return None, None, of_first, of_first_bias, of_last, gradient.sum(dim=0)


def kept_units(n: int, rate: float, *, groups: int, generator: torch.Generator) -> Tensor:
    """For each group those of `n` hidden units that are not lost, (groups, n_kept) int64, ascending; at least one."""
    kept = max(n - round(rate * n), 1)
    drawn = torch.stack([torch.randperm(n, generator=generator)[:kept] for _ in range(groups)])
    return drawn.sort(dim=1).values


class Prototypes(nn.Module):
    """One direction per attribute value, written into an embedding as much as the value is believed.

    `residual = strength * sum_a sqrt(importance_a) * sum_v sqrt(P(v | x)) * direction_av`. The inner product of two
    such residuals is how well what is believed of the items overlaps, attribute by attribute, weighted by importance:
    the Bhattacharyya coefficient. It is 1 for equal beliefs, also for uncertain ones: two views of a product are not
    driven apart because neither shows the collar well. Nothing but attribute values moves an embedding. One that an
    item does not have (the neckline of shorts) adds nothing.
    Directions are orthonormal while there are dimensions enough, else random unit vectors.
    """

    directions: Tensor
    importance: Tensor

    def __init__(self, dim: int, importance: list[float], generator: torch.Generator) -> None:
        """`importance` holds the weight of its attribute for each value, attribute after attribute."""
        super().__init__()
        drawn = torch.randn(dim, len(importance), generator=generator, dtype=torch.float64)
        if len(importance) <= dim:
            drawn = torch.linalg.qr(drawn).Q
        self.register_buffer("directions", F.normalize(drawn, dim=0).T.to(torch.float32).contiguous())
        self.register_buffer("importance", torch.tensor(importance, dtype=torch.float32).sqrt())
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, believed: Tensor) -> Tensor:
        """(n, n_values) log probabilities of all values, attribute after attribute -> residuals (n, dim)."""
        residual: Tensor = ((0.5 * believed).exp() * (self.strength * self.importance)) @ self.directions
        return residual


def unit_sum(own: Tensor, added: Tensor, weight: Tensor) -> Tensor:
    """`own + weight * added`, (n, dim), as unit rows; a zero row stays one. `weight` is no parameter."""
    unit: Tensor = _UnitSum.apply(own, added, weight)  # type: ignore[no-untyped-call]
    return unit


class _UnitSum(torch.autograd.Function):
    """With fewer passes over the rows than autograd makes of a sum and its normalisation."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, added: Tensor, weight: Tensor) -> Tensor:
        total = torch.addcmul(own, added, weight)
        lengths = torch.linalg.vector_norm(total, dim=1, keepdim=True).clamp_(min=1e-12)
        unit = total.div_(lengths)
        ctx.save_for_backward(unit, lengths, weight)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        unit, lengths, weight = ctx.saved_tensors
        along = torch.linalg.vecdot(gradient, unit)[:, None]
        across = torch.addcmul(gradient, unit, along, value=-1.0)
        of_own = across / lengths if ctx.needs_input_grad[0] else None
        return of_own, across.mul_(weight / lengths), None


def within_product_whitening(x: Tensor, products: Tensor, *, shrinkage: float = SHRINKAGE) -> Tensor:
    """The linear map under which the views of a product scatter alike in all directions.

    Within-class covariance normalisation (Hatch, Kajarekar and Stolcke 2006) with products as classes: directions in
    which photos of one and the same product differ (pose, light, background) count less, the others more.

    Args:
        x: (n, dim) embeddings.
        products: (n,) codes of their products.
        shrinkage: how much of the mean variance is added to each direction's, in fractions; above 0.

    Returns:
        (dim, dim) symmetric, `trace(W W) = dim`; the identity where no two items are of one product.
    """
    dim = x.shape[1]
    _, codes, counts = torch.unique(products, return_inverse=True, return_counts=True)
    means = torch.zeros(len(counts), dim, dtype=torch.float64).index_add_(0, codes, x.double())
    spread = (x.double() - (means / counts[:, None])[codes])[counts[codes] > 1]
    freedom = int((counts - 1).sum())  # an item that is alone in its product says nothing
    if not freedom:
        return torch.eye(dim)
    values, vectors = torch.linalg.eigh(spread.T @ spread / freedom)
    mean = values.mean()
    if not mean > 0:  # only copies of one photo
        return torch.eye(dim)
    scales = (values.clamp(min=0.0) + shrinkage * mean).rsqrt()
    scales *= math.sqrt(dim) / scales.norm()
    whitening: Tensor = (vectors * scales) @ vectors.T
    return whitening.float()


def dropped(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Dropout with a generator of its own; `x` itself when there is none."""
    if generator is None or rate == 0:
        return x
    kept, scale = dropout_mask(x.shape, rate, generator)
    return x * kept.to(x.dtype).mul_(scale)


def dropout_mask(shape: Sequence[int], rate: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """1 where an entry is kept and 0 where it is lost, `shape` of a small integer type, and what keeps the mean.

    Eight random bits per entry where they say `rate` exactly (one half does), else sixteen.
    """
    bits = 8 if (rate * 2**8).is_integer() else 16
    lost, size = max(int(rate * 2**bits), 1), math.prod(shape)
    # a seed by torch, the bits by numpy, whose small generator takes little more than half of the time
    seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator))
    drawn = torch.from_numpy(np.random.SFC64(seed).random_raw(-(-size * bits // 64)).view(np.int64))
    mask = drawn.view(torch.int8 if bits == 8 else torch.int16)[:size].view(*shape)
    least = lost - 2 ** (bits - 1)  # kept from there on
    # whole numbers between two that stand side by side; comparing would take longer
    return mask.clamp_(least - 1, least).sub_(least - 1), 2**bits / (2**bits - lost)


def seeded_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator for what torch draws in one epoch (0: before the first): a resumed run draws the same."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(2, dtype=np.uint32).tolist()
    return torch.Generator().manual_seed((state[0] << 31) ^ state[1])


def linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer drawn from `generator`, as torch draws it, with a zero bias."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
