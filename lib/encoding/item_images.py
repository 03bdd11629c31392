"""Items' images embedded on the fly, as they are or augmented, for whoever trains on embeddings."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from lib.base.artifacts import FloatArray
from lib.base.errors import IntegrityError
from lib.catalog.processed import iter_images
from lib.catalog.schema import SPLITS
from lib.encoding.backbone import load_backbone
from lib.encoding.crops import crop_and_mirror
from lib.encoding.encoder import Encoder

Augment = Literal["none", "crops"]

MIN_AREA = 0.7
"""Least share of the picture that a crop keeps."""
_READ = 256


class ImageRows:
    """Embeds images of a processed catalogue when they are asked for.

    Without augmentation an item's row has the bytes that `embed_catalog` writes, and is computed once.

    Args:
        processed: the folder that `process_data` wrote.
        encoder: the frozen backbone.
        augment: `crops` shows another part of each image, and half of them mirrored, in every epoch but 0.
        seed: of the augmentation.
    """

    def __init__(self, processed: Path, encoder: Encoder, *, augment: Augment, seed: int) -> None:
        self._processed = processed
        self._encoder = encoder
        self._augment = augment
        self._seed = seed
        self._known: dict[str, FloatArray] = {}

    def __call__(self, item_ids: Sequence[str], epoch: int) -> FloatArray:
        """Embeddings of items, repeated ones too.

        Args:
            item_ids: n ids of the catalogue.
            epoch: 0 for the images as they are; with another one the augmentation is drawn from (seed, epoch).

        Returns:
            (n, dim) float32, unit rows.

        Raises:
            IntegrityError: an id is not in the catalogue.
        """
        if self._augment == "none" or epoch == 0:
            self._known |= self._embed([item for item in item_ids if item not in self._known], lambda image: image)
            rows = self._known
        else:
            rng = np.random.default_rng([self._seed, epoch])
            rows = self._embed(item_ids, lambda image: cropped(image, rng))
        return np.stack([rows[item] for item in item_ids]) if len(item_ids) else self._encoder.encode_images([])

    def _embed(self, item_ids: Sequence[str], change: Callable[[bytes], bytes]) -> dict[str, FloatArray]:
        """One pass over the catalogue, so that memory holds a batch of images; in its order, which is always one."""
        wanted = set(item_ids)
        rows: dict[str, FloatArray] = {}
        waiting: list[tuple[str, bytes]] = []
        for split in SPLITS if wanted else ():
            for batch in iter_images(self._processed, split, _READ):
                waiting += [(item, change(image)) for item, image in batch if item in wanted]
                while len(waiting) >= self._encoder.batch_size:
                    rows |= self._batch(waiting[: self._encoder.batch_size])
                    waiting = waiting[self._encoder.batch_size :]
        rows |= self._batch(waiting)
        missing = sorted(wanted - rows.keys())
        if missing:
            raise IntegrityError(f"{self._processed}: item '{missing[0]}' is not in it; run `dvc repro process_data`")
        return rows

    def _batch(self, waiting: list[tuple[str, bytes]]) -> dict[str, FloatArray]:
        rows = self._encoder.encode_images([self._encoder.preprocess(image) for _, image in waiting])
        return {item: row for (item, _), row in zip(waiting, rows, strict=True)}


def open_image_rows(
    processed: Path, backbone: Path, *, batch_size: int, fingerprint: str, augment: Augment, seed: int
) -> ImageRows:
    """`ImageRows` with the backbone of a folder, which must be the one that made the embeddings of `fingerprint`.

    Raises:
        IntegrityError: it is another one, or damaged.
    """
    encoder = Encoder(load_backbone(backbone), batch_size=batch_size)
    if encoder.fingerprint != fingerprint:
        raise IntegrityError(
            f"{backbone}: expected backbone {fingerprint[:12]}, which made the embeddings, got "
            f"{encoder.fingerprint[:12]}; run `dvc repro embed_catalog`"
        )
    return ImageRows(processed, encoder, augment=augment, seed=seed)


def cropped(image: bytes, rng: np.random.Generator) -> bytes:
    """A random part of an image, mirrored half of the time, as PNG: the encoder takes encoded images."""
    with Image.open(io.BytesIO(image)) as opened:
        picture = opened.convert("RGB")
    stream = io.BytesIO()
    crop_and_mirror(picture, rng, min_area=MIN_AREA, mirror=0.5).save(stream, "PNG", compress_level=0)
    return stream.getvalue()
