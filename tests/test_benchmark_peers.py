"""Benchmarks: the table, the fit and the sizing by hand; no peers' environment is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from benchmarks import __main__ as driver
from benchmarks import contenders, figures, own_programs, peer_parts, peers, scale, sizing
from benchmarks.contenders import (
    Contender,
    Peers,
    Ran,
    greatest_of,
    in_turns,
    last_line,
    least_of,
    peak_of,
    seconds_of,
)
from benchmarks.figures import LIMIT, OURS, Figure, cells, exponent, keep, load, markdown, missed, terminal, verdict
from benchmarks.peer_chart import draw_peers
from lib.base.params import load_params

ROOT = Path(__file__).resolve().parent.parent
WORK = "search 10 × 20"
TABLE = [
    Figure("search", WORK, LIMIT, 1.0, 100.0, "GFLOP/s"),
    Figure("search", WORK, OURS, 1.25, 80.0, "GFLOP/s", 2_000_000, least_of_limit=0.8, note="what we did"),
    Figure("search", WORK, "peer 1.0", 5.0, 20.0, "GFLOP/s", least_gain=5.0, note="half the work"),
    Figure("search", WORK, "absent", None, note="not installed"),
]


def test_rows_show_share_gain_peak_and_whether_targets_hold() -> None:
    limit, ours, peer, absent = cells(TABLE)
    assert limit == (WORK, LIMIT, "1", "100 GFLOP/s", "", "", "", "")
    assert ours == (WORK, OURS, "1.25", "80 GFLOP/s", "0.80", "", "2", "≥ 0.8 of limit: holds")
    assert peer == (WORK, "peer 1.0", "5", "20 GFLOP/s", "0.20", "4.0 × as fast", "", "≥ 5 ×: MISSED")
    assert absent == (WORK, "absent", "–", "–", "", "", "", "not measured: not installed")


def test_a_missing_peer_is_in_both_tables_with_its_reason() -> None:
    for text in (markdown(TABLE), terminal(TABLE)):
        (line,) = (line for line in text.splitlines() if "absent" in line)
        assert "not measured: not installed" in line
    assert "- search 10 × 20, peer 1.0: half the work" in markdown(TABLE)
    assert markdown(TABLE).count("not installed") == 1  # a reason is no note


def test_markdown_rows_have_as_many_cells_as_the_header() -> None:
    rows = [line for line in markdown(TABLE).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(TABLE)
    assert {line.count("|") for line in rows} == {len(figures.COLUMNS) + 1}


def test_missed_targets_are_named_and_those_without_a_figure_are_not() -> None:
    assert missed(TABLE) == ["search 10 × 20, peer 1.0: ≥ 5 ×: MISSED"]
    slow = replace(TABLE[1], rate=79.0, most_seconds=1.0)
    assert verdict(slow, TABLE) == "≥ 0.8 of limit: MISSED; ≤ 1 s: MISSED"
    assert verdict(replace(TABLE[3], least_gain=3.0), TABLE) == ""
    assert verdict(TABLE[1], TABLE[1:]) == "", "no limit, no share"


def test_a_limit_of_other_work_part_or_unit_says_nothing() -> None:
    for other in ({"work": "x"}, {"part": "x"}, {"unit": "images/s"}):
        assert figures.share_of_limit(TABLE[1], [replace(TABLE[0], **other)]) is None


def test_gain_goes_by_rates_where_a_peer_did_less_of_the_work() -> None:
    ours = Figure("evaluation", "w", OURS, 10.0, 500.0, "queries/s")
    less = Figure("evaluation", "w", "peer", 2.0, 50.0, "queries/s")
    assert figures.gain_of_ours(less, [ours, less]) == 10.0
    assert figures.gain_of_ours(replace(less, rate=None), [ours]) == 0.2


def test_kept_figures_come_back_and_a_part_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    assert load(path) == []
    keep("other", [Figure("other", "w", OURS, 1.0)], path=path)
    keep("search", TABLE, path=path)
    keep("search", TABLE[:2], path=path)
    assert load(path) == [Figure("other", "w", OURS, 1.0), *TABLE[:2]]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_exponent_of_a_power_law_whatever_the_factor(power: float) -> None:
    assert exponent({n: 7.0 * n**power for n in (10_000, 50_000, 200_000, 1_000_000)}) == pytest.approx(power)


def test_exponent_by_hand_and_what_cannot_be_fitted() -> None:
    # log10: (1, 0), (2, 1), (3, 1): slope = sum((x - 2)(y - 2/3)) / sum((x - 2)²) = (2/3 + 1/3) / 2
    assert exponent({10: 1.0, 100: 10.0, 1000: 10.0}) == pytest.approx(0.5)
    for bad in ({10: 1.0}, {}, {10: 0.0, 20: 1.0}):
        with pytest.raises(ValueError, match="exponent"):
            exponent(bad)


def test_without_an_environment_every_peer_is_missing_and_ours_is_not_asked(tmp_path: Path) -> None:
    none = Peers(tmp_path / "bin" / "python", threads=1)
    ran = in_turns({"p": Contender("clip_retrieval", {}, "clip-retrieval")}, none, rounds=3)["p"]
    assert [one.answer for one in ran] == [None], "who failed is not asked again"
    assert "make peers" in ran[0].reason
    assert seconds_of(ran) is None and least_of(ran) is None and peak_of(ran) is None
    assert none.name("clip-retrieval") == "clip-retrieval"


def test_an_installed_environment_without_one_peer_names_that_peer(tmp_path: Path) -> None:
    some = Peers(tmp_path / "python", threads=1)
    some.reason, some.versions = "", {"torchmetrics": "1.9.0"}
    assert "open-metric-learning is not installed" in some.run(Contender("x", {}, "open-metric-learning")).reason
    assert some.name("torchmetrics", "with care") == "torchmetrics 1.9.0 with care"


def test_a_program_that_fails_leaves_its_last_words_and_no_figure() -> None:
    ran = Peers(Path("none"), threads=1).run(Contender("no_such_task", {}))
    assert ran.answer is None
    assert ran.reason == "ended with 1: KeyError: 'no_such_task'"
    assert last_line("", -9) == "ended with -9: without a word"
    assert "|" not in last_line("a | b", 1)


def test_rounds_go_forth_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(self: Peers, contender: Contender) -> Ran:
        asked.append(contender.program)
        return Ran({"seconds": float(len(asked))}, peak=len(asked))

    monkeypatch.setattr(contenders.Peers, "run", run)
    ran = in_turns({name: Contender(name, {}) for name in "abc"}, Peers(Path("none"), threads=1), rounds=3)
    assert "".join(asked) == "abccbaabc"
    assert seconds_of(ran["a"]) == 6.0  # the median of 1, 6, 7
    assert least_of(ran["a"]) == 1.0 and greatest_of(ran["a"], "seconds") == 7.0
    assert peak_of(ran["a"]) == 7


@pytest.mark.parametrize(
    ("images", "second", "seconds", "batch"),
    [
        (128, 64, 30.0, 13.0),  # every image once
        (512, 384, 56.0, 6.5),  # a quarter before and a quarter after: twice their 26 s, and 4 s for the caption
    ],
)
def test_the_limit_of_embedding_is_both_of_its_parts_and_fails_with_either(
    images: int, second: int, seconds: float, batch: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, int, int]] = []
    broken: set[int] = set()

    def run(self: Peers, contender: Contender) -> Ran:
        if contender.program != "raw":
            return Ran({"seconds": 40.0, "more": 4.0}, peak=1)
        first, last = contender.task["first"], contender.task["last"]
        asked.append((contender.program, first, last))
        if first in broken:
            return Ran(None, reason="no memory")
        return Ran({"seconds": 10.0 if first == 0 else 20.0, "images": 8.0 if first == 0 else 18.0}, peak=1)

    monkeypatch.setattr(contenders.Peers, "run", run)

    def measured(full: bool = True) -> dict[tuple[str, str], Figure]:
        none = Peers(Path("none"), threads=1)
        sizes = replace(peers.FULL if full else peers.QUICK, images=images)
        found = peer_parts.embedding(sizes, none, tmp_path, backbone=tmp_path, checkpoint=tmp_path)
        return {(one.work, one.who): one for one in found}

    whole, more = f"embed {images} images, ViT-B/32", "embed 64 images more"
    found = measured()
    assert asked == [("raw", 0, images - second), ("raw", second, images)]
    assert found[whole, LIMIT].seconds == seconds
    assert found[more, LIMIT].seconds == batch  # without the caption
    assert found[whole, OURS].seconds == 40.0 and found[more, OURS].seconds == 4.0
    for part in (0, second):
        broken.clear()
        broken.add(part)
        found = measured()
        assert found[whole, LIMIT].seconds is None and found[whole, LIMIT].note == "no memory"
        assert found[more, LIMIT].seconds is None and found[whole, OURS].seconds == 40.0
    broken.clear()
    asked.clear()
    found = measured(full=False)  # at small sizes the first part must do
    assert asked == [("raw", 0, images - second)]
    assert found[whole, LIMIT].seconds == 8.0 * images / (images - second) + 2.0


def test_the_best_repetition_counts_for_the_work_as_for_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    rates, clock = iter([100.0, 300.0, 200.0, 50.0]), iter([0.0, 3.0, 10.0, 11.0, 20.0, 25.0])
    monkeypatch.setattr(own_programs, "sgemm_gflops", lambda **options: next(rates))
    monkeypatch.setattr(own_programs, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert own_programs.beside_limit(lambda: None, repeats=3) == {"seconds": 1.0, "limit": 300.0}
    rounds = [Ran({"seconds": 4.0, "limit": 100.0}), Ran({"seconds": 2.0, "limit": 200.0})]
    assert peer_parts.limit_of("mining", "x", rounds, 400.0).seconds == 2.0
    assert peer_parts.of_products("mining", "x", OURS, rounds, 400.0).rate == 200.0


def test_no_batch_of_the_embedding_is_padded_and_train_is_not_empty() -> None:
    for sizes in (peers.FULL, peers.QUICK):
        assert sizes.images % (2 * peer_parts.BATCH) == 0
        assert sizes.images > peer_parts.BATCH, "one batch are the queries"


def test_quick_is_smaller_than_full_in_everything() -> None:
    full, quick = vars(peers.FULL), vars(peers.QUICK)
    assert all(quick[name] < full[name] for name in full)
    assert set(driver.QUICK) == set(driver.COMMANDS)
    assert max(scale.QUICK_ROWS) < min(scale.ROWS)


def test_memory_that_grows_with_the_rows_is_said() -> None:
    def of(work: str, own: int) -> figures.Figure:
        return figures.Figure("scale", work, figures.OURS, 1.0, peak=10 * own, own=own)

    first, last = scale.FLAT
    found = {
        "mine": {first: of("mine", 100), last: of("mine", 119)},
        "evaluate": {first: of("evaluate", 100), last: of("evaluate", 121)},
        "index": {first: of("index", 100), last: of("index", 900)},
    }
    _, mined, evaluated = scale.flatness(found, [first, last])
    assert mined.endswith("**holds**") and evaluated.endswith("**MISSED**")
    assert scale.flatness(found, [first, 50_000]) == []


def test_where_growth_is_judged_the_median_of_several_processes_counts() -> None:
    class Runner:
        asked: ClassVar[list[str]] = []

        def run(self, contender: Contender) -> Ran:
            self.asked.append(contender.program)
            n = self.asked.count(contender.program)
            return Ran({"seconds": (1.0, 9.0, 2.0)[n - 1], "own": (30, 10, 20)[n - 1], "peak": 100 * n})

    def measured(rows: int) -> dict[str, tuple[float | None, int | None, int | None]]:
        Runner.asked.clear()
        found = scale.measure(rows, anchors=10, pairs=10, runner=Runner())  # type: ignore[arg-type]
        return dict(zip(scale.WORK, [(one.seconds, one.own, one.peak) for one in found], strict=True))

    judged = measured(scale.FLAT[0])
    assert judged["mine"] == judged["evaluate_all"] == (2.0, 20, 200)
    assert judged["pairs"] == judged["index"] == (1.0, 30, 100)
    assert set(measured(50_000).values()) == {(1.0, 30, 100)}


def test_own_memory_is_what_was_allocated() -> None:
    """In a process of its own: one that has freed much takes nothing new for the ballast."""
    code = (
        "import time\n"
        "from benchmarks import own_programs\n"
        "before = own_programs.memory_of_status('RssAnon:')\n"
        "with own_programs.own_memory(0.005) as seen:\n"
        "    ballast = b'x' * 80_000_000\n"
        "    time.sleep(0.2)\n"
        "    del ballast\n"
        "print(seen.peak - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 70e6 < int(done.stdout) < 120e6


def test_quick_runs_are_never_written_down(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(driver, "run", lambda name, *, quick, write: True)  # whatever is let through starts nothing
    monkeypatch.setattr(driver, "LATEST", tmp_path / "figures.json")
    with pytest.raises(SystemExit):
        driver.main(["--quick", "--write"])
    assert "too little" in capsys.readouterr().err
    for name in driver.COMMANDS:
        assert "--write" not in driver.command(name, quick=True, write=False)
        assert driver.command(name, quick=False, write=True)[-1] == "--write"


def test_every_part_of_the_driver_has_its_module() -> None:
    for name in driver.COMMANDS:
        assert (ROOT / "benchmarks" / f"{name}.py").is_file()


def test_the_chart_has_the_same_bytes_every_time_and_takes_a_missing_peer() -> None:
    assert draw_peers(TABLE) == draw_peers(TABLE)
    assert draw_peers(TABLE) != draw_peers(TABLE[:3])
    assert b"Software" not in draw_peers(TABLE) and draw_peers([]).startswith(b"\x89PNG")


def test_the_peers_run_with_this_project_s_libraries() -> None:
    pinned, own = (
        dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE))
        for name in ("benchmarks/requirements.txt", "requirements.txt")
    )
    for name in ("torch", "torchvision", "open_clip_torch", "numpy", "pillow", "timm", "faiss-cpu"):
        assert pinned[name] == own[name]
    lines = (ROOT / "benchmarks" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines if line and not line.startswith("#"))


RATES = sizing.Rates(
    images=10.0,
    mining=100.0,
    evaluation=50.0,
    pairs=100_000.0,
    training=60.0,
    hnsw=20.0,
    ivf_pq=10.0,
    indexed=50_000,
    flat=0.02,
    hnsw_query=0.001,
    ivf_pq_query=0.001,
)


def test_sizing_formulas_by_hand() -> None:
    # 1,000 images at 10 a second, a third as many captions at 5.96 / 8.82 of an image
    assert sizing.embedding_seconds(1000, RATES) == pytest.approx(100 * (1 + 5.96 / 8.82 / 3))
    # 2 · 10,000 · 1,000,000 · 512 = 10.24 TFLOP at 100 GFLOP/s; of 100 items all are anchors
    assert sizing.mining_seconds(1_000_000, RATES) == pytest.approx(102.4)
    assert sizing.mining_seconds(100, RATES) == pytest.approx(2 * 100 * 100 * 512 / 1e11)
    # 2 · 5,000 · (4 · 50,000 + 5,000) · 512 = 1.0496 TFLOP at 50 GFLOP/s
    assert sizing.evaluation_seconds(50_000, RATES) == pytest.approx(20.992)
    assert sizing.pairs_seconds(1_000_000, RATES) == pytest.approx(10.0)
    assert sizing.disk_bytes(10) == 10 * (30_000 + 6 * 2048 + 64)
    assert sizing.index_bytes(1_000_000, "flat") == 2.048e9
    assert sizing.index_bytes(1_000_000, "hnsw") == 2.32e9
    assert sizing.index_bytes(1_000_000, "ivf_pq") == 1_000_000 * 72 + 4000 * 2048


def test_sizing_reproduces_what_was_measured_where_it_was() -> None:
    assert sizing.index_seconds(50_000, "hnsw", RATES) == 20.0
    assert sizing.index_seconds(50_000, "ivf_pq", RATES) == 10.0
    assert sizing.index_seconds(50_000, "flat", RATES) == 0.0
    assert sizing.query_milliseconds(50_000, "flat", RATES) == pytest.approx(20.0)
    assert sizing.query_milliseconds(100_000, "flat", RATES) == pytest.approx(40.0)
    assert sizing.query_milliseconds(50_000, "hnsw", RATES) == pytest.approx(1.0)
    assert sizing.query_milliseconds(200_000, "ivf_pq", RATES) == pytest.approx(2.0)


def test_evaluation_does_not_grow_with_the_square_of_the_catalogue() -> None:
    ten = sizing.evaluation_seconds(10_000_000, RATES) / sizing.evaluation_seconds(1_000_000, RATES)
    assert ten == pytest.approx(10, rel=0.01)


def test_a_night_is_local_and_more_takes_machines() -> None:
    night = int(12 * 3600 * 10 / (1 + 5.96 / 8.82 / 3))
    assert sizing.engine(night, RATES) == "local"
    assert sizing.engine(night + 1000, RATES) == "ray, 2 ×"
    assert sizing.engine(10 * night, RATES) == "ray, 10 ×"


def test_machines_hold_what_they_must_with_a_quarter_to_spare() -> None:
    # 1e9 + 1,000,000 · (1,000 + 2,320) = 4.32 GB, with a quarter 5.4
    assert sizing.machine(1_000_000, "hnsw") == "8 GB"
    assert sizing.machine(1000, "flat") == "4 GB"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (119, "120 s"), (121, "2.0 min"), (7200, "2.0 h"), (100_000, "28 h"),
     (1_234_567, "14 days"), (86_400 * 1234, "1,200 days")],
)  # fmt: skip
def test_durations_have_two_digits(seconds: float, said: str) -> None:
    assert sizing.spoken(seconds) == said


def test_the_table_has_a_column_per_size_and_goes_between_its_markers() -> None:
    text = sizing.table(RATES, load_params(ROOT / "params.yaml").index)
    lines = text.splitlines()
    assert {line.count("|") for line in lines} == {len(sizing.ITEMS) + 2}
    assert "flat | hnsw | hnsw | ivf_pq | ivf_pq" in text
    readme = f"before\n{sizing.BEGIN}\nold\n{sizing.END}\nafter\n"
    once = sizing.put(readme, text)
    assert once == sizing.put(once, text) and "old" not in once and once.endswith(f"{sizing.END}\nafter\n")
    with pytest.raises(SystemExit, match="no place"):
        sizing.put("nothing", text)


def test_rates_come_from_figures_and_a_missing_one_is_named() -> None:
    kept = [
        Figure("embedding", "embed 1,024 images, ViT-B/32", LIMIT, 50.0, 20.0, "images/s"),
        Figure("embedding", "embed 1,024 images, ViT-B/32", OURS, 51.2, 20.0, "images/s"),
        Figure("mining", "mine hard negatives, 10,000 anchors × 52,591", OURS, 4.0, 130.0, "GFLOP/s"),
        Figure("pairs", "build 50,000 pairs of 52,591 items", OURS, 2.0, 25_000.0, "pairs/s"),
        Figure("training", "train 10 × 50,000 pairs, dim 512", OURS, 50.0, 1.0, "pairs/s"),
        Figure(
            "whole evaluation", "whole evaluation of a model, 5,000 queries × 50,000", OURS, 20.0, 1.0, "queries/s"
        ),
        *(
            Figure("index", f"{what} {kind}, 50,000 × 512", OURS, 1.0 + place, 1.0, "rows/s")
            for what in ("build", "one query of")
            for place, kind in enumerate(("flat", "hnsw", "ivf_pq"))
        ),
    ]
    rates = sizing.rates_of(kept)
    assert (rates.images, rates.mining, rates.training, rates.indexed) == (20.0, 130.0, 50.0, 50_000)
    assert (rates.pairs, rates.hnsw, rates.ivf_pq_query) == (52_591 / 2, 2.0, 3.0)
    assert rates.evaluation == pytest.approx(1049.6 / 20)
    with pytest.raises(SystemExit, match=r"'pairs'.*make bench"):
        sizing.rates_of([figure for figure in kept if figure.part != "pairs"])


def test_peer_programs_reads_nothing_of_the_project() -> None:
    source = (ROOT / "benchmarks" / "peer_programs.py").read_text(encoding="utf-8")
    assert not re.findall(r"^\s*(?:from|import) (?:lib|benchmarks)\b", source, flags=re.MULTILINE)


def test_the_readme_has_the_table_of_the_kept_figures() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if not figures.KEPT.is_file():
        assert sizing.BEGIN in readme and sizing.END in readme
        return
    text = sizing.table(sizing.rates_of(load(figures.KEPT)), load_params(ROOT / "params.yaml").index)
    assert readme == sizing.put(readme, text), "run `python -m benchmarks.sizing --write`"


def test_a_peak_is_of_the_program_and_not_of_what_started_it() -> None:
    ballast = bytearray(b"x" * 700_000_000)
    ran = Peers(Path("none"), threads=1)._start(
        [sys.executable, str(ROOT / "benchmarks" / "peer_programs.py")], "versions", {}
    )
    assert len(ballast) and ran.peak is not None
    assert 10e6 < ran.peak < 700e6
