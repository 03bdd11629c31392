"""First calls of torch's vector mathematics, made by one thread before several may make them at once.

On a processor torch leaves square roots, exponentials, logarithms ... to oneMKL, which picks a function's kernel when
it is first called. Where two threads call it first at the same time, one of them may get a kernel of fewer digits for
that call: a fault of the oneMKL that torch is built with (2024.2, https://github.com/pytorch/pytorch/issues/188792).
One run of the sample had embeddings that differed by up to 3e-6 from every other run's in half of the first batch,
one thread's share: about what square roots to 14 bits make of them.
"""

from __future__ import annotations

import torch

FUNCTIONS = (
    "acos", "asin", "atan", "cos", "erf", "erfc", "erfinv", "exp",
    "log", "log10", "log2", "sin", "sqrt", "tan", "tanh", "trunc",
)  # fmt: skip
"""What torch's `aten/src/ATen/cpu/vml.h` takes from oneMKL."""
_FEW = 16
"""Values; of 2,048 or more torch gives every thread some."""


def settle_vector_math() -> None:
    """Call every function once in each precision, with so few values that one thread has them all."""
    for dtype in (torch.float32, torch.float64):
        values = torch.full((_FEW,), 0.5, dtype=dtype)
        for name in FUNCTIONS:
            getattr(torch, name)(values)
