"""An index folder that is damaged, stale, or not what it says: one readable error, before faiss can trip over it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from tiny_gallery import ROOT, clustered, embedded, index_params

from lib.base.artifacts import open_manifest, write_manifest
from lib.base.errors import ConfigError, IntegrityError
from lib.base.params import INDEX_KINDS, IndexKind
from lib.embeddings import EmbeddingSet
from lib.retrieval import index_files
from lib.retrieval.index import build_indexes, load_index, load_indexes

FILES = [*(f"{kind}.faiss" for kind in INDEX_KINDS), "ids.json"]
SETTINGS = {"hnsw": {"m": 4, "ef_construction": 20, "ef_search": 16}, "ivf_pq": {"nlist": 8, "m": 4, "bits": 4}}


@pytest.fixture
def gallery() -> np.ndarray:
    return clustered(np.random.default_rng(0), 400)


@pytest.fixture
def own(gallery: np.ndarray) -> EmbeddingSet:
    return embedded(gallery)


@pytest.fixture
def folder(tmp_path: Path, own: EmbeddingSet) -> Path:
    build_indexes(tmp_path / "index", own, index_params(**SETTINGS), rng=np.random.default_rng(0))
    return tmp_path / "index"


def sign(folder: Path) -> None:
    """Make the checksums right for whatever lies there."""
    manifest = open_manifest(folder / "manifest.json")
    write_manifest(folder, manifest.pop("files"), facts=manifest)


def test_what_was_written_loads(folder: Path, own: EmbeddingSet) -> None:
    assert list(load_indexes(folder, own)) == ["flat", "hnsw", "ivf_pq"]
    assert load_index(folder, own).kind == "flat" and load_index(folder, own, kind="hnsw").kind == "hnsw"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.3, 0.999])
def test_one_flipped_bit_is_seen_before_faiss_reads(
    folder: Path, own: EmbeddingSet, name: str, place: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray((folder / name).read_bytes())
    data[int(place * len(data))] ^= 1
    (folder / name).write_bytes(data)
    monkeypatch.setattr(faiss, "read_index", lambda *_: pytest.fail("faiss read a damaged file"))
    with pytest.raises(IntegrityError, match=f"{name}: damaged: expected sha256") as caught:
        load_index(folder, own)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(folder: Path, own: EmbeddingSet, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(IntegrityError, match=f"{name}: missing"):
        load_index(folder, own)


def test_an_index_of_other_embeddings_is_stale(folder: Path, own: EmbeddingSet, gallery: np.ndarray) -> None:
    remedy = "run `dvc repro build_index`"
    with pytest.raises(IntegrityError, match=f"expected fingerprint other…, got model…; {remedy}"):
        load_index(folder, replace(own, fingerprint="other"))
    with pytest.raises(IntegrityError, match=f"expected ids .*…, got .*…; {remedy}"):
        load_index(folder, embedded(gallery[:399]))
    swapped = own.catalog.meta.iloc[[1, 0, *range(2, 400)]].reset_index(drop=True)
    with pytest.raises(IntegrityError, match=f"expected ids .*; {remedy}"):
        load_index(folder, replace(own, catalog=replace(own.catalog, meta=swapped)))
    photo = gallery.copy()
    photo[7] = photo[8]
    with pytest.raises(IntegrityError, match=f"expected embeddings .*; {remedy}"):
        load_index(folder, embedded(photo))


def test_ids_of_another_order_with_a_right_checksum(folder: Path, own: EmbeddingSet) -> None:
    ids = json.loads((folder / "ids.json").read_text())
    (folder / "ids.json").write_text(json.dumps(ids[::-1]))
    sign(folder)
    with pytest.raises(IntegrityError, match=r"ids\.json: not the ids of the gallery's rows"):
        load_index(folder, own)


def test_a_kind_that_was_not_built(tmp_path: Path, own: EmbeddingSet) -> None:
    build_indexes(tmp_path, own, index_params(build=["flat"]), rng=np.random.default_rng(0))
    with pytest.raises(ConfigError, match=r"expected an index of kind hnsw, got flat; name it in index\.build"):
        load_index(tmp_path, own, kind="hnsw")
    assert list(load_indexes(tmp_path, own)) == ["flat"]
    with pytest.raises(ConfigError, match=r"name it in two_tower\.index"):
        load_index(tmp_path, own, kind="hnsw", stage="index_two_tower")


def test_a_file_of_another_kind_or_size(folder: Path, own: EmbeddingSet, gallery: np.ndarray) -> None:
    files = {kind: (folder / f"{kind}.faiss").read_bytes() for kind in INDEX_KINDS}
    smaller = {}
    build_indexes(
        folder.parent / "b", embedded(gallery[:300]), index_params(**SETTINGS), rng=np.random.default_rng(0)
    )
    for kind in INDEX_KINDS:
        smaller[kind] = (folder.parent / "b" / f"{kind}.faiss").read_bytes()
    for kind in INDEX_KINDS:
        for data in [smaller[kind], *(files[other] for other in INDEX_KINDS if other != kind)]:
            (folder / f"{kind}.faiss").write_bytes(data)
            sign(folder)
            with pytest.raises(IntegrityError, match=f"{kind}.faiss: expected .* got .* -f build_index"):
                load_index(folder, own, kind=kind)
            with pytest.raises(IntegrityError, match=f"{kind}.faiss: .*; run `dvc repro -f index_two_tower`"):
                load_index(folder, own, kind=kind, stage="index_two_tower")


def _far_link(index: faiss.Index) -> None:
    """A link on the second level to a row that only stands on the first: faiss would read beside the row's links."""
    graph = index.hnsw
    levels, places = faiss.vector_to_array(graph.levels), faiss.vector_to_array(graph.offsets)
    links = faiss.rev_swig_ptr(graph.neighbors.data(), graph.neighbors.size())
    high, low = int(np.argmax(levels)), int(np.flatnonzero(levels == 1)[-1])
    links[int(places[high]) + graph.nb_neighbors(0)] = low


