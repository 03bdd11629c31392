"""Indexes over the gallery of an embedded catalogue: built into a folder, verified before they are read, searched.

A folder holds one `.faiss` file per kind, `ids.json` (item ids in row order) and `manifest.json`. The kinds:

- `flat`: every row, exact.
- `hnsw`: a graph of near neighbours with the rows themselves.
- `ivf_pq`: inverted lists of short codes; candidates are scored again from the embeddings on disk.

All of them return what `lib.retrieval.search.exact_top_k` would, or nearly: an approximate kind may miss a row, but
the score of a row, the order of equal scores and filters are those of the exact search.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from lib.base.artifacts import FloatArray, read_json, read_manifest, sequence_sha256, write_json, write_manifest
from lib.base.errors import ConfigError, DataError, IntegrityError
from lib.base.params import INDEX_KINDS, Index, IndexKind
from lib.embeddings import check_unit_rows
from lib.retrieval.gallery import Searchable
from lib.retrieval.index_build import build_faiss
from lib.retrieval.index_files import read_faiss, write_faiss
from lib.retrieval.index_plan import IndexPlan, Settings, plan_indexes
from lib.retrieval.index_search import Lists, Rows, scan, search_graph
from lib.retrieval.search import BoolArray
from lib.retrieval.top_k import TopK

IDS = "ids.json"
_PARAMETER = {"build_index": "index.build", "index_two_tower": "two_tower.index"}
"""What names the kinds that a stage builds."""
_BLOCK_ROWS = 65_536


@dataclass(frozen=True)
class BuiltIndexes:
    """What was built.

    Attributes:
        plan: kinds, numbers and reason.
        seconds: kind -> how long building and writing took; never part of an out.
    """

    plan: IndexPlan
    seconds: dict[IndexKind, float]


def build_indexes(folder: Path, embedded: Searchable, params: Index, *, rng: np.random.Generator) -> BuiltIndexes:
    """Build the planned kinds over a gallery and write the folder.

    A kind that is not planned is written as an index without rows, so that the files are always the same ones.

    Args:
        folder: where to; `manifest.json` is written last.
        embedded: the gallery: an embedded catalogue's images, or other rows.
        params: the section `index`.
        rng: for what ivf_pq learns from.

    Raises:
        DataError: the gallery is empty.
        IntegrityError: a row is NaN, infinite, zero or not of length 1.
        ConfigError: a number does not fit the rows or dimensions.
        BusyError: the disk is full.
    """
    gallery, ids = embedded.gallery, embedded.gallery_ids
    if not len(gallery):
        raise DataError("the gallery (train split) is empty: nothing to index; check data.splits.train")
    check_unit_rows(gallery, name="catalog_img")
    plan = plan_indexes(len(gallery), gallery.shape[1], params)
    seconds: dict[IndexKind, float] = {}
    for kind in INDEX_KINDS:
        started = time.perf_counter()
        if kind in plan.settings:
            index = build_faiss(kind, gallery, plan.settings[kind], rng=rng)
            write_faiss(_file(folder, kind), index)
            seconds[kind] = time.perf_counter() - started
        else:
            write_faiss(_file(folder, kind), faiss.IndexFlatIP(gallery.shape[1]))
    write_json(folder / IDS, ids)
    facts = {
        "fingerprint": embedded.fingerprint,
        "ids": sequence_sha256(ids),
        "embeddings": _sha256(gallery),
        "rows": len(gallery),
        "dim": gallery.shape[1],
        "metric": params.metric,
        "default": plan.default,
        "kinds": plan.settings,
    }
    write_manifest(folder, [IDS, *(_file(folder, kind).name for kind in INDEX_KINDS)], facts=facts)
    return BuiltIndexes(plan, seconds)


def load_index(
    folder: Path, embedded: Searchable, *, kind: IndexKind | None = None, stage: str = "build_index"
) -> SearchIndex:
    """Verify a folder and open one kind, the one that serves when None; `stage` builds it, for messages.

    Raises:
        IntegrityError: a file is missing, damaged or no such index, or the index was built from other embeddings.
        ConfigError: that kind was not built.
    """
    facts, ids = _verified(folder, embedded, stage)
    return _open(folder, facts, embedded.gallery, ids, facts["default"] if kind is None else kind, stage)


def load_indexes(folder: Path, embedded: Searchable, *, stage: str = "build_index") -> dict[IndexKind, SearchIndex]:
    """Verify a folder and open every kind that was built, the one that serves first; raises as `load_index`."""
    facts, ids = _verified(folder, embedded, stage)
    kinds: list[IndexKind] = [facts["default"], *(kind for kind in facts["kinds"] if kind != facts["default"])]
    return {kind: _open(folder, facts, embedded.gallery, ids, kind, stage) for kind in kinds}


class SearchIndex:
    """One kind of index over a gallery; searches from several threads do not disturb each other.

    Attributes:
        kind: which.
        ids: item ids, one per row.
        settings: the numbers it was built with and is searched with.
    """

    def __init__(
        self, kind: IndexKind, index: faiss.Index, gallery: FloatArray, ids: Sequence[str], settings: Settings
    ) -> None:
        self.kind = kind
        self.ids = ids
        self.settings = settings
        self._index = index
        self._gallery = gallery
        self._lists = Lists(index) if kind == "ivf_pq" else None

    def __len__(self) -> int:
        return len(self._gallery)

    @property
    def dim(self) -> int:
        """Dimensions of an embedding."""
        return int(self._gallery.shape[1])

    def search(
        self, queries: FloatArray, *, k: int, allowed: BoolArray | None = None, effort: int | None = None
    ) -> TopK:
        """Find the k nearest items of every query.

        Args:
            queries: (n_queries, dim) float32, unit rows.
            k: items per query, at least 1.
            allowed: (n_items,) True where an item may be returned, for all queries; or (n_queries, n_items), for
                each, for example all items but those of the query's own product. None: all items.
            effort: `ef_search` of hnsw or `nprobe` of ivf_pq, at least 1; None: as in `settings`. Ignored by flat.

        Returns:
            Rows and scores as `exact_top_k` defines them: best first, equal scores by row (of the rows that an
            approximate kind found), padded with row -1 and score -inf where fewer than k items are allowed and
            nowhere else. No query gives arrays of shape (0, k).

        Raises:
            ConfigError: k or effort < 1, or shapes that do not fit.
            IntegrityError: a query is NaN, infinite, zero or not of length 1.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        self._check(queries, k, allowed, effort)
        if allowed is not None and allowed.ndim == 2:
            top = TopK(np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf))
            for i, own in enumerate(allowed):
                best = self._search(queries[[i]], k, own, effort)
                top.rows[i], top.scores[i] = best.rows[0], best.scores[0]
            return top
        return self._search(queries, k, allowed, effort)

    def _search(self, queries: FloatArray, k: int, allowed: BoolArray | None, effort: int | None) -> TopK:
        rows = Rows.of(self._gallery, allowed)
        if not len(queries) or not rows.n_allowed:
            return TopK(np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf))
        if self.kind == "hnsw":
            return search_graph(self._index, queries, rows, k=k, ef=effort or self.settings["ef_search"])
        if self._lists is not None:
            nprobe = min(effort or self.settings["nprobe"], self.settings["nlist"])
            return self._lists.search(queries, rows, k=k, nprobe=nprobe, rerank=self.settings["rerank"])
        return scan(self._index, queries, rows, k=k)

    def _check(self, queries: FloatArray, k: int, allowed: BoolArray | None, effort: int | None) -> None:
        if k < 1 or (effort is not None and effort < 1):
            raise ConfigError(f"k and effort: expected at least 1, got {k} and {effort}")
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ConfigError(f"queries: expected (n_queries, {self.dim}), got {queries.shape}")
        shapes = ((len(self),), (len(queries), len(self)))
        if allowed is not None and (allowed.dtype != np.bool_ or allowed.shape not in shapes):
            raise ConfigError(f"allowed: expected booleans of shape {shapes[0]} or {shapes[1]}, got {allowed.shape}")
        check_unit_rows(queries, name="queries")


