"""Training end to end on a tiny catalogue: it learns, repeats, resumes, and uses every kind of pair."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_training import BACKBONE, folder_bytes, run, tiny_catalog, tiny_pairs, tiny_params

from lib.base.artifacts import read_manifest
from lib.base.errors import ConfigError, IntegrityError
from lib.base.params import PAIR_KINDS
from lib.training.checkpoint import load_checkpoint
from lib.training.heads import HeadKind
from lib.training.history import Mixture, best_epoch, best_mixture, last_checkpoint, summary
from lib.training.objective import BatchLoss, TrainingData
from lib.training.protocol_model import ModelConfig, ProtocolModel
from lib.training.sampler import build_examples
from lib.training.trained_model import embed_with, load_model


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def neckline_precision(model: ProtocolModel) -> dict[str, float]:
    """Share of the nearest items of other products with the item's neckline."""
    catalog = tiny_catalog()
    x = model.encode_image_numpy(catalog.images).astype(np.float64)
    scores = x @ x.T
    products = catalog.meta["product_id"].to_numpy()
    scores[products[:, None] == products[None, :]] = -1
    values = catalog.meta["neckline"].to_numpy()
    nearest = values[np.argsort(-scores, axis=1)[:, :5]]
    known = np.array([value is not None for value in values])
    return {"neckline@10": float((nearest == values[:, None])[known].mean())}


def test_epoch_0_is_the_baseline_and_training_learns(tmp_path: Path) -> None:
    # without the parts that follow the tiny pairs and captions: those are drawn blindly
    params = tiny_params(
        epochs=24, patience=0, head__kind="mlp", head__hidden=64, loss__contrastive=0.0, loss__image_text=0.0,
        loss__attribute_contrastive=0.3,
    )  # fmt: skip
    history = run(tmp_path, params, validate=neckline_precision)
    x = tiny_catalog().images
    untouched = load_model(tmp_path / "checkpoints/epoch_00.pt", dim=x.shape[1], backbone=BACKBONE)
    assert untouched.encode_image_numpy(x).tobytes() == x.tobytes()
    first, last = history[0]["validation"]["neckline@10"], history[-1]["validation"]["neckline@10"]
    assert last > first + 0.1
    assert history[-1]["loss"]["total"] < history[1]["loss"]["total"]


def test_two_runs_write_the_same_bytes_and_a_manifest(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(tmp_path / name, tiny_params())
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "two")
    files = set(read_manifest(tmp_path / "one")["files"])
    assert files == set(folder_bytes(tmp_path / "one")) - {"manifest.json"}
    assert {
        "config.json",
        "train_log.jsonl",
        "train_curves.csv",
        "checkpoints/best.pt",
        "checkpoints/final.pt",
    } < files
    other = tmp_path / "other"
    run(other, tiny_params(seed=1))
    assert folder_bytes(other)["checkpoints/final.pt"] != folder_bytes(tmp_path / "one")["checkpoints/final.pt"]


@pytest.mark.parametrize("stopped_after", [0, 1, 3])
def test_a_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(tmp_path: Path, stopped_after: int) -> None:
    params = tiny_params(epochs=3)
    run(tmp_path / "whole", params)
    cut = tmp_path / "cut"
    run(cut, tiny_params(epochs=stopped_after))
    for name in ("best.pt", "final.pt"):
        (cut / "checkpoints" / name).unlink()
    (cut / "manifest.json").unlink()
    run(cut, params, resume=last_checkpoint(cut))
    assert folder_bytes(cut) == folder_bytes(tmp_path / "whole")


def test_resume_refuses_other_data_parameters_and_an_empty_folder(tmp_path: Path) -> None:
    run(tmp_path, tiny_params())
    last = last_checkpoint(tmp_path)
    assert last.name == "epoch_02.pt"
    with pytest.raises(IntegrityError, match=r"train_config .*'lr': 0\.5.*without --resume"):
        run(tmp_path, tiny_params(lr=0.5), resume=last)
    fewer = tiny_pairs(tiny_catalog()).iloc[1:]
    with pytest.raises(IntegrityError, match="inputs"):
        run(tmp_path, tiny_params(), pairs=fewer, resume=last)
    with pytest.raises(IntegrityError, match="without --resume"):
        last_checkpoint(tmp_path / "nothing")


