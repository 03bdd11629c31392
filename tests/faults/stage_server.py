"""Stage commands without the seconds that their imports take: forked from one process that has imported everything.

A command runs as by `python -m stages.NAME …`, in a folder of its own choice, and ends with its own exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import runpy
import shlex
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120
"""After which a command is taken for one that hangs."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal), standard output, standard error."""

    code: int
    out: str
    said: str


class StageServer:
    """Starts with the first `run`; a context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._folder = tempfile.TemporaryDirectory()

    def run(self, folder: Path, words: str | list[str], *, max_file_bytes: int | None = None) -> Ended:
        """Run `NAME --option value …` in `folder`; no file may grow past `max_file_bytes`."""
        words = shlex.split(words) if isinstance(words, str) else words
        out, said = (Path(self._folder.name, name) for name in ("out", "err"))
        request = {"folder": str(folder), "words": words, "out": str(out), "err": str(said), "limit": max_file_bytes}
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        code = int(process.stdout.readline())
        return Ended(code, *(path.read_text(encoding="utf-8", errors="replace") for path in (out, said)))

    def __enter__(self) -> StageServer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate(timeout=SECONDS)  # closes its input, which ends it
        self._folder.cleanup()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
            self._process = subprocess.Popen(
                [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        return self._process


def command(name: str, model: str = "") -> list[str]:
    """The words of a stage's command in dvc.yaml, `${data.…}` filled in from the sample's parameters."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return shlex.split(filled(stages[name]["cmd"], model).removeprefix("python -m stages."))


def filled(text: str, model: str = "") -> str:
    """Text of dvc.yaml with its places filled in."""
    data = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["data"]
    places = {"item.model": model, "data.raw_dir": data["raw_dir"], "data.attribute_schema": data["attribute_schema"]}
    for place, value in places.items():
        text = text.replace(f"${{{place}}}", value)
    return text


def _serve() -> None:
    for script in sorted((ROOT / "stages").glob("*.py")):
        importlib.import_module(f"stages.{script.stem}")
    import threadpoolctl  # noqa: F401  # imported by the first stage that pins threads
    import torch  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os._exit(0)  # taking down what was imported takes seconds


def _run(request: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        for path, stream in ((request["out"], 1), (request["err"], 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.chdir(request["folder"])
        signal.alarm(SECONDS)
        if request["limit"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
        name, *arguments = request["words"]
        sys.argv = [name, *arguments]
        del sys.modules[f"stages.{name}"]  # what it imported stays
        runpy.run_module(f"stages.{name}", run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
