"""The frozen backbone: any OpenCLIP model as one local folder with a fingerprint.

Whatever the source, `artifacts/backbone/` ends up as OpenCLIP's own folder form
(`open_clip_config.json` and `open_clip_model.safetensors`, loadable by anybody with
`open_clip.create_model("local-dir:artifacts/backbone")`, a trained one after `import lib.encoding.convnet`)
plus a manifest. Nothing downstream knows where the weights came from.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib.base.artifacts import MANIFEST, file_sha256, read_manifest, write_json, write_manifest
from lib.base.atomic import replacing, replacing_files
from lib.base.errors import BusyError, ConfigError, IntegrityError
from lib.encoding import (
    convnet,  # noqa: F401  # registers the architecture of trained backbones
    torchvision_ops,  # noqa: F401  # must come before open_clip
)

import open_clip  # isort: skip
from safetensors import SafetensorError  # isort: skip
from safetensors.torch import save_file  # isort: skip

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"


@dataclass(frozen=True)
class Backbone:
    """A loaded backbone: the model in evaluation mode, its transform, its tokenizer, its name.

    `fingerprint` is the sha256 over configuration (architecture and preprocessing) and weights.
    """

    model: torch.nn.Module
    preprocess: Any  # PIL image -> (3, height, width) float32
    tokenizer: Any  # list of n texts -> (n, context_length) int64
    fingerprint: str


def fetch_from_hub(model: str, pretrained: str) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Fetch an OpenCLIP model by name and tag, or by `hf-hub:owner/name` (then `pretrained` is not used).

    Returns:
        The model and its OpenCLIP `model_cfg`.

    Raises:
        ConfigError: no such model or tag; the message lists what there is.
        BusyError: the hub cannot be reached.
    """
    named = model.startswith("hf-hub:")
    if not named:
        _check_architecture(model)
        tags = open_clip.list_pretrained_tags_by_model(model)
        if pretrained not in tags:
            raise ConfigError(f"backbone.pretrained: {model} has no tag '{pretrained}'; it has {', '.join(tags)}")
    # OpenAI's weights were trained with QuickGELU; the plain configuration of the same name has GELU and
    # open_clip only warns about the mismatch, so the activation is set from what the tag says.
    tag = {} if named else open_clip.get_pretrained_cfg(model, pretrained)
    try:
        return _create(
            model,
            pretrained=None if named else pretrained,
            force_quick_gelu=bool(tag.get("quick_gelu", False)),
        )
    except (RuntimeError, OSError) as error:
        raise BusyError(
            f"backbone: could not fetch {model}{'' if named else f'/{pretrained}'}: {error}\n"
            "check the network; or run `dvc repro prepare_backbone` where it is, bring its folder artifacts/backbone "
            "here, and run `dvc commit -f prepare_backbone`"
        ) from None


