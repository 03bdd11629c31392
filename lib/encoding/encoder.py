"""Images and texts to embeddings, in batches of one fixed shape.

Every batch has exactly `batch_size` rows; the last one is padded. A row's embedding is then bitwise
independent of its neighbours and of its place (seen with ViT-B/32 and with a small model), while a batch of
another size differs by up to 3e-6. That is what lets an incremental run give the bytes of a full one.
"""

from __future__ import annotations

import hashlib
import io
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lib.base.artifacts import FloatArray
from lib.encoding.backbone import Backbone

_CODE = (
    "backbone.py", "collars.py", "convnet.py", "encoder.py", "gradients.py", "textures.py", "torchvision_ops.py",
)  # fmt: skip
"""Files of this room that an embedding's bytes depend on."""
_LIBRARIES = ("torch", "torchvision", "open_clip_torch", "timm", "pillow", "numpy")


class Encoder:
    """A frozen backbone behind two functions.

    Attributes:
        fingerprint: the backbone's.
        batch_size: rows in every forward pass.
        dim: length of an embedding.
    """

    def __init__(self, backbone: Backbone, *, batch_size: int) -> None:
        self._backbone = backbone
        self.batch_size = batch_size
        self.fingerprint = backbone.fingerprint
        self.dim = int(self.encode_texts([""]).shape[1])

    @property
    def facts(self) -> Mapping[str, Any]:
        """Everything that the bytes of an embedding depend on besides the image or text.

        The fingerprint covers weights, architecture and preprocessing. The number of threads is torch's at the time.
        """
        return {
            "backbone": self.fingerprint,
            "batch_size": self.batch_size,
            "threads": torch.get_num_threads(),
            "code": _code_sha256(),
            "libraries": " ".join(f"{name}={version(name)}" for name in _LIBRARIES),
            "processor": f"{platform.machine()} {_processor()} {torch.backends.cpu.get_cpu_capability()}",
        }

    def preprocess(self, image: bytes) -> torch.Tensor:
        """Decode image bytes to the backbone's input, (3, height, width) float32."""
        with Image.open(io.BytesIO(image)) as opened:
            tensor: torch.Tensor = self._backbone.preprocess(opened.convert("RGB"))
        return tensor

    def encode_images(self, images: Sequence[torch.Tensor]) -> FloatArray:
        """Embed preprocessed images.

        Args:
            images: n tensors of `preprocess`'s shape; n may be 0.

        Returns:
            (n, dim) float32, unit rows.
        """
        return self._in_batches(list(images), self._images)

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed n texts, cut at the backbone's context length; (n, dim) float32, unit rows."""
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        tokens: torch.Tensor = self._backbone.tokenizer(list(texts))
        return self._in_batches(list(tokens), self._texts)

    def _images(self, batch: torch.Tensor) -> torch.Tensor:
        return self._backbone.model.encode_image(batch)  # type: ignore[operator, no-any-return]

    def _texts(self, batch: torch.Tensor) -> torch.Tensor:
        return self._backbone.model.encode_text(batch)  # type: ignore[operator, no-any-return]

    def _in_batches(self, rows: list[torch.Tensor], encode) -> FloatArray:  # type: ignore[no-untyped-def]
        if not rows:
            return np.zeros((0, self.dim), dtype=np.float32)
        parts = []
        for start in range(0, len(rows), self.batch_size):
            part = rows[start : start + self.batch_size]
            batch = torch.stack(part + [part[-1]] * (self.batch_size - len(part)))
            with torch.inference_mode():
                parts.append(_unit_rows(encode(batch)[: len(part)].float().numpy()))
        return np.concatenate(parts)


def _unit_rows(rows: FloatArray) -> FloatArray:
    wide = rows.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # a zero row becomes NaN, which nobody keeps or saves
        unit: FloatArray = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _code_sha256() -> str:
    digest = hashlib.sha256()
    for name in _CODE:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()


def _processor() -> str:
    """The processor's model, on which numeric libraries choose their kernels; "" where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