def test_a_run_of_before_there_was_logit_adjustment_can_be_resumed_without_it(tmp_path: Path) -> None:
    run(tmp_path, tiny_params(epochs=1))
    assert "logit_adjustment" not in json.loads((tmp_path / "config.json").read_text())["train_config"]["loss"]
    with pytest.raises(IntegrityError, match=r"'logit_adjustment': 0\.5.*without --resume"):
        run(tmp_path, tiny_params(epochs=2, loss__logit_adjustment=0.5), resume=last_checkpoint(tmp_path))


def test_a_fresh_run_leaves_no_epochs_of_an_earlier_one(tmp_path: Path) -> None:
    run(tmp_path, tiny_params(epochs=3))
    run(tmp_path, tiny_params(epochs=1))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "best.pt",
        "epoch_00.pt",
        "epoch_01.pt",
        "final.pt",
    ]


@pytest.mark.parametrize("head", ["linear", "mlp", "prototype"])
def test_every_head_learns(tmp_path: Path, head: str) -> None:
    params = tiny_params(
        epochs=16, patience=0, head__kind=head, head__hidden=64, head__dropout=0.1,
        loss__contrastive=0.0, loss__image_text=0.0, loss__attribute_contrastive=0.3, loss__attribute_heads=1.0,
    )  # fmt: skip
    history = run(tmp_path, params, validate=neckline_precision)
    rows = [row["validation"]["neckline@10"] for row in history]  # type: ignore[index]
    assert max(rows) > rows[0] + 0.1


def test_validation_chooses_the_mixture(tmp_path: Path) -> None:
    """Rows that peak at a weight of 0.5, whitened: it is saved in best.pt, and epochs keep the trained head."""

    def validate(model: ProtocolModel) -> dict[str, float]:
        trained = float(model.image_head.last.weight.detach().abs().sum()) > 0
        good = 0.8 - abs(float(model.interpolation) - 0.5) + 0.1 * float(model.whitened)
        return {"neckline@10": round(good, 6) if trained else 0.1}

    params = tiny_params(interpolation=[0.25, 0.5], whitening=[1.0], head__kind="mlp")
    run(tmp_path, params, validate=validate)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (config["whitened"], config["interpolation"]) == (1.0, 0.5)
    tried = {(one["whitened"], one["interpolation"]): one["validation"]["neckline@10"] for one in config["tried"]}
    assert tried == {
        (0.0, 0.25): 0.55, (0.0, 0.5): 0.8, (0.0, 1.0): 0.3,
        (1.0, 0.25): 0.65, (1.0, 0.5): 0.9, (1.0, 1.0): 0.4,
    }  # fmt: skip
    best, last = (load_model(tmp_path / f"checkpoints/{n}.pt", dim=16, backbone=BACKBONE) for n in ("best", "final"))
    assert (float(best.interpolation), float(last.interpolation)) == (0.5, 1.0)
    assert (float(best.whitened), float(last.whitened)) == (1.0, 0.0)


def test_an_untrained_model_stays_the_baseline(tmp_path: Path) -> None:
    """No epoch better than none: nothing is mixed in, whitening neither."""

    def validate(model: ProtocolModel) -> dict[str, float]:
        trained = float(model.image_head.last.weight.detach().abs().sum()) > 0
        return {"neckline@10": 0.1 if trained else 0.5 + float(model.whitened)}

    run(tmp_path, tiny_params(interpolation=[0.5], whitening=[1.0], head__kind="mlp"), validate=validate)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (config["best_epoch"], config["whitened"], len(config["tried"])) == (0, 0.0, 1)


