"""Train a small OpenCLIP model from scratch on a catalogue's own image-caption pairs.

For catalogues without pretrained weights at hand, above all the embedded sample: everything then runs
with no network. The model is an OpenCLIP one (a small convolutional image tower through timm, a transformer text
tower), the loss is CLIP's (Radford et al. 2021) with every image that a text is true of counted as a positive.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional
from tqdm import tqdm

from lib.base.errors import DataError
from lib.base.params import BackboneTraining
from lib.catalog.processed import iter_images, read_rows
from lib.encoding import torchvision_ops  # noqa: F401  # must come before open_clip
from lib.encoding.collars import collar_places, cut_out
from lib.encoding.convnet import timm_name
from lib.encoding.drawn_collars import draw_collars, warm_up
from lib.encoding.random_crops import normalise, random_collars, random_crops, to_bytes, to_unit
from lib.encoding.schedule import Descent
from lib.encoding.training_texts import NAMED, TextBatch, TrainingTexts
from lib.training.losses import masked_cross_entropy, multi_positive_info_nce

import open_clip  # isort: skip

MARGIN = 1.125
"""Training images are kept this much larger than the convolutions read, so that a random crop rarely enlarges."""

MAX_DESCRIBED = 3_000
"""Train images, evenly spread, whose descriptors give the fixed dimensions."""


def train_backbone(
    processed: Path, params: BackboneTraining, *, pattern_only: Sequence[str], threads: int
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Train on the train split's images, captions and attributes.

    Args:
        processed: the folder that `process_data` wrote.
        params: architecture and recipe.
        pattern_only: categories that say nothing about the category.
        threads: decoding threads.

    Returns:
        The trained model and its OpenCLIP `model_cfg`.

    Raises:
        DataError: fewer than two items have a caption.
    """
    rows = read_rows(processed, "train", ["caption", *NAMED])
    texts = TrainingTexts(rows, pattern_only=pattern_only)
    usable = texts.usable()
    if len(usable) < 2:
        raise DataError(
            "backbone.source train needs captions: fewer than two items of the train split have text or "
            "attributes; map data.columns.text, or use backbone.source checkpoint or hub"
        )
    torch.manual_seed(params.seed)  # OpenCLIP initialises from the global generator
    config = model_config(params)
    model = open_clip.CLIP(**config)
    visual: Any = model.visual
    visual.preprocess_cfg = _preprocess_config(params.image_size)
    side = min(params.image_size, visual.trunk.sight)
    size = round(side * MARGIN)
    images = _load_images(processed, size=size, workers=threads)
    collars = _load_collars(processed, visual, size=size, workers=threads) if params.collar else None
    if params.drawn_collars:
        drawn = draw_collars(params.drawn_collars, side=size, seed=params.seed, workers=threads)
        warm_up(visual.trunk, drawn, side, params)
    _fit(model, images, collars, side, texts, usable, params)
    model.eval()
    if params.fixed_dim:
        visual.trunk.describe(_descriptors(processed, visual, len(images), workers=threads))
    return model, config


def model_config(params: BackboneTraining) -> dict[str, Any]:
    """OpenCLIP's `model_cfg` of the small model."""
    return {
        "embed_dim": params.embed_dim,
        "vision_cfg": {
            "image_size": params.image_size,
            "timm_model_name": timm_name(params.vision_width, params.vision_grid, params.fixed_dim, params.collar),
            "timm_pool": "",
            "timm_proj": "",
        },
        "text_cfg": {
            "context_length": params.context_length,
            "vocab_size": 49408,
            "width": params.text_width,
            "heads": params.text_heads,
            "layers": params.text_layers,
        },
    }


def _preprocess_config(size: int) -> dict[str, Any]:
    # squash keeps collars and hems, which a centre crop of a portrait photograph cuts off
    return {
        "size": size,
        "mode": "RGB",
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": "squash",
        "fill_color": 0,
    }


def _load_images(processed: Path, *, size: int, workers: int) -> npt.NDArray[np.uint8]:
    """All train images as (n_items, size, size, 3) uint8, about 15 kB each at size 72."""

    def decode(image: bytes) -> npt.NDArray[np.uint8]:
        with Image.open(io.BytesIO(image)) as opened:
            return np.asarray(opened.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))

    decoded: list[npt.NDArray[np.uint8]] = []
    with ThreadPoolExecutor(workers) as pool, tqdm(desc="decode", unit="image", mininterval=1) as bar:
        for batch in iter_images(processed, "train", 256):
            decoded += pool.map(decode, [image for _, image in batch])
            bar.update(len(batch))
    return np.stack(decoded)


