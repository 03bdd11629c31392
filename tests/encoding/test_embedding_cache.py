"""The content-addressed cache: what is in it, what it does with damage, and what leaves it first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.base.errors import IntegrityError
from lib.encoding import embedding_cache
from lib.encoding.embedding_cache import EmbeddingCache, Space, as_keys, content_key

ROOT = Path(__file__).resolve().parents[2]
DIM = 3
FACTS = {"backbone": "b1", "kind": "image"}


def _keys(*names: str) -> list[bytes]:
    return [content_key(name.encode()) for name in names]


def _rows(*values: float) -> np.ndarray:
    return np.array([[value, value + 1, value + 2] for value in values], dtype=np.float32)


@pytest.fixture
def cache(tmp_path: Path):
    with EmbeddingCache(tmp_path / "cache", max_bytes=10**9) as opened:
        yield opened


def _chunks(cache: EmbeddingCache) -> list[Path]:
    return sorted(cache.folder.glob("*/*.rows"))


def test_rows_come_back_in_the_order_asked_for(cache: EmbeddingCache) -> None:
    space = cache.space(FACTS, dim=DIM)
    space.add(_keys("a", "b", "c"), _rows(1, 2, 3))
    space.add(_keys("d", "e"), _rows(4, 5))
    wanted = _keys("e", "a", "c", "b", "d", "a")
    np.testing.assert_array_equal(space.read(as_keys(wanted)), _rows(5, 1, 3, 2, 4, 1))
    assert len(space) == 5
    again = cache.space(FACTS, dim=DIM)
    np.testing.assert_array_equal(again.read(as_keys(wanted)), _rows(5, 1, 3, 2, 4, 1))
    found = again.find(as_keys(_keys("b", "nowhere", "e")))
    assert (found[1] == -1).all() and (found[[0, 2]] >= 0).all()


def test_random_reads_equal_a_dictionary(cache: EmbeddingCache) -> None:
    rng = np.random.default_rng(3)
    space = cache.space(FACTS, dim=DIM)
    truth: dict[bytes, np.ndarray] = {}
    for chunk in range(12):
        keys = _keys(*(f"{chunk}-{i}" for i in range(int(rng.integers(1, 40)))))
        rows = rng.normal(size=(len(keys), DIM)).astype(np.float32)
        space.add(keys, rows)
        truth |= dict(zip(keys, rows, strict=True))
    known = list(truth)
    wanted = [known[i] for i in rng.integers(0, len(known), 500)]
    np.testing.assert_array_equal(space.read(as_keys(wanted)), np.stack([truth[key] for key in wanted]))


def test_keys_that_begin_alike_are_told_apart(cache: EmbeddingCache) -> None:
    """The index sorts by eight of 32 bytes; equal ones must not hide each other."""
    keys = [b"12345678" + bytes([i]) * 24 for i in range(5)]
    space = cache.space(FACTS, dim=DIM)
    space.add(keys[:4], _rows(0, 1, 2, 3))
    np.testing.assert_array_equal(space.read(as_keys([keys[3], keys[1]])), _rows(3, 1))
    assert (space.find(as_keys([keys[4]])) == -1).all()
    assert (space.find(as_keys([b"99999999" + bytes(24)])) == -1).all(), "beyond the last of the index"


def test_what_is_computed_otherwise_is_another_space(cache: EmbeddingCache) -> None:
    cache.space(FACTS, dim=DIM).add(_keys("a"), _rows(1))
    for other in ({"backbone": "b2"}, {"kind": "text"}, {"batch_size": 32}):
        assert len(cache.space(FACTS | other, dim=DIM)) == 0
    assert len(cache.space(FACTS, dim=DIM + 1)) == 0
    assert len(cache.space(dict(reversed(FACTS.items())), dim=DIM)) == 1


def test_a_key_that_is_not_there_is_an_error(cache: EmbeddingCache) -> None:
    space = cache.space(FACTS, dim=DIM)
    with pytest.raises(IntegrityError, match="1 embeddings are not in the cache"):
        space.read(as_keys(_keys("a")))


@pytest.mark.parametrize("place", [0, 20, -40, -1], ids=["head", "key", "row", "checksum"])
def test_a_damaged_chunk_is_dropped_and_the_others_kept(cache: EmbeddingCache, place: int) -> None:
    space = cache.space(FACTS, dim=DIM)
    space.add(_keys("a"), _rows(1))
    first = set(_chunks(cache))
    space.add(_keys("b", "c"), _rows(2, 3))
    (second,) = set(_chunks(cache)) - first
    data = bytearray(second.read_bytes())
    data[place] ^= 1
    second.write_bytes(data)
    again = cache.space(FACTS, dim=DIM)
    assert again.damaged == 1 and not second.exists()
    assert (again.find(as_keys(_keys("a")))[:, 0] >= 0).all() and (again.find(as_keys(_keys("b", "c"))) == -1).all()
    again.add(_keys("b", "c"), _rows(2, 3))
    np.testing.assert_array_equal(again.read(as_keys(_keys("c"))), _rows(3))


@pytest.mark.parametrize("size", [0, 10, 60])
def test_a_cut_chunk_is_dropped(cache: EmbeddingCache, size: int) -> None:
    cache.space(FACTS, dim=DIM).add(_keys("a", "b"), _rows(1, 2))
    (path,) = _chunks(cache)
    path.write_bytes(path.read_bytes()[:size])
    assert cache.space(FACTS, dim=DIM).damaged == 1


def test_the_longest_unused_go_first(cache: EmbeddingCache) -> None:
    space = cache.space(FACTS, dim=DIM)
    for age, name in enumerate(("old", "middle", "new")):
        before = set(_chunks(cache))
        space.add(_keys(name), _rows(age))
        (path,) = set(_chunks(cache)) - before
        os.utime(path, (1000 + age, 1000 + age))
    size = _chunks(cache)[0].stat().st_size
    used = cache.space(FACTS, dim=DIM)
    used.read(as_keys(_keys("old")))
    used.touch()
    assert cache.evict(2 * size) == size
    left = cache.space(FACTS, dim=DIM)
    assert (left.find(as_keys(_keys("old", "new")))[:, 0] >= 0).all() and (
        left.find(as_keys(_keys("middle"))) == -1
    ).all()
    assert cache.evict(2 * size) == 0
    assert cache.evict(0) == 2 * size
    assert not any(path.is_dir() for path in cache.folder.iterdir()), "empty spaces leave no folder"


def test_nothing_is_evicted_while_another_process_reads(cache: EmbeddingCache) -> None:
    cache.space(FACTS, dim=DIM).add(_keys("a"), _rows(1))
    command = [sys.executable, "-m", "lib.encoding.embedding_cache", "--folder", str(cache.folder), "--max-gb", "0"]

    def run() -> str:
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert "deleted 0.0 MB" in run() and len(_chunks(cache)) == 1
    cache.__exit__(None, None, None)
    run()
    assert not _chunks(cache)


def test_what_a_killed_writer_left_is_swept(cache: EmbeddingCache) -> None:
    cache.space(FACTS, dim=DIM).add(_keys("a"), _rows(1))
    half = _chunks(cache)[0].with_name(".half.rows.x1y2")
    half.write_bytes(b"EMBROWS1")
    assert len(cache.space(FACTS, dim=DIM)) == 1, "a temporary name is no chunk"
    cache.evict()
    assert not half.exists() and len(_chunks(cache)) == 1


def test_stats_count_what_is_there(cache: EmbeddingCache, capsys: pytest.CaptureFixture[str]) -> None:
    space = cache.space(FACTS, dim=DIM)
    space.add(_keys("a", "b"), _rows(1, 2))
    space.add(_keys("c"), _rows(3))
    cache.space(FACTS | {"kind": "text"}, dim=DIM)
    found = {entry.facts["kind"]: entry for entry in embedding_cache.stats(cache.folder)}
    assert (found["image"].chunks, found["image"].rows, found["text"].rows) == (2, 3, 0)
    assert found["image"].bytes == sum(path.stat().st_size for path in _chunks(cache))
    assert embedding_cache.main(["--folder", str(cache.folder)]) == 0
    assert "3 rows" in capsys.readouterr().out


def test_two_writers_of_the_same_rows_make_one_chunk(cache: EmbeddingCache) -> None:
    one, two = cache.space(FACTS, dim=DIM), cache.space(FACTS, dim=DIM)
    one.add(_keys("a"), _rows(1))
    two.add(_keys("a"), _rows(1))
    assert len(_chunks(cache)) == 1
    np.testing.assert_array_equal(two.read(as_keys(_keys("a"))), _rows(1))


def test_a_chunk_that_vanishes_is_an_error(cache: EmbeddingCache) -> None:
    space: Space = cache.space(FACTS, dim=DIM)
    space.add(_keys("a"), _rows(1))
    _chunks(cache)[0].unlink()
    with pytest.raises(IntegrityError, match="vanished"):
        space.read(as_keys(_keys("a")))
