"""What this machine can do at most: `python -m benchmarks.limits [--quick] [--write]`.

Float32 matrix multiplication by numpy's library and by torch's, at the number of threads of `params.yaml`, and how
fast memory is copied. The libraries differ (torch brings Intel's MKL, numpy and faiss OpenBLAS), and which is faster
depends on the processor: every share in `RESULTS.md` is of the faster one, since nothing forbids us to use it. Where
a processor multiplies bfloat16 too, exact search chooses its candidates so, and its share of float32 may exceed 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.figures import KEPT, LIMIT, Figure, keep
from benchmarks.results import ROOT, sgemm_rates, write_section
from lib.base import stage
from lib.base.params import load_params
from lib.retrieval.fast_scores import bfloat16_pays


@dataclass(frozen=True)
class Limits:
    """Rates of the machine: float32 GFLOP/s by library, and GB/s read and written by a copy.

    Attributes:
        bfloat16: GFLOP/s in bfloat16; None where the processor has no instructions for it.
    """

    numpy: float
    torch: float
    copied: float
    bfloat16: float | None

    @property
    def sgemm(self) -> float:
        """The faster library's GFLOP/s."""
        return max(self.numpy, self.torch)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller matrices")
    parser.add_argument("--write", action="store_true", help="also write a section of benchmarks/RESULTS.md")
    args = parser.parse_args()
    threads = load_params(ROOT / "params.yaml").runtime.threads
    stage.pin_threads(threads)
    found = measure_limits(size=1024 if args.quick else 2048)
    figures = [
        Figure("limits", "float32 multiplication", "numpy", 0.0, found.numpy, "GFLOP/s"),
        Figure("limits", "float32 multiplication", "torch", 0.0, found.torch, "GFLOP/s"),
        Figure("limits", "float32 multiplication", LIMIT, 0.0, found.sgemm, "GFLOP/s"),
        *(
            [Figure("limits", "bfloat16 multiplication", LIMIT, 0.0, found.bfloat16, "GFLOP/s")]
            if found.bfloat16
            else []
        ),
        Figure("limits", "memory read and written", LIMIT, 0.0, found.copied, "GB/s"),
    ]
    keep("limits", figures)
    narrow = f"{found.bfloat16:.0f} GFLOP/s in bfloat16" if found.bfloat16 else "no instructions for bfloat16"
    text = (
        f"`python -m benchmarks.limits --write`, {os.cpu_count()} cores, {threads} threads, best of several: float32 "
        f"matrix multiplication\n{found.numpy:.0f} GFLOP/s with numpy's library, {found.torch:.0f} with torch's, "
        f"{narrow}; a copy reads and writes {found.copied:.1f} GB/s. Shares are of the faster library."
    )
    print(text)
    if args.write:
        write_section("Limits of the machine", text)
        keep("limits", figures, path=KEPT)
    return 0


def measure_limits(*, size: int = 2048, repeats: int = 7) -> Limits:
    """Take the best of several."""
    source, target = np.ones((2, 1 << 25), dtype=np.float32)  # 128 MiB each: more than any cache
    copied = min(seconds(lambda: np.copyto(target, source)) for _ in range(repeats))
    rates = sgemm_rates(size, repeats)
    bfloat16 = bfloat16_gflops(size, repeats) if bfloat16_pays(size, size) else None
    return Limits(rates["numpy"], rates["torch"], 2.0 * source.nbytes / 1e9 / copied, bfloat16)


def bfloat16_gflops(size: int, repeats: int) -> float:
    """Rate of torch's matrix multiplication in bfloat16, best of several."""
    import torch

    left, right = torch.ones((2, size, size), dtype=torch.bfloat16)
    return 2 * size**3 / min(seconds(lambda: torch.mm(left, right)) for _ in range(repeats)) / 1e9


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
