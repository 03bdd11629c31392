"""Find photos of the shop by one of a customer: the two-tower model behind one function."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lib.base.artifacts import FloatArray
from lib.base.errors import ConfigError, IntegrityError
from lib.base.params import INDEX_KINDS
from lib.catalog.images import ImageError, normalise_image
from lib.catalog.photo_folder import PhotoFolder
from lib.encoding.picture_encoder import picture_encoder
from lib.encoding.two_tower import load_two_tower, towers_fingerprint
from lib.retrieval.gallery import load_gallery
from lib.retrieval.index import SearchIndex, load_index
from lib.serving.contact_sheet import picture_sheet
from lib.serving.query_encoder import MAX_PIXELS, MAX_SIDE
from lib.training.two_tower import Side

FOLDER = Path("artifacts/two_tower")
MAX_RESULTS = 1000


@dataclass(frozen=True)
class PictureAnswer:
    """What was found.

    Attributes:
        found: names of candidates and their scores, best first.
        index: the kind that was searched.
        candidates: how many there are.
        encode_ms, search_ms: milliseconds from the file's bytes to the embedding, and to the result.
    """

    found: list[tuple[str, float]]
    index: str
    candidates: int
    encode_ms: float
    search_ms: float


class TwoTowerSearch:
    """Model, index and the candidates' folder.

    Args:
        encode: an upright encoded image and its side to a (1, dim) unit row.
        index: over the candidates.
        photos: folder that the candidates' names are under.
    """

    def __init__(self, encode: Callable[[bytes, Side], FloatArray], index: SearchIndex, photos: PhotoFolder) -> None:
        self._encode = encode
        self._index = index
        self._photos = photos

    def search(self, image: bytes, *, k: int, nprobe: int | None = None) -> PictureAnswer:
        """The k candidates nearest to an encoded photo.

        Raises:
            ImageError: it cannot be decoded.
            ConfigError: k or nprobe is out of range.
        """
        if not 1 <= k <= MAX_RESULTS:
            raise ConfigError(f"topk: expected 1 to {MAX_RESULTS}, got {k}")
        if nprobe is not None and self._index.kind != "ivf_pq":
            raise ConfigError(f"nprobe: index {self._index.kind} has no lists; ask for --index ivf_pq")
        started = time.perf_counter()
        upright = normalise_image(image, max_side=MAX_SIDE, max_pixels=MAX_PIXELS).data
        row = self._encode(upright, "query")
        encoded = time.perf_counter()
        top = self._index.search(row, k=k, effort=nprobe)
        done = time.perf_counter()
        found = [
            (self._index.ids[place], float(score))
            for place, score in zip(top.rows[0].tolist(), top.scores[0].tolist(), strict=True)
            if place >= 0
        ]
        milliseconds = (1000 * (encoded - started), 1000 * (done - encoded))
        return PictureAnswer(found, self._index.kind, len(self._index), *milliseconds)

    def sheet(self, image: bytes, answer: PictureAnswer) -> str:
        """The answer as a page with its pictures inside; a candidate whose file is gone has an empty frame."""
        pictures = {}
        for name, _ in answer.found:
            try:
                pictures[name] = normalise_image(
                    self._photos.read(name), max_side=MAX_SIDE, max_pixels=MAX_PIXELS
                ).data
            except ImageError:
                continue
        given = normalise_image(image, max_side=MAX_SIDE, max_pixels=MAX_PIXELS).data
        return picture_sheet(given, answer.found, pictures, _how(answer))


def open_two_tower(root: Path, *, kind: str | None = None) -> TwoTowerSearch:
    """Verify and load model, candidates and index from where `dvc.yaml` puts them under `root`.

    Raises:
        ConfigError: no such kind of index was built, or nothing was trained.
        IntegrityError: something is missing, damaged, or does not belong to the others.
    """
    folder = root / FOLDER
    known = next((one for one in INDEX_KINDS if one == kind), None)
    if kind is not None and known is None:
        raise ConfigError(f"index: expected one of {', '.join(INDEX_KINDS)}, got {kind}")
    embedded = load_gallery(folder / "embeddings")
    if embedded is None:
        raise ConfigError(f"{folder}: nothing was trained; name tables in section two_tower and run `dvc repro`")
    best = folder / "checkpoints" / "best.pt"
    model = load_two_tower(best, backbone=None)
    if towers_fingerprint(best) != embedded.fingerprint:
        raise IntegrityError(
            f"{folder}/embeddings: made by other towers than {best}; run `dvc repro evaluate_two_tower`"
        )
    index = load_index(folder / "index", embedded, kind=known, stage="index_two_tower")
    encode = picture_encoder(model, root / "artifacts/backbone")
    encode(_blank(), "query")  # the first picture takes many times as long as every other
    return TwoTowerSearch(encode, index, PhotoFolder(root / str(embedded.facts["images"])))


def as_dict(answer: PictureAnswer) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "results": [
            {"rank": rank, "path": name, "score": round(score, 6)}
            for rank, (name, score) in enumerate(answer.found, start=1)
        ],
        "index": answer.index,
        "candidates": answer.candidates,
        "encode_ms": round(answer.encode_ms, 3),
        "search_ms": round(answer.search_ms, 3),
    }


def as_table(answer: PictureAnswer) -> str:
    """One line per result, and a line on what was searched and how long it took."""
    lines = [f"{rank:>4}  {score:.3f}  {name}" for rank, (name, score) in enumerate(answer.found, start=1)]
    took = f"{answer.encode_ms:.1f} ms to embed, {answer.search_ms:.1f} ms to search"
    return "\n".join(["      score  candidate", *lines, f"{_how(answer)} {took}"])


def _blank() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "PNG")
    return stream.getvalue()


def _how(answer: PictureAnswer) -> str:
    return f"Two-tower model, index {answer.index}, {answer.candidates:,} candidates."
