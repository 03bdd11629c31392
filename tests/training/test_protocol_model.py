"""Identity at step 0, neighbours that do not matter, and checkpoints that refuse what does not belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import BACKBONE, unit
from torch.nn import functional as F

from lib.base.artifacts import write_torch
from lib.base.errors import IntegrityError
from lib.training.checkpoint import load_checkpoint, save_checkpoint
from lib.training.heads import (
    GROUP_ROWS,
    AttributeHead,
    dropout_mask,
    kept_units,
    unit_sum,
    within_product_whitening,
)
from lib.training.protocol_model import BATCH, ModelConfig, ProtocolModel, unit_rows
from lib.training.trained_model import load_model


def config(kind: str = "mlp", dim: int = 12) -> ModelConfig:
    vocabularies = {"neckline": ("crew", "v"), "color": ("red", "blue", "green")}
    importance = {"neckline": 2.0, "color": 1.0}
    return ModelConfig(dim, BACKBONE, kind, 8, 0.1, vocabularies, importance, 0.07)  # type: ignore[arg-type]


def model_of(kind: str = "mlp", *, moved: bool = False) -> ProtocolModel:
    generator = torch.Generator().manual_seed(3)
    model = ProtocolModel(config(kind), generator=generator)
    if moved:
        for weights in model.parameters():
            weights.data += 0.1 * torch.randn(weights.shape, generator=generator)
    return model


def rows(n: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(n, 12)))


@pytest.mark.parametrize("kind", ["linear", "mlp", "prototype"])
def test_an_untrained_model_returns_the_baselines_bytes(kind: str) -> None:
    x = rows(BATCH + 5)
    x[0] = 0.0
    x[0, 0], x[0, 1] = 1.0, -0.0  # a negative zero is a byte of its own
    model = model_of(kind)
    assert model.encode_image_numpy(x).tobytes() == x.tobytes()
    assert model.encode_text_numpy(x).tobytes() == x.tobytes()


@pytest.mark.parametrize("kind", ["linear", "mlp", "prototype"])
def test_a_row_does_not_depend_on_its_neighbours_or_place(kind: str) -> None:
    model, x = model_of(kind, moved=True), rows(2 * BATCH + 7)
    whole = model.encode_image_numpy(x)
    assert whole.tobytes() != x.tobytes()
    assert model.encode_image_numpy(x[BATCH + 3 : BATCH + 40]).tobytes() == whole[BATCH + 3 : BATCH + 40].tobytes()
    assert model.encode_image_numpy(x[::-1].copy())[::-1].tobytes() == whole.tobytes()
    assert np.abs(np.linalg.norm(whole.astype(np.float64), axis=1) - 1).max() < 1e-6
    assert model.encode_image_numpy(x[:0]).shape == (0, 12)


@pytest.mark.parametrize("kind", ["mlp", "prototype"])
def test_inference_agrees_with_the_training_face(kind: str) -> None:
    model, x = model_of(kind, moved=True), rows(20)
    with torch.no_grad():
        expected = model.encode_images(torch.from_numpy(x))[0].numpy()
    assert np.allclose(model.encode_image_numpy(x), expected, atol=1e-6)
    dropped, _ = model.encode_images(torch.from_numpy(x), torch.Generator().manual_seed(0))
    assert not np.allclose(dropped.detach().numpy(), expected, atol=1e-6)


def test_fused_scores_are_those_of_fused_queries() -> None:
    model = model_of()
    images, texts, items = (torch.from_numpy(rows(7, seed)) for seed in range(3))
    texts[0] = -images[0]  # nothing is left of them at equal weights
    with torch.no_grad():
        model.fusion_logit.fill_(0.4)
        weight = model.image_weight
        fused = F.normalize(weight * images + (1.0 - weight) * texts, dim=1)
        found = model.fuse_scores(images @ items.T, texts @ items.T, (images * texts).sum(dim=1))
        assert torch.allclose(found, fused @ items.T, atol=1e-6)
        model.fusion_logit.fill_(0.0)
        assert torch.isfinite(model.fuse_scores(images @ items.T, texts @ items.T, (images * texts).sum(dim=1))).all()


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
    with pytest.raises(IntegrityError, match="not a checkpoint of train_protocol"):
        load_checkpoint(tmp_path / "other.pt")


def test_fusion_weight_and_temperature_start_as_configured_and_stay_in_range() -> None:
    model = model_of()
    assert model.image_weight.item() == pytest.approx(0.5)
    assert model.logit_scale.item() == pytest.approx(1 / 0.07)
    model.log_scale.data.fill_(50.0)
    assert model.logit_scale.item() == pytest.approx(100.0)


def test_prototypes_add_the_weighted_overlap_of_beliefs() -> None:
    """The inner product of two residuals is strength^2 * sum of importance * Bhattacharyya coefficient."""
    model, x = model_of("prototype", moved=True), torch.from_numpy(rows(2))
    assert model.prototypes is not None
    directions = model.prototypes.directions
    assert torch.allclose(directions @ directions.T, torch.eye(5), atol=1e-6)
    with torch.no_grad():
        _, read = model.encode_images(x)
        a, b = (model._apply_head(model.image_head, x) - x).unbind()
    assert read is not None and model.attributes == ["color", "neckline"] and read.shape == (2, 2, 4)
    assert torch.allclose(read.exp().sum(2), torch.ones(2, 2)) and (read[:, 1, 3] == -torch.inf).all()
    shares = {"color": read[:, 0, :3].exp(), "neckline": read[:, 1, :2].exp()}  # the next one: has none
    agreement = {name: float((part[0] * part[1]).sqrt().sum()) for name, part in shares.items()}
    expected = float(model.prototypes.strength.detach()) ** 2 * (2.0 * agreement["neckline"] + agreement["color"])
    assert float(a @ b) == pytest.approx(expected, rel=1e-4)


def test_more_values_than_dimensions_still_give_unit_directions() -> None:
    config = ModelConfig(4, BACKBONE, "prototype", 8, 0.0, {"color": tuple(map(str, range(9)))}, {"color": 1.0}, 0.07)
    model = ProtocolModel(config, generator=torch.Generator().manual_seed(0))
    assert model.prototypes is not None
    assert torch.allclose(model.prototypes.directions.norm(dim=1), torch.ones(9), atol=1e-6)


def test_interpolation_moves_between_baseline_and_head() -> None:
    model, x = model_of("mlp", moved=True), rows(5)
    full = model.encode_image_numpy(x)
    model.interpolation.fill_(0.0)
    assert model.encode_image_numpy(x).tobytes() == x.tobytes()
    model.interpolation.fill_(0.5)
    half = model.encode_image_numpy(x)
    assert (np.einsum("ne,ne->n", half, x) > np.einsum("ne,ne->n", full, x)).all()


def test_standardising_is_saved_with_the_weights(tmp_path: Path) -> None:
    model, x = model_of("prototype"), torch.from_numpy(rows(30))
    model.fit_statistics(x, -x, torch.arange(30) // 2)
    model.mix(0.5, 1.0)
    assert torch.allclose(model.image_head.mean, x.mean(0)) and torch.allclose(model.text_head.mean, -x.mean(0))
    content = {"model_config": model.config.as_dict(), "model": dict(model.state_dict())}
    save_checkpoint(tmp_path / "m.pt", content)
    loaded = load_model(tmp_path / "m.pt", dim=12, backbone=BACKBONE)
    assert torch.equal(loaded.image_head.mean, model.image_head.mean)
    assert torch.equal(loaded.whitening, model.whitening) and not torch.equal(model.whitening, torch.eye(12))
    assert loaded.encode_image_numpy(x.numpy()).tobytes() == model.encode_image_numpy(x.numpy()).tobytes()


def test_whitening_evens_out_the_views_of_a_product() -> None:
    """Against the covariance written out view by view: afterwards the shrunk one is a multiple of the identity."""
    rng = np.random.default_rng(0)
    products = np.repeat(np.arange(40), [1, 2, 3, 4] * 10)
    centres = rng.standard_normal((40, 6))
    x = centres[products] + rng.standard_normal((len(products), 6)) * [5, 1, 1, 0.1, 1, 2]
    scatter, freedom = np.zeros((6, 6)), 0
    for product in range(40):
        views = x[products == product]
        for view in views:
            scatter += np.outer(view - views.mean(0), view - views.mean(0))
        freedom += len(views) - 1
    shrunk = scatter / freedom + 0.1 * np.trace(scatter / freedom) / 6 * np.eye(6)
    found = within_product_whitening(torch.from_numpy(x), torch.from_numpy(products), shrinkage=0.1).numpy()
    flat = found.astype(np.float64) @ shrunk @ found.T
    assert np.allclose(flat, np.eye(6) * flat[0, 0], atol=1e-4 * flat[0, 0])
    assert np.trace(found @ found) == pytest.approx(6, rel=1e-5) and np.allclose(found, found.T, atol=1e-6)


@pytest.mark.parametrize("products", [[0, 1, 2, 3], [0, 0, 1, 1]], ids=["no second views", "only copies"])
def test_whitening_is_the_identity_where_there_is_nothing_to_even_out(products: list[int]) -> None:
    x = torch.eye(4)[torch.tensor(products)]
    assert torch.equal(within_product_whitening(x, torch.tensor(products)), torch.eye(4))


def test_mixing_in_the_whitening_moves_the_embeddings_own_part() -> None:
    model, x = model_of("prototype"), rows(8)
    model.fit_statistics(torch.from_numpy(x), torch.from_numpy(x), torch.arange(8) // 2)
    assert model.encode_image_numpy(x).tobytes() == x.tobytes()
    model.mix(1.0, 1.0)
    whole = model.encode_image_numpy(x)
    expected = x @ model.whitening.numpy()
    assert np.allclose(whole, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert np.allclose(np.linalg.norm(model.encode_text_numpy(x), axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("kind", ["prototype", "mlp"])
def test_trying_mixtures_gives_the_same_bytes(kind: str) -> None:
    model, arrays = model_of(kind, moved=True), (rows(BATCH + 7), rows(5))
    model.fit_statistics(torch.from_numpy(arrays[0]), torch.from_numpy(arrays[0]), torch.arange(BATCH + 7) // 3)
    mixtures = [(w, a) for w in (0.0, 0.4, 1.0) for a in (0.0, 0.5, 1.0)]
    expected = []
    for mixture in mixtures:
        model.mix(*mixture)
        expected += [model.encode_image_numpy(x).tobytes() for x in arrays]
    assert len(set(expected)) > 10
    with model.trying_mixtures():
        found = []
        for mixture in mixtures:
            model.mix(*mixture)
            found += [model.encode_image_numpy(x).tobytes() for x in arrays]
    assert found == expected
    model.mix(0.0, 0.0)
    assert model.encode_image_numpy(arrays[1]).tobytes() == arrays[1].tobytes()


@pytest.mark.parametrize("n", [1, 9, GROUP_ROWS, 2 * GROUP_ROWS + 5])
def test_layers_with_dropout_have_the_gradients_of_their_definition(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    head = AttributeHead(6, 5, hidden=32, dropout=0.25, generator=generator).double()
    head.standardise(torch.randn(50, 6, generator=generator, dtype=torch.float64))
    x = torch.randn(n, 6, generator=generator, dtype=torch.float64)
    wanted = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    found = head(x, torch.Generator().manual_seed(1))
    groups = -(-n // GROUP_ROWS)
    units = kept_units(32, 0.25, groups=groups, generator=torch.Generator().manual_seed(1))
    kept = torch.zeros(groups, 32, dtype=torch.float64).scatter_(1, units, 1.0)
    assert kept.sum(dim=1).tolist() == [24.0] * groups  # three quarters of the hidden units, in each group its own
    assert len({tuple(row) for row in units.tolist()}) == groups
    of_row = torch.cat([kept[group].expand(len(rows), -1) for group, rows in enumerate(x.tensor_split(groups))])
    assert len(x.tensor_split(groups)[0]) <= GROUP_ROWS
    expected = head.last(F.gelu(head.first((x - head.mean) / head.deviation)) * of_row * (4 / 3))
    torch.testing.assert_close(found, expected)
    leaves = list(head.parameters())
    for one, other in zip(
        torch.autograd.grad(found, leaves, wanted), torch.autograd.grad(expected, leaves, wanted), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("rate", "n_kept"), [(0.5, 500), (0.25, 750), (0.9, 100), (0.9999, 1), (1e-6, 1000)])
def test_units_are_kept_by_chance(rate: float, n_kept: int) -> None:
    generator = torch.Generator().manual_seed(5)
    units = kept_units(1000, rate, groups=200, generator=generator)
    assert units.shape == (200, n_kept)
    if n_kept > 1:
        assert bool((units.diff(dim=1) > 0).all())
    often = torch.bincount(units.flatten(), minlength=1000)  # of 200 times; five deviations of a binomial count
    assert bool(((often - 0.2 * n_kept).abs() <= 5 * (200 * rate * (1 - rate)) ** 0.5 + 3).all())
    again = kept_units(1000, rate, groups=200, generator=generator)
    assert torch.equal(units, again) == (n_kept == 1000)


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.1, 0.9, 1e-6])
def test_dropout_loses_its_share_and_keeps_the_mean(rate: float) -> None:
    generator = torch.Generator().manual_seed(5)
    kept, scale = dropout_mask((1000, 333), rate, generator)
    share = float(kept.float().mean())
    assert share == pytest.approx(1.0 - rate, abs=3e-3) and share * scale == pytest.approx(1.0, abs=6e-3 / (1 - rate))
    again, _ = dropout_mask((1000, 333), rate, generator)
    assert rate < 1e-3 or not torch.equal(kept, again)
    assert not torch.equal(kept[:, 0], kept[:, 1]) or rate < 1e-3


@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_unit_sums_have_the_gradients_of_their_definition(weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    own, added, wanted = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64).unbind()
    own[0] = added[0] = 0.0
    leaves = [own.requires_grad_(), added.requires_grad_()]
    found, expected = unit_sum(own, added, torch.tensor(weight)), F.normalize(own + weight * added, dim=1)
    torch.testing.assert_close(found, expected)
    assert not found[0].any()
    for one, other in zip(
        torch.autograd.grad(found, leaves, wanted), torch.autograd.grad(expected, leaves, wanted), strict=True
    ):
        torch.testing.assert_close(one[1:], other[1:])
