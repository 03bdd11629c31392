"""What reaches the contrastive loss, seen at the loss itself: every kind of pair, either boost, caps, the policy."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from whole_shop import DIM, make_shop, mine, small_params, supervise

from lib.base.artifacts import read_json, with_manifest, write_json, write_parquet
from lib.base.params import PAIR_KINDS, Params, pattern_only_under
from lib.embeddings import EmbeddingSet, save_embedding_set
from lib.supervision.groups import build_groups
from lib.training import objective
from lib.training.losses import Roles
from lib.training.objective import BatchLoss, TrainingData
from lib.training.protocol_model import ModelConfig, ProtocolModel
from lib.training.sampler import BalancedBatches, build_examples
from stages import build_pairs as stage

POSITIVE, NEGATIVE = ("strong", "medium", "weak"), ("hard", "easy")


@dataclass
class Seen:
    """Counts over one epoch.

    Attributes:
        kinds: pairs of each kind that count with a weight above zero.
        anchors: catalogue rows whose loss counts.
        largest_share: of cotton among the anchors of one batch.
        categories: rows of the loss's codes that have a category.
        positives: (anchor, candidate) cells that pull.
        negatives: cells that push.
    """

    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PAIR_KINDS, 0))
    anchors: list[int] = field(default_factory=list)
    largest_share: float = 0.0
    categories: set[int] = field(default_factory=set)
    positives: int = 0
    negatives: int = 0


@pytest.fixture(scope="module")
def shop() -> EmbeddingSet:
    return make_shop(0, n_products=500)


def look(shop: EmbeddingSet, params: Params, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Run an epoch's batches through the loss and note what it is given."""
    torch.set_num_threads(1)
    policy = pattern_only_under(params.pairs.graphic_policy, params.data.pattern_only_categories)
    pairs = supervise(shop, params)
    data = TrainingData.of(shop.catalog, attributes=sorted(params.train.loss.attribute_weights), pattern_only=policy)
    examples = build_examples(pairs, data.item_ids)
    loss = BatchLoss(data, examples, params.train.loss)
    config = ModelConfig(DIM, "b", "linear", 8, 0.0, {"color": ("a", "b")}, {}, 0.07)
    model = ProtocolModel(config, generator=torch.Generator().manual_seed(0))
    kind_of = {
        frozenset(pair): kind for *pair, kind in pairs[["a_id", "b_id", "kind"]].itertuples(index=False, name=None)
    }
    seen = Seen()
    batch = torch.empty(0)

    def prepare(positives: Tensor, negatives: Tensor, *, row_weights: Tensor, column_log_weights: Tensor) -> Roles:
        roles = prepared(positives, negatives, row_weights=row_weights, column_log_weights=column_log_weights)
        masks[id(roles)] = positives, negatives, row_weights, column_log_weights
        return roles

    def record(logits: Tensor, roles: Roles) -> Tensor:
        positives, negatives, row_weights, column_log_weights = masks.pop(id(roles))
        rows = loss.rows[batch]
        has_negative = rows[:, 2] >= 0
        candidates = torch.cat([rows[:, 1], rows[has_negative, 2]])
        counts = row_weights > 0
        for i in counts.nonzero()[:, 0].tolist():
            own = [(i, POSITIVE)]
            if has_negative[i]:
                own.append((len(rows) + int(has_negative[:i].sum()), NEGATIVE))
            for column, kinds in own:
                ids = frozenset(data.item_ids[int(row)] for row in (rows[i, 0], candidates[column]))
                used = positives[i, column] if kinds is POSITIVE else negatives[i, column]
                if used and column_log_weights[i, column] > -torch.inf and kind_of.get(ids) in kinds:
                    seen.kinds[kind_of[ids]] += 1
        seen.anchors += rows[counts, 0].tolist()
        cotton = (shop.catalog.meta["material"].iloc[rows[:, 0].tolist()] == "cotton").mean()
        seen.largest_share = max(seen.largest_share, float(cotton))
        known = rows[:, 0][loss.codes[rows[:, 0], loss.names.index("category2")] >= 0]
        seen.categories |= set(known.tolist())
        seen.positives += int(positives.sum())
        seen.negatives += int(negatives.sum())
        return logits.sum() * 0

    prepared, masks = Roles.of, {}
    monkeypatch.setattr(Roles, "of", staticmethod(prepare))
    monkeypatch.setattr(objective, "info_nce", record)
    drawn = BalancedBatches(
        examples, shop.catalog.meta, params=params.train.sampler, batch_size=params.train.batch_size, seed=1
    ).epoch(1)
    for numbers in drawn:
        batch = torch.from_numpy(numbers)
        loss(model, batch, dropout=None)
    return seen


ONLY_PAIRS = {"train__loss__fusion": 0.0, "train__loss__image_text": 0.0, "train__loss__attribute_heads": 0.0}


