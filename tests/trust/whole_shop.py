"""A synthetic catalogue that goes the whole way in seconds: mining, pairs, training, evaluation, scoreboard."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from lib.base.params import Mine, Params, parse_params, pattern_only_under
from lib.embeddings import META_COLUMNS, Embeddings, EmbeddingSet
from lib.evaluation.evaluate import evaluate
from lib.evaluation.scoreboard import build_scoreboard
from lib.evaluation.validation import quick_validation
from lib.supervision.codes import group_pairs
from lib.supervision.groups import build_groups
from lib.supervision.hard_negatives import mine_hard_negatives
from lib.supervision.pairs import build_pairs
from lib.training.loop import train
from lib.training.trained_model import embed_with, load_model

ROOT = Path(__file__).parents[2]
DIM = 40
VALUES = {
    "category2": ("tees", "dresses", "cardigans", "shorts", "graphic"),
    "color": ("black", "blue", "red", "green"),
    "material": ("cotton", "wool", "denim", "leather"),
    "pattern": ("solid", "striped", "print"),
    "neckline": ("crew", "v-neck", "polo"),
    "sleeve": ("short", "long"),
}
SHARES = {"category2": (0.45, 0.25, 0.1, 0.1, 0.1), "material": (0.6, 0.2, 0.1, 0.1)}
KNOWN = {"material": 0.8, "pattern": 0.8, "neckline": 0.7, "sleeve": 0.8}
SIGNAL = {"category2": 1.0, "color": 0.8, "material": 0.6, "pattern": 0.6, "neckline": 0.6, "sleeve": 0.6}
N_VALUES = sum(map(len, VALUES.values()))
# deviation of a product and of a picture along the axes of the values, and along all others, which say nothing
NOISE = np.array([[0.25] * N_VALUES + [0.7] * (DIM - N_VALUES), [0.15] * N_VALUES + [0.3] * (DIM - N_VALUES)])
LABELS = ["category1", *VALUES]
SMALL: dict[str, Any] = {
    "runtime.threads": 1,
    "evaluate.modes": ["image_to_image"],
    "evaluate.bootstrap.resamples": 300,
    "mine.per_anchor": 4,
    "pairs.n_pairs": 2000,
    "train.lr": 1.0e-2,
    "train.epochs": 8,
    "train.patience": 0,
    "train.batch_size": 64,
    "train.head.hidden": 32,
    "train.interpolation": [],
    "scoreboard.bootstrap.resamples": 300,
}


def small_params(**changed: Any) -> Params:
    """params.yaml made small; dots of a key are written as two underscores."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    # the sample's own weights and dropout are tuned for the sample
    raw["train"]["head"]["dropout"] = 0.1
    weights = {"neckline": 2.0, "material": 2.0, "pattern": 1.3, "sleeve": 1.2, "category2": 1.5, "color": 1.5}
    raw["train"]["loss"]["attribute_weights"] = weights
    for key, value in (SMALL | {name.replace("__", "."): value for name, value in changed.items()}).items():
        *path, last = key.split(".")
        place = raw
        for part in path:
            place = place[part]
        place[last] = copy.deepcopy(value)
    return parse_params(raw)