def _entry(index: faiss.Index) -> None:
    index.hnsw.entry_point = int(np.flatnonzero(faiss.vector_to_array(index.hnsw.levels) == 1)[0])


def _other_m(index: faiss.Index) -> None:
    rows = index.reconstruct_n(0, index.ntotal)
    other = faiss.IndexHNSWFlat(index.d, 5, faiss.METRIC_INNER_PRODUCT)
    other.add(rows)
    index.hnsw = other.hnsw


def _fewer_stored(index: faiss.Index) -> None:
    faiss.downcast_index(index.storage).remove_ids(np.array([399]))


def _no_row(index: faiss.Index) -> None:
    faiss.rev_swig_ptr(index.invlists.get_ids(0), 1)[0] = 10**9


def _twice(index: faiss.Index) -> None:
    ids = faiss.rev_swig_ptr(index.invlists.get_ids(0), 2)
    ids[0] = ids[1]


def _untrained(index: faiss.Index) -> None:
    index.is_trained = False


@pytest.mark.parametrize(
    ("kind", "spoil", "says"),
    [
        ("hnsw", _far_link, "its links do not fit its rows"),
        ("hnsw", _entry, "its links do not fit its rows"),
        ("hnsw", _other_m, r"expected links \[8, 4\], got \[10, 5\]"),
        ("hnsw", _fewer_stored, "ntotal|expected stored rows 400, got 399"),
        ("ivf_pq", _no_row, "a row stands in no list"),
        ("ivf_pq", _twice, "a row stands in no list"),
        ("ivf_pq", _untrained, "expected trained True, got False"),
    ],
)
def test_an_index_that_points_beside_its_rows(
    folder: Path, own: EmbeddingSet, kind: IndexKind, spoil: object, says: str
) -> None:
    path = folder / f"{kind}.faiss"
    index = faiss.read_index(str(path))
    spoil(index)  # type: ignore[operator]
    faiss.write_index(index, str(path))
    sign(folder)
    with pytest.raises(IntegrityError, match=says):
        load_index(folder, own, kind=kind)


FUZZ = """
import sys
from pathlib import Path
import numpy as np
from test_index_faults import embedded, clustered, load_index, sign, IntegrityError
folder, kind = Path(sys.argv[1]), sys.argv[2]
own = embedded(clustered(np.random.default_rng(0), 400))
path, rng = folder / f"{kind}.faiss", np.random.default_rng(0)
good = path.read_bytes()
refused = 0
for n in range(150):
    data = bytearray(good)
    if n % 3 == 0:
        del data[n // 3 if n < 120 else int(rng.integers(len(good))):]
    elif n % 3 == 1:
        data = bytearray(rng.bytes(int(rng.integers(1, 2000))))
        data[:4] = good[:4]
    else:
        at = int(rng.integers(min(300, len(good) - 8)))
        data[at : at + 8] = int(rng.choice([-1, 0, 7, 401, 2**31, 2**40, 2**62])).to_bytes(8, "little", signed=True)
    path.write_bytes(data)
    sign(folder)
    try:
        index = load_index(folder, own, kind=kind)
    except IntegrityError as error:
        assert "run `dvc repro" in str(error) and "\\n" not in str(error), error
        refused += 1
        continue
    index.search(own.catalog.images[:5], k=3, allowed=np.arange(400) % 2 == 0)  # survives, whatever it finds
print(refused)
"""


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_garbage_with_a_right_checksum_is_an_error_and_no_crash(folder: Path, kind: IndexKind) -> None:
    """Cut off anywhere, random bytes, sizes that are absurd: in a process of its own, with little memory."""
    limited = "import resource; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
    done = subprocess.run(
        [sys.executable, "-c", limited + FUZZ, str(folder), kind],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'retrieval'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 90  # the others changed a number that this search does not read, or a row of flat


def test_a_size_that_no_file_has_asks_for_no_memory(folder: Path, own: EmbeddingSet) -> None:
    before = faiss.get_deserialization_vector_byte_limit()
    with index_files._arrays_up_to(1000):
        assert faiss.get_deserialization_vector_byte_limit() == 1001
    load_index(folder, own, kind="ivf_pq")
    assert faiss.get_deserialization_vector_byte_limit() == before
