"""A disk that fills up while the catalogue is written, simulated by a limit on the size of a file."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("limit", [2_000, 12_000], ids=["first pass", "shards"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(shop, tmp_path, limit):
    shop.process(tmp_path / "hf")
    before = {path.name: path.read_bytes() for path in (tmp_path / "hf").iterdir()}
    largest = max(len(data) for data in before.values())
    assert largest > 12_000  # or the limit would not be hit
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["data"] = shop.data().model_dump(mode="json")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    command = [sys.executable, "-m", "stages.process_data", "--raw", "raw", "--schema"]
    done = subprocess.run(
        [*command, str(ROOT / "lib/catalog/attributes.yaml"), "--out", "hf"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 75, done.stderr
    assert "error: process_data: hf: no room to write it" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "hf").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cache", "hf", "params.yaml", "raw"]
