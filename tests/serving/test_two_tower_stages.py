"""The three stages and the query command on photos that are drawn here, with every kind of tower."""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from tiny_towers import ROOT, draw_shop, keep_pictures, tiny_params

from lib.base.artifacts import read_array
from lib.base.errors import ConfigError, IntegrityError
from lib.base.params import Params, parse_params
from lib.base.stage import pin_threads
from lib.catalog.picture_store import load_picture_tables
from lib.encoding.backbone import load_backbone, save_backbone
from lib.encoding.embed import embed_pictures
from lib.encoding.embedding_cache import EmbeddingCache
from lib.encoding.encoder import Encoder
from lib.encoding.engine import LocalEngine
from lib.encoding.picture_rows import save_no_rows
from lib.encoding.tower_inputs import augmented, decoded, pixels
from lib.encoding.tower_network import build_network
from lib.encoding.two_tower import load_two_tower
from lib.retrieval.gallery import load_gallery
from lib.retrieval.index import load_index
from lib.retrieval.search import exact_top_k
from lib.serving.__main__ import main
from lib.training.checkpoint import load_checkpoint
from stages import evaluate_two_tower, index_two_tower, train_two_tower

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
OUT = Path("artifacts/two_tower")
PHOTOS, ROWS = Path("data/processed/photos"), Path("artifacts/retrieval/photos")


def embed_photos(params: Params) -> None:
    """What `process_data` and `embed_catalog` do for the two-tower model."""
    keep_pictures(Path("raw"), PHOTOS, params.two_tower)
    tables = load_picture_tables(PHOTOS)
    if tables is None:
        save_no_rows(ROWS)
        return
    pin_threads(params.runtime.threads)
    encoder = Encoder(load_backbone(Path("artifacts/backbone")), batch_size=params.embed.batch_size)
    with EmbeddingCache(Path("cache"), max_bytes=10**9) as cache:
        embed_pictures(tables.pictures, ROWS, encoder, cache, LocalEngine(encoder, decode_workers=1))


