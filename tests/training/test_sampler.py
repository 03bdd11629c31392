"""Every pair reaches an example; boosts and caps hold in every batch; epochs repeat by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.base.errors import ConfigError, DataError, IntegrityError
from lib.base.params import PAIR_KINDS, Boost, Cap, Sampler
from lib.training.sampler import SELF, BalancedBatches, Examples, build_examples

STRONG, HARD, EASY = PAIR_KINDS.index("strong"), PAIR_KINDS.index("hard"), PAIR_KINDS.index("easy")


def pairs_of(*rows: tuple[str, str, str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["a_id", "b_id", "kind"])
    return table.assign(label=table["kind"].isin(["strong", "medium", "weak"]).astype(int))


def listed(examples: Examples) -> list[tuple[int, ...]]:
    fields = (
        examples.anchors,
        examples.positives,
        examples.negatives,
        examples.positive_kinds,
        examples.negative_kinds,
    )
    return list(zip(*(field.tolist() for field in fields), strict=True))


def test_positives_and_negatives_are_combined_cyclically() -> None:
    pairs = pairs_of(
        ("a", "b", "strong"), ("a", "c", "strong"), ("a", "d", "hard"), ("a", "e", "hard"), ("a", "f", "easy")
    )
    examples = build_examples(pairs, list("abcdef"))
    assert listed(examples) == [
        (0, 1, 3, STRONG, HARD),
        (0, 2, 4, STRONG, HARD),
        (0, 1, 5, STRONG, EASY),
    ]


def test_a_negative_goes_to_the_end_that_has_positives() -> None:
    examples = build_examples(pairs_of(("a", "b", "strong"), ("c", "a", "hard")), list("abc"))
    assert listed(examples) == [(0, 1, 2, STRONG, HARD)]


def test_an_anchor_without_positives_is_its_own_and_one_without_negatives_has_none() -> None:
    examples = build_examples(pairs_of(("a", "b", "hard"), ("c", "d", "strong")), list("abcd"))
    assert listed(examples) == [(0, 0, 1, SELF, HARD), (2, 3, -1, STRONG, -1)]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 60))
def test_every_pair_appears(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    ids = [f"i{i}" for i in range(12)]
    rows = {tuple(sorted(rng.choice(12, size=2, replace=False).tolist())) for _ in range(n)}
    pairs = pairs_of(*[(ids[a], ids[b], str(rng.choice(PAIR_KINDS))) for a, b in sorted(rows)])
    examples = build_examples(pairs, ids)
    found = {(min(a, p), max(a, p), k) for a, p, _, k, _ in listed(examples) if k != SELF}
    found |= {(min(a, m), max(a, m), k) for a, _, m, _, k in listed(examples) if m >= 0}
    assert found == {
        (ids.index(a), ids.index(b), PAIR_KINDS.index(kind))
        for a, b, kind in pairs[["a_id", "b_id", "kind"]].to_numpy()
    }
    assert len(examples) <= len(pairs)


def test_strangers_and_nothing_are_refused() -> None:
    with pytest.raises(IntegrityError, match="build_pairs"):
        build_examples(pairs_of(("a", "x", "hard")), ["a"])
    with pytest.raises(DataError, match="pairs_stats"):
        build_examples(pairs_of(("a", "b", "hard")).iloc[:0], ["a"])


def catalogue(n: int, *, seed: int) -> tuple[pd.DataFrame, Examples]:
    """n items of a long-tailed catalogue; item i is the anchor of example i."""
    rng = np.random.default_rng(seed)
    meta = pd.DataFrame(
        {
            "material": rng.choice(["cotton", "wool", "denim"], size=n, p=[0.7, 0.27, 0.03]),
            "category2": rng.choice(["tees", "shirts", "shorts"], size=n, p=[0.5, 0.45, 0.05]),
            "neckline": np.where(rng.random(n) < 0.5, "v", None),
        }
    )
    rows = np.arange(n)
    kinds = np.full(n, STRONG)
    return meta, Examples(rows, np.roll(rows, 1), np.full(n, -1), kinds, np.full(n, -1))


RULES = Sampler(
    boosts=(Boost(column="material", values=("denim",), weight=3), Boost(column="neckline", weight=2)),
    caps=(
        Cap(column="material", values=("cotton",), max_share=0.3),
        Cap(column="category2", values=("tees",), max_share=0.3),
    ),
)


@pytest.mark.parametrize("batch_size", [7, 64])
def test_no_batch_exceeds_a_cap_and_an_epoch_has_as_many_examples_as_the_list(batch_size: int) -> None:
    meta, examples = catalogue(1000, seed=0)
    batches = BalancedBatches(examples, meta, params=RULES, batch_size=batch_size, seed=1)
    for epoch in (1, 2):
        drawn = batches.epoch(epoch)
        assert sum(map(len, drawn)) == 1000
        assert {len(batch) for batch in drawn[:-1]} == {batch_size}
        for batch in drawn:
            for column, value in (("material", "cotton"), ("category2", "tees")):
                assert (meta[column].to_numpy()[batch] == value).sum() <= int(0.3 * len(batch))
    shares = batches.distribution(drawn)
    assert 0.24 < shares["cap material=cotton"] <= 0.3  # the cap is used, not only kept
    assert shares["kind strong"] == 1.0 and shares["kind hard"] == 0.0


def test_boosts_multiply_and_are_exact_on_average() -> None:
    meta, examples = catalogue(1000, seed=2)
    rules = RULES.model_copy(update={"caps": ()})
    batches = BalancedBatches(examples, meta, params=rules, batch_size=50, seed=1)
    weights = np.where(meta["material"] == "denim", 3, 1) * np.where(meta["neckline"].notna(), 2, 1)
    counts = np.bincount(np.concatenate(batches.epoch(3)), minlength=1000)
    expected = 1000 * weights / weights.sum()
    assert (np.abs(counts - expected) < 1).all()  # systematic sampling: floor or ceil
    denim = batches.distribution(batches.epoch(3))["boost material=denim"]
    assert denim == pytest.approx(weights[meta["material"] == "denim"].sum() / weights.sum(), abs=0.002)


def test_without_rules_an_epoch_is_a_permutation() -> None:
    meta, examples = catalogue(103, seed=3)
    batches = BalancedBatches(examples, meta, params=Sampler(boosts=(), caps=()), batch_size=10, seed=1)
    drawn = batches.epoch(1)
    assert sorted(np.concatenate(drawn).tolist()) == list(range(103)) and len(drawn[-1]) == 3


def test_epochs_repeat_by_seed_and_differ_from_each_other() -> None:
    meta, examples = catalogue(200, seed=4)
    one, two = (BalancedBatches(examples, meta, params=RULES, batch_size=16, seed=1) for _ in range(2))
    one.epoch(1)  # an epoch drawn before leaves no trace
    assert [b.tolist() for b in one.epoch(2)] == [b.tolist() for b in two.epoch(2)]
    assert [b.tolist() for b in one.epoch(3)] != [b.tolist() for b in two.epoch(2)]


def test_a_catalogue_of_capped_values_only_still_gives_batches() -> None:
    meta, examples = catalogue(100, seed=5)
    meta["material"] = "cotton"
    drawn = BalancedBatches(examples, meta, params=RULES, batch_size=10, seed=1).epoch(1)
    assert drawn and all(len(batch) == 3 for batch in drawn)


def test_an_unknown_column_is_named() -> None:
    meta, examples = catalogue(10, seed=6)
    rules = Sampler(boosts=(Boost(column="nekline", weight=2),), caps=())
    with pytest.raises(ConfigError, match="nekline"):
        BalancedBatches(examples, meta, params=rules, batch_size=4, seed=1)
