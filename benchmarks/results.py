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
    "`make bench` measures everything and rewrites this file. Figures of a shared machine drift: compare shares of\n"
    "the machine's own float32 matrix multiplication rate, measured in the same run, rather than seconds.\n"
)


def write_section(title: str, body: str, *, path: Path = RESULTS) -> None:
    """Put `body` under `## title`, in the place of an earlier section of that title or at the end."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    section = f"## {title}\n\n{body.strip()}\n"
    titles = [part.partition("\n")[0] for part in sections]
    if f"## {title}" in titles:
        sections[titles.index(f"## {title}")] = section
    else:
        sections.append(section)
    path.write_text("\n".join(part.rstrip("\n") + "\n" for part in [INTRODUCTION, *sections]), encoding="utf-8")


def sgemm_gflops(size: int = 2048, repeats: int = 5) -> float:
    """This machine's float32 matrix multiplication rate, best of a few, in GFLOP/s."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, size, size), dtype=np.float32)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times) / 1e9
