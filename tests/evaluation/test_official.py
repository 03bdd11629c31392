"""The official protocol: known answers by hand, a slow reference, and what must not appear without a partition."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.base.artifacts import write_json
from lib.base.errors import IntegrityError
from lib.base.params import Bootstrap, Evaluate, Scoreboard
from lib.embeddings import META_COLUMNS, Embeddings, EmbeddingSet, save_embedding_set
from lib.evaluation.evaluate import evaluate
from lib.evaluation.evaluation import Evaluation, headline, load_evaluation, save_evaluation
from lib.evaluation.official import KS, measure_official
from lib.evaluation.scoreboard import board_rows, build_scoreboard
from lib.evaluation.scoreboard_text import markdown_table, text_table
from lib.report.plots import plot_scoreboard

SCRIPT = Path(__file__).parent.parent / "independent_scores.py"
BOOTSTRAP = Bootstrap(resamples=200, seed=4)
SECTION = Scoreboard(classes={}, targets=(), bootstrap=BOOTSTRAP, changes_shown=0)


def by_angle(rows: Sequence[tuple[str, str | None, float]], *, split: str = "test") -> Embeddings:
    """Embeddings in the plane: (partition, official item, degrees)."""
    turns = np.deg2rad([degrees for _, _, degrees in rows])
    table = pd.DataFrame(
        {
            **dict.fromkeys(META_COLUMNS),
            "item_id": [f"i{n}" for n in range(len(rows))],
            "product_id": [f"p{n}" for n in range(len(rows))],
            "partition": [part for part, _, _ in rows],
            "partition_item": [item for _, item, _ in rows],
            "split": split,
        }
    )
    images = np.column_stack([np.cos(turns), np.sin(turns)]).astype(np.float32)
    return Embeddings(images, images, table[list(META_COLUMNS)].astype(object))


def test_known_answers() -> None:
    """Queries at 0 and 90 degrees; the right images are the second and the fourth nearest."""
    gallery = [("gallery", "b", 3.0), ("gallery", "a", 6.0), ("gallery", "c", 80.0), ("gallery", "c", 82.0)]
    gallery += [("gallery", "c", 84.0), ("gallery", "b", 70.0), ("gallery", "d", 200.0)]
    queries = by_angle(
        [*gallery, ("query", "a", 0.0), ("query", "b", 90.0), ("train", "a", 0.1), ("train", "b", 90.1)]
    )
    found = measure_official(queries, BOOTSTRAP)
    assert found is not None and found.search is not None
    assert found.search.ranks.tolist() == [2, 4]
    assert {name: numbers["value"] for name, numbers in found.metrics.items()} == {
        "official_hit_rate@1": 0.0,
        "official_hit_rate@5": 1.0,
    }
    assert found.metrics["official_hit_rate@5"]["n_queries"] == 2
    assert found.skipped == {f"official_hit_rate@{k}": "the official gallery has 7 items" for k in (10, 20, 30, 50)}
    chances = [1 / 7, 2 / 7]  # one and two right images of seven
    assert found.metrics["official_hit_rate@1"]["chance"] == pytest.approx(np.mean(chances))
    missed = [math.comb(6, 5) / math.comb(7, 5), math.comb(5, 5) / math.comb(7, 5)]
    assert found.metrics["official_hit_rate@5"]["chance"] == pytest.approx(1 - np.mean(missed))
    assert found.metrics["official_hit_rate@1"]["ceiling"] == 1.0


def test_the_own_product_counts_and_copies_tie_in_order() -> None:
    """The item sought is the query's own product; of two equal images the earlier gallery row is first."""
    queries = by_angle([("gallery", "b", 0.0), ("gallery", "a", 0.0), ("query", "a", 0.0), ("query", "b", 0.0)])
    one_product = dataclasses.replace(queries, meta=queries.meta.assign(product_id="p"))
    found = measure_official(one_product, BOOTSTRAP)
    assert found is not None and found.search is not None
    assert found.search.ranks.tolist() == [2, 1]
    assert found.metrics["official_hit_rate@1"]["value"] == 0.5


def test_a_query_whose_item_has_no_gallery_image_does_not_count() -> None:
    rows = [
        ("gallery", "a", 5.0),
        ("query", "a", 0.0),
        ("query", "z", 10.0),
        ("gallery", None, 1.0),
        ("query", None, 2.0),
    ]
    found = measure_official(by_angle(rows), BOOTSTRAP)
    assert found is not None and found.search is not None
    assert found.search.ranks.fillna(-1).tolist() == [2, -1, -1]
    assert found.metrics["official_hit_rate@1"] | {"low": 0, "high": 0} == {
        "value": 0.0,
        "low": 0,
        "high": 0,
        "n_queries": 1,
        "chance": 0.5,
        "ceiling": 1.0,
    }
    nothing = measure_official(by_angle([("gallery", "a", 5.0), ("query", "z", 0.0)]), BOOTSTRAP)
    assert nothing is not None and nothing.metrics == {}
    assert nothing.skipped == {"*": "no official query has an image of its item in the official gallery"}


