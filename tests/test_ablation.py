"""The ablation without its runs: variants against DVC's own reading of them, deltas by hand, what is kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc.utils.hydra import apply_overrides as dvc_overrides

from benchmarks import seeds
from benchmarks.ablation import Results, main
from benchmarks.ablation_clone import Clone
from benchmarks.ablation_table import compare, markdown, query_table, seed_noise, summarise, values
from benchmarks.ablation_variants import FULL, SEEDS, Variant, hydra_value, read_variants, recipe_text
from lib.base.errors import ConfigError
from lib.base.params import Bootstrap, ClassRow, Scoreboard, load_params

ROOT = Path(__file__).resolve().parent.parent
DECLARED = ROOT / "benchmarks" / "ablation.yaml"
RECIPES = sorted([*ROOT.glob("profiles/*.yaml"), *ROOT.glob("tests/real/*.yaml")])
BOOTSTRAP = Bootstrap(resamples=400, seed=0)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_dvc_reads_every_variant_as_it_is_meant(recipe: Path, tmp_path: Path) -> None:
    base = load_params(recipe)
    variants, _ = read_variants(DECLARED, base)
    assert variants[0].name == FULL and len({variant.name for variant in variants}) == len(variants) > 25
    for variant in variants:
        file = tmp_path / "params.yaml"
        file.write_text(recipe_text(recipe, base, variants), encoding="utf-8")
        dvc_overrides(file, [word for word in variant.options if word != "-S"])
        assert load_params(file) == variant.params, variant.name
        assert variant.name == FULL or variant.params != base
        assert set(variant.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-"), "goes into the name of a git ref"


def test_a_recipe_is_used_as_it_stands_or_with_the_keys_that_it_leaves_out(tmp_path: Path) -> None:
    whole = ROOT / "params.yaml"
    base = load_params(whole)
    variants, _ = read_variants(DECLARED, base)
    assert recipe_text(whole, base, variants) == whole.read_text(encoding="utf-8")
    old = yaml.safe_load(whole.read_text(encoding="utf-8"))
    del old["train"]["loss"]["temperature"], old["pairs"]["graphic_policy"]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old), encoding="utf-8")
    filled = yaml.safe_load(recipe_text(tmp_path / "old.yaml", base, variants))
    assert filled["train"]["loss"]["temperature"] == "learned" and filled["pairs"]["graphic_policy"] == "pattern_only"
    assert "image_url" not in filled["data"]["columns"], "what no variant changes is not added"


def test_every_listed_part_has_a_variant_on_the_sample() -> None:
    variants, left_out = read_variants(DECLARED, load_params(ROOT / "params.yaml"))
    assert set(left_out) == {
        "no-collar", "no-drawn-collars",  # its garments are not worn
        "no-logit-adjustment",  # its recipe has none
    }  # fmt: skip
    keys = {key for variant in variants for key in variant.overrides}
    for part in ("contrastive", "image_text", "attribute_heads", "identity", "fusion", "temperature"):
        assert f"train.loss.{part}" in keys
    for kind in ("strong", "medium", "weak", "hard", "easy"):
        assert f"train.loss.kind_weights.{kind}" in keys
    assert {f"train.sampler.boosts.{i}.weight" for i in range(3)} <= keys
    assert {f"train.sampler.caps.{i}.max_share" for i in range(2)} <= keys
    assert {"train.loss.batch_positives", "train.loss.batch_negatives", "mine.max_positive_ratio"} <= keys
    assert {f"train.{name}" for name in ("head.kind", "interpolation", "patience", "average")} <= keys
    assert "pairs.graphic_policy" in keys
    assert len([variant for variant in variants if variant.part == SEEDS]) >= 3
    no_hard = next(variant for variant in variants if variant.name == "no-hard-pairs").params.pairs.shares
    assert no_hard.hard == 0 and no_hard.strong == pytest.approx(0.35 / 0.7)


def test_what_a_recipe_does_not_have_is_left_out_with_the_reason() -> None:
    variants, left_out = read_variants(DECLARED, load_params(ROOT / "tests" / "real" / "tshirts.yaml"))
    assert "no-graphic-policy" in left_out, "it has no pattern-only category"
    named = {"no-cap-neckline-round-neck", "no-collar", "no-drawn-collars", "no-logit-adjustment"}
    assert named <= {variant.name for variant in variants}
    _, left_out = read_variants(DECLARED, load_params(ROOT / "profiles" / "deepfashion.yaml"))
    assert {"no-fixed-dims", "no-classifiers"} <= set(left_out), "its backbone is fetched"


def declare(folder: Path, **entry: object) -> Path:
    file = folder / "variants.yaml"
    part = {"title": "x", "variants": [entry]}
    file.write_text(yaml.safe_dump({"seeds": [], "seed_keys": [], "parts": [part]}), encoding="utf-8")
    return file


def test_mistakes_are_named_before_anything_runs(tmp_path: Path) -> None:
    base = load_params(ROOT / "params.yaml")
    with pytest.raises(ConfigError, match=r"a: no parameter 'train\.loss\.contrastiv'"):
        read_variants(declare(tmp_path, name="a", what="b", set={"train.loss.contrastiv": 0}), base)
    with pytest.raises(ConfigError, match=r"'train\.lr'"):
        read_variants(declare(tmp_path, name="a", what="b", set={"train.lr": -1}), base)
    with pytest.raises(ConfigError, match="two variants are called 'full'"):
        read_variants(declare(tmp_path, name="full", what="b", set={"train.lr": 1}), base)
    with pytest.raises(ConfigError, match="expected name, what, set"):
        read_variants(declare(tmp_path, name="a", what="b", sets={"train.lr": 1}), base)
    with pytest.raises(ConfigError, match="mapping"):
        hydra_value({"a": 1})


def test_an_unknown_variant_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no-such"]) == 2
    assert "no variant 'no-such'; there are full, seed-1" in capsys.readouterr().err
    assert main(["--data", "x", "--only", "full"]) == 2
    assert "draws its own catalogue" in capsys.readouterr().err


def per_query(hits: dict[str, list[int | None]], *, mode: str = "image_to_image") -> pd.DataFrame:
    n = len(next(iter(hits.values())))
    table = pd.DataFrame({"split": "validation", "mode": mode, "query_id": [f"q{i}" for i in range(n)]})
    table["product_id"] = [f"p{i // 2}" for i in range(n)]
    table["category2"] = ["tees", "shorts"] * (n // 2)
    for label in ("neckline", "category", "color", "material", "pattern", "sleeve"):
        table[f"{label}_hits"] = pd.array(hits.get(label, [None] * n), dtype="Int64")
    return table.assign(product_hit_rate=[float(i % 4 == 0) if mode == "image_to_image" else None for i in range(n)])


SHORTS = Scoreboard(
    classes={"shorts": ClassRow(column="category2", value="shorts")}, targets=(), bootstrap=BOOTSTRAP, changes_shown=0
)


def table(neckline: list[int | None], category: list[int | None]) -> pd.DataFrame:
    hits = {"neckline": neckline, "category": category}
    other = per_query({"neckline": neckline}, mode="unseen_gallery")
    test = per_query({"neckline": [10] * 4, "category": [10] * 4}).assign(split="test")
    return query_table(pd.concat([per_query(hits), other, test]), SHORTS, k=10)


def test_rows_and_deltas_by_hand() -> None:
    full, variant = table([5, None, 3, 1], [2, 4, 6, 8]), table([6, None, 3, 2], [2, 4, 0, 8])
    assert values(full) == pytest.approx(
        {
            "neckline@10": 0.3,
            "category@10": 0.5,
            "shorts@10": 0.6,
            "product_hit_rate@1": 0.25,
            "mean": 0.4,
            "unseen mean": 0.3,
        }
    )
    found = compare(variant, full, BOOTSTRAP)
    deltas = {name: row["delta"] for name, row in found.items()}
    assert deltas == pytest.approx(
        {
            "neckline@10": 0.2 / 3,
            "category@10": -0.15,
            "shorts@10": 0,
            "product_hit_rate@1": 0,
            "mean": -0.125 / 3,
            "unseen mean": 0.2 / 3,
        },
        abs=2e-6,
    )
    for name, row in found.items():
        assert row["low"] <= row["delta"] <= row["high"]
        assert row["value"] == pytest.approx(values(variant)[name], abs=1e-6)
    # products are drawn, not queries: with two of them the interval ends at what each of them says
    assert (found["category@10"]["low"], found["category@10"]["high"]) == pytest.approx((-0.3, 0.0))
    assert all(row["delta"] == row["low"] == row["high"] == 0 for row in compare(full, full, BOOTSTRAP).values())


def test_seed_noise_is_a_prediction_interval_of_a_difference() -> None:
    """Two new runs of one recipe lie within it in 95 % of the cases."""
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(3000):
        *seeds, one, two = rng.normal(0.3, 0.01, size=6)
        inside.append(abs(one - two) <= seed_noise([{"x": seed} for seed in seeds])["x"])
    assert 0.93 <= np.mean(inside) <= 0.97
    assert seed_noise([{"x": 0.1}, {"x": 0.2}]) == {}


def variant(name: str, part: str = "") -> Variant:
    return Variant(name, part, f"what {name} is", {"train.lr": 0.1}, load_params(ROOT / "params.yaml"))


def test_only_what_is_beyond_both_noises_is_bold() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(2, 6, 40)

    def of(neckline: np.ndarray) -> pd.DataFrame:
        hits = {"neckline": neckline.tolist(), "category": [5] * len(neckline)}
        return query_table(per_query(hits), SHORTS, k=10)

    tables = {FULL: of(base), "seed-1": of(base + (np.arange(40) % 4 == 0)), "seed-2": of(base)}
    tables |= {"much": of(base - 2), "little": of(base + (np.arange(40) % 20 == 0))}
    variants = [variant(FULL), variant("seed-1", SEEDS), variant("seed-2", SEEDS)]
    variants += [variant(name, "part") for name in ("much", "little", "later")]
    found = summarise(variants, tables, of(base - 1), BOOTSTRAP, not_there={"later": "not run yet"})
    rows = {entry["name"]: entry["rows"]["neckline@10"] for entry in found["variants"]}
    assert rows["much"]["beyond_noise"] == 1 and rows["little"]["beyond_noise"] == 0
    assert found["noise"]["neckline@10"] > 0 and found["noise"]["category@10"] == 0
    page = markdown(found, made_by="command", recipe="params.yaml")
    assert "| `much` | **-20.0** |" in page and "| `little` | +0.5 |" in page
    assert "- `later`: not run yet" in page and "dvc exp run -n much -S train.lr=0.1" in page
    without = summarise(variants[:1] + variants[3:4], {n: tables[n] for n in (FULL, "much")}, of(base), BOOTSTRAP,
                        not_there={})  # fmt: skip
    assert without["noise"] == {} and "**-20.0**" not in markdown(without, made_by="x", recipe="y")


def test_results_are_kept_for_one_key_only(tmp_path: Path) -> None:
    results, kept = Results(tmp_path), table([5, None, 3, 1], [2, 4, 6, 8])
    assert results.load("a", "key") is None
    results.save("a", "key", kept)
    loaded = results.load("a", "key")
    assert loaded is not None and values(loaded) == values(kept) and results.load("a", "other") is None
    (tmp_path / "a.json").unlink()  # a run killed before the note: the table alone does not count
    assert results.load("a", "key") is None


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one stage that writes down a parameter and what the raw folder holds."""
    root = tmp_path / "project"
    (root / "data" / "image_cache").mkdir(parents=True)
    (root / "data" / "image_cache" / ".gitkeep").touch()
    (root / "data" / "image_cache" / "photo.jpg").write_bytes(b"the user's")
    (root / "data" / "weights").mkdir()
    (root / "data" / "weights" / "own.pt").write_bytes(b"the user's weights")
    (root / "params.yaml").write_text("lr: 1\n")
    ignored = "/artifacts\n/data/image_cache/*\n!/data/image_cache/.gitkeep\n/data/weights/*\n"
    (root / ".gitignore").write_text(ignored)
    stage = {"cmd": "mkdir -p artifacts && cat params.yaml raw/table.csv > artifacts/out", "params": ["lr"]}
    stage |= {"deps": ["raw/table.csv"], "outs": ["artifacts/out"]}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"scoreboard": stage}}))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "table.csv").write_text("a,b\n")
    dvc = str(Path(sys.executable).parent / "dvc")
    for command in (["git", "init", "-q"], [dvc, "init", "-q"], ["git", "add", "-A"]):
        subprocess.run(command, cwd=root, check=True)
    return root