def test_a_head_that_costs_more_than_it_gains_is_not_used(tmp_path: Path) -> None:
    """Every share of it makes another row fall: the baseline is kept, and `best.pt` gives its rows."""

    def validate(model: ProtocolModel) -> dict[str, float]:
        share = float(model.interpolation) if float(model.image_head.last.weight.detach().abs().sum()) > 0 else 0.0
        return {"neckline@10": round(0.2 + 0.1 * share, 6), "color@10": round(0.6 - 0.3 * share, 6)}

    params = tiny_params(
        interpolation=[0.5], whitening=[1.0], head__kind="mlp", validation__select_by=["neckline@10"]
    )
    history = run(tmp_path, params, validate=validate)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["best_epoch"] > 0 and (config["whitened"], config["interpolation"]) == (0.0, 0.0)
    assert "kept: 0 of the head" in summary(history, params.validation, config)
    best = load_model(tmp_path / "checkpoints/best.pt", dim=16, backbone=BACKBONE)
    images = np.array(tiny_catalog().images)
    np.testing.assert_allclose(best.encode_image_numpy(images), images, atol=1e-6)


def test_no_gain_is_bought_with_another_rows_fall() -> None:
    rule = tiny_params(validation__select_by=["neckline@10"], validation__max_fall=1.0).validation
    start = {"neckline@10": 0.2, "color@10": 0.6, "product_hit_rate@1": 0.5}
    kept = {"neckline@10": 0.25, "color@10": 0.591, "product_hit_rate@1": 0.5}
    bought = {"neckline@10": 0.29, "color@10": 0.61, "product_hit_rate@1": 0.44}  # 6 points down: costs 5
    tried = {Mixture(0.5, 1.0): kept, Mixture(0.0, 0.5): kept, Mixture(0.0, 1.0): bought, Mixture(0.0, 1.5): kept}
    assert best_mixture(tried, start, rule) == (0.0, 0.5)
    rarely = rule.model_copy(update={"max_fall": 3.0})  # costs 3, and the gain is 4
    assert best_mixture(tried, start, rarely) == (0.0, 1.0)


def test_training_stops_when_validation_stops_rising(tmp_path: Path) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2])

    def validate(model: ProtocolModel) -> dict[str, float]:
        return {"neckline@10": next(scores)}

    history = run(
        tmp_path, tiny_params(epochs=9, patience=2, average=1, interpolation=[], whitening=[]), validate=validate
    )
    assert [row["epoch"] for row in history] == [0, 1, 2, 3]
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (config["best_epoch"], config["epochs"]) == (1, 3)


@pytest.mark.parametrize("kind", PAIR_KINDS)
def test_every_kind_of_pair_reaches_the_loss(tmp_path: Path, kind: str) -> None:
    """Without the attribute losses, which see items and not pairs: only pairs can make the difference."""
    params = tiny_params(
        epochs=1, loss__attribute_contrastive=0.0, loss__attribute_heads=0.0, loss__image_text=0.0, batch_size=8
    )
    pairs = tiny_pairs(tiny_catalog())
    run(tmp_path / "all", params, pairs=pairs)
    run(tmp_path / "less", params, pairs=pairs[pairs["kind"] != kind])
    weights = [
        load_model(tmp_path / name / "checkpoints/final.pt", dim=16, backbone=BACKBONE).image_head.last.weight
        for name in ("all", "less")
    ]
    assert not torch.equal(*weights)


@pytest.mark.parametrize("kind", PAIR_KINDS)
def test_every_kind_has_a_gradient_of_its_own_weight(kind: str) -> None:
    """The same batch under another weight of one kind: the loss moves for each of the five."""
    catalog = tiny_catalog()
    pairs = tiny_pairs(catalog)
    losses = []
    for weight in (1.0, 0.0):
        weights = dict.fromkeys(PAIR_KINDS, 1.0) | {kind: weight}
        params = tiny_params(loss__kind_weights=weights).loss
        data = TrainingData.of(catalog, attributes=sorted(params.attribute_weights), pattern_only=())
        loss = BatchLoss(data, build_examples(pairs, data.item_ids), params)
        model = load_untrained(data)
        losses.append(loss(model, torch.arange(24), dropout=None)["contrastive"].item())
    assert losses[0] != losses[1] and np.isfinite(losses).all()


