"""The file that every benchmark writes its section to with `--write`, and the yardstick they share."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
INTRODUCTION = (
    "# Results\n\n"
    "`make bench` and `make bench-long` write this file. Figures of a shared machine drift: compare shares of the\n"
    "machine's own float32 matrix multiplication rate, measured in the same run, rather than seconds.\n"
)


def write_section(title: str, body: str, *, path: Path = RESULTS, introduction: str = INTRODUCTION) -> None:
    """Put `body` under `## title`, in the place of an earlier section of that title or at the end.

    Whatever stands above the first section becomes `introduction`.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    section = f"## {title}\n\n{body.strip()}\n"
    titles = [part.partition("\n")[0] for part in sections]
    if f"## {title}" in titles:
        sections[titles.index(f"## {title}")] = section
    else:
        sections.append(section)
    path.write_text("\n".join(part.rstrip("\n") + "\n" for part in [introduction, *sections]), encoding="utf-8")


def sgemm_gflops(size: int = 2048, repeats: int = 5) -> float:
    """This machine's float32 matrix multiplication rate by the faster library, best of a few, in GFLOP/s."""
    return max(sgemm_rates(size, repeats).values())


def sgemm_rates(size: int = 2048, repeats: int = 5) -> dict[str, float]:
    """The rate of each library that is at hand, the libraries taking turns.

    torch brings Intel's MKL, numpy and faiss OpenBLAS; which is faster depends on the processor, and since nothing
    forbids us to use it, the faster one is the limit.
    """
    import torch

    a, b = np.random.default_rng(0).random((2, size, size), dtype=np.float32)
    left, right = torch.from_numpy(a), torch.from_numpy(b)
    times: dict[str, list[float]] = {"numpy": [], "torch": []}
    for _ in range(repeats):
        for library, multiply in (("numpy", lambda: a @ b), ("torch", lambda: left @ right)):
            started = time.perf_counter()
            multiply()
            times[library].append(time.perf_counter() - started)
    return {library: 2 * size**3 / min(taken) / 1e9 for library, taken in times.items()}
