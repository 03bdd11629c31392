"""The results file keeps the sections of other benchmarks."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.ablation_variants import apply_overrides
from benchmarks.compatibility import markdown as compatibility_table
from benchmarks.coverage import main as coverage_main
from benchmarks.coverage import table as coverage_table
from benchmarks.fixed_dims import Reweighed
from benchmarks.index import enlarged, limits
from benchmarks.photographs import BACKBONES, CATALOGUES, PLAIN, _changes, backbones, divisions, divisions_of, probes
from benchmarks.photographs import main as photographs
from benchmarks.pipeline import origins, said_of
from benchmarks.results import INTRODUCTION, ROOT, write_section
from benchmarks.seeds import ALL, SEED_KEYS, Run, main, markdown
from benchmarks.server import attack, load_line
from benchmarks.two_tower import markdown as two_tower_table
from benchmarks.two_tower import tables_of
from lib.base.params import load_params, parse_params
from lib.embeddings import META_COLUMNS, Embeddings, EmbeddingSet
from lib.evaluation.evaluation import Evaluation


def test_a_section_takes_the_place_of_its_predecessor(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    for title, body in (("One", "first"), ("Two", "second\n\n| a |\n|---|"), ("One", "third")):
        write_section(title, body, path=path)
    assert path.read_text() == INTRODUCTION + "\n## One\n\nthird\n\n## Two\n\nsecond\n\n| a |\n|---|\n"


def test_the_table_of_seeds_shows_the_least_gain() -> None:
    def row(delta: float) -> dict[str, float]:
        return {"delta": delta, "delta_low": delta - 0.02, "delta_high": delta + 0.02, "n_queries": 60}

    boards = {42: {"a@10": row(0.123), "b@10": row(0.0)}, 1: {"a@10": row(-0.01)}, ALL: {"a@10": row(0.056)}}
    lines = markdown(boards).splitlines()
    assert lines[-1] == "| a@10 | 60 | +12.3 [+10.3, +14.3] | -1.0 [-3.0, +1.0] | +5.6 [+3.6, +7.6] | -1.0 |"
    assert not any("b@10" in line for line in lines), "a row that a seed lacks is left out"


def test_the_seeds_are_keys_of_the_parameters() -> None:
    raw = load_params(ROOT / "params.yaml").model_dump()
    for key in SEED_KEYS:
        section = raw
        for part in key.split("."):
            section = section[part]
        assert isinstance(section, int)


def test_views_of_a_product_become_queries_and_a_candidate() -> None:
    photos = [("train", "a", "x-10.jpg"), ("train", "a", "x-2.jpg"), ("test", "b", "y.jpg"), ("test", "b", "y-7.jpg")]
    photos += [("validation", "c", "only-1.jpg")]
    tables = tables_of(photos)
    assert tables["pairs"][1:] == [["x-10.jpg", "x-2.jpg"]]
    assert tables["query_gt"][1:] == [["y.jpg", "y-7.jpg"]]
    assert tables["candidates"][1:] == [["x-2.jpg"], ["y-7.jpg"], ["only-1.jpg"]]


def test_the_table_of_the_two_tower_model() -> None:
    row = {"chance": 0.01, "n_queries": 40, "delta": 0.1, "delta_low": 0.05, "delta_high": 0.15}
    for model, level in (("trained", 0.3), ("frozen", 0.2)):
        row |= {model: level, f"{model}_low": level - 0.05, f"{model}_high": level + 0.05}
    runs = [{f"recall@{k}": row for k in (1, 5, 10)}] * 3
    lines = two_tower_table({"the recipe": runs}).splitlines()
    gain = "+0.100 [+0.050, +0.150]"
    assert lines[-1].endswith(f"| 0.300 [0.250, 0.350] | {gain} | {gain} | {gain} |")
    assert lines[-2].startswith("| frozen backbone | 0.200 [0.150, 0.250] |")


def test_reweighing_the_fixed_dimensions() -> None:
    x = np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(Reweighed(1, 0.0).encode_image_numpy(x), [[1, 0, 0], [0, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(Reweighed(1, 1.0).encode_image_numpy(x), x, atol=1e-6)
    length = np.hypot(0.6, 1.6)
    np.testing.assert_allclose(Reweighed(1, 2.0).encode_image_numpy(x)[0], [0.6 / length, 0, 1.6 / length], atol=1e-6)


def test_the_enlarged_gallery_is_like_the_one_there_is() -> None:
    """Own rows first, new ones near them, and no inner product changed by the further dimensions."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 12))
    own = np.repeat(centres, 2, axis=0) + 0.1 * rng.normal(size=(80, 12))
    own = (own / np.linalg.norm(own, axis=1, keepdims=True)).astype(np.float32)
    table: dict[str, object] = dict.fromkeys(META_COLUMNS)
    table |= {"item_id": [f"i{k}" for k in range(80)], "product_id": [f"p{k // 2}" for k in range(80)]}
    side = Embeddings(own, own, pd.DataFrame(table, index=range(80)))
    rows, turned = enlarged(EmbeddingSet(side, side, "x"), 500, 20, rng=rng)
    assert rows.shape == (500, 20) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(turned(own) @ turned(own).T, own @ own.T, atol=1e-5)
    nearest = np.sort((turned(own) @ rows.T).max(axis=1))
    assert nearest[0] > 0.999, "the own rows are among them"
    assert np.median((rows @ turned(own).T).max(axis=1)) > 0.8 and len(np.unique(rows, axis=0)) == 500