def test_where_nothing_is_known_an_anchor_has_its_own_positive_and_negative() -> None:
    catalog = tiny_catalog()
    pairs, params = tiny_pairs(catalog), tiny_params().loss
    names = sorted(params.attribute_weights)
    unknown = replace(catalog, meta=catalog.meta.assign(**dict.fromkeys(names)))
    data = TrainingData.of(unknown, attributes=names, pattern_only=())
    loss, batch = BatchLoss(data, build_examples(pairs, data.item_ids), params), torch.arange(24)
    anchors, positives, negatives = loss.rows[batch].unbind(dim=1)
    has_negative = negatives >= 0
    roles = loss._roles(torch.cat([anchors, positives, negatives[has_negative]]), batch, has_negative)
    own = torch.zeros(24, 24 + int(has_negative.sum()), dtype=torch.bool)
    own[batch, batch] = True
    assert torch.equal(roles.shares, own.float()) and has_negative.any()
    own[batch[has_negative], 24 + torch.arange(int(has_negative.sum()))] = True
    assert torch.equal(roles.bias > -torch.inf, own)


@pytest.mark.parametrize("categories", ["learnt", "not learnt", "nobody has one"])
def test_what_a_candidate_is_to_an_anchor_follows_from_what_is_known_of_both(categories: str) -> None:
    """The definition in `BatchLoss._roles`, cell by cell; colour and category are no designs."""
    catalog = tiny_catalog()
    rng = np.random.default_rng(3)
    names = ("category2", "color", "material", "neckline", "pattern", "sleeve")
    codes = {name: np.where(rng.random(len(catalog)) < 0.6, rng.integers(2, size=len(catalog)), -1) for name in names}
    drawn = {
        name: pd.Series([None if code < 0 else f"{name} {code}" for code in column], dtype=object)
        for name, column in codes.items()
    }
    kinds = codes["category2"]
    if categories != "learnt":
        del codes["category2"]
    if categories == "nobody has one":  # a catalogue of a single category
        drawn["category2"] = pd.Series([None] * len(catalog), dtype=object)
        kinds = np.zeros(len(catalog), dtype=int)
    catalog = replace(catalog, meta=catalog.meta.assign(**drawn))
    params = tiny_params().loss
    learnt = names if categories == "nobody has one" else sorted(codes)
    params = params.model_copy(update={"attribute_weights": dict.fromkeys(learnt, 1.0)})
    data = TrainingData.of(catalog, attributes=learnt, pattern_only=())
    loss, batch = BatchLoss(data, build_examples(tiny_pairs(catalog), data.item_ids), params), torch.arange(24)
    anchors, positives, negatives = loss.rows[batch].unbind(dim=1)
    has_negative = negatives >= 0
    items = torch.cat([anchors, positives, negatives[has_negative]])
    roles = loss._roles(items, batch, has_negative)
    owners = [*range(24), *np.flatnonzero(has_negative.numpy()).tolist()]
    seen = {"positive": 0, "negative": 0, "left out": 0}
    for row, anchor in enumerate(anchors.tolist()):
        for column, candidate in enumerate(items[24:].tolist()):
            both = {name: (column_[anchor], column_[candidate]) for name, column_ in codes.items()}
            equal = {name for name, (one, other) in both.items() if one == other >= 0}
            differ = any(one != other and min(one, other) >= 0 for one, other in both.values())
            same_kind = kinds[anchor] == kinds[candidate] >= 0
            strong = len(equal - {"category2", "color"}) >= 2 and same_kind and not differ
            other_product = anchor // 2 != candidate // 2
            if owners[column] == row:
                expected = "positive" if column < 24 else "negative"
            elif other_product and (strong or differ):
                expected = "positive" if strong else "negative"
            else:
                expected = "left out"
            shown = "positive" if roles.shares[row, column] > 0 else "negative"
            assert (shown if roles.bias[row, column] > -torch.inf else "left out") == expected, (row, column)
            seen[expected] += 1
    assert seen["positive"] > 24 + 5 and min(seen.values()) > 30