@pytest.mark.parametrize("kind", PAIR_KINDS)
@pytest.mark.parametrize("way", ["weight", "share"])
def test_a_kind_that_is_switched_off_and_no_other_is_missing(
    shop: EmbeddingSet, kind: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = look(shop, small_params(**ONLY_PAIRS), monkeypatch)
    assert min(full.kinds.values()) > 20, full.kinds
    if way == "weight":
        off = {f"train__loss__kind_weights__{kind}": 0.0}
    else:
        off = {f"pairs__shares__{name}": 0.0 if name == kind else 0.25 for name in PAIR_KINDS}
    less = look(shop, small_params(**ONLY_PAIRS, **off), monkeypatch)
    assert less.kinds[kind] == 0
    assert all(count > 0 for name, count in less.kinds.items() if name != kind), less.kinds


@pytest.mark.parametrize("boost", [0, 1, 2])
def test_a_boost_shows_its_rows_more_often(shop: EmbeddingSet, boost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    params = small_params(**ONLY_PAIRS)
    rule = params.train.sampler.boosts[boost]
    column = shop.catalog.meta[rule.column]
    wanted = (column.isin(rule.values) if rule.values else column.notna()).to_numpy()
    others = [other.model_dump() for place, other in enumerate(params.train.sampler.boosts) if place != boost]
    with_, without = (
        look(shop, small_params(**ONLY_PAIRS, train__sampler__boosts=boosts), monkeypatch)
        for boosts in ([*others, rule.model_dump()], others)
    )
    shares = [wanted[seen.anchors].mean() for seen in (with_, without)]
    assert shares[0] > shares[1] + 0.1, shares


def test_a_cap_holds_in_every_batch(shop: EmbeddingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    with_, without = (
        look(shop, small_params(**ONLY_PAIRS, **changed), monkeypatch)
        for changed in ({}, {"train__sampler__caps": [], "train__sampler__boosts": []})
    )
    assert with_.largest_share <= 0.3 < 0.45 < without.largest_share


def test_the_graphic_policy_takes_categories_away(shop: EmbeddingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    graphic = set((shop.catalog.meta["category2"] == "graphic").to_numpy().nonzero()[0].tolist())
    with_, without = (
        look(shop, small_params(**ONLY_PAIRS, pairs__graphic_policy=policy), monkeypatch)
        for policy in ("pattern_only", "ordinary")
    )
    assert not with_.categories & graphic and len(without.categories & graphic) > 20
    assert graphic & set(with_.anchors), "they are still trained on, by group and pattern"


def test_masking_and_other_positives_can_be_switched_off(shop: EmbeddingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def cells(**changed: str) -> tuple[int, int]:
        names = {f"train__loss__{name}": value for name, value in changed.items()}
        seen = look(shop, small_params(**ONLY_PAIRS, **names), monkeypatch)
        return seen.positives, seen.negatives

    full, one = cells(), cells(batch_positives="own")
    unmasked, plain = cells(batch_negatives="all"), cells(batch_positives="own", batch_negatives="all")
    assert one[0] < full[0] == unmasked[0] and one[1] == full[1] < unmasked[1]
    assert plain[0] == one[0] and sum(plain) == sum(unmasked) > sum(full)


def test_a_fixed_temperature_stays_and_a_learned_one_moves(shop: EmbeddingSet) -> None:
    params = small_params()
    data = TrainingData.of(shop.catalog, attributes=["category2", "neckline"], pattern_only=())
    examples = build_examples(supervise(shop, params), data.item_ids)
    gradients = []
    for temperature in ("learned", "fixed"):
        changed = {"temperature": temperature, "attribute_weights": {"category2": 1.0, "neckline": 1.0}}
        loss = BatchLoss(data, examples, params.train.loss.model_copy(update=changed))
        config = ModelConfig(DIM, "b", "linear", 8, 0.0, {"neckline": data.vocabularies["neckline"]}, {}, 0.07)
        model = ProtocolModel(config, generator=torch.Generator().manual_seed(0))
        torch.stack(list(loss(model, torch.arange(64), dropout=None).values())).sum().backward()
        gradients.append(model.log_scale.grad)
    assert gradients[0] is not None and float(gradients[0].abs()) > 0 and gradients[1] is None


def test_without_a_limit_hard_negatives_may_outscore_the_positive(shop: EmbeddingSet) -> None:
    """Without groups, so that an alike item of another product is the positive, or there is none."""
    sections = [small_params(mine__max_positive_ratio=ratio).mine for ratio in (0.95, None)]
    limited, free = (mine(shop.catalog, {}, params=params, pattern_only=("graphic",))[0] for params in sections)
    limited, free = limited[~limited["suspect"]], free[~free["suspect"]]
    assert (limited["score"] <= 0.95 * limited["positive_score"] + 1e-8).all()
    assert (free["score"] > free["positive_score"]).any() and len(free) > len(limited)
    assert free["positive_score"].isna().any(), "anchors without any positive have hard negatives too"
    neckline_only = replace(shop.catalog, meta=shop.catalog.meta.assign(sleeve=None, material=None, pattern=None))
    table, facts = mine(neckline_only, {}, params=sections[1], pattern_only=())
    assert len(table) and table["positive_score"].isna().all() and "skipped" in facts["median_score_ratio"]


def test_quotas_that_data_cannot_fill_are_printed_and_written(shop: EmbeddingSet, tmp_path: Path) -> None:
    few = small_params(pairs__n_pairs=20_000)
    groups = build_groups(shop.catalog.meta, params=few.groups)
    mined, _ = mine(shop.catalog, groups["groups"], params=few.mine, pattern_only=("graphic",))
    save_embedding_set(tmp_path / "embedded", shop)
    with with_manifest(tmp_path / "groups.json", facts={"fingerprint": shop.fingerprint}) as file:
        write_json(file, groups)
    with with_manifest(tmp_path / "negatives.parquet", facts={"fingerprint": shop.fingerprint}) as file:
        write_parquet(file, mined)
    args = argparse.Namespace(
        embeddings=tmp_path / "embedded",
        groups=tmp_path / "groups.json",
        negatives=tmp_path / "negatives.parquet",
        out=tmp_path / "out",
    )
    said = stage.run(args, few)
    kinds = read_json(tmp_path / "out" / "pairs_stats.json")["kinds"]
    short = {kind: row for kind, row in kinds.items() if row["made"] < row["wanted"]}
    assert "hard" in short and len(short) < 5
    for kind, row in kinds.items():
        printed = f"{kind} {row['made']}/{row['wanted']}"
        assert printed in said
        assert (f"{printed} ({row['reason']})" in said) if kind in short else (f"{printed} (" not in said)