def test_a_copy_in_which_an_experiment_was_killed_is_put_right(project: Path, tmp_path: Path) -> None:
    """Git had put a folder in the place of the shown one, and the index held another parameter."""
    clone = Clone(tmp_path / "clone", root=project, logs=tmp_path / "logs")

    def prepare() -> str:
        shown = {"image_cache": "data/image_cache", "weights": "data/weights/own.pt"}
        clone.prepare("lr: 2\n", raw_dir="raw", data=tmp_path / "raw", **shown)
        return (clone.folder / "artifacts" / "out").read_text()

    assert prepare() == "lr: 2\na,b\n"
    clone.run("other", ["-S", "lr=3"])
    assert (clone.folder / "artifacts" / "out").read_text() == "lr: 3\na,b\n"
    shown = clone.folder / "data" / "image_cache"
    shown.unlink()
    shown.mkdir()
    (shown / ".gitkeep").touch()
    (clone.folder / "params.yaml").write_text("lr: 4\n")
    subprocess.run(["git", "add", "-A", "-f", "data", "params.yaml"], cwd=clone.folder, check=True)
    assert prepare() == "lr: 2\na,b\n"
    assert shown.is_symlink() and (shown / "photo.jpg").read_bytes() == b"the user's"
    assert (project / "data" / "image_cache" / ".gitkeep").is_file()
    assert (clone.folder / "data" / "weights" / "own.pt").read_bytes() == b"the user's weights"
    clone.restore()
    assert (clone.folder / "artifacts" / "out").read_text() == "lr: 2\na,b\n"