def test_each_attribute_weighs_what_the_parameters_say() -> None:
    """The classifiers' loss at weights one, one and one with a second neckline: the difference is the neckline's."""
    catalog = tiny_catalog()
    pairs = tiny_pairs(catalog)

    def cost(**weights: float) -> float:
        params = tiny_params(loss__attribute_weights=weights, loss__attribute_heads=1.0).loss
        data = TrainingData.of(catalog, attributes=sorted(weights), pattern_only=())
        names = ("category2", "neckline")
        config = ModelConfig(16, BACKBONE, "mlp", 8, 0.0, {name: data.vocabularies[name] for name in names}, {}, 0.07)
        model = ProtocolModel(config, generator=torch.Generator().manual_seed(0))
        loss = BatchLoss(data, build_examples(pairs, data.item_ids), params)
        return loss(model, torch.arange(24), dropout=None)["attribute_heads"].item()

    once, twice, thrice = (cost(category2=1.0, neckline=weight) for weight in (1.0, 2.0, 3.0))
    assert twice - once > 0.1 and thrice - twice == pytest.approx(twice - once, rel=1e-4)


@pytest.mark.parametrize("kind", ["mlp", "prototype"])
def test_attribute_heads_are_told_how_frequent_values_are(kind: HeadKind) -> None:
    """Necklines, one of them rare, ten items without any, and an attribute of one value alone: each cost by hand."""
    catalog = tiny_catalog()
    catalog.meta["neckline"] = ["crew"] * 40 + ["v"] * 5 + [None] * (len(catalog) - 45)
    catalog.meta["material"] = "linen"  # no classifier: there is nothing to tell apart
    weights = {"category2": 2.0, "material": 1.0, "neckline": 3.0}
    data = TrainingData.of(catalog, attributes=sorted(weights), pattern_only=())
    data.absent["neckline"][-10:] = True
    names = ("category2", "neckline")
    vocabularies = {name: data.vocabularies[name] for name in names}
    config = ModelConfig(16, BACKBONE, kind, 8, 0.0, vocabularies, {name: weights[name] for name in names}, 0.07)
    model = ProtocolModel(config, generator=torch.Generator().manual_seed(0))
    batch = torch.arange(24)
    for strength in (0.0, 0.5, 1.0):
        params = tiny_params(
            loss__attribute_weights=weights, loss__attribute_heads=1.0, loss__logit_adjustment=strength
        ).loss
        loss = BatchLoss(data, build_examples(tiny_pairs(catalog), data.item_ids), params)
        anchors, positives, negatives = loss.rows[batch].unbind(dim=1)
        items = torch.cat([anchors, positives, negatives[negatives >= 0]])
        expected = 0.0
        for rows, encode, inputs in (
            (items, model.encode_images, data.images),
            (anchors, model.encode_texts, data.texts),
        ):
            read = encode(inputs[rows])[1]
            for column, name in enumerate(names):
                if read is None:
                    continue
                size = len(vocabularies[name])
                everyone = torch.where(data.absent[name], size, data.codes[name])  # the last place: has none
                counts = torch.bincount(everyone[everyone >= 0], minlength=size + 1).double()
                shares = torch.where(counts > 0, counts / counts.sum(), 1.0)
                odds = read[:, column, : size + 1].double().exp() * shares**strength
                codes, known = everyone[rows], everyone[rows] >= 0
                costs = -(odds[known, codes[known]] / odds[known].sum(dim=1)).log()
                expected += weights[name] * float(costs.detach().mean())
        found = loss(model, batch, dropout=None)["attribute_heads"].item()
        assert found == pytest.approx(expected, rel=1e-5), strength


def load_untrained(data: TrainingData) -> ProtocolModel:
    config = ModelConfig(16, BACKBONE, "mlp", 8, 0.0, {"category2": data.vocabularies["category2"]}, {}, 0.07)
    return ProtocolModel(config, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "part", ["contrastive", "image_text", "attribute_contrastive", "attribute_heads", "identity", "fusion"]
)
def test_a_part_of_weight_zero_is_absent(tmp_path: Path, part: str) -> None:
    history = run(tmp_path, tiny_params(epochs=1, **{f"loss__{part}": 0.0}))
    assert part not in history[1]["loss"]