def test_parts_that_are_missing() -> None:
    assert measure_official(by_angle([("train", "a", 0.0)]), BOOTSTRAP) is None
    both = [("query", "a", 0.0), ("gallery", "a", 1.0)]
    assert measure_official(by_angle(both, split="validation"), BOOTSTRAP) is None
    for rows, part in ((both[:1], "gallery"), (both[1:], "query")):
        found = measure_official(by_angle(rows), BOOTSTRAP)
        assert found is not None and found.metrics == {} and found.search is None
        assert found.skipped == {"*": f"no item of the official {part} part in the test split"}


def test_intervals_are_clustered_by_official_item() -> None:
    """40 queries of one item, 1 of each of 5 others: drawing items varies the mean far more than drawing queries."""
    gallery = [("gallery", f"g{n}", 10.0 * n) for n in range(6)]
    hits = [("query", "g0", 0.1)] * 40
    misses = [("query", f"g{n}", 0.1) for n in range(1, 6)]
    found = measure_official(by_angle([*gallery, *hits, *misses]), Bootstrap(resamples=2000, seed=1))
    assert found is not None
    numbers = found.metrics["official_hit_rate@1"]
    assert numbers["value"] == pytest.approx(40 / 45)
    assert numbers["low"] == 0.0 and numbers["high"] > 0.95  # g0 is not drawn in a third of the resamples


@pytest.fixture(scope="module")
def with_partition(baseline_set: EmbeddingSet) -> EmbeddingSet:
    return partitioned(baseline_set)