def stages(params: Params, *, resume: bool = False) -> list[str]:
    """What the three stages say, run as `dvc.yaml` runs them, on photos that are processed and embedded first."""
    embed_photos(params)
    places = {"photos": PHOTOS, "rows": ROWS, "out": OUT, "resume": resume}
    places |= {"checkpoint": OUT / "checkpoints" / "best.pt", "embeddings": OUT / "embeddings"}
    args = argparse.Namespace(**places)
    return [module.run(args, params) for module in (train_two_tower, evaluate_two_tower, index_two_tower)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with tables, and a tiny backbone that has learnt nothing."""
    import torch
    from open_clip.model import CLIP

    folder = tmp_path_factory.mktemp("towers")
    draw_shop(folder / "raw")
    torch.manual_seed(0)
    model = CLIP(**CONFIG)  # type: ignore[arg-type]
    model.visual.preprocess_cfg = {"size": 32, "mode": "RGB", "mean": (0.5,) * 3, "std": (0.3,) * 3}
    save_backbone(folder / "artifacts" / "backbone", model, model_config=CONFIG, source="train")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        (folder / "said.json").write_text(json.dumps(stages(parse_params(tiny_params()))))
    return folder


@pytest.fixture
def here(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(shop)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    yield shop


def test_what_the_stages_leave(here: Path) -> None:
    train, evaluate, index = json.loads((here / "said.json").read_text())
    assert re.match(r"\d+ pairs learnt from, 8 for validation, 0 rows unusable\nrecall@10 on validation 0\.", train)
    assert re.match(r"recall@10: trained 0\.\d+, 95 % .*; frozen 0\.\d+", evaluate) and "on 8 queries" in evaluate
    assert index.startswith("60 candidates of 16 dimensions: flat serves\nann_recall@10: flat 1.000, ivf_pq ")
    figures = json.loads((OUT / "metrics.json").read_text())
    table = pd.read_parquet(OUT / "per_query.parquet")
    for metric, row in figures.items():
        for model in ("trained", "frozen"):
            assert row[model] == pytest.approx(table[table["model"] == model][metric].mean(), abs=1e-6)
            assert row[f"{model}_low"] <= row[model] <= row[f"{model}_high"]
    held = json.loads((OUT / "pairs_report.json").read_text())["pairs_held_out"]
    assert held == {"learnt": 36, "validation": 8, "validation_queries": 4}
    page = (OUT / "gallery.html").read_text()
    assert page.count("data:image/jpeg") > 8 and "http" not in page.split("</style>")[1]
    texts = "".join(path.read_text() for path in OUT.glob("*.json*"))
    assert str(here) not in texts


def test_embeddings_are_those_of_the_checkpoint_and_scores_those_of_the_exact_search(here: Path) -> None:
    embedded = load_gallery(OUT / "embeddings")
    assert embedded is not None and embedded.gallery_ids[:2] == ["shop/c0_0.png", "shop/c0_1.png"]
    top = exact_top_k(embedded.queries, embedded.gallery, k=10)["all"]
    table = pd.read_parquet(OUT / "per_query.parquet")
    found = table[table["model"] == "trained"].set_index("query")["retrieved"]
    expected = {tuple(embedded.gallery_ids[row] for row in rows) for rows in top.rows.tolist()}
    assert {tuple(names) for names in found} == expected
    for kind in ("flat", "ivf_pq"):
        index = load_index(OUT / "index", embedded, kind=kind)
        assert list(index.ids) == embedded.gallery_ids
        np.testing.assert_array_equal(index.search(embedded.queries, k=1).scores[:, 0], top.scores[:, 0])


def test_the_index_refuses_other_embeddings(here: Path) -> None:
    embedded = load_gallery(OUT / "embeddings")
    assert embedded is not None
    other = type(embedded)(
        embedded.gallery[::-1].copy(), embedded.gallery_ids, embedded.queries, embedded.fingerprint, {}
    )
    with pytest.raises(IntegrityError, match=r"built from other embeddings: .* run `dvc repro index_two_tower`"):
        load_index(OUT / "index", other, stage="index_two_tower")


def test_towers_of_another_backbone_are_refused(here: Path) -> None:
    with pytest.raises(IntegrityError, match="expected towers for backbone eeee"):
        load_two_tower(OUT / "checkpoints" / "best.pt", backbone="e" * 64)


def test_the_query_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["query-two-tower", "--image", "raw/street/q0.png", "--topk", "3", "--threads", "1"]
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    table = pd.read_parquet(OUT / "per_query.parquet").set_index(["query", "model"])
    expected = table.loc[("street/q0.png", "trained")]
    assert [row["path"] for row in answer["results"]] == list(expected["retrieved"][:3])
    assert [row["score"] for row in answer["results"]] == pytest.approx(list(expected["scores"][:3]), abs=1e-5)
    assert (
        answer["index"] == "flat" and answer["candidates"] == 60 and min(answer["encode_ms"], answer["search_ms"]) > 0
    )
    assert main([*words, "--index", "ivf_pq", "--nprobe", "1", "--html", "sheet.html"]) == 0
    shown = capsys.readouterr()
    assert re.search(r"   1  0\.\d{3}  shop/c\d+_\d\.png\n", shown.out) and "ms to embed" in shown.out
    assert (here / "sheet.html").read_text().count('<img src="data:image/jpeg;base64,') == 4


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--image", "none.png"], 2, "--image none.png: No such file"),
        (["--image", "raw/two_tower/pairs.csv"], 3, "no known image format"),
        (["--image", "raw/street/q0.png", "--topk", "0"], 2, "topk: expected 1 to 1000, got 0"),
        (["--image", "raw/street/q0.png", "--index", "hnsw"], 2, "expected an index of kind hnsw, got flat, ivf_pq"),
        (["--image", "raw/street/q0.png", "--index", "tree"], 2, "expected one of flat, hnsw, ivf_pq, got tree"),
        (["--image", "raw/street/q0.png", "--nprobe", "4"], 2, "index flat has no lists"),
        (["--image", "raw/street/q0.png", "--root", "nowhere"], 4, "missing"),
    ],
)
def test_questions_that_cannot_be_answered(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    assert main(["query-two-tower", "--threads", "1", *words]) == code
    assert said in capsys.readouterr().err


def test_damaged_embeddings_are_refused(here: Path, tmp_path: Path) -> None:
    path = OUT / "embeddings" / "candidates.npy"
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        with pytest.raises(IntegrityError, match="damaged"):
            load_gallery(OUT / "embeddings")
    finally:
        path.write_bytes(before)


def test_a_network_trains_goes_on_and_answers(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On augmented photos; a stopped training goes on to the same bytes."""
    monkeypatch.chdir(tmp_path)
    draw_shop(tmp_path / "raw", n_products=8, n_asked=3)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "backbone").symlink_to(here / "artifacts" / "backbone")
    changed = {"tower": "resnet18", "batch_size": 4, "patience": 0, "epochs": 2}
    params = parse_params(tiny_params(**changed))
    embed_photos(params)
    args = {"photos": PHOTOS, "rows": ROWS, "out": Path("stopped")}
    for epochs, resume in ((1, False), (2, True)):
        recipe = parse_params(tiny_params(**changed | {"epochs": epochs}))
        train_two_tower.run(argparse.Namespace(**args, resume=resume), recipe)
    stages(params)
    for name in ("best.pt", "last.pt"):
        assert Path("stopped/checkpoints", name).read_bytes() == (OUT / "checkpoints" / name).read_bytes()
    assert read_array(OUT / "embeddings" / "candidates.npy").shape == (16, 16)
    assert main(["query-two-tower", "--image", "raw/street/q0.png", "--json", "--threads", "1"]) == 0
    assert len(json.loads(capsys.readouterr().out)["results"]) == 10
    names = {name.split(".")[1] for name in load_checkpoint(OUT / "checkpoints" / "last.pt")["model"] if "." in name}
    assert names == {"0", "1"}