def test_best_is_the_epoch_of_the_highest_selected_validation(tmp_path: Path) -> None:
    scores = iter([0.1, 0.5, 0.5, 0.2])
    params = tiny_params(
        epochs=3, average=1, interpolation=[], whitening=[], validation__select_by=["neckline@10", "absent@10"]
    )
    history = run(
        tmp_path,
        params,
        validate=lambda model: {"neckline@10": next(scores), "color@10": 0.9},
    )
    files = folder_bytes(tmp_path / "checkpoints")
    assert best_epoch(history, params.validation) == 1  # the earlier of two equals
    assert files["best.pt"] == files["epoch_01.pt"] and files["final.pt"] == files["epoch_03.pt"]
    assert json.loads((tmp_path / "config.json").read_text())["best_epoch"] == 1


@pytest.mark.parametrize(
    ("average", "of_mean", "averaged"), [(3, 0.6, [2, 3, 4]), (9, 0.6, [1, 2, 3, 4]), (3, 0.5, [])]
)
def test_the_mean_of_the_last_epochs_is_taken_where_it_validates_higher(
    tmp_path: Path, average: int, of_mean: float, averaged: list[int]
) -> None:
    scores = iter([0.1, 0.2, 0.5, 0.3, 0.4, of_mean, 0.7])
    params = tiny_params(epochs=4, patience=0, average=average, interpolation=[0.5], whitening=[])
    history = run(tmp_path, params, validate=lambda model: {"neckline@10": next(scores)})
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["best_epoch"], config["averaged_epochs"], config["interpolation"]) == (2, averaged, 0.5)
    said = summary(history, params.validation, config)
    assert (f"the mean of epochs {5 - len(averaged)} to 4 is better" in said) == bool(averaged)
    assert "kept: 0.5 of the head" in said
    assert said.splitlines()[-1].split() == ["neckline@10", "0.100", "0.700", "+60.00"]
    untouched, _ = config["tried"]
    assert untouched["validation"]["neckline@10"] == (of_mean if averaged else 0.5)
    states = {
        name: load_checkpoint(tmp_path / f"checkpoints/{name}.pt")["model"]
        for name in ("best", *(f"epoch_{epoch:02d}" for epoch in range(1, 5)))
    }
    for name, weight in states["best"].items():
        if name != "interpolation":
            expected = torch.stack([states[f"epoch_{epoch:02d}"][name] for epoch in averaged or [2]]).mean(dim=0)
            torch.testing.assert_close(weight, expected)
    assert not torch.equal(states["epoch_02"]["text_head.last.weight"], states["epoch_03"]["text_head.last.weight"])


