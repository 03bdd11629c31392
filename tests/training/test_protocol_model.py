"""Identity at step 0, neighbours that do not matter, and checkpoints that refuse what does not belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import BACKBONE, unit

from lib.artifacts import write_torch
from lib.errors import IntegrityError
from lib.training.checkpoint import load_checkpoint, save_checkpoint
from lib.training.protocol_model import BATCH, ModelConfig, ProtocolModel, load_model, unit_rows


def config(kind: str = "mlp", dim: int = 12) -> ModelConfig:
    return ModelConfig(dim, BACKBONE, kind, 8, 0.1, {"neckline": ("crew", "v")}, 0.07)  # type: ignore[arg-type]


def model_of(kind: str = "mlp", *, moved: bool = False) -> ProtocolModel:
    generator = torch.Generator().manual_seed(3)
    model = ProtocolModel(config(kind), generator=generator)
    if moved:
        for weights in model.parameters():
            weights.data += 0.1 * torch.randn(weights.shape, generator=generator)
    return model


def rows(n: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(n, 12)))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_an_untrained_model_returns_the_baselines_bytes(kind: str) -> None:
    x = rows(BATCH + 5)
    x[0] = 0.0
    x[0, 0], x[0, 1] = 1.0, -0.0  # a negative zero is a byte of its own
    model = model_of(kind)
    assert model.encode_image_numpy(x).tobytes() == x.tobytes()
    assert model.encode_text_numpy(x).tobytes() == x.tobytes()


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_row_does_not_depend_on_its_neighbours_or_place(kind: str) -> None:
    model, x = model_of(kind, moved=True), rows(2 * BATCH + 7)
    whole = model.encode_image_numpy(x)
    assert whole.tobytes() != x.tobytes()
    assert model.encode_image_numpy(x[BATCH + 3 : BATCH + 40]).tobytes() == whole[BATCH + 3 : BATCH + 40].tobytes()
    assert model.encode_image_numpy(x[::-1].copy())[::-1].tobytes() == whole.tobytes()
    assert np.abs(np.linalg.norm(whole.astype(np.float64), axis=1) - 1).max() < 1e-6
    assert model.encode_image_numpy(x[:0]).shape == (0, 12)


def test_inference_agrees_with_the_training_face() -> None:
    model, x = model_of(moved=True), rows(20)
    with torch.no_grad():
        expected = model.encode_images(torch.from_numpy(x)).numpy()
    assert np.allclose(model.encode_image_numpy(x), expected, atol=1e-6)
    dropped = model.encode_images(torch.from_numpy(x), torch.Generator().manual_seed(0))
    assert not np.allclose(dropped.detach().numpy(), expected, atol=1e-6)


def test_unit_rows_is_idempotent_and_refuses_zero() -> None:
    once = unit_rows(np.random.default_rng(0).normal(size=(500, 12)).astype(np.float32) * 3)
    assert unit_rows(once).tobytes() == once.tobytes()
    with pytest.raises(IntegrityError, match="row 1"):
        unit_rows(np.array([[1, 0], [0, 0]], dtype=np.float32))


def save(path: Path, model: ProtocolModel) -> None:
    save_checkpoint(path, {"model_config": model.config.as_dict(), "model": dict(model.state_dict())})


def test_save_and_load(tmp_path: Path) -> None:
    model, x = model_of(moved=True), rows(9)
    save(tmp_path / "m.pt", model)
    loaded = load_model(tmp_path / "m.pt", dim=12, backbone=BACKBONE)
    assert loaded.config == model.config
    assert loaded.encode_image_numpy(x).tobytes() == model.encode_image_numpy(x).tobytes()


def test_another_dimension_or_backbone_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "m.pt", model_of())
    with pytest.raises(
        IntegrityError, match="expected a model for dimension 16, got 12; re-run stage train_protocol"
    ):
        load_model(tmp_path / "m.pt", dim=16, backbone=BACKBONE)
    with pytest.raises(IntegrityError, match="expected a model for backbone aaaaaaaaaaaa, got ffffffffffff; re-run"):
        load_model(tmp_path / "m.pt", dim=12, backbone="a" * 64)
    with pytest.raises(IntegrityError, match="expected embeddings"):
        model_of().encode_image_numpy(np.ones((2, 5), dtype=np.float32))


def test_a_flipped_bit_in_any_tensor_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    save(path, model_of(moved=True))
    data = bytearray(path.read_bytes())
    weights = model_of(moved=True).image_head.last.weight.detach().numpy().tobytes()
    data[data.find(weights) + 10] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="damaged"):
        load_checkpoint(path)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="missing"):
        load_checkpoint(tmp_path / "none.pt")
    write_torch(tmp_path / "other.pt", {"weights": torch.zeros(2)})
    with pytest.raises(IntegrityError, match="not a checkpoint of the protocol model"):
        load_checkpoint(tmp_path / "other.pt")


def test_fusion_weight_and_temperature_start_as_configured_and_stay_in_range() -> None:
    model = model_of()
    assert model.image_weight.item() == pytest.approx(0.5)
    assert model.logit_scale.item() == pytest.approx(1 / 0.07)
    model.log_scale.data.fill_(50.0)
    assert model.logit_scale.item() == pytest.approx(100.0)
