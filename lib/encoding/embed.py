"""Embed a processed catalogue: the train split becomes the gallery, the other splits the queries.

Two passes. The first makes sure that the cache has the embedding of every image and caption, computing only those
that it lacks, in full batches whatever lies between them. The second copies them into the files in the order of the
rows. So a killed run loses at most one chunk, a grown catalogue costs its growth, and either gives the bytes of a
clean run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from lib.base.artifacts import FloatArray
from lib.base.errors import DataError, IntegrityError
from lib.catalog.picture_store import Pictures
from lib.catalog.processed import count_rows, iter_images, iter_rows
from lib.catalog.schema import Split
from lib.embeddings import (
    META_COLUMNS,
    SIDES,
    EmbeddingSetWriter,
    Side,
    first_bad_row,
    writing_embedding_set,
)
from lib.encoding.embedding_cache import EmbeddingCache, IntArray, Space, as_keys, content_key
from lib.encoding.encoder import Encoder
from lib.encoding.engine import Engine, Kind
from lib.encoding.picture_rows import PictureRows, save_no_rows, save_picture_rows

Bar: TypeAlias = "tqdm[NoReturn]"

SPLITS: dict[Side, tuple[Split, ...]] = {"catalog": ("train",), "queries": ("validation", "test")}
_STORED = [name for name in META_COLUMNS if name != "split"]
_WINDOW = 2000
"""Rows that are written at once."""
_READ = 256
"""Images that are read at once."""
_CHUNK = 4
"""Batches of a full chunk of the cache; what a killed run has to compute again at most."""


@dataclass(frozen=True)
class Embedded:
    """What an embedding run did.

    Attributes:
        n_items: rows of each side.
        computed: images and distinct captions that the model embedded.
        found: items' images and captions whose embedding was there already, from an earlier run or another item.
        damaged: chunks of the cache that were dropped because their bytes had changed.
    """

    n_items: dict[Side, int]
    computed: int
    found: int
    damaged: int


def embed_catalog(processed: Path, out: Path, encoder: Encoder, cache: EmbeddingCache, engine: Engine) -> Embedded:
    """Embed every image and every distinct caption of a processed catalogue into `out`.

    Args:
        processed: the folder that `process_data` wrote.
        out: folder to write; see `lib.embeddings`. Gallery and queries in the order of the processed files.
        encoder: the frozen backbone.
        cache: open; what it has is not computed, what is computed is added.
        engine: computes what the cache lacks, with this backbone.

    Raises:
        DataError: there is nothing to search or nothing to ask.
        BusyError: the disk is full; run again to go on.
    """
    n_items = {side: sum(count_rows(processed, split) for split in SPLITS[side]) for side in SIDES}
    for side, count in n_items.items():
        if not count:
            raise DataError(f"{processed}: no item in {' or '.join(SPLITS[side])}; check data.splits and the report")
    images = cache.space({**encoder.facts, "kind": "image"}, dim=encoder.dim)
    texts = cache.space({**encoder.facts, "kind": "text"}, dim=encoder.dim)
    keys: dict[Side, bytearray] = {}
    fill_images = _Filler(images, "image", engine, encoder.batch_size)
    for side in SIDES:
        with tqdm(total=n_items[side], desc=f"images of {side}", unit="image", mininterval=1) as bar:
            keys[side] = fill_images.all(_images(processed, SPLITS[side], bar))
    fill_texts = _Filler(texts, "text", engine, encoder.batch_size)
    with tqdm(total=sum(n_items.values()), desc="captions", unit="row", mininterval=1) as bar:
        fill_texts.all(part for side in SIDES for part in _captions(processed, SPLITS[side], bar))
    with writing_embedding_set(out, dim=encoder.dim, fingerprint=encoder.fingerprint) as writer:
        for side in SIDES:
            _write_side(writer, side, processed, keys[side], images, texts)
    for space in (images, texts):
        space.touch()
    computed = fill_images.computed + fill_texts.computed
    return Embedded(n_items, computed, 2 * sum(n_items.values()) - computed, images.damaged + texts.damaged)


class _Filler:
    """Adds to a space what it lacks of some contents, in batches of one size."""

    def __init__(self, space: Space, kind: Kind, engine: Engine, batch_size: int) -> None:
        self.computed = 0
        self._space = space
        self._kind: Kind = kind
        self._engine = engine
        self._batch_size = batch_size
        self._seen: set[bytes] = set()  # added in this run or about to be
        self._asked: deque[list[tuple[str, bytes]]] = deque()  # names and keys of batches that the engine has
        self._done: list[tuple[bytes, FloatArray]] = []

    def all(self, parts: Iterable[tuple[Sequence[str], Sequence[bytes]]]) -> bytearray:
        """Go through all contents, which come with their names; returns the keys one after the other.

        Raises:
            IntegrityError: the backbone makes a row of NaN or zeros of something; its chunk is not kept.
        """
        keys = bytearray()
        for rows in self._engine.embed(self._kind, self._lacking(parts, keys)):
            self._take(self._asked.popleft(), rows)
        self._keep()
        return keys

    def _lacking(
        self, parts: Iterable[tuple[Sequence[str], Sequence[bytes]]], keys: bytearray
    ) -> Iterator[list[bytes]]:
        """Batches of what neither the space nor an earlier batch has; all keys are added to `keys` on the way."""
        waiting: list[tuple[str, bytes, bytes]] = []
        for names, contents in parts:
            own = [content_key(content) for content in contents]
            for i in np.flatnonzero(self._space.find(as_keys(own))[:, 0] < 0).tolist():
                if own[i] not in self._seen:
                    self._seen.add(own[i])
                    waiting.append((names[i], own[i], contents[i]))
                    if len(waiting) == self._batch_size:
                        yield self._ask(waiting)
                        waiting = []
            keys += b"".join(own)
        if waiting:
            yield self._ask(waiting)

    def _ask(self, batch: Sequence[tuple[str, bytes, bytes]]) -> list[bytes]:
        self._asked.append([(name, key) for name, key, _ in batch])
        return [content for *_, content in batch]

    def _take(self, batch: Sequence[tuple[str, bytes]], rows: FloatArray) -> None:
        bad = first_bad_row(rows)
        if bad is not None:
            raise IntegrityError(f"the embedding of {batch[bad][0]} is not finite or not of length 1; not kept")
        self._done += [(key, row) for (_, key), row in zip(batch, rows, strict=True)]
        self.computed += len(batch)
        if len(self._done) >= _CHUNK * self._batch_size:
            self._keep()

    def _keep(self) -> None:
        if self._done:
            self._space.add([key for key, _ in self._done], np.stack([row for _, row in self._done]))
        self._done = []


def _write_side(
    writer: EmbeddingSetWriter, side: Side, processed: Path, keys: bytearray, images: Space, texts: Space
) -> None:
    of_images, done = as_keys(keys), 0
    for split in SPLITS[side]:
        for rows in iter_rows(processed, split, _WINDOW, columns=_STORED):
            captions, which = _distinct_captions(rows)
            meta = pa.Table.from_batches([rows]).append_column("split", pa.array([split] * len(rows), pa.string()))
            own = of_images[done : done + len(rows)]
            of_texts = as_keys([content_key(caption) for caption in captions])
            writer.add(side, images.read(own), texts.read(of_texts)[which], meta.select(META_COLUMNS))
            done += len(rows)


def _images(processed: Path, splits: Sequence[Split], bar: Bar) -> Iterator[tuple[list[str], list[bytes]]]:
    for split in splits:
        for batch in iter_images(processed, split, _READ):
            yield [f"the image of item '{item_id}'" for item_id, _ in batch], [image for _, image in batch]
            bar.update(len(batch))


def _captions(processed: Path, splits: Sequence[Split], bar: Bar) -> Iterator[tuple[list[str], list[bytes]]]:
    for split in splits:
        for rows in iter_rows(processed, split, _WINDOW, columns=["caption"]):
            captions, _ = _distinct_captions(rows)
            yield [f"the text {caption!r}" for caption in captions], captions
            bar.update(len(rows))


def _distinct_captions(rows: pa.RecordBatch) -> tuple[list[bytes], IntArray]:
    """Captions as UTF-8, an unknown one empty, and which of them each row has: products share theirs."""
    coded = pc.fill_null(rows.column("caption"), "").dictionary_encode()
    captions = [caption.encode() for caption in coded.dictionary.to_pylist()]
    return captions, coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def embed_pictures(
    pictures: Pictures | None, out: Path, encoder: Encoder, cache: EmbeddingCache, engine: Engine
) -> int:
    """Embed the photos of the two-tower model's tables into `out`; see `lib.encoding.picture_rows`.

    Args:
        pictures: opened; None where there are no tables, which `out` then says.
        out: folder to write.
        encoder: the frozen backbone.
        cache: open; a photo that is an item's image is there already.
        engine: computes what the cache lacks, with this backbone.

    Returns:
        How many photos the model embedded.

    Raises:
        IntegrityError: the backbone makes a row of NaN or zeros of a photo.
        BusyError: the disk is full; run again to go on.
    """
    if pictures is None:
        save_no_rows(out)
        return 0
    with tqdm(total=len(pictures), desc="two-tower photos", unit="image", mininterval=1) as bar:
        rows, computed = cached_image_rows(_photos(pictures, bar), encoder, cache, engine)
    save_picture_rows(out, PictureRows(rows, encoder.fingerprint), pictures)
    return computed


def cached_image_rows(
    parts: Iterable[tuple[Sequence[str], Sequence[bytes]]], encoder: Encoder, cache: EmbeddingCache, engine: Engine
) -> tuple[FloatArray, int]:
    """Embeddings of images outside the catalogue, computed where the cache lacks them.

    Args:
        parts: names, for messages, and encoded images of some at a time.
        encoder: the frozen backbone.
        cache: open; what is computed is added.
        engine: computes what the cache lacks, with this backbone.

    Returns:
        (n, dim) float32, unit rows, in the order of the images, the same bytes as `embed_catalog` writes; and how
        many of them were computed.

    Raises:
        IntegrityError: the backbone makes a row of NaN or zeros of an image.
        BusyError: the disk is full; run again to go on.
    """
    space = cache.space({**encoder.facts, "kind": "image"}, dim=encoder.dim)
    fill = _Filler(space, "image", engine, encoder.batch_size)
    rows = space.read(as_keys(fill.all(parts)))
    space.touch()
    return rows, fill.computed


def _photos(pictures: Pictures, bar: Bar) -> Iterator[tuple[list[str], list[bytes]]]:
    for start in range(0, len(pictures), _READ):
        numbers = range(start, min(start + _READ, len(pictures)))
        yield [pictures.names[number] for number in numbers], [pictures.read(number) for number in numbers]
        bar.update(len(numbers))
