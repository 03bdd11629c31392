"""The heads of the protocol model: what is added to a frozen embedding."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

HeadKind = Literal["linear", "mlp", "prototype"]
SHRINKAGE = 0.1
"""Of the mean variance between views of one product, added to every direction's before it is evened out."""


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
        hidden = F.gelu(self.first((x - self.mean) / self.deviation))
        logits: Tensor = self.last(dropped(hidden, self.dropout, dropout))
        return logits


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
    # sixteen random bits per entry, four entries per draw: a uniform number each takes twice the time
    drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    bits = drawn.view(torch.int16)[: x.numel()].view(x.shape)
    lost = int(rate * 2**16)  # of 2**16
    # whole numbers from 1 on are kept; comparing them would take longer than all of this
    mask = bits.to(x.dtype).sub_(lost - 2**15 - 1).clamp_(0.0, 1.0)
    return x * mask.mul_(2**16 / (2**16 - lost))


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
