"""What is built, by size and by parameters, and that it is built alike every time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
import threadpoolctl
from pydantic import ValidationError
from tiny_gallery import ROOT, clustered, embedded, index_params

from lib.base.errors import BusyError, ConfigError
from lib.base.params import INDEX_KINDS
from lib.retrieval.index import build_indexes
from lib.retrieval.index_plan import hnsw_bytes, plan_indexes

NAMES = ("flat.faiss", "hnsw.faiss", "ivf_pq.faiss", "ids.json", "manifest.json")
ELSEWHERE = """
import sys
from pathlib import Path
from test_index_build import built
print(sorted(built(Path(sys.argv[1])).items()))
"""


def built(folder: Path, *, threads: int = 1, seed: int = 0) -> dict[str, str]:
    """Build with a number of threads; the checksum of every file."""
    gallery = clustered(np.random.default_rng(0), 3000)
    with threadpoolctl.threadpool_limits(threads):
        assert faiss.omp_get_max_threads() == threads
        build_indexes(folder, embedded(gallery), index_params(), rng=np.random.default_rng(seed))
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in NAMES}


def test_the_same_input_gives_the_same_bytes_on_any_number_of_threads(tmp_path: Path) -> None:
    first = built(tmp_path / "a")
    assert built(tmp_path / "b", threads=3) == first
    other = built(tmp_path / "c", seed=1)
    assert {name for name in NAMES if other[name] != first[name]} == {"ivf_pq.faiss", "manifest.json"}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "retrieval")])
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path / "d")],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(sorted(first.items())), "another process"


def test_auto_goes_by_rows_and_memory() -> None:
    auto = index_params(build="auto")
    small, medium = plan_indexes(19_999, 512, auto), plan_indexes(20_000, 512, auto)
    assert (list(small.settings), small.default) == (["flat"], "flat")
    assert (list(medium.settings), medium.default) == (["flat", "hnsw"], "hnsw")
    assert "19,999 rows, fewer than 20,000" in small.reason and "hnsw needs 0.0 GB" in medium.reason
    largest = int(8e9) // hnsw_bytes(1, 512, 32)
    fits, beyond = plan_indexes(largest, 512, auto), plan_indexes(largest + 1, 512, auto)
    assert fits.default == "hnsw" and "hnsw needs 8.0 GB of memory, at most" in fits.reason
    assert (list(beyond.settings), beyond.default) == (["ivf_pq"], "ivf_pq") and "more than" in beyond.reason


def test_what_is_named_is_built_and_what_serves_suits_the_size() -> None:
    every = index_params(build=["ivf_pq", "hnsw", "flat"])
    assert [plan_indexes(n, 512, every).default for n in (100, 30_000, 10**8)] == ["flat", "hnsw", "ivf_pq"]
    assert list(plan_indexes(100, 512, every).settings) == list(INDEX_KINDS)
    some = index_params(build=["ivf_pq", "hnsw"])
    assert plan_indexes(100, 512, some).default == "hnsw"
    assert plan_indexes(100, 512, index_params(default="ivf_pq")).default == "ivf_pq"
    added = plan_indexes(100, 512, index_params(build="auto", default="hnsw"))
    assert (list(added.settings), added.default) == (["flat", "hnsw"], "hnsw")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"build": []}, "build must be auto or name one or more kinds"),
        ({"build": ["flat", "flat"]}, "each once"),
        ({"build": ["flat"], "default": "hnsw"}, "default 'hnsw' is not among build"),
        ({"build": ["annoy"]}, "flat"),
        ({"metric": "euclid"}, "cosine"),
        ({"ivf_pq": {"bits": 9}}, "less than or equal to 8"),
    ],
)
def test_parameters_that_cannot_be_meant(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        index_params(**changes)


def test_numbers_that_do_not_fit_the_catalogue() -> None:
    with pytest.raises(
        ConfigError, match=r"index\.ivf_pq\.m: expected a divisor of the 384 dimensions, got 50; nearest: 48"
    ):
        plan_indexes(5000, 384, index_params(ivf_pq={"m": 50}))
    with pytest.raises(ConfigError, match=r"index\.ivf_pq\.nlist: expected at most 100, the rows, got 101"):
        plan_indexes(100, 384, index_params(ivf_pq={"nlist": 101}))
    settings = plan_indexes(100, 384, index_params(ivf_pq={"nprobe": 16})).settings["ivf_pq"]
    assert settings == {"nlist": 2, "m": 48, "bits": 8, "nprobe": 2, "rerank": 10}


def test_what_is_not_built_has_its_file_without_rows(tmp_path: Path) -> None:
    gallery = clustered(np.random.default_rng(0), 30)
    build_indexes(tmp_path, embedded(gallery), index_params(build="auto"), rng=np.random.default_rng(0))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert list(manifest["kinds"]) == ["flat"] and set(manifest["files"]) == set(NAMES) - {"manifest.json"}
    sizes = {kind: (tmp_path / f"{kind}.faiss").stat().st_size for kind in INDEX_KINDS}
    assert sizes["hnsw"] == sizes["ivf_pq"] == sizes["flat"] - 30 * 16 * 4
    assert manifest["rows"] == 30 and manifest["dim"] == 16 and manifest["metric"] == "cosine"


def test_a_full_disk_leaves_the_old_index(tmp_path: Path) -> None:
    import resource
    import signal

    gallery = clustered(np.random.default_rng(0), 300)
    build_indexes(tmp_path, embedded(gallery), index_params(build=["flat"]), rng=np.random.default_rng(0))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    larger = clustered(np.random.default_rng(1), 3000)
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_action = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old_limit[1]))
    try:
        with pytest.raises(BusyError, match=r"flat\.faiss: no room to write it"):
            build_indexes(tmp_path, embedded(larger), index_params(build=["flat"]), rng=np.random.default_rng(0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_action)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
