"""What every stage command promises: readable errors, exit codes, one writer, a clean end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import sys, time
from lib.base import stage, errors

def run(args, params):
    what = (args.what or "")
    if what == "sleep":
        print("sleeping", flush=True)
        time.sleep(60)
    if what:
        raise getattr(errors, what)("name: expected A, got B, do C")
    return "first line\\nsecond line"

stage.main(run, name="x", paths=("--out",), options=("--what",))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "x.py").write_text(SCRIPT)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return tmp_path


def _start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "x.py", "--out", "out", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("error", "code"), [("ConfigError", 2), ("DataError", 3), ("IntegrityError", 4), ("BusyError", 75)]
)
def test_errors_are_one_readable_message(folder: Path, error: str, code: int) -> None:
    process = _start(folder, "--what", error)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert said == "error: x: name: expected A, got B, do C\n"


def test_debug_shows_the_traceback(folder: Path) -> None:
    _, said = _start(folder, "--what", "DataError", "--debug").communicate(timeout=60)
    assert "Traceback" in said


def test_summary_and_log(folder: Path) -> None:
    said, _ = _start(folder).communicate(timeout=60)
    assert said == "first line\nsecond line\n"
    assert '"stage": "x"' in (folder / ".cache" / "stage_log.jsonl").read_text()


def test_a_second_run_is_refused_and_names_the_first(folder: Path) -> None:
    first = _start(folder, "--what", "sleep")
    assert first.stdout is not None and first.stdout.readline() == "sleeping\n"
    second = _start(folder)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 75 and f"process {first.pid} " in said
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 143 and "dvc repro" in said and "Traceback" not in said
    third = _start(folder)
    third.communicate(timeout=60)
    assert third.returncode == 0, "the lock outlived its holder"


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_stage_ends_with_its_parent(folder: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, 'x.py', '--out', 'out', '--what', 'sleep'], stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(p.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not _alive(child):
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the orphan went on")


def _alive(pid: int) -> bool:
    """Running, and not merely a zombie that nobody has reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_second_sigterm_does_not_break_the_first_ones_cleaning_up() -> None:
    """The pool of `make_sample` never ended when one came while it was shutting down."""
    code = (
        "import os, signal\n"
        "from lib.base.stage import _terminate\n"
        "signal.signal(signal.SIGTERM, _terminate)\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "except SystemExit as end:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('cleaned up', end.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "cleaned up 143"


def test_kernels_are_deterministic_and_the_compiler_stays_out() -> None:
    """In a process of its own; the public function for determinism imports the compiler, 1.5 s of every stage."""
    code = (
        "import sys, torch\n"
        "from lib.base.stage import pin_threads\n"
        "pin_threads(1)\n"
        "assert torch.are_deterministic_algorithms_enabled()\n"
        "assert not torch.is_deterministic_algorithms_warn_only_enabled()\n"
        "assert torch.get_num_threads() == 1\n"
        "assert 'torch._inductor' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_vector_mathematics_is_first_called_by_one_thread() -> None:
    """Where two threads make it, one may get other digits; torch gives each its share from 2,048 values on."""
    code = (
        "import re, torch\n"
        "from pathlib import Path\n"
        "from torch.utils._python_dispatch import TorchDispatchMode\n"
        "from lib.base.stage import pin_threads\n"
        "called = {}\n"
        "class Seen(TorchDispatchMode):\n"
        "    def __torch_dispatch__(self, function, types, args=(), kwargs=None):\n"
        "        if args and isinstance(args[0], torch.Tensor):\n"
        "            key = function.overloadpacket.__name__, args[0].dtype\n"
        "            called[key] = max(called.get(key, 0), args[0].numel())\n"
        "        return function(*args, **(kwargs or {}))\n"
        "with Seen():\n"
        "    pin_threads(2)\n"
        "header = Path(torch.__file__).parent / 'include' / 'ATen' / 'cpu' / 'vml.h'\n"
        "names = re.findall(r'^IMPLEMENT_VML_MKL\\((\\w+),', header.read_text(), re.M)\n"
        "assert 'sqrt' in names\n"
        "for name in names:\n"
        "    for dtype in (torch.float32, torch.float64):\n"
        "        assert 0 < called[name, dtype] < 2048, (name, dtype)\n"
        "assert max(called.values()) < 2048, called"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_stage_looks_for_garbage_only_in_its_own_work(folder: Path) -> None:
    """Looking for it among imported modules, at the start and at the end, took a second of every stage with torch."""
    probe = (
        "import atexit, gc\n"
        "from lib.base import stage\n"
        "imported, frozen, made = gc.isenabled(), [], []\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > frozen[0] + 500))\n"
        "def run(args, params):\n"
        "    frozen.append(gc.get_freeze_count())\n"
        "    made.extend([] for _ in range(1000))\n"
        "    return f'{imported} {gc.isenabled()} {frozen[0] > 1000}'\n"
        "stage.main(run, name='probe', paths=('--out',))\n"
    )
    (folder / "stages").mkdir()
    (folder / "stages" / "__init__.py").write_bytes((ROOT / "stages" / "__init__.py").read_bytes())
    (folder / "stages" / "probe.py").write_text(probe)
    command = [sys.executable, "-m", "stages.probe", "--out", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "True", "True", "True"]


def test_importing_a_stage_leaves_the_garbage_collector_alone() -> None:
    code = "import gc, stages; print(gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
