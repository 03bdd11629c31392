"""The sample's outfits: the rule against a slow one, and that one item alone does not give the label away."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from lib.catalog.drawing.assortment import CATEGORIES, COLOURS, MATERIALS, PATTERNS, SLEEVES
from lib.catalog.drawing.plan import plan_product
from lib.catalog.sample.outfits import (
    COMPLEMENTS,
    FORMALITY,
    HUES,
    KINDS,
    NOISE,
    WARMTH,
    Garment,
    Outfit,
    draw_outfits,
)

N_PRODUCTS = 700


@pytest.fixture(scope="module")
def shop() -> list[Garment]:
    planned = [plan_product(7, number) for number in range(N_PRODUCTS)]
    return [
        Garment(p.key + suffix, p.key, p.gender, p.category, p.material, p.pattern, p.sleeve or "", p.colour)
        for p in planned
        for suffix in p.suffixes
    ]


@pytest.fixture(scope="module")
def outfits(shop: list[Garment]) -> list[Outfit]:
    return draw_outfits(shop, n_pairs=6000, rng=np.random.default_rng(3))


def clashes(a: Garment, b: Garment) -> list[str]:
    """The rule in plain words."""
    found = []
    if a.colour in HUES and b.colour in HUES:
        angle = abs(HUES[a.colour] - HUES[b.colour])
        angle = min(angle, 360 - angle)
        if 45 < angle < 150:
            found.append("colour")
    warm = [WARMTH.get(g.material, 0) + WARMTH.get(g.category, 0) + WARMTH.get(g.sleeve, 0) for g in (a, b)]
    smart = [FORMALITY.get(g.material, 0) + FORMALITY.get(g.category, 0) for g in (a, b)]
    found += ["season"] if abs(warm[0] - warm[1]) > 1 else []
    found += ["occasion"] if abs(smart[0] - smart[1]) > 1 else []
    if "solid" not in (a.pattern, b.pattern) and a.pattern != b.pattern:
        found.append("pattern")
    return found


def complementary(a: Garment, b: Garment) -> bool:
    kinds = (KINDS[a.category], KINDS[b.category])
    return kinds in COMPLEMENTS or kinds[::-1] in COMPLEMENTS


def goes(a: Garment, b: Garment) -> bool:
    return a.gender == b.gender and complementary(a, b) and not clashes(a, b)


def test_labels_follow_the_rule_but_for_the_noise(shop: list[Garment], outfits: list[Outfit]) -> None:
    by_id = {garment.item_id: garment for garment in shop}
    wrong: Counter[int] = Counter()
    for a_id, b_id, label in outfits:
        a, b = by_id[a_id], by_id[b_id]
        assert a.gender == b.gender and a.product != b.product
        wrong[label] += goes(a, b) != bool(label)
    assert len(outfits) == 6000 and sum(pair.label for pair in outfits) == 3000
    assert wrong[0] == wrong[1] == round(NOISE * 3000)


def test_negatives_are_hard_and_easy(shop: list[Garment], outfits: list[Outfit]) -> None:
    by_id = {garment.item_id: garment for garment in shop}
    kinds: Counter[str] = Counter()
    things: Counter[str] = Counter()
    for a_id, b_id, _ in outfits:
        a, b = by_id[a_id], by_id[b_id]
        if not goes(a, b):
            same = KINDS[a.category] == KINDS[b.category]
            assert same or complementary(a, b)
            found = [] if same else clashes(a, b)
            kinds["same kind" if same else "hard" if len(found) == 1 else "several"] += 1
            things.update(found if len(found) == 1 else [])
    shares = {kind: count / 3000 for kind, count in kinds.items()}
    assert 0.5 < shares["hard"] < 0.75 and shares["several"] > 0.1 and shares["same kind"] == pytest.approx(0.15)
    assert min(things[name] for name in ("colour", "season", "occasion", "pattern")) > 150


def test_every_item_stands_as_often_in_pairs_of_either_kind(shop: list[Garment], outfits: list[Outfit]) -> None:
    by_id = {garment.item_id: garment for garment in shop}
    for place in (0, 1):
        counts = [Counter(p[place] for p in outfits if goes(by_id[p.a_id], by_id[p.b_id]) == kind) for kind in (0, 1)]
        assert counts[0] == counts[1]


def features(garments: list[Garment]) -> np.ndarray:
    """One-hot values of every attribute that the rule reads."""
    materials = sorted({name for shares in MATERIALS.values() for name in shares})
    sleeves = ["", *sorted({name for shares in SLEEVES.values() for name in shares})]
    columns = [
        [garment.category == name for name in CATEGORIES]
        + [garment.colour == name for name in COLOURS]
        + [garment.material == name for name in materials]
        + [garment.pattern == name for name in PATTERNS]
        + [garment.sleeve == name for name in sleeves]
        + [garment.gender == "men"]
        for garment in garments
    ]
    return np.array(columns, dtype=np.float64)


def told_apart(inputs: np.ndarray, pairs: list[tuple[Garment, Garment]], labels: list[int]) -> float:
    """AUC of a classifier on pairs of products that it has not seen: those with an even number learn, others test."""
    odd = np.array([[int(garment.product[1:]) % 2 for garment in pair] for pair in pairs])
    learn, test, y = ~odd.any(axis=1), odd.all(axis=1), np.array(labels)
    model = LogisticRegression(C=0.1, max_iter=300).fit(inputs[learn], y[learn])
    return float(roc_auc_score(y[test], model.predict_proba(inputs[test])[:, 1]))


def test_one_item_alone_does_not_give_the_label_away(shop: list[Garment], outfits: list[Outfit]) -> None:
    by_id = {garment.item_id: garment for garment in shop}
    pairs = [(by_id[pair.a_id], by_id[pair.b_id]) for pair in outfits]
    labels = [pair.label for pair in outfits]
    sides = [features([pair[place] for pair in pairs]) for place in (0, 1)]
    for side in (*sides, np.concatenate(sides, axis=1)):
        assert abs(told_apart(side, pairs, labels) - 0.5) < 0.05
    # where pairs that do not go together are merely drawn, the same question is answered by one item
    rng = np.random.default_rng(0)
    drawn = [(shop[i], shop[j]) for i, j in rng.integers(len(shop), size=(20_000, 2))]
    drawn = [(a, b) for a, b in drawn if a.gender == b.gender and complementary(a, b)]
    assert told_apart(features([a for a, _ in drawn]), drawn, [int(goes(a, b)) for a, b in drawn]) > 0.58


def test_pairs_are_reproducible_and_no_two_items_meet_twice(shop: list[Garment], outfits: list[Outfit]) -> None:
    assert draw_outfits(shop, n_pairs=6000, rng=np.random.default_rng(3)) == outfits
    assert draw_outfits(shop, n_pairs=6000, rng=np.random.default_rng(4)) != outfits
    assert len({frozenset(pair[:2]) for pair in outfits}) == len(outfits)


@pytest.mark.parametrize("n_items", [0, 1, 3, 4, 30])
def test_a_small_shop_gives_what_it_can(shop: list[Garment], n_items: int) -> None:
    found = draw_outfits(shop[:n_items], n_pairs=400, rng=np.random.default_rng(0))
    assert len(found) < 400 and sum(pair.label for pair in found) * 2 == len(found)