def load_checkpoint(model: str, checkpoint: Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Load a local weights file (`.safetensors`, `.pt`, `.bin`) into a named OpenCLIP architecture.

    Pickles are opened with `weights_only=True`: a file that holds anything but tensors is refused. A file says
    nothing of activation and normalisation: they are those of the architecture's name, OpenAI's mean and deviation.

    Raises:
        ConfigError: no such architecture or no such file.
        IntegrityError: the file does not hold this architecture's weights.
    """
    _check_architecture(model)
    if not checkpoint.is_file():
        raise ConfigError(f"backbone.checkpoint: expected a file with weights, '{checkpoint}' is none")
    try:
        return _create(model, pretrained=str(checkpoint), force_quick_gelu=False)
    except (RuntimeError, pickle.UnpicklingError, SafetensorError, EOFError, KeyError, StopIteration) as error:
        first = " ".join(str(error).split())[:300]
        raise IntegrityError(
            f"backbone.checkpoint: '{checkpoint}' does not hold weights of {model}: {first}\n"
            "set backbone.model to the architecture the file was saved from"
        ) from None


def _create(model: str, *, pretrained: str | None, force_quick_gelu: bool) -> tuple[torch.nn.Module, dict[str, Any]]:
    config: dict[str, Any] = open_clip.get_model_config(model)
    if force_quick_gelu:
        config["quick_gelu"] = True
    # `require_pretrained`: without it open_clip goes on with random weights after a failed download
    created = open_clip.create_model(
        model,
        pretrained=pretrained,
        force_quick_gelu=force_quick_gelu,
        require_pretrained=True,
        weights_only=True,
    )
    return created, config


def _check_architecture(model: str) -> None:
    known = open_clip.list_models()
    if model not in known:
        import difflib

        near = difflib.get_close_matches(model, known, n=3, cutoff=0.4)
        raise ConfigError(f"backbone.model: OpenCLIP has no '{model}'; near: {', '.join(near) or 'nothing'}")


def save_backbone(folder: Path, model: torch.nn.Module, *, model_config: dict[str, Any], source: str) -> str:
    """Write the OpenCLIP folder and its manifest, together; returns the fingerprint.

    Args:
        folder: created if needed.
        model: an OpenCLIP model; its `visual.preprocess_cfg` is saved beside `model_config`.
        model_config: OpenCLIP's `model_cfg` dictionary.
        source: a word for the manifest: `train`, `checkpoint` or `hub`.
    """
    visual: Any = model.visual
    preprocess = {key: value for key, value in visual.preprocess_cfg.items() if value is not None}
    weights = {name: value.detach().contiguous().float() for name, value in sorted(model.state_dict().items())}
    with replacing_files(folder, manifest=MANIFEST) as fresh:
        write_json(fresh / CONFIG, {"model_cfg": model_config, "preprocess_cfg": preprocess})
        with replacing(fresh / WEIGHTS) as temporary:
            _write_weights(temporary, weights)
        names = [CONFIG, WEIGHTS]
        if "hf_tokenizer_name" in model_config.get("text_cfg", {}):
            names += _save_tokenizer(fresh, model_config)
        fingerprint = _fingerprint({name: file_sha256(fresh / name) for name in names})
        dim = int(model_config["embed_dim"])
        write_manifest(fresh, names, facts={"fingerprint": fingerprint, "dim": dim, "source": source})
    return fingerprint


def _write_weights(path: Path, weights: dict[str, torch.Tensor]) -> None:
    try:
        # one metadata key only: with two, safetensors writes them in random order
        save_file(weights, path, metadata={"format": "pt"})
    except SafetensorError as error:
        # "I/O error: No space left on device (os error 28)": the system's error has only its number left
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


def load_backbone(folder: Path) -> Backbone:
    """Verify and load a backbone folder, on the CPU, in evaluation mode.

    Raises:
        IntegrityError: a file is missing or damaged.
    """
    manifest = read_manifest(folder)
    fingerprint = _fingerprint({name: entry["sha256"] for name, entry in manifest["files"].items()})
    if fingerprint != manifest["fingerprint"]:  # embeddings are kept under it
        raise IntegrityError(
            f"{folder}: expected fingerprint {fingerprint[:12]} of its files, got {manifest['fingerprint'][:12]}; "
            "run `dvc repro -f prepare_backbone`"
        )
    name = f"local-dir:{folder}"
    model = open_clip.create_model(name, require_pretrained=True)
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    preprocess = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    return Backbone(model, preprocess, open_clip.get_tokenizer(name), fingerprint)


def _save_tokenizer(folder: Path, model_config: dict[str, Any]) -> list[str]:
    """Save a Hugging Face tokenizer beside the weights, so that nothing downstream needs the hub."""
    try:
        tokenizer = open_clip.tokenizer.HFTokenizer(model_config["text_cfg"]["hf_tokenizer_name"])
    except ImportError:
        raise ConfigError("backbone.model: this model's tokenizer needs `pip install transformers`") from None
    before = {path.name for path in folder.iterdir()}
    tokenizer.tokenizer.save_pretrained(folder)
    return sorted({path.name for path in folder.iterdir()} - before)


def _fingerprint(checksums: Mapping[str, str]) -> str:
    """Of the files' checksums by name."""
    return hashlib.sha256(json.dumps(checksums, sort_keys=True).encode()).hexdigest()