def partitioned(embedded: EmbeddingSet) -> EmbeddingSet:
    """The test split as official queries and gallery, whole products of each; an item is a category in a colour."""
    meta = embedded.queries.meta.copy()
    test = meta["split"] == "test"
    asked = (meta["product_id"].str[1:].astype(int) // 5) % 2 == 0
    meta["partition"] = pd.Series(np.where(asked, "query", "gallery"), index=meta.index, dtype=object).where(
        test, "train"
    )
    meta["partition_item"] = meta["category2"] + " " + meta["color"]
    return dataclasses.replace(embedded, queries=dataclasses.replace(embedded.queries, meta=meta))


@pytest.fixture(scope="module")
def run(evaluate_params: Evaluate):
    params = evaluate_params.model_copy(update={"modes": ("image_to_image",)})
    return lambda embedded: evaluate(embedded, params, pattern_only=("graphic",))


@pytest.fixture(scope="module")
def baseline(with_partition: EmbeddingSet, run) -> Evaluation:
    return run(with_partition)


@pytest.fixture(scope="module")
def protocol(protocol_set: EmbeddingSet, run) -> Evaluation:
    return run(partitioned(protocol_set))


def test_equals_the_slow_reference(baseline: Evaluation, with_partition: EmbeddingSet) -> None:
    meta = with_partition.queries.meta.to_dict("records")
    images = with_partition.queries.images.astype(np.float64)
    asked = [i for i, row in enumerate(meta) if row["split"] == "test" and row["partition"] == "query"]
    searched = [i for i, row in enumerate(meta) if row["split"] == "test" and row["partition"] == "gallery"]
    assert len(asked) > 10 and len(searched) > 30
    table = baseline.per_query[baseline.per_query["mode"] == "official"].reset_index(drop=True)
    assert table["query_id"].tolist() == [meta[i]["item_id"] for i in asked]
    assert table["partition_item"].tolist() == [meta[i]["partition_item"] for i in asked]
    values: dict[int, list[float]] = {k: [] for k in KS if k <= len(searched)}
    for row, i in enumerate(asked):
        scores = {j: round(float(images[i] @ images[j]), 9) for j in searched}
        ranked = sorted(searched, key=lambda j: (-scores[j], j))
        right = [meta[j]["partition_item"] == meta[i]["partition_item"] for j in ranked]
        shown = list(table["retrieved_ids"][row])
        assert shown == [meta[j]["item_id"] for j in ranked[:50]]
        if not any(right):
            assert table["official_rank"][row] is pd.NA
            continue
        assert table["official_rank"][row] == (right.index(True) + 1 if right.index(True) < len(shown) else 0)
        for k, found in values.items():
            found.append(float(any(right[:k])))
    numbers = baseline.metrics["test"]["official"]
    assert list(numbers) == [f"official_hit_rate@{k}" for k in values]
    for k, found in values.items():
        entry = numbers[f"official_hit_rate@{k}"]
        assert entry["value"] == pytest.approx(np.mean(found), abs=1e-9) and entry["n_queries"] == len(found)
        assert entry["low"] <= entry["value"] <= entry["high"] <= entry["ceiling"] == 1.0
        assert 0 < entry["chance"] <= 1
    assert numbers["official_hit_rate@1"]["value"] < numbers["official_hit_rate@10"]["value"]
    assert numbers["official_hit_rate@1"]["chance"] < numbers["official_hit_rate@1"]["value"]


def test_nothing_of_it_without_a_partition(
    baseline_set: EmbeddingSet, run, baseline: Evaluation, tmp_path: Path
) -> None:
    plain = run(baseline_set)
    assert "official" not in json.dumps(plain.metrics)
    assert "official" not in set(plain.per_query["mode"])
    rest = {split: numbers for split, numbers in baseline.metrics.items() if split not in ("test", "skipped")}
    assert rest == {split: plain.metrics[split] for split in rest}  # all else is measured as without
    assert {mode: numbers for mode, numbers in baseline.metrics["test"].items() if mode != "official"} == (
        plain.metrics["test"]
    )
    board = build_scoreboard(plain, plain, SECTION)
    assert "official" not in text_table(board, SECTION) + json.dumps(board)
    save_evaluation(tmp_path, plain)
    loaded = load_evaluation(tmp_path).per_query
    assert loaded["official_rank"].isna().all() and loaded["partition_item"].isna().all()


def test_saved_and_in_the_summary(baseline: Evaluation, tmp_path: Path) -> None:
    save_evaluation(tmp_path, baseline)
    loaded = load_evaluation(tmp_path)
    assert loaded.metrics == baseline.metrics
    ranks = [
        table.loc[table["mode"] == "official", "official_rank"] for table in (loaded.per_query, baseline.per_query)
    ]
    assert ranks[0].fillna(-1).astype(int).tolist() == ranks[1].fillna(-1).astype(int).tolist()
    value = 100 * baseline.metrics["test"]["official"]["official_hit_rate@1"]["value"]
    assert f"official hit rate@1 {value:.1f}" in headline(baseline) and headline(baseline).count("\n") == 1


def test_scoreboard_rows(
    baseline: Evaluation,
    protocol: Evaluation,
    with_partition: EmbeddingSet,
    protocol_set: EmbeddingSet,
    tmp_path: Path,
) -> None:
    board = build_scoreboard(baseline, protocol, SECTION)
    names = ["official_hit_rate@1", "official_hit_rate@10"]
    assert [name for name in board["test"] if name.startswith("official")] == names == list(board["test"])[-2:]
    assert not any(name.startswith("official") for name in board["validation"])
    for name in names:
        row = board["test"][name]
        before, after = (e.metrics["test"]["official"][name] for e in (baseline, protocol))
        assert (row["baseline"], row["protocol"]) == (before["value"], after["value"])
        assert (row["n_queries"], row["chance"], row["ceiling"]) == tuple(
            before[key] for key in ("n_queries", "chance", "ceiling")
        )
        assert row["delta"] == pytest.approx(row["protocol"] - row["baseline"], abs=1e-12)
        assert row["delta_low"] <= row["delta"] <= row["delta_high"]
    assert board["test"]["official_hit_rate@1"]["delta_low"] < board["test"]["official_hit_rate@1"]["delta_high"]
    text, markdown = text_table(board, SECTION), markdown_table(board, SECTION)
    lines = [line for line in text.split("VALIDATION")[0].splitlines() if line.startswith(("▲", "▼", "="))]
    assert len({line.index("]") for line in lines}) == 1  # still aligned
    for page in (text, markdown):
        assert "official" in page and "which the literature calls Recall@k" in page.replace("\n", " ")
    assert plot_scoreboard(board_rows(board, "test", ()), title="t", targets={}).startswith(b"\x89PNG")
    save_embedding_set(tmp_path / "retrieval" / "baseline", with_partition)
    save_embedding_set(tmp_path / "retrieval" / "protocol", partitioned(protocol_set))
    write_json(tmp_path / "scoreboard" / "scoreboard.json", board)
    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    board["test"]["official_hit_rate@10"]["protocol"] += 1e-6
    write_json(tmp_path / "scoreboard" / "scoreboard.json", board)
    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1 and "test official_hit_rate@10 protocol" in done.stdout


def test_the_delta_of_equal_models_is_zero_and_other_queries_are_refused(baseline: Evaluation) -> None:
    board = build_scoreboard(baseline, baseline, SECTION)
    for name in ("official_hit_rate@1", "official_hit_rate@10"):
        row = board["test"][name]
        assert row["delta"] == row["delta_low"] == row["delta_high"] == 0.0
    table = baseline.per_query
    official = table["mode"] == "official"
    for changed, words in (
        (table[~official], "same queries"),
        (table.assign(partition_item=table["partition_item"].where(~official, "x")), "has partition_item"),
        (table.assign(official_rank=table["official_rank"].mask(official)), "count different queries"),
    ):
        with pytest.raises(IntegrityError, match=words):
            build_scoreboard(baseline, dataclasses.replace(baseline, per_query=changed), SECTION)


def test_deltas_are_clustered_by_official_item(baseline: Evaluation) -> None:
    """Only one item's hits change: a resample of items often lacks it, a resample of queries hardly ever."""
    table = baseline.per_query
    official = table["mode"] == "official"
    item = table.loc[official, "partition_item"].value_counts().idxmax()
    own = official & (table["partition_item"] == item)
    assert own.sum() >= 5
    before, after = (
        dataclasses.replace(baseline, per_query=table.assign(official_rank=table["official_rank"].mask(own, rank)))
        for rank in (0, 1)
    )
    row = build_scoreboard(before, after, SECTION)["test"]["official_hit_rate@1"]
    assert row["delta"] > 0 and row["delta_low"] == 0.0