def test_what_was_run_for_one_model_is_run_again_for_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone that was tried alone has no protocol model yet, though it is of the same code and recipe."""
    ran: list[str] = []

    class Fake:
        def __init__(self, folder: Path, **_: Path) -> None:
            self.folder = folder

        def prepare(self, recipe: str, **_: object) -> None: ...

        def key(self, params: object) -> str:
            return "key"

        def restore(self) -> None: ...

        def run(self, name: str, options: list[str], *, target: str) -> None:
            ran.append(f"{name} {target}")
            for model in ("baseline", "protocol"):
                (self.folder / "artifacts/evaluation" / model).mkdir(parents=True, exist_ok=True)
            (self.folder / "artifacts/scoreboard").mkdir(exist_ok=True)
            (self.folder / "artifacts/scoreboard/scoreboard.json").write_text("{}")

    monkeypatch.setattr(seeds, "Clone", Fake)
    monkeypatch.setattr(seeds, "ROOT", tmp_path)
    monkeypatch.setattr(seeds, "raw_data", lambda params, data: None)
    wanted = {"plain": {"train.lr": 1}}
    for models in (["baseline"], ["baseline"], seeds.MODELS, seeds.MODELS):
        kept = seeds.experiments(wanted, ROOT / "params.yaml", None, models=models)
        assert all((kept["plain"] / model).is_dir() for model in models)
    assert ran == ["run-plain evaluate@baseline", "run-plain scoreboard"]