def test_the_promises_of_the_indexes_are_checked_for_both_kinds_of_query() -> None:
    good = {"hnsw": {128: 0.99}, "ivf_pq": {16: 0.96}}
    bad = {"hnsw": {128: 0.97}, "ivf_pq": {16: 0.94}}
    fast, slow = ({"flat": 10.0, "hnsw": ms} for ms in (1.9, 2.1))
    served, sizes = {"hnsw": 128, "ivf_pq": 16}, {"flat": 800, "ivf_pq": 100}

    def held(texts: dict[str, dict[int, float]], speed: dict[str, float], size: int) -> list[bool]:
        speeds = {"image": fast, "text": speed}
        return [ok for _, ok in limits({"image": good, "text": texts}, speeds, sizes | {"ivf_pq": size}, served)]

    assert held(good, fast, 100) == [True, True, True, True]
    assert held(bad, slow, 101) == [False, False, False, False]


def test_seeds_name_wrong_arguments_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", "x"]) == 2
    assert "the sample draws its own catalogue" in capsys.readouterr().err


def evaluation(*, accuracy: float, value: float, n: int = 80) -> Evaluation:
    """Nothing but what the tables of the photographs read."""
    probe = {"accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1, "n": n, "chance": 0.3}
    rare = {**probe, "n": 4}
    rows = {"image_to_image": {"neckline@10": {"value": value}, "material@10": {"value": 0.0}}}
    probed = {"neckline": probe, "material": rare}
    balanced = {
        label: {
            **numbers,
            "balanced_accuracy": accuracy / 2,
            "low": accuracy / 2,
            "high": accuracy / 2,
            "chance": 0.2,
        }
        for label, numbers in probed.items()
    }
    metrics = {"probe": {"test": probed, "validation": probed}, "test": rows, "validation": rows}
    metrics["balanced_probe"] = {"test": balanced, "validation": {"neckline": balanced["neckline"]}}
    return Evaluation(metrics, {}, {}, pd.DataFrame(), 10, "f")


def test_probes_of_photographs_stand_before_and_after() -> None:
    plain = Run({}, evaluation(accuracy=0.31, value=0.1), evaluation(accuracy=0.0, value=0.125))
    recipe = Run({}, evaluation(accuracy=0.48, value=0.2), evaluation(accuracy=0.0, value=0.35))
    head = "31.0 [21.0, 41.0] → 48.0 [38.0, 58.0] (30.0) | 15.5 [15.5, 15.5] → 24.0 [24.0, 24.0] (20.0)"
    assert probes(plain, recipe).splitlines()[-3:] == [
        f"| neckline | test | 80 | {head} | 10.0 → 12.5 | 20.0 → 35.0 |",
        f"| neckline | validation | 80 | {head} | 10.0 → 12.5 | 20.0 → 35.0 |",
        f"| material | test | 4 | {head} | 0.0 → 0.0 | 0.0 → 0.0 |",
    ]


def test_divisions_stand_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"delta": 0.05, "delta_low": 0.01, "delta_high": 0.09, "n_queries": 160}
    monkeypatch.setattr("benchmarks.photographs.pooled", lambda runs, params: {"neckline@10": row, "rare@10": row})
    first = Run({"neckline@10": row}, evaluation(accuracy=0.31, value=0.1), evaluation(accuracy=0.0, value=0.1))
    other = Run({"neckline@10": row}, evaluation(accuracy=0.41, value=0.1), evaluation(accuracy=0.0, value=0.1))
    lines = divisions(
        {"42": first, "7": other}, load_params(CATALOGUES[0].recipe).scoreboard, chosen_on=42
    ).splitlines()
    assert "| rare@10 | 160 |  |  | +5.0 [+1.0, +9.0] |" in lines
    assert "| neckline | 31.0 (30.0), 15.5 (20.0) | 41.0 (30.0), 20.5 (20.0) | 36.0 (30.0), 18.0 (20.0) |" in lines


