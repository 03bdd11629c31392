"""The trained backbone's image tower: shapes, registration, and a folder that another process can load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.encoding.backbone import load_backbone, save_backbone
from lib.encoding.backbone_training import model_config
from lib.encoding.convnet import PlainConvNet, timm_name
from lib.params import load_params

import open_clip  # isort: skip

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("size", "grid"), [(64, 4), (96, 6), (96, 4), (128, 8)])
def test_any_image_size_from_sixteen_grids_on(size: int, grid: int) -> None:
    net = PlainConvNet(8, grid, 12).eval()
    features = net.forward_features(torch.rand(2, 3, size, size))
    n_learnt, n_gradients = 4 * 8 * (grid * grid + 2), 9 * (2 * grid) ** 2
    assert features.shape == (2, n_learnt + n_gradients) and net.num_features == features.shape[1]
    assert net.forward_head(features).shape == (2, 12)


def test_place_is_read_and_texture_is_pooled() -> None:
    """A spot moved down by half the picture: another map, but the same mean and maximum (away from the edges)."""
    torch.manual_seed(0)
    net = PlainConvNet(8, 4, 12).eval()
    top = torch.zeros(1, 3, 128, 128)
    top[:, :, 40:48, 40:56] = 1.0
    with torch.no_grad():
        before, after = (net.forward_features(x)[0] for x in (top, top.roll(32, dims=2)))
    n_pooled = 2 * 4 * 8
    n_map = 4 * 8 * 4 * 4
    moved = (before - after).abs()
    by_place, pooled, gradients = (
        moved[part].max() / before[part].abs().max()
        for part in (slice(n_map), slice(n_map, n_map + n_pooled), slice(n_map + n_pooled, None))
    )
    assert by_place > 0.1 and pooled < 1e-4 and gradients > 0.1


def test_gradients_are_standardised_by_the_training_images() -> None:
    torch.manual_seed(0)
    net = PlainConvNet(8, 4, 12).train()
    net.dropout.p = 0.0
    images = torch.rand(64, 3, 64, 64)
    n_gradients = net.gradients.num_features
    in_training = net.forward_features(images)[:, -n_gradients:]
    assert in_training.mean(0).abs().max() < 1e-4 and (in_training.var(0) - 1).abs().max() < 0.1
    for _ in range(150):
        net.forward_features(images)
    afterwards = net.eval().forward_features(images)[:, -n_gradients:]
    assert torch.allclose(afterwards, in_training, atol=0.1)


def test_a_saved_folder_loads_in_open_clip_after_one_import(tmp_path: Path) -> None:
    params = load_params(ROOT / "params.yaml").backbone.train
    config = model_config(params.model_copy(update={"vision_width": 8, "text_width": 32, "embed_dim": 16}))
    torch.manual_seed(0)
    model = open_clip.CLIP(**config).eval()
    model.visual.preprocess_cfg = {"size": 64, "mode": "RGB", "resize_mode": "squash"}
    save_backbone(tmp_path, model, model_config=config, source="train")
    pixels = torch.from_numpy(np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32))
    with torch.no_grad():
        expected = model.encode_image(pixels)
        assert torch.equal(load_backbone(tmp_path).model.encode_image(pixels), expected)
    code = (
        "import lib.encoding.convnet, open_clip, sys, torch\n"
        "model = open_clip.create_model('local-dir:' + sys.argv[1], require_pretrained=True)\n"
        "print(type(model.visual.trunk).__name__, model.visual.image_size)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[-2] == "PlainConvNet (64, 64)"


def test_names_are_what_timm_knows() -> None:
    import timm

    assert timm_name(32, 4) == "plain_convnet_32x4" and timm.is_model("plain_convnet_32x4")
    with pytest.raises(RuntimeError, match="no pretrained weights"):
        timm.create_model("plain_convnet_32x4", pretrained=True)
