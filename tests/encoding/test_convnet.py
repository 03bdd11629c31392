"""The trained backbone's image tower: shapes, registration, and a folder that another process can load."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from lib.base.params import BackboneTraining, load_params
from lib.catalog.process import process_catalog
from lib.catalog.processed import iter_images, read_rows
from lib.catalog.sample.catalogue import draw_sample
from lib.encoding import backbone_training, drawn_collars
from lib.encoding.backbone import load_backbone, save_backbone
from lib.encoding.backbone_training import model_config, train_backbone
from lib.encoding.convnet import FIXED_NORM, PlainConvNet, timm_name
from lib.encoding.random_crops import normalise, to_unit

import open_clip  # isort: skip

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("size", "grid"), [(32, 4), (64, 4), (96, 6), (96, 4), (160, 8)])
def test_any_image_size(size: int, grid: int) -> None:
    net = PlainConvNet(8, grid, 0, 12).eval()
    features = net.forward_features(torch.rand(2, 3, size, size))
    n_learnt, n_gradients = 4 * 8 * (grid * grid + 2), 9 * (2 * grid) ** 2
    assert features.shape == (2, n_learnt + n_gradients) and net.num_features == features.shape[1]
    assert net.forward_head(features).shape == (2, 12)


def test_a_second_column_reads_the_collar_alone() -> None:
    """What changes at the neck changes its column; what changes at the hem does not."""
    torch.manual_seed(0)
    net = PlainConvNet(8, 4, 0, 12, collar=True).eval()
    n_first, n_second = 4 * 8 * (16 + 2) + 9 * 8**2, 4 * 8 * (16 + 1)
    assert net.num_features == n_first + n_second
    worn = torch.full((1, 3, 160, 160), 1.5)
    worn[:, :, 10:40, 65:95] = 0.2  # head and neck
    worn[:, :, 40:160, 40:120] = -1.0
    collared, hemmed = worn.clone(), worn.clone()
    collared[:, :, 40:50, 70:90] = -1.5
    hemmed[:, :, 140:160, 45:115] = -1.6
    with torch.no_grad():
        plain, collared, hemmed = (net.forward_features(x)[0] for x in (worn, collared, hemmed))
    assert plain.shape == (n_first + n_second,)
    assert not torch.allclose(plain[n_first:], collared[n_first:], atol=1e-3)
    assert torch.equal(plain[n_first:], hemmed[n_first:])
    assert not torch.allclose(plain[:n_first], hemmed[:n_first], atol=1e-3)


def test_place_is_read_and_texture_is_pooled() -> None:
    """A spot moved down by half the picture: another map, but the same mean and maximum (away from the edges)."""
    torch.manual_seed(0)
    net = PlainConvNet(8, 8, 0, 12).eval()
    top = torch.zeros(1, 3, 128, 128)
    top[:, :, 40:48, 40:56] = 1.0
    with torch.no_grad():
        before, after = (net.forward_features(x)[0] for x in (top, top.roll(32, dims=2)))
    n_pooled = 2 * 4 * 8
    n_map = 4 * 8 * 8 * 8
    moved = (before - after).abs()
    by_place, pooled, gradients = (
        moved[part].max() / before[part].abs().max()
        for part in (slice(n_map), slice(n_map, n_map + n_pooled), slice(n_map + n_pooled, None))
    )
    assert by_place > 0.1 and pooled < 1e-4 and gradients > 0.1


def test_gradients_are_standardised_by_the_training_images() -> None:
    torch.manual_seed(0)
    net = PlainConvNet(8, 4, 0, 12).train()
    net.dropout.p = 0.0
    images = torch.rand(64, 3, 64, 64)
    n_gradients = net.gradients.num_features
    in_training = net.forward_features(images)[:, -n_gradients:]
    assert in_training.mean(0).abs().max() < 1e-4 and (in_training.var(0) - 1).abs().max() < 0.1
    for _ in range(150):
        net.forward_features(images)
    afterwards = net.eval().forward_features(images)[:, -n_gradients:]
    assert torch.allclose(afterwards, in_training, atol=0.1)


def described(n: int, *, fixed: int = 16) -> tuple[PlainConvNet, torch.Tensor]:
    torch.manual_seed(0)
    net = PlainConvNet(8, 4, fixed, 24).eval()
    images = torch.rand(n, 3, 96, 96) * torch.rand(n, 1, 1, 1) + torch.rand(n, 3, 12, 12).repeat_interleave(
        8, dim=2
    ).repeat_interleave(8, dim=3)
    net.describe(net.descriptors(images))
    return net, images


def test_the_fixed_dimensions_are_principal_components_of_the_descriptors() -> None:
    """Against scikit-learn: standardised by column, gradients and textures with one total variance each."""
    net, images = described(80)
    raw = net.descriptors(images).double().numpy()
    n_gradients = net.gradients.num_features
    standard = StandardScaler().fit_transform(raw)
    standard[:, :n_gradients] /= n_gradients**0.5
    standard[:, n_gradients:] /= (raw.shape[1] - n_gradients) ** 0.5
    pca = PCA(16, svd_solver="full")
    expected = pca.fit_transform(standard)
    expected *= np.sign([axis[np.abs(axis).argmax()] for axis in pca.components_])  # the largest entry is positive
    expected *= FIXED_NORM / np.sqrt((expected**2).sum(axis=1).mean())
    with torch.no_grad():
        found = net(images)[:, 8:].double().numpy()
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_the_learnt_part_has_length_one_beside_a_small_fixed_one() -> None:
    net, images = described(40)
    with torch.no_grad():
        whole, learnt = net(images), net.forward_head(net.forward_features(images))
    assert whole.shape == (40, 24) and learnt.shape == (40, 8)
    torch.testing.assert_close(whole[:, :8], torch.nn.functional.normalize(learnt, dim=1))
    assert whole[:, 8:].square().sum(dim=1).mean().sqrt() == pytest.approx(FIXED_NORM, rel=1e-3)


def test_more_dimensions_than_images_stay_zero() -> None:
    net, images = described(5)
    with torch.no_grad():
        fixed = net(images)[:, 8:]
    assert torch.isfinite(fixed).all() and (fixed[:, :4].abs().amax(0) > 1e-3).all() and not fixed[:, 4:].any()


def test_one_image_describes_nothing() -> None:
    net, images = described(1)
    with torch.no_grad():
        assert not net(images)[:, 8:].any()


def test_fine_texture_reaches_the_embedding() -> None:
    """Stripes of one pixel: next to nothing is left of them where the convolutions look."""
    net, _ = described(40)
    plain = torch.full((1, 3, 160, 160), 0.5)
    woven = plain + 0.2 * (torch.arange(160) % 2 - 0.5)
    seen = torch.nn.functional.interpolate(woven, (64, 64), mode="bicubic", antialias=True)
    assert (seen - 0.5).abs().max() < 0.02
    with torch.no_grad():
        difference = (net(plain) - net(woven)).abs()[0, 8:]
    assert difference.max() > 0.1 * FIXED_NORM


def trained(folder: Path, **other: object) -> tuple[torch.nn.Module, BackboneTraining]:
    """A small backbone trained for an epoch on the processed catalogue that is left in folder/out."""
    whole = load_params(ROOT / "params.yaml")
    draw_sample(folder / "raw", n_products=24, image_size=48, seed=5, workers=1)
    process_catalog(folder / "raw", ROOT / whole.data.attribute_schema, folder / "out", whole.data, workers=1)
    params = whole.backbone.train.model_copy(
        update={"vision_width": 8, "text_width": 32, "embed_dim": 48, "fixed_dim": 16, "epochs": 1, "batch_size": 16}
        | other
    )
    model, _ = train_backbone(folder / "out", params, pattern_only=[], threads=1)
    return model, params


def test_training_on_the_captions_tokens_is_training_on_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, params = trained(tmp_path / "few")
    captions = read_rows(tmp_path / "few" / "out", "train", ["caption"])["caption"].tolist()
    used = open_clip.SimpleTokenizer(context_length=params.context_length)(captions).unique()
    assert len(used) < 1000
    monkeypatch.setattr(backbone_training, "_used_tokens", lambda tokens: (tokens, torch.arange(49_408)))
    whole, _ = trained(tmp_path / "all")
    learnt, expected = model.state_dict(), whole.state_dict()
    rows = learnt.pop("token_embedding.weight"), expected.pop("token_embedding.weight")
    torch.testing.assert_close(learnt, expected)
    torch.testing.assert_close(rows[0][used], rows[1][used])
    torch.manual_seed(params.seed)
    drawn = open_clip.CLIP(**model_config(params)).token_embedding.weight
    moved = (rows[0] != drawn).any(dim=1)
    assert (rows[0] - drawn)[used].norm() < 0.5 * drawn[used].norm()  # from where OpenCLIP starts
    assert len(moved) == 49_408 and moved.nonzero().flatten().tolist() == used.tolist()


def test_training_writes_the_fixed_dimensions_and_texts_leave_them_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, params = trained(tmp_path)
    tokens = open_clip.SimpleTokenizer(context_length=params.context_length)(["a red dress", "blue denim shorts"])
    with torch.no_grad():
        images, texts = model.encode_image(torch.rand(4, 3, 160, 160)), model.encode_text(tokens)
    assert images[:, 32:].abs().amax(dim=0).min() > 0 and texts[:, :32].abs().max() > 0
    assert not texts[:, 32:].any()
    n_items = len(read_rows(tmp_path / "out", "train", ["caption"]))
    described = backbone_training._descriptors(tmp_path / "out", model.visual, n_items, workers=1)
    assert len(described) == n_items
    monkeypatch.setattr(backbone_training, "MAX_DESCRIBED", 10)
    few = backbone_training._descriptors(tmp_path / "out", model.visual, n_items, workers=1)
    assert len(few) <= 10 and torch.allclose(few, described[:: -(-n_items // 10)])


def test_training_teaches_the_column_of_the_collar(tmp_path: Path) -> None:
    """It is trained on what the tower will cut out itself, and the same seed gives the same bytes."""
    model, params = trained(tmp_path / "one", collar=True)
    torch.manual_seed(params.seed)
    start = open_clip.CLIP(**model_config(params)).visual.trunk
    learnt = model.visual.trunk
    for column in ("features", "collar"):
        before, after = (getattr(trunk, column)[0][0].weight for trunk in (start, learnt))
        assert (before != after).any()
    again, _ = trained(tmp_path / "two", collar=True)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    collars = backbone_training._load_collars(tmp_path / "one" / "out", model.visual, size=64, workers=1)
    images = iter_images(tmp_path / "one" / "out", "train", 4)
    preprocess = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    shown = torch.stack([preprocess(Image.open(io.BytesIO(image)).convert("RGB")) for _, image in next(iter(images))])
    expected = learnt.collars(shown, 64)
    stored = normalise(to_unit(collars[:4]))
    torch.testing.assert_close(stored, expected, atol=0.01, rtol=0)  # half a level of 255


def test_drawn_collars_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn_collars, "EPOCHS", 1)
    monkeypatch.setattr(drawn_collars, "_BLOCK", 16)
    cold, _ = trained(tmp_path / "cold", collar=True)
    warm, again = (trained(tmp_path / name, collar=True, drawn_collars=20)[0] for name in ("warm", "again"))
    assert not torch.equal(cold.visual.trunk.collar[0][0].weight, warm.visual.trunk.collar[0][0].weight)
    assert all(
        torch.equal(a, b) for a, b in zip(warm.state_dict().values(), again.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("collar", [False, True])
def test_a_saved_folder_loads_in_open_clip_after_one_import(tmp_path: Path, collar: bool) -> None:
    params = load_params(ROOT / "params.yaml").backbone.train
    small = {"vision_width": 8, "text_width": 32, "embed_dim": 24, "fixed_dim": 16, "collar": collar}
    config = model_config(params.model_copy(update=small))
    torch.manual_seed(0)
    model = open_clip.CLIP(**config).eval()
    model.visual.preprocess_cfg = {"size": 160, "mode": "RGB", "resize_mode": "squash"}
    save_backbone(tmp_path, model, model_config=config, source="train")
    pixels = torch.from_numpy(np.random.default_rng(0).random((2, 3, 160, 160), dtype=np.float32))
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
    assert done.stdout.split("\n")[-2] == "PlainConvNet (160, 160)"


def test_names_are_what_timm_knows() -> None:
    import timm

    assert timm_name(32, 4, 128) == "plain_convnet_32x4_128" and timm.is_model("plain_convnet_32x4_128")
    assert timm_name(32, 4, 128, True) == "plain_convnet_32x4_128_collar" and timm.is_model(
        timm_name(32, 4, 128, True)
    )
    with pytest.raises(RuntimeError, match="no pretrained weights"):
        timm.create_model("plain_convnet_32x4_128", pretrained=True)