@pytest.mark.parametrize(("fresh", "expected"), [(True, ["5", "6"]), (False, ["42", "5", "6"])])
def test_fresh_divisions_leave_out_that_of_the_recipe(
    fresh: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict] = []
    monkeypatch.setattr(
        "benchmarks.photographs.experiments",
        lambda wanted, recipe, data: asked.append(dict(wanted)) or {name: Path(name) for name in wanted},
    )
    monkeypatch.setattr("benchmarks.photographs.load_run", lambda folder: folder)
    monkeypatch.setattr(
        "benchmarks.photographs.divisions", lambda runs, board, chosen_on: f"{list(runs)} {chosen_on}"
    )
    text = divisions_of(CATALOGUES[0], Path("data"), [5, 6], fresh=fresh)
    assert text.endswith(f"{expected} 42") and f"--{'fresh' if fresh else 'divisions'} 5 6`" in text
    assert asked[0]["division-5"] == {"data.seed": 5}


def test_ways_to_train_the_backbone_are_compared_on_what_enough_items_have() -> None:
    names = list(BACKBONES)[:2]
    found = {name: evaluation(accuracy=0.4 + place / 10, value=0.2) for place, name in enumerate(names)}
    lines = backbones(found).splitlines()
    assert lines[-3] == "| *items* | | 80 (30.0) |", "material has four items"
    assert lines[-2].endswith(" | 40.0 / 20.0 / 20.0 |")
    assert lines[-1] == f"| {names[1]} | {BACKBONES[names[1]].what} | 50.0 / 25.0 / 20.0 |"


@pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda catalogue: catalogue.folder)
def test_ways_to_train_the_backbone_are_parameters_of_both_catalogues(catalogue) -> None:
    raw = load_params(catalogue.recipe).model_dump(mode="json")
    for overrides in (PLAIN, *(backbone.overrides for backbone in BACKBONES.values())):
        parse_params(apply_overrides(raw, overrides, name="x"), name="x")


def test_what_a_catalogue_does_already_is_not_measured_twice() -> None:
    products, shirts = CATALOGUES
    assert _changes(BACKBONES["recipe"], products) and _changes(BACKBONES["recipe"], shirts)
    assert _changes(BACKBONES["collar"], products) and not _changes(BACKBONES["no-collar"], products)
    assert _changes(BACKBONES["no-collar"], shirts) and not _changes(BACKBONES["collar"], shirts)


def test_ways_to_train_the_backbone_can_be_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def experiments(wanted, recipe, data, models):
        asked.append(list(wanted))
        return {name: Path(name) for name in wanted}

    monkeypatch.setattr("benchmarks.photographs.experiments", experiments)
    monkeypatch.setattr("benchmarks.photographs.load_evaluation", lambda folder: evaluation(accuracy=0.4, value=0.2))
    for names in ([], ["short", "no-drawn"]):
        assert photographs(["--data", "photos", "--only", "tshirts", "--backbones", *names]) == 0
    assert {"recipe", "plain", "short", "no-drawn"} < set(asked[0])
    assert asked[1] == ["recipe", "no-drawn", "short"]
    assert "--backbones short no-drawn`" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        photographs(["--data", "photos", "--backbones", "shirt"])


def test_photographs_must_be_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REAL_DATA_DIR", raising=False)
    with pytest.raises(SystemExit, match="2"):
        photographs([])
    assert "--data" in capsys.readouterr().err