def test_log_and_curves(tmp_path: Path) -> None:
    history = run(tmp_path, tiny_params())
    lines = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert lines == history and [row["epoch"] for row in lines] == [0, 1, 2]
    assert lines[1]["distribution"]["kind hard"] > 0
    assert not any("second" in key or "time" in key.split("_") for row in lines for key in row)
    rows = list(csv.DictReader((tmp_path / "train_curves.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["loss_total"] == "" and float(rows[2]["loss_total"]) > 0 and rows[1]["neckline@10"]


def test_the_fusion_weight_learns_alone(tmp_path: Path) -> None:
    off = ("contrastive", "image_text", "attribute_contrastive", "attribute_heads", "identity")
    params = tiny_params(weight_decay=0.0, **{f"loss__{name}": 0.0 for name in off}, loss__fusion=1.0)
    history = run(tmp_path, params)
    x = tiny_catalog().images
    model = load_model(tmp_path / "checkpoints/final.pt", dim=16, backbone=BACKBONE)
    assert model.encode_image_numpy(x).tobytes() == x.tobytes()
    assert history[-1]["image_weight"] != 0.5


def test_attributes_without_two_values_have_no_head(tmp_path: Path) -> None:
    """Every colour is red and every sleeve unknown: no head, no NaN."""
    run(tmp_path, tiny_params(epochs=1))
    model = load_model(tmp_path / "checkpoints/final.pt", dim=16, backbone=BACKBONE)
    assert model.attributes == ["category2", "material", "neckline"]
    assert all(torch.isfinite(weights).all() for weights in model.parameters())


def test_an_unknown_attribute_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hem"):
        run(tmp_path, tiny_params(loss__attribute_weights={"hem": 1.0}))


def test_embed_with_names_the_checkpoint(tmp_path: Path) -> None:
    from lib.embeddings import EmbeddingSet

    run(tmp_path, tiny_params(epochs=1))
    baseline = EmbeddingSet(tiny_catalog(), tiny_catalog(seed=1), BACKBONE)
    final = tmp_path / "checkpoints/final.pt"
    copy = Path(shutil.copy(final, tmp_path / "copy.pt"))
    embedded = [
        embed_with(load_model(path, dim=16, backbone=BACKBONE), baseline, checkpoint=path)
        for path in (final, copy, tmp_path / "checkpoints/epoch_00.pt")
    ]
    assert embedded[0].fingerprint == embedded[1].fingerprint != embedded[2].fingerprint
    assert embedded[2].catalog.images.tobytes() == baseline.catalog.images.tobytes()
    assert embedded[2].image_weight == 0.5 != embedded[0].image_weight
    assert embedded[0].queries.texts.tobytes() != baseline.queries.texts.tobytes()


def test_a_damaged_checkpoint_of_a_finished_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path, tiny_params(epochs=1))
    path = tmp_path / "checkpoints/best.pt"
    data = bytearray(path.read_bytes())
    for place in (5, len(data) // 2, len(data) - 5):
        damaged = bytearray(data)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            load_model(path, dim=16, backbone=BACKBONE)


def test_pattern_only_items_have_no_category() -> None:
    catalog = tiny_catalog()
    catalog.meta.loc[:9, "category2"] = "graphic"
    data = TrainingData.of(catalog, attributes=["category2"], pattern_only=("graphic",))
    assert (data.codes["category2"][:10] == -1).all() and "graphic" not in data.vocabularies["category2"]


def test_silence_is_absence_only_where_a_category_ought_to_have_spoken() -> None:
    """100 tees state their neckline, 30 shorts never, 4 capes are too few to tell; few sleeves are stated at all."""
    n = {"tees": 100, "shorts": 30, "capes": 4}
    table = tiny_catalog(134).meta
    table["category2"] = [category for category, count in n.items() for _ in range(count)]
    table["neckline"] = ["crew", "v"] * 50 + [None] * 34
    table["sleeve"] = ["long", "short"] + [None] * 132
    catalog = replace(tiny_catalog(134), meta=table)
    data = TrainingData.of(catalog, attributes=["category2", "neckline", "sleeve"], pattern_only=())
    assert data.absent["neckline"].tolist() == [False] * 100 + [True] * 30 + [False] * 4
    assert not data.absent["sleeve"].any() and not data.absent["category2"].any()
    params = tiny_params(loss__attribute_weights={"category2": 1.0, "neckline": 1.0, "sleeve": 1.0}).loss
    targets = BatchLoss(data, build_examples(tiny_pairs(catalog), data.item_ids), params).targets
    assert targets[:, 1].tolist() == [0, 1] * 50 + [2] * 30 + [-1] * 4  # 2: the place after the two values


def test_prototypes_learn_from_texts_and_start_from_the_catalogues_own_scale(tmp_path: Path) -> None:
    params = tiny_params(
        epochs=1, head__kind="prototype", loss__contrastive=0.0, loss__image_text=0.0, loss__attribute_heads=1.0,
        loss__identity=0.0, loss__fusion=0.0,
    )  # fmt: skip
    run(tmp_path, params)
    before, after = (
        load_model(tmp_path / f"checkpoints/epoch_0{epoch}.pt", dim=16, backbone=BACKBONE) for epoch in (0, 1)
    )
    for head in ("image_head", "text_head"):
        moved = (getattr(after, head).last.bias - getattr(before, head).last.bias).abs().max()
        assert moved > 1e-4, head
    images = torch.from_numpy(np.array(tiny_catalog().images))
    assert torch.allclose(after.image_head.mean, images.mean(dim=0))
