"""faiss indexes of unit rows by inner product: the same rows, numbers and seed give the same bytes.

faiss 1.15 builds hnsw and clusters in the same way on any number of threads; `tests/retrieval/test_index_build.py`
holds it to that.
"""

from __future__ import annotations

import faiss
import numpy as np

from lib.base.artifacts import FloatArray
from lib.base.params import IndexKind
from lib.retrieval.index_plan import Settings

_BLOCK_ROWS = 65_536
_TRAINING_ROWS_PER_LIST = 64
_TRAINING_ROWS_PER_CODE = 256


def build_faiss(kind: IndexKind, gallery: FloatArray, settings: Settings, *, rng: np.random.Generator) -> faiss.Index:
    """Build one index over all rows of a gallery.

    Args:
        kind: which.
        gallery: (n_items, dim) float32, unit rows, at least one; may be memory-mapped.
        settings: the numbers of the kind, as `plan_indexes` gives them.
        rng: draws the rows that ivf_pq learns from, and the seeds of its clustering; the others draw nothing.

    Returns:
        A faiss index whose ids are the rows.
    """
    if kind == "flat":
        return _build_flat(gallery)
    if kind == "hnsw":
        return _build_hnsw(gallery, settings)
    return _build_ivf_pq(gallery, settings, rng=rng)


def _build_flat(gallery: FloatArray) -> faiss.IndexFlatIP:
    index = faiss.IndexFlatIP(gallery.shape[1])
    _add(index, gallery)
    return index


def _build_hnsw(gallery: FloatArray, settings: Settings) -> faiss.IndexHNSWFlat:
    index = faiss.IndexHNSWFlat(gallery.shape[1], settings["m"], faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = settings["ef_construction"]
    index.hnsw.efSearch = settings["ef_search"]
    # at once: in parts the entry point may move to a row that nothing of the earlier parts links to
    index.add(np.ascontiguousarray(gallery))
    return index


def _build_ivf_pq(gallery: FloatArray, settings: Settings, *, rng: np.random.Generator) -> faiss.IndexIVFPQ:
    dim, nlist = gallery.shape[1], settings["nlist"]
    coarse = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFPQ(coarse, dim, nlist, settings["m"], settings["bits"], faiss.METRIC_INNER_PRODUCT)
    index.nprobe = settings["nprobe"]
    index.pq.cp.niter = index.cp.niter  # 10 instead of 25: the same recall after re-ranking in half the time
    for clustering in (index.cp, index.pq.cp):
        clustering.seed = int(rng.integers(2**31))
        clustering.min_points_per_centroid = 1  # a small catalogue is learnt by heart; no warning for each of m parts
    index.train(_training_rows(gallery, settings, rng=rng))
    _add(index, gallery)
    return index


def _training_rows(gallery: FloatArray, settings: Settings, *, rng: np.random.Generator) -> FloatArray:
    """Rows drawn without repetition, in their order; a gallery smaller than the code book is repeated to its size."""
    codes = 2 ** settings["bits"]
    wanted = max(_TRAINING_ROWS_PER_LIST * settings["nlist"], _TRAINING_ROWS_PER_CODE * codes)
    if wanted < len(gallery):
        return np.asarray(gallery[np.sort(rng.choice(len(gallery), size=wanted, replace=False))])
    repeats = -(-codes // len(gallery))
    return np.tile(np.asarray(gallery), (repeats, 1))


def _add(index: faiss.Index, gallery: FloatArray) -> None:
    for start in range(0, len(gallery), _BLOCK_ROWS):
        index.add(np.ascontiguousarray(gallery[start : start + _BLOCK_ROWS]))