def _verified(folder: Path, embedded: Searchable, stage: str) -> tuple[dict[str, Any], list[str]]:
    """Manifest and ids of a folder whose bytes are those that were written, from these embeddings."""
    facts = read_manifest(folder)
    if "embeddings" not in facts:
        raise IntegrityError(
            f"{folder}: holds no index ({facts.get('skipped', 'another folder')}); run `dvc repro {stage}`"
        )
    own_ids = embedded.gallery_ids
    found = {
        "fingerprint": embedded.fingerprint,
        "ids": sequence_sha256(own_ids),
        "embeddings": _sha256(embedded.gallery),
    }
    for name, value in found.items():
        if facts[name] != value:
            raise IntegrityError(
                f"{folder}: built from other embeddings: expected {name} {value[:12]}…, got {facts[name][:12]}…; "
                f"run `dvc repro {stage}`"
            )
    if read_json(folder / IDS) != own_ids:
        raise IntegrityError(f"{folder / IDS}: not the ids of the gallery's rows; run `dvc repro {stage}`")
    return facts, own_ids


def _open(
    folder: Path, facts: dict[str, Any], gallery: FloatArray, ids: Sequence[str], kind: IndexKind, stage: str
) -> SearchIndex:
    if kind not in facts["kinds"]:
        built = ", ".join(facts["kinds"])
        raise ConfigError(f"{folder}: expected an index of kind {kind}, got {built}; name it in {_PARAMETER[stage]}")
    settings = facts["kinds"][kind]
    try:
        index = read_faiss(_file(folder, kind), kind, settings, n_items=len(gallery), dim=gallery.shape[1])
    except IntegrityError as error:
        raise IntegrityError(f"{error}; run `dvc repro -f {stage}`") from None
    return SearchIndex(kind, index, gallery, ids, settings)


def _file(folder: Path, kind: IndexKind) -> Path:
    return folder / f"{kind}.faiss"


def _sha256(array: FloatArray) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(array), _BLOCK_ROWS):
        digest.update(np.ascontiguousarray(array[start : start + _BLOCK_ROWS], dtype="<f4").data)
    return digest.hexdigest()
