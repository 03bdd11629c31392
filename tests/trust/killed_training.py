"""`python killed_training.py step N -- …` or `save NAME -- …`: stage train_protocol, killed for real on the way.

`step N`: SIGKILL before the optimizer has made step N. `save NAME`: SIGKILL when the file NAME is written but not yet
renamed. What follows `--` are the stage's own arguments.
"""

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from lib.base import atomic
from lib.training.objective import BatchLoss


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    when, what, _, *arguments = sys.argv[1:]
    steps = 0
    real_loss, real_replace = BatchLoss.__call__, os.replace

    def loss(self: BatchLoss, *args: Any, **options: Any) -> Any:
        nonlocal steps
        steps += 1
        if when == "step" and steps == int(what):
            kill()
        return real_loss(self, *args, **options)

    def replace(source: Any, target: Any) -> None:
        if when == "save" and Path(target).name == what:
            kill()
        real_replace(source, target)

    BatchLoss.__call__ = loss  # type: ignore[method-assign]
    atomic.os.replace = replace  # type: ignore[attr-defined]
    sys.argv = ["train_protocol", *arguments]
    runpy.run_module("stages.train_protocol", run_name="__main__")


if __name__ == "__main__":
    main()