def test_the_large_network_takes_pictures_of_the_size_that_is_asked_for() -> None:
    import torch

    network = build_network("vit_b_16", dim=8, image_size=32, pretrained=False, seed=0).eval()
    pictures = torch.stack([pixels(decoded(_photo(number)), side=32) for number in range(2)])
    with torch.inference_mode():
        rows = network(pictures)
    assert rows.shape == (2, 8) and not torch.equal(rows[0], rows[1])


def test_augmentation_is_drawn_from_the_generator_alone() -> None:
    params = parse_params(tiny_params()).two_tower.network
    picture = decoded(_photo(0))
    seen = [
        np.asarray(pixels(augmented(picture, params, np.random.default_rng(seed)), side=32)) for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(seen[0], seen[1])
    assert np.abs(seen[0] - seen[2]).max() > 0.1
    plain = params.model_copy(update={"mirror": 0.0, "colour": 0.0})
    part, whole = (np.asarray(one) for one in (augmented(picture, plain, np.random.default_rng(0)), picture))
    windows = np.lib.stride_tricks.sliding_window_view(whole, part.shape)
    assert part.size < whole.size and (windows == part).all(axis=(-3, -2, -1)).any(), "no crop of the picture"


def _photo(number: int) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def test_without_tables_the_stages_say_so_and_leave_every_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = stages(parse_params(tiny_params(pairs="")))
    assert said == [
        "nothing trained: two_tower.pairs names no table of pairs",
        "nothing evaluated: two_tower.pairs names no table of pairs",
        "nothing indexed: there are no candidates",
    ]
    pipeline = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text())["stages"]
    for stage in ("train_two_tower", "evaluate_two_tower", "index_two_tower"):
        for out in [*pipeline[stage]["outs"], *pipeline[stage].get("metrics", [])]:
            assert Path(out if isinstance(out, str) else next(iter(out))).exists(), out
    assert main(["query-two-tower", "--image", "none.png", "--threads", "1"]) == 2


def test_pretrained_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    from lib.base.errors import BusyError
    from lib.encoding import tower_network

    def unreachable(*words: object, **named: object) -> None:
        raise OSError("We couldn't connect to the hub\nand more")

    monkeypatch.setattr(tower_network.timm, "create_model", unreachable)
    with pytest.raises(BusyError, match=r"resnet18 cannot be fetched \(We couldn't connect to the hub\); run again"):
        tower_network.build_network("resnet18", dim=4, image_size=32, pretrained=True, seed=0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"candidates": ""}, "pairs need candidates and query_gt"),
        ({"index": []}, "index must name one or more kinds"),
        ({"index": ["flat", "flat"]}, "each once"),
        ({"tower": "resnet50"}, "resnet18"),
        ({"batch_size": 1}, "batch_size"),
        ({"initial_temperature": 0.001}, "initial_temperature"),
        ({"tower": "vit_b_16", "network": {"image_size": 100}}, "multiple of 16"),
        ({"shard": True}, "Did you mean 'shared'"),
    ],
)
def test_parameters_that_cannot_be_meant(changed: dict[str, object], said: str) -> None:
    raw = tiny_params()
    raw["two_tower"]["network"] |= changed.pop("network", {})  # type: ignore[operator, call-overload]
    raw["two_tower"] |= changed
    with pytest.raises(ConfigError, match=said):
        parse_params(raw)


def test_rows_of_other_photos_are_refused(here: Path, tmp_path: Path) -> None:
    """Another photo in the tables, or the same ones in another order; and rows of none at all."""
    for number, draws in enumerate(({"seed": 1}, {"n_products": 29})):
        draw_shop(tmp_path / str(number), **draws)
        keep_pictures(tmp_path / str(number), tmp_path / f"photos{number}", parse_params(tiny_params()).two_tower)
        args = argparse.Namespace(photos=tmp_path / f"photos{number}", rows=ROWS, out=tmp_path / "out", resume=False)
        args.checkpoint = OUT / "checkpoints" / "best.pt"
        for module in (train_two_tower, evaluate_two_tower):
            with pytest.raises(IntegrityError, match=r"other photos than .*photos\d holds; run `dvc repro embed_cat"):
                module.run(args, parse_params(tiny_params()))
    save_no_rows(tmp_path / "rows")
    args = argparse.Namespace(photos=PHOTOS, rows=tmp_path / "rows", out=tmp_path / "out", resume=False)
    with pytest.raises(IntegrityError, match="run `dvc repro embed_catalog`"):
        train_two_tower.run(args, parse_params(tiny_params()))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", ["train_two_tower", "evaluate_two_tower"])
def test_heads_on_embeddings_wait_for_no_library_of_networks(stage: str) -> None:
    program = f"import sys, stages.{stage}; print(sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {"open_clip", "torchvision", "timm"} & set(ast.literal_eval(done.stdout))
