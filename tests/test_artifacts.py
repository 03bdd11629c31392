"""Atomic writes, verified loads, one byte form per content."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lib.base import artifacts
from lib.base.errors import IntegrityError

ROOT = Path(__file__).resolve().parent.parent


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    artifacts.write_text(path, "old")
    with pytest.raises(RuntimeError), artifacts.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_busy_and_keeps_the_old_file(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse a larger file for real."""
    artifacts.write_bytes(tmp_path / "a.bin", b"old")
    code = (
        "import resource, signal, sys; from pathlib import Path; from lib.base import artifacts, errors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: artifacts.write_bytes(Path('a.bin'), b'x' * 5000)\n"
        "except errors.BusyError as error: print(error); sys.exit(error.exit_code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert done.returncode == 75 and b"a.bin" in done.stdout
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_json_refuses_what_breaks_viewers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        artifacts.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_arrays_refuse_what_is_no_number(tmp_path: Path, value: float) -> None:
    with pytest.raises(IntegrityError, match="NaN or infinite"):
        artifacts.write_array(tmp_path / "a.npy", np.array([[1.0, value]]))


def test_parquet_round_trip_keeps_strings_and_nulls_and_bytes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["001", "NA", "nan", "5.0", ""], "value": ["a", None, "b", None, ""]})
    artifacts.write_parquet(tmp_path / "a.parquet", frame)
    artifacts.write_parquet(tmp_path / "b.parquet", frame)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    loaded = artifacts.read_parquet(tmp_path / "a.parquet")
    assert list(loaded["id"]) == ["001", "NA", "nan", "5.0", ""]
    assert list(loaded["value"]) == ["a", None, "b", None, ""]


def test_torch_bytes_do_not_depend_on_the_name(tmp_path: Path) -> None:
    value = {"w": torch.arange(5.0), "n": 3}
    artifacts.write_torch(tmp_path / "a.pt", value)
    artifacts.write_torch(tmp_path / "long_name.pt", value)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "long_name.pt").read_bytes()
    assert torch.equal(artifacts.read_torch(tmp_path / "a.pt")["w"], value["w"])


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    torch.save(Payload(), tmp_path / "bad.pt")
    with pytest.raises(IntegrityError, match="not loaded"):
        artifacts.read_torch(tmp_path / "bad.pt")
    assert not marker.exists()


@pytest.mark.parametrize("reader", [artifacts.read_json, artifacts.read_parquet, artifacts.read_torch])
def test_missing_and_broken_files_name_the_remedy(tmp_path: Path, reader: Any) -> None:
    with pytest.raises(IntegrityError, match="dvc repro"):
        reader(tmp_path / "none")
    (tmp_path / "broken").write_bytes(b"\x00garbage")
    with pytest.raises(IntegrityError, match="broken"):
        reader(tmp_path / "broken")


def test_a_manifest_sees_one_flipped_bit(tmp_path: Path) -> None:
    artifacts.write_array(tmp_path / "a.npy", np.ones((4, 3), dtype=np.float32))
    artifacts.write_manifest(tmp_path, ["a.npy"], facts={"fingerprint": "f"})
    manifest = artifacts.read_manifest(tmp_path)
    assert manifest["fingerprint"] == "f" and manifest["files"]["a.npy"]["shape"] == [4, 3]
    data = bytearray((tmp_path / "a.npy").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a.npy").write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match=r"a\.npy: damaged"):
        artifacts.read_manifest(tmp_path)
    (tmp_path / "a.npy").unlink()
    with pytest.raises(IntegrityError, match=r"a\.npy: missing"):
        artifacts.read_manifest(tmp_path)


def test_sequence_hash_sees_order_and_borders() -> None:
    assert artifacts.sequence_sha256(["ab", "c"]) != artifacts.sequence_sha256(["a", "bc"])
    assert artifacts.sequence_sha256(["a", "b"]) != artifacts.sequence_sha256(["b", "a"])


def test_equal_strings_of_a_table_are_one_object(tmp_path: Path) -> None:
    names = ["x" * 40, None, "é", "x" * 40]
    table = pa.table(
        {"name": pa.array(names, pa.string()), "none": pa.array([None] * 4, pa.string()), "n": [1, 2, 3, 4]}
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    frame = artifacts.read_parquet(tmp_path / "t.parquet")
    assert frame["name"].tolist() == names and frame["name"].dtype == object
    assert frame["name"][0] is frame["name"][3]
    assert frame["none"].tolist() == [None] * 4 and frame["n"].tolist() == [1, 2, 3, 4]
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    assert artifacts.read_parquet(tmp_path / "empty.parquet")["name"].dtype == object
