"""One backbone folder, whatever its source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lib.base.params import Backbone
from lib.encoding.backbone import fetch_from_hub, load_checkpoint, save_backbone
from lib.encoding.backbone_training import train_backbone


def prepare_backbone(
    processed: Path, out: Path, params: Backbone, *, pattern_only: Sequence[str], threads: int
) -> str:
    """Train, open or fetch the backbone that `params.source` names and write it to `out`.

    Args:
        processed: the processed catalogue; read only by the source `train`.
        out: folder to write; see `lib.encoding.backbone.save_backbone`.
        params: the backbone section.
        pattern_only: categories that say nothing about the category, for the source `train`.
        threads: decoding threads of the source `train`.

    Returns:
        The fingerprint of what was written.
    """
    if params.source == "train":
        model, config = train_backbone(processed, params.train, pattern_only=pattern_only, threads=threads)
    elif params.source == "checkpoint":
        model, config = load_checkpoint(params.model, Path(params.checkpoint))
    else:
        model, config = fetch_from_hub(params.model, params.pretrained)
    return save_backbone(out, model, model_config=config, source=params.source)