def test_the_table_of_the_compatibility_head_means_over_seeds() -> None:
    def run(auc: float) -> dict[str, dict[str, float]]:
        figures = {
            "auc": auc,
            "baseline_auc": 0.5,
            "within_categories_auc": auc,
            "within_categories_baseline_auc": 0.4,
        }
        gain = {"delta": auc - 0.5, "delta_low": auc - 0.6, "delta_high": auc - 0.4}
        return {"validation": figures, "test": figures | gain}

    lines = compatibility_table({"the recipe": [run(0.7), run(0.8), run(0.9)]}).splitlines()
    assert lines[-2].startswith("| the embeddings | 0.500 | 0.500 | 0.400 |")
    assert lines[-1].startswith("| the recipe | 0.800 | 0.800 | 0.800 | +0.200 [+0.100, +0.300] | +0.300 ")
    assert len({line.count("|") for line in lines[-4:]}) == 1


class _Every5thFails(BaseHTTPRequestHandler):
    """Answers 503 to every fifth request, in HTTP/1.1 so that connections are kept."""

    protocol_version = "HTTP/1.1"
    counted = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).counted += 1
        self.send_response(503 if self.counted % 5 == 0 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


def test_the_load_counts_every_answer_and_names_failures() -> None:
    server = HTTPServer(("127.0.0.1", 0), _Every5thFails)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    load = attack(server.server_port, [b"{}"], seconds=0.5, clients=1)
    server.shutdown()
    assert len(load.seconds) == _Every5thFails.counted == load.statuses.total() > 10
    assert load.statuses[503] == _Every5thFails.counted // 5
    cells = load_line("ours", "vectors", load, 0.5).strip("| ").split(" | ")
    assert cells[:2] == ["ours", "vectors"] and cells[-2:] == [str(load.statuses[503])] * 2
    p50, p95, p99 = map(float, cells[3:6])
    assert 0 <= p50 <= p95 <= p99 < 500


def test_the_table_of_coverage_shows_what_is_known_and_what_agrees() -> None:
    alone = {"items": 1200, "coverage": 0.25, "coverage_where_applicable": "skipped: no category has it"}
    both = {"items": 40, "coverage": 0.5, "coverage_where_applicable": 0.625, "column_and_text": 8, "agree": 7}
    both |= {"agreement": 0.875, "agreement_low": 0.529, "agreement_high": 0.978}
    found = coverage_table({"One": {"neckline": {**alone, "column_and_text": 0}}, "Two": {"neckline": both}})
    assert "| attribute | One, 1,200 items | Two, 40 items |" in found
    assert found.splitlines()[-1] == (
        "| neckline | 25.0 % (skipped: no category has it) | 50.0 % (62.5 %); 7 of 8 the same: 87.5 % [52.9, 97.8] |"
    )


def test_coverage_says_what_it_misses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("benchmarks.coverage._counts", lambda processed, schema: {})
    assert coverage_main(["--data", str(tmp_path)]) == 2
    assert str(tmp_path / CATALOGUES[0].folder) in capsys.readouterr().err
    monkeypatch.delenv("REAL_DATA_DIR", raising=False)
    with pytest.raises(SystemExit, match="2"):
        coverage_main([])


def test_where_a_fresh_run_leaves_the_recorded_one() -> None:
    """The stage whose outs differ though its deps do not; what only follows from it is not named."""
    before = {
        "first": {"deps": {"a": "1"}, "outs": {"b": "2"}},
        "second": {"deps": {"b": "2"}, "outs": {"c": "3"}},
        "third": {"deps": {"c": "3"}, "outs": {"d": "4"}},
    }
    after = {
        "first": before["first"],
        "second": {"deps": {"b": "2"}, "outs": {"c": "9"}},
        "third": {"deps": {"c": "9"}, "outs": {"d": "9"}},
    }
    assert origins(before, after) == ["second"]
    assert "second MADE OTHERS" in said_of(["second"])
    assert origins(before, before) == []
    assert "same bytes" in said_of([]) and "OTHERS" not in said_of([])
    assert origins({"first": before["first"]}, {**before, "second": before["second"]}) == ["second", "third"]
    code = {**before, "first": {"deps": {"a": "8"}, "outs": {"b": "2"}}}
    assert origins(before, code) == ["dvc.lock"]
