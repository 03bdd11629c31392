"""Embed a processed catalogue: the train split becomes the gallery, the other splits the queries."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from lib.artifacts import FloatArray
from lib.catalog.processed import iter_images, read_rows
from lib.catalog.schema import Split
from lib.embeddings import META_COLUMNS, SIDES, Embeddings, EmbeddingSet, Side
from lib.encoding.encoder import Encoder
from lib.errors import DataError

SPLITS: dict[Side, tuple[Split, ...]] = {"catalog": ("train",), "queries": ("validation", "test")}


def embed_catalog(processed: Path, encoder: Encoder, *, decode_workers: int) -> EmbeddingSet:
    """Embed every image and every distinct caption of a processed catalogue.

    Args:
        processed: the folder that `process_data` wrote.
        encoder: the frozen backbone.
        decode_workers: threads that decode images while the model computes.

    Returns:
        Gallery and queries, rows in the order of the processed files.

    Raises:
        DataError: there is nothing to search or nothing to ask.
    """
    sides: dict[Side, Embeddings] = {}
    for side in SIDES:
        frames = [_rows(processed, split) for split in SPLITS[side]]
        meta = pd.concat(frames, ignore_index=True)
        if meta.empty:
            raise DataError(f"{processed}: no item in {' or '.join(SPLITS[side])}; check data.splits and the report")
        images = _embed_images(processed, SPLITS[side], len(meta), encoder, decode_workers)
        sides[side] = Embeddings(images, _embed_captions(list(meta["caption"]), encoder), meta)
    return EmbeddingSet(sides["catalog"], sides["queries"], encoder.fingerprint)


def _rows(processed: Path, split: Split) -> pd.DataFrame:
    stored = [name for name in META_COLUMNS if name != "split"]
    return read_rows(processed, split, stored).assign(split=split)[list(META_COLUMNS)]


def _embed_images(
    processed: Path, splits: Sequence[Split], n_items: int, encoder: Encoder, decode_workers: int
) -> FloatArray:
    embedded = np.empty((n_items, encoder.dim), dtype=np.float32)
    done = 0
    with tqdm(total=n_items, desc=f"images of {'+'.join(splits)}", unit="image", mininterval=1) as bar:
        for batch in _decoded_batches(processed, splits, encoder, decode_workers):
            embedded[done : done + len(batch)] = encoder.encode_images(batch)
            done += len(batch)
            bar.update(len(batch))
    return embedded


def _decoded_batches(
    processed: Path, splits: Sequence[Split], encoder: Encoder, decode_workers: int
) -> Iterator[list[torch.Tensor]]:
    """Batches of `encoder.batch_size` across the splits, decoded ahead of the model by two batches."""
    stored = (image for split in splits for batch in iter_images(processed, split, 256) for _, image in batch)
    with ThreadPoolExecutor(decode_workers) as pool:
        waiting: deque[list[Future[torch.Tensor]]] = deque()
        while images := list(islice(stored, encoder.batch_size)):
            waiting.append([pool.submit(encoder.preprocess, image) for image in images])
            if len(waiting) > 2:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]


def _embed_captions(captions: list[str | None], encoder: Encoder) -> FloatArray:
    """Embed each distinct caption once; several items of a product share theirs."""
    distinct, rows = np.unique(np.array([caption or "" for caption in captions], dtype=object), return_inverse=True)
    embedded = np.empty((len(distinct), encoder.dim), dtype=np.float32)
    for start in tqdm(range(0, len(distinct), encoder.batch_size), desc="captions", unit="batch", mininterval=1):
        part = slice(start, start + encoder.batch_size)
        embedded[part] = encoder.encode_texts(list(distinct[part]))
    return np.ascontiguousarray(embedded[rows])
