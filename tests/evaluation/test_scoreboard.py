"""The scoreboard: values recomputed without lib, targets, verdicts, intervals of shuffled models."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.photographs import scoreboard as photographs
from benchmarks.seeds import keep_run, load_run, pooled
from lib.base.artifacts import write_json
from lib.base.errors import ConfigError, IntegrityError
from lib.base.params import Bootstrap, ClassRow, Evaluate, Scoreboard, Target
from lib.embeddings import EmbeddingSet, save_embedding_set
from lib.evaluation.bootstrap import clustered_intervals
from lib.evaluation.evaluate import evaluate
from lib.evaluation.evaluation import Evaluation, load_evaluation, save_evaluation
from lib.evaluation.measure import Codes, column_codes, measure_precision
from lib.evaluation.scoreboard import board_rows, build_scoreboard, headline_label
from lib.evaluation.scoreboard_text import _probe_note, markdown_table, summary_lines, text_table
from lib.retrieval.search import exact_top_k

SCRIPT = Path(__file__).parent.parent / "independent_scores.py"
FIELDS = ["baseline", "protocol", "delta", "delta_low", "delta_high", "n_queries", "chance", "ceiling"]
CLASSES = {
    "cardigans": ClassRow(column="category2", value="cardigans"),
    "denim": ClassRow(column="material", value="denim"),
}


def section(*targets: Target, classes: dict[str, ClassRow] | None = None) -> Scoreboard:
    return Scoreboard(
        classes=CLASSES if classes is None else classes,
        targets=targets,
        bootstrap=Bootstrap(resamples=400, seed=1),
        changes_shown=2,
    )


HEADLINE = Target(row="neckline@10", points=5, stretch=10, headline=True)


@pytest.fixture(scope="module")
def run(evaluate_params: Evaluate) -> Callable[[EmbeddingSet], Evaluation]:
    params = evaluate_params.model_copy(update={"modes": ("image_to_image",)})
    return lambda embedded: evaluate(embedded, params, pattern_only=("graphic",))


@pytest.fixture(scope="module")
def baseline(baseline_set: EmbeddingSet, run) -> Evaluation:
    return run(baseline_set)


@pytest.fixture(scope="module")
def protocol(protocol_set: EmbeddingSet, run) -> Evaluation:
    return run(protocol_set)


def test_form_and_values(baseline: Evaluation, protocol: Evaluation) -> None:
    board = build_scoreboard(baseline, protocol, section(HEADLINE, Target(row="denim@10", points=1)))
    names = ["neckline", "category", "color", "material", "pattern", "sleeve"]
    rows = [f"{n}@10" for n in (*names, *(f"known_{n}" for n in names), *CLASSES)]
    rows += ["product_hit_rate@1", "product_map@10", *(f"unseen_{n}@10" for n in names)]
    for split in ("test", "validation"):
        assert list(board[split]) == rows
        for numbers in board[split].values():
            assert list(numbers) == FIELDS
            assert numbers["delta"] == pytest.approx(numbers["protocol"] - numbers["baseline"], abs=1e-12)
            assert numbers["delta_low"] <= numbers["delta"] <= numbers["delta_high"]
            assert 0 <= numbers["chance"] <= numbers["ceiling"] <= 1
        for model, evaluation in (("baseline", baseline), ("protocol", protocol)):
            for name in rows[:12]:
                numbers = evaluation.metrics[split]["image_to_image"][name]
                assert board[split][name][model] == numbers["value"]
                assert board[split][name]["chance"] == numbers["chance"]
            for name in rows[-8:-6]:
                numbers = evaluation.metrics[split]["image_to_image"][name]
                assert board[split][name][model] == numbers["value"]
                assert board[split][name]["n_queries"] == numbers["n_queries"]
            for name in names:
                numbers = evaluation.metrics[split]["unseen_gallery"][f"{name}@10"]
                assert board[split][f"unseen_{name}@10"][model] == numbers["value"]
        assert set(board["probe"][split]) == set(names)
    assert "skipped" not in board
    assert board["test"]["neckline@10"]["delta"] > 0.1  # the synthetic protocol model sees collars
    json.dumps(board, allow_nan=False)


def test_every_value_recomputed_without_lib(
    baseline: Evaluation, protocol: Evaluation, baseline_set: EmbeddingSet, protocol_set: EmbeddingSet, tmp_path: Path
) -> None:
    board = build_scoreboard(baseline, protocol, section(HEADLINE))
    save_embedding_set(tmp_path / "retrieval" / "baseline", baseline_set)
    save_embedding_set(tmp_path / "retrieval" / "protocol", protocol_set)
    write_json(tmp_path / "scoreboard" / "scoreboard.json", board)
    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    board["test"]["denim@10"]["protocol"] += 1e-6
    write_json(tmp_path / "scoreboard" / "scoreboard.json", board)
    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1 and "test denim@10 protocol" in done.stdout


def test_equal_models_have_a_delta_of_exactly_zero(baseline: Evaluation) -> None:
    board = build_scoreboard(baseline, baseline, section(HEADLINE))
    for split in ("test", "validation"):
        for numbers in board[split].values():
            assert numbers["delta"] == numbers["delta_low"] == numbers["delta_high"] == 0.0
    assert board["targets_met"] == board["success"] == 0
    assert {row.tone for row in board_rows(board, "test", ())} == {"unchanged"}


def test_intervals_of_models_that_differ_by_chance_hold_zero(baseline_set: EmbeddingSet) -> None:
    """Two shuffles of the query embeddings know equally little: about 95 % of the intervals must hold zero.

    The gallery is the same for both. An interval over queries cannot know how another gallery (or another
    training seed) would turn out: with the gallery shuffled as well, 0.82 to 0.93 of them hold zero, which is
    why the board says what its intervals are about.
    """
    gallery, queries = baseline_set.catalog, baseline_set.queries.of_split("test")
    products = column_codes(gallery.meta, queries.meta, "product_id")
    labels = [
        column_codes(gallery.meta, queries.meta, name)
        for name in ("neckline", "sleeve", "pattern", "material", "color")
    ]
    allowed = np.ones(len(gallery), dtype=bool)
    codes = {"query_products": products.queries, "gallery_products": products.gallery}

    def precisions(rng: np.random.Generator) -> np.ndarray:
        top = exact_top_k(queries.images[rng.permutation(len(queries))], gallery.images, k=10, **codes)["all"]
        return np.column_stack([measure_precision(top, x, products, allowed=allowed).value for x in labels])

    holds = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        delta = precisions(rng) - precisions(rng)
        found = clustered_intervals(delta, products.queries, resamples=300, rng=rng)
        holds.append((found.low <= 0) & (found.high >= 0))
    assert 0.90 <= np.mean(holds) <= 0.99  # 28 products: a percentile interval is a little short of 0.95


def test_target_arithmetic_and_verdicts(baseline: Evaluation, protocol: Evaluation) -> None:
    delta = build_scoreboard(baseline, protocol, section())["test"]["neckline@10"]["delta"]
    at_once = [
        (100 * delta, None, "MET target"),
        (100 * delta + 0.01, None, "MISSED target"),
        (1.0, 2.0, "and stretch +2"),
    ]
    for points, stretch, words in at_once:
        target = Target(row="neckline@10", points=points, stretch=stretch, headline=True)
        params = section(target, classes={"denim": CLASSES["denim"]})
        board = build_scoreboard(baseline, protocol, params)
        met = words != "MISSED target"
        row = board_rows(board, "test", params.targets)[0]
        assert words in row.verdict and row.target_met is met
        assert board["targets_met"] == int(met)
        assert board["success"] == int(met and board["test"]["denim@10"]["delta"] > 0)
        assert board_rows(board, "validation", params.targets)[0].target_met is None


def test_a_class_that_falls_prevents_success(baseline: Evaluation, protocol: Evaluation) -> None:
    every = {
        value: ClassRow(column=column, value=value)
        for column, values in (("material", ("cotton", "denim", "wool")), ("color", ("black", "blue", "red")))
        for value in values
    }
    deltas = build_scoreboard(baseline, protocol, section(HEADLINE, classes=every))["test"]
    up = {name: row for name, row in every.items() if deltas[f"{name}@10"]["delta"] > 0}
    down = {name: row for name, row in every.items() if deltas[f"{name}@10"]["delta"] < 0}
    assert up and down
    assert build_scoreboard(baseline, protocol, section(HEADLINE, classes=up))["success"] == 1
    assert build_scoreboard(baseline, protocol, section(HEADLINE, classes=up | down))["success"] == 0
    missing = {"silk": ClassRow(column="material", value="silk")}
    board = build_scoreboard(baseline, protocol, section(HEADLINE, Target(row="silk@10", points=0), classes=missing))
    assert board["success"] == 0 and board["targets_met"] == 1
    assert board["skipped"]["test"] == {"silk@10": "no query of this class whose value counts"}
    graphic = {"graphic": ClassRow(column="category2", value="graphic")}
    assert "graphic@10" in build_scoreboard(baseline, protocol, section(HEADLINE, classes=graphic))["skipped"]["test"]


def test_falls_and_doubts_are_written_out(baseline: Evaluation, protocol: Evaluation) -> None:
    params = section(HEADLINE)
    board = build_scoreboard(baseline, protocol, params)
    board["test"]["neckline@10"] |= {"delta_low": -0.01}
    text, markdown = text_table(board, params), markdown_table(board, params)
    for page in (text, markdown):
        assert "MET target +5 and stretch +10, but the interval includes zero" in page
        assert "▼" in page and "FELL" in page
    fallen = next(line for line in text.splitlines() if line.startswith("fell on test"))
    assert "color@10" in fallen
    table = [line for line in text.splitlines() if line.startswith(("▲", "▼", "="))]
    assert len(table) == 44 and max(len(line) for line in table) < 180
    assert summary_lines(board, params).count("\n") == 1
    board["skipped"] = {"test": {"silk@10": "no query"}}
    assert "silk@10" in text_table(board, params) and "silk@10" in markdown_table(board, params)


def test_other_queries_are_refused(baseline: Evaluation, protocol: Evaluation) -> None:
    table = protocol.per_query
    for changed, words in (
        (table.iloc[1:], "same queries"),
        (table.iloc[[1, 0, *range(2, len(table))]], "row 0 has query_id"),
        (table.assign(material="denim"), "has material"),
    ):
        with pytest.raises(IntegrityError, match=words):
            build_scoreboard(baseline, dataclasses.replace(protocol, per_query=changed), section(HEADLINE))
    with pytest.raises(IntegrityError, match="k differs"):
        build_scoreboard(baseline, dataclasses.replace(protocol, k=5), section(HEADLINE))


def test_a_mistyped_target_is_named(baseline: Evaluation, protocol: Evaluation) -> None:
    with pytest.raises(ConfigError, match=r"no row 'necklin@10'. Did you mean 'neckline@10'"):
        build_scoreboard(baseline, protocol, section(Target(row="necklin@10", points=5)))
    with pytest.raises(ConfigError, match="fixed row"):
        build_scoreboard(baseline, protocol, section(HEADLINE, classes={"sleeve": CLASSES["denim"]}))


def test_headline_label() -> None:
    assert headline_label(section(HEADLINE)) == "neckline"
    assert headline_label(section(Target(row="denim@10", points=1, headline=True))) == "material"
    assert headline_label(section(Target(row="known_color@10", points=1, headline=True))) == "color"
    assert headline_label(section()) == "neckline"


def test_runs_of_several_seeds_are_pooled_by_product(
    baseline: Evaluation, protocol: Evaluation, tmp_path: Path
) -> None:
    """One run three times tells no more than once; of two runs the gain is the mean of their gains."""
    params = section(HEADLINE)
    for name, after in (("gained", protocol), ("same", baseline)):
        save_evaluation(tmp_path / "artifacts" / "evaluation" / "baseline", baseline)
        save_evaluation(tmp_path / "artifacts" / "evaluation" / "protocol", after)
        write_json(
            tmp_path / "artifacts" / "scoreboard" / "scoreboard.json", build_scoreboard(baseline, after, params)
        )
        keep_run(tmp_path / "artifacts", tmp_path / name, key="k")
    gained, same = (load_run(tmp_path / name) for name in ("gained", "same"))
    thrice, mixed = pooled([gained] * 3, params), pooled([gained, same], params)
    assert set(thrice) == set(gained.board)
    for name, row in gained.board.items():
        for key in ("delta", "delta_low", "delta_high"):
            assert thrice[name][key] == pytest.approx(row[key], abs=1e-9), name
        assert mixed[name]["delta"] == pytest.approx(row["delta"] / 2, abs=1e-9)
        assert thrice[name]["n_queries"] == 3 * row["n_queries"]
    delta, half = 100 * gained.board["neckline@10"]["delta"], 50 * gained.board["neckline@10"]["delta"]
    line = next(
        line for line in photographs({"1": gained, "2": same}, params).splitlines() if "| neckline@10" in line
    )
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert (cells[5].split()[0], cells[6].split()[0], cells[7]) == (f"{delta:+.1f}", f"{half:+.1f}", "+0.0")
    assert cells[8] == ("+5: met" if delta >= 5 else "+5: MISSED")


def test_a_run_up_to_the_baseline_keeps_only_that(baseline: Evaluation, tmp_path: Path) -> None:
    save_evaluation(tmp_path / "artifacts" / "evaluation" / "baseline", baseline)
    keep_run(tmp_path / "artifacts", tmp_path / "kept", key="k", models=["baseline"])
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["baseline", "key.json"]
    assert load_evaluation(tmp_path / "kept" / "baseline").metrics == baseline.metrics


def test_a_model_that_loses_products_falls_on_the_board(baseline: Evaluation) -> None:
    """The synthetic models find every product: only rows that differ show which of them is which."""
    lost = baseline.per_query.assign(product_hit_rate=baseline.per_query["product_hit_rate"] * 0.25)
    row = build_scoreboard(baseline, dataclasses.replace(baseline, per_query=lost), section(HEADLINE))["test"]
    found = baseline.metrics["test"]["image_to_image"]["product_hit_rate@1"]
    assert row["product_hit_rate@1"]["baseline"] == found["value"] > 0
    assert row["product_hit_rate@1"]["protocol"] == pytest.approx(found["value"] / 4, abs=1e-9)
    assert row["product_hit_rate@1"]["delta_high"] < 0 == row["product_map@10"]["delta"]


@pytest.mark.parametrize("n", [1, 9, 10])
def test_a_handful_of_queries_is_said_to_be_one(n: int) -> None:
    """Their interval is as narrow as they are few: of one query it has no width."""
    row = {"baseline": 0.2, "protocol": 0.5, "delta": 0.3, "delta_low": 0.3, "delta_high": 0.3, "n_queries": n}
    board = {"test": {"denim@10": row | {"chance": 0.1, "ceiling": 1.0}}}
    verdicts = [board_rows(board, "test", [Target(row="denim@10", points=points)])[0].verdict for points in (10, 40)]
    assert ["too few queries to tell" in verdict for verdict in verdicts] == [n < 10] * 2, verdicts


def test_rows_that_a_split_cannot_have_are_skipped_with_the_reason(
    baseline: Evaluation, protocol: Evaluation
) -> None:
    """Test queries without validation items to search among, and a label that none of these has."""
    gone = "the other query split is empty"
    parts = []
    for one in (baseline, protocol):
        table = one.per_query
        queries = table[~((table["mode"] == "unseen_gallery") & (table["split"] == "test"))]
        queries = queries.assign(neckline_hits=queries["neckline_hits"].where(queries["mode"] != "unseen_gallery"))
        skipped = {"test": {"unseen_gallery": {"*": gone}}, "validation": {"unseen_gallery": {"neckline@10": "none"}}}
        metrics = one.metrics | {"skipped": skipped}
        parts.append(dataclasses.replace(one, per_query=queries.reset_index(drop=True), metrics=metrics))
    board = build_scoreboard(parts[0], parts[1], section(HEADLINE))
    labels = ("neckline", "category", "color", "material", "pattern", "sleeve")
    assert dict.fromkeys((f"unseen_{label}@10" for label in labels), gone).items() <= board["skipped"]["test"].items()
    assert board["skipped"]["validation"]["unseen_neckline@10"] == "none"
    assert "unseen_neckline@10" not in board["validation"] and "unseen_category@10" in board["validation"]


def test_a_probe_of_what_nearly_everybody_has_may_be_good() -> None:
    """Accuracy cannot gain five points where the most frequent value has 96 of 100."""
    perfect = {"accuracy": 1.0, "chance": 0.96}, {"balanced_accuracy": 1.0, "chance": 0.5}
    blind = {"accuracy": 0.96, "chance": 0.96}, {"balanced_accuracy": 0.5, "chance": 0.5}
    assert not _probe_note(*perfect) and "near chance" in _probe_note(*blind)


def test_chance_is_of_the_items_that_may_be_found() -> None:
    """Twenty of forty items, half of which match: one in two, however many matches there are elsewhere."""
    gallery = np.array([1] * 10 + [0] * 10 + [1] * 20)
    label = Codes(gallery, np.array([1, 1]))
    products = Codes(np.arange(40), np.array([100, 101]))
    allowed = np.arange(40) < 20
    rng = np.random.default_rng(0)
    queries, items = (rng.normal(size=(n, 8)).astype(np.float32) for n in (2, 40))
    top = exact_top_k(queries, items, k=20, masks={"allowed": allowed})["allowed"]
    found = measure_precision(top, label, products, allowed=allowed)
    assert not isinstance(found, str)
    assert found.chance.tolist() == [0.5, 0.5] == found.value.tolist() == found.ceiling.tolist()