def make_shop(seed: int, *, n_products: int = 400) -> EmbeddingSet:
    """Products of two views; values can be read off the embeddings, but what says nothing decides most neighbours."""
    rng = np.random.default_rng(seed)
    axes = iter(np.eye(DIM))
    directions = {(name, value): next(axes) for name, values in VALUES.items() for value in values}
    rows, points = [], []
    for number in range(n_products):
        true = {name: str(rng.choice(values, p=SHARES.get(name))) for name, values in VALUES.items()}
        known = {name: value if rng.random() < KNOWN.get(name, 1.0) else None for name, value in true.items()}
        split = ("train", "train", "train", "validation", "test")[number % 5]
        shown = sum(weight * directions[name, true[name]] for name, weight in SIGNAL.items())
        own = shown + NOISE[0] * rng.normal(size=DIM)
        for view in range(2):
            row = {"item_id": f"{number:04d}_{view}", "product_id": f"p{number:04d}", "split": split}
            rows.append(row | known | {"product_key": "column", "caption": " ".join(filter(None, known.values()))})
            points.append([own + NOISE[1] * rng.normal(size=DIM), shown + NOISE[0] * rng.normal(size=DIM)])
    table = pd.DataFrame(rows, columns=list(META_COLUMNS)).astype(object)
    table = table.where(table.notna(), None)
    both = np.array(points).transpose(1, 0, 2)
    images, texts = (both / np.linalg.norm(both, axis=2, keepdims=True)).astype(np.float32)
    return EmbeddingSet(
        _rows(images, texts, table, (table["split"] == "train").to_numpy()),
        _rows(images, texts, table, (table["split"] != "train").to_numpy()),
        f"{seed:064x}",
    )


def _rows(images: np.ndarray, texts: np.ndarray, table: pd.DataFrame, mask: np.ndarray) -> Embeddings:
    return Embeddings(images[mask], texts[mask], table[mask].reset_index(drop=True))


def shuffled(embedded: EmbeddingSet, rng: np.random.Generator, *, sides: tuple[str, ...]) -> EmbeddingSet:
    """The labels of whole products dealt out anew among the products of the named sides, all labels of one together.

    What is kept: how often each combination occurs, and that views of a product agree. What is lost: any relation of
    labels to pictures.
    """
    parts = {side: getattr(embedded, side) for side in sides}
    every = pd.concat([part.meta for part in parts.values()]).drop_duplicates("product_id").set_index("product_id")
    dealt = every[LABELS].iloc[rng.permutation(len(every))].set_index(every.index)
    changed = {}
    for side, part in parts.items():
        meta = part.meta.copy()
        meta[LABELS] = dealt.loc[meta["product_id"]].to_numpy()
        changed[side] = replace(part, meta=meta)
    return replace(embedded, **changed)


def mine(
    catalog: Embeddings, groups: Mapping[str, Sequence[str]], *, params: Mine, pattern_only: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Hard negatives of a catalogue with these groups, as the stage mines them."""
    siblings = group_pairs(groups, catalog.meta["item_id"].tolist())
    return mine_hard_negatives(catalog, siblings, params=params, pattern_only=pattern_only)


def supervise(embedded: EmbeddingSet, params: Params) -> pd.DataFrame:
    """Groups, hard negatives and pairs, as their stages make them."""
    policy = pattern_only_under(params.pairs.graphic_policy, params.data.pattern_only_categories)
    groups = build_groups(embedded.catalog.meta, params=params.groups)["groups"]
    mined, _ = mine(embedded.catalog, groups, params=params.mine, pattern_only=policy)
    pairs, _ = build_pairs(embedded.catalog.meta, groups, mined, params=params.pairs, pattern_only=policy)
    return pairs


def scoreboard_of(supervision: EmbeddingSet, measured: EmbeddingSet, params: Params, out: Path) -> dict[str, Any]:
    """Train on the labels of one catalogue, measure by those of another with the same pictures.

    Of the last epoch, whatever validation says of it: choosing would return to the baseline where nothing is learnt,
    and a comparison of the baseline with itself shows nothing.
    """
    torch.set_num_threads(1)
    pattern_only = params.data.pattern_only_categories
    train(
        supervision.catalog,
        supervise(supervision, params),
        backbone=supervision.fingerprint,
        params=params.train,
        pattern_only=pattern_only,
        validate=quick_validation(supervision, params=params.train.validation, pattern_only=pattern_only),
        out=out,
    )
    final = out / "checkpoints" / "final.pt"
    model = load_model(final, dim=DIM, backbone=measured.fingerprint)
    before, after = (
        evaluate(embedded, params.evaluate, pattern_only=pattern_only)
        for embedded in (measured, embed_with(model, measured, checkpoint=final))
    )
    return build_scoreboard(before, after, params.scoreboard)