def _load_collars(processed: Path, visual: Any, *, size: int, workers: int) -> npt.NDArray[np.uint8]:
    """What is cut out of all train images, (n_items, size, size, 3) uint8."""
    side = visual.preprocess_cfg["size"]

    def decode(image: bytes) -> torch.Tensor:
        with Image.open(io.BytesIO(image)) as opened:
            squashed = np.asarray(opened.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
        return torch.from_numpy(squashed.copy()).permute(2, 0, 1)

    cut: list[npt.NDArray[np.uint8]] = []
    with ThreadPoolExecutor(workers) as pool, tqdm(desc="collars", unit="image", mininterval=1) as bar:
        for batch in iter_images(processed, "train", 256):
            pixels = torch.stack(list(pool.map(decode, [image for _, image in batch]))).float().div_(255.0)
            cut.append(to_bytes(cut_out(pixels, collar_places(normalise(pixels)), size)))
            bar.update(len(batch))
    return np.concatenate(cut)


def _descriptors(processed: Path, visual: Any, n_items: int, *, workers: int) -> torch.Tensor:
    """Descriptors of at most `MAX_DESCRIBED` train images, (n, n_descriptors) float32."""
    preprocess = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**visual.preprocess_cfg), is_train=False
    )

    def decode(image: bytes) -> torch.Tensor:
        with Image.open(io.BytesIO(image)) as opened:
            tensor: torch.Tensor = preprocess(opened.convert("RGB"))
        return tensor

    step = -(-n_items // MAX_DESCRIBED)
    described, first = [], 0
    with ThreadPoolExecutor(workers) as pool, tqdm(desc="describe", unit="image", mininterval=1) as bar:
        for batch in iter_images(processed, "train", 64 * step):
            chosen = [image for number, (_, image) in enumerate(batch, first) if number % step == 0]
            described.append(visual.trunk.descriptors(torch.stack(list(pool.map(decode, chosen)))))
            first += len(batch)
            bar.update(len(chosen))
    return torch.cat(described)


def _fit(
    model: torch.nn.Module,
    images: npt.NDArray[np.uint8],
    collars: npt.NDArray[np.uint8] | None,
    side: int,
    texts: TrainingTexts,
    usable: npt.NDArray[np.int64],
    params: BackboneTraining,
) -> None:
    """Train in place; `side` is how many pixels a side the convolutions read."""
    batch_size = min(params.batch_size, len(usable))
    n_steps = params.epochs * (len(usable) // batch_size)
    visual: Any = model.visual
    projection: Any = model.text_projection
    with torch.no_grad():  # texts have nothing to say in the fixed dimensions
        projection[:, params.embed_dim - params.fixed_dim :] = 0.0
    tokens, used = _used_tokens(open_clip.SimpleTokenizer(context_length=params.context_length)(texts.captions))
    vocabulary: Any = model.token_embedding
    small = torch.nn.Embedding.from_pretrained(vocabulary.weight.detach()[used], freeze=False)
    model.token_embedding = small
    classifiers = _Classifiers(visual.trunk.num_features, texts.value_weights())
    trained = torch.nn.ModuleList([model, classifiers])
    descent = Descent(trained, params, n_steps=n_steps)
    rng = np.random.default_rng(params.seed)
    visual.to(memory_format=torch.channels_last)  # a quarter faster on the processor
    trained.train()
    with tqdm(total=n_steps, desc="train backbone", unit="batch", mininterval=1) as bar:
        for _ in range(params.epochs):
            order = rng.permutation(usable)
            for start in range(0, len(order) - batch_size + 1, batch_size):
                rows = order[start : start + batch_size]
                seen = normalise(random_crops(to_unit(images[rows]), side, params.crop_scale_min, rng))
                batch = texts.compose(rows)
                shown = None if collars is None else normalise(random_collars(to_unit(collars[rows]), side, rng))
                loss = _loss(model, classifiers, seen, shown, batch, tokens, params.attribute_loss)
                descent.step(loss)
                scale: Any = model.logit_scale
                scale.data.clamp_(0.0, math.log(100.0))
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
                bar.update()
    visual.to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        vocabulary.weight[used] = small.weight
    model.token_embedding = vocabulary


def _used_tokens(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Number anew what occurs in (n_texts, context) `tokens`; returns them so, and the (n_used,) old numbers.

    A catalogue's captions use few of 49,408 tokens, and the gradients of all the others, zero at every step, take 5
    to 10 % of it. The order stays: OpenCLIP finds the end of a text where its largest token stands.
    """
    used, numbered = torch.unique(tokens, sorted=True, return_inverse=True)
    return numbered, used


class _Classifiers(torch.nn.Module):
    """Classifiers of every attribute, thrown away after training.

    They read the tower's features, not the embedding: an embedding that is trained to classify is half a protocol
    model already, and overfits its training items as one.
    """

    def __init__(self, n_features: int, value_weights: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.value_weights = value_weights
        self.heads = torch.nn.ModuleList(torch.nn.Linear(n_features, max(len(w), 1)) for w in value_weights)

    def forward(self, features: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Sum of the attributes' losses for (n, n_features) and (n, n_attributes) codes."""
        losses = [
            masked_cross_entropy(head(features), column, weights)
            for head, column, weights in zip(self.heads, codes.T, self.value_weights, strict=True)
            if len(weights)
        ]
        return torch.stack(losses).sum() if losses else features.new_zeros(())


def _loss(
    model: Any,
    classifiers: _Classifiers,
    images: torch.Tensor,
    collars: torch.Tensor | None,
    texts: TextBatch,
    tokens: torch.Tensor,
    attribute_loss: float,
) -> torch.Tensor:
    """Multi-positive InfoNCE of images and captions, and the classification of every attribute.

    What is unknown is neither positive nor negative; `tokens` are (n_captions, context), of all captions.
    """
    if collars is not None:
        collars = collars.contiguous(memory_format=torch.channels_last)
    features = model.visual.trunk.read(images.contiguous(memory_format=torch.channels_last), collars)
    image = functional.normalize(model.visual.trunk.forward_head(features), dim=-1)
    text = model.encode_text(tokens[texts.captions], normalize=True)[:, : image.shape[1]]
    logits = model.logit_scale.exp() * text @ image.T  # (n_texts, n_images)
    to_image = multi_positive_info_nce(logits, texts.matches, texts.differs)
    to_text = multi_positive_info_nce(logits.T, texts.matches.T, texts.differs.T)
    classified: torch.Tensor = classifiers(features, texts.codes)
    return (to_image + to_text) / 2 + attribute_loss * classified
