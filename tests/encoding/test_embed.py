"""Embedding a processed catalogue: only the difference is computed, and the bytes are those of a clean run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graph_closure import closure

from lib.base.artifacts import write_manifest
from lib.base.atomic import replacing_folder
from lib.base.errors import DataError, IntegrityError
from lib.catalog.schema import SPLITS, STRING_COLUMNS
from lib.catalog.shards import SplitWriter
from lib.embeddings import EmbeddingSet, load_embedding_set
from lib.encoding.embed import Embedded, embed_catalog
from lib.encoding.embedding_cache import EmbeddingCache
from lib.encoding.engine import LocalEngine

DIM = 5


class FakeEncoder:
    """Embeds by checksum; counts what it is asked for, and fails at a chosen batch."""

    def __init__(self, *, name: str = "f1", batch_size: int = 4, fail_at: int | None = None) -> None:
        self.batch_size, self.dim, self.fingerprint = batch_size, DIM, name
        self.images: list[list[bytes]] = []
        self.texts: list[list[str]] = []
        self._fail_at = fail_at

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"backbone": self.fingerprint, "batch_size": self.batch_size}

    def preprocess(self, image: bytes) -> bytes:
        return image

    def encode_images(self, images: Sequence[bytes]) -> np.ndarray:
        self.images.append(list(images))
        if len(self.images) == self._fail_at:
            raise KeyboardInterrupt
        return np.stack([self._row(b"image" + image) for image in images])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts.append(list(texts))
        return np.stack([self._row(b"text" + text.encode()) for text in texts])

    def _row(self, content: bytes) -> np.ndarray:
        digest = hashlib.sha256(self.fingerprint.encode() + content).digest()
        row = np.frombuffer(digest, dtype=np.uint8)[:DIM] + 1.0
        return (row / np.linalg.norm(row)).astype(np.float32)


def _catalogue(folder: Path, items: Sequence[tuple[str, str, str, str | None]]) -> Path:
    """Write a processed catalogue of (item_id, split, image, caption)."""
    with replacing_folder(folder) as fresh:
        for split in SPLITS:
            with SplitWriter(fresh, split) as writer:
                for item_id, own, image, caption in items:
                    if own == split:
                        row = dict.fromkeys(STRING_COLUMNS)
                        row |= {
                            "item_id": item_id,
                            "product_id": item_id,
                            "product_key": "single",
                            "caption": caption,
                        }
                        writer.add({"image": {"bytes": image.encode(), "path": None}, **row})
        write_manifest(fresh, [path.name for path in fresh.glob("*.parquet")], facts={})
    return folder


def _items(n_train: int = 30, n_test: int = 9) -> list[tuple[str, str, str, str | None]]:
    train = [(f"t{i}", "train", f"picture {i}", f"caption {i % 7}") for i in range(n_train)]
    return train + [(f"q{i}", "test", f"view {i}", None if i == 3 else f"caption {i}") for i in range(n_test)]


class Runs:
    """Embeds catalogues with one cache; every run has an out of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.n = 0

    def run(
        self, items: Sequence[tuple[str, str, str, str | None]], encoder: FakeEncoder, *, cache: str = "cache"
    ) -> tuple[Embedded, Path]:
        self.n += 1
        processed = _catalogue(self.folder / f"hf{self.n}", items)
        out = self.folder / f"out{self.n}"
        with EmbeddingCache(self.folder / cache, max_bytes=10**9) as opened:
            return embed_catalog(processed, out, encoder, opened, LocalEngine(encoder, decode_workers=2)), out  # type: ignore[arg-type]

    def clean(self, items: Sequence[tuple[str, str, str, str | None]], encoder: FakeEncoder) -> Path:
        return self.run(items, encoder, cache=f"clean{self.n}")[1]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _loaded(folder: Path) -> EmbeddingSet:
    return load_embedding_set(folder)


def test_rows_stand_in_the_order_of_the_catalogue(runs: Runs) -> None:
    encoder = FakeEncoder()
    done, out = runs.run(_items(), encoder)
    loaded = _loaded(out)
    assert list(loaded.catalog.meta["item_id"]) == [f"t{i}" for i in range(30)]
    assert list(loaded.queries.meta["item_id"]) == [f"q{i}" for i in range(9)]
    assert set(loaded.queries.meta["split"]) == {"test"}
    for i in (0, 7, 29):
        np.testing.assert_array_equal(loaded.catalog.images[i], encoder._row(f"imagepicture {i}".encode()))
        np.testing.assert_array_equal(loaded.catalog.texts[i], encoder._row(f"textcaption {i % 7}".encode()))
    np.testing.assert_array_equal(loaded.queries.texts[3], encoder._row(b"text"))
    assert done.n_items == {"catalog": 30, "queries": 9}
    assert done.computed == 39 + 10, "39 pictures; captions 0 to 8 and the empty one, each once"
    assert done.found == 2 * 39 - 49
    assert all(len(batch) == 4 for batch in encoder.images[:7]) and loaded.fingerprint == "f1"


def test_the_second_run_computes_nothing(runs: Runs) -> None:
    _, first = runs.run(_items(), FakeEncoder())
    encoder = FakeEncoder()
    done, second = runs.run(_items(), encoder)
    assert done.computed == 0 and encoder.images == [] and encoder.texts == []
    assert _bytes(first) == _bytes(second)


@pytest.mark.parametrize("change", ["add", "change", "remove", "shuffle", "add everywhere"])
def test_only_the_difference_is_computed_and_the_bytes_are_those_of_a_clean_run(runs: Runs, change: str) -> None:
    items = _items()
    runs.run(items, FakeEncoder())
    expected: list[str] = []
    if change == "add":
        items.insert(5, ("new", "train", "new picture", "caption 2"))
        expected = ["new picture"]
    elif change == "change":
        items[4] = ("t4", "train", "retouched", "caption 4")
        expected = ["retouched"]
    elif change == "remove":
        del items[10:20]
    elif change == "shuffle":
        items = [items[i] for i in np.random.default_rng(0).permutation(len(items))]
    else:
        items = [entry for item in items for entry in (item, (f"{item[0]}+", item[1], f"more {item[2]}", item[3]))]
        expected = [f"more {item[2]}" for item in _items()]
    encoder = FakeEncoder()
    done, out = runs.run(items, encoder)
    assert sorted(image.decode() for batch in encoder.images for image in batch) == sorted(expected)
    assert not encoder.texts and done.computed == len(expected)
    # what is missing lies between what is there, and still comes in full batches
    assert sum(len(batch) < 4 for batch in encoder.images) <= 2
    assert _bytes(out) == _bytes(runs.clean(items, FakeEncoder()))


def test_pictures_that_come_twice_are_computed_once(runs: Runs) -> None:
    items = [(f"t{i}", "train", "the same", "a") for i in range(20)] + [("q", "test", "the same", "a")]
    encoder = FakeEncoder()
    done, out = runs.run(items, encoder)
    assert encoder.images == [[b"the same"]] and done.computed == 2
    assert len(np.unique(_loaded(out).catalog.images, axis=0)) == 1


@pytest.mark.parametrize("other", [{"name": "f2"}, {"batch_size": 8}])
def test_another_backbone_never_reads_the_old_ones_rows(runs: Runs, other: dict[str, Any]) -> None:
    runs.run(_items(), FakeEncoder())
    encoder = FakeEncoder(**other)
    done, out = runs.run(_items(), encoder)
    assert done.computed == 49
    assert _bytes(out) == _bytes(runs.clean(_items(), FakeEncoder(**other)))


@pytest.mark.parametrize("batch", [1, 5, 9])
def test_an_interrupted_run_loses_at_most_one_chunk(runs: Runs, batch: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        runs.run(_items(), FakeEncoder(fail_at=batch))
    assert not (runs.folder / "out1").exists() or not list((runs.folder / "out1").iterdir())
    encoder = FakeEncoder()
    _, out = runs.run(_items(), encoder)
    again = sum(len(part) for part in encoder.images)
    kept = 39 - again
    assert 4 * (batch - 1) - kept < 16, "a chunk is four batches of four"
    assert _bytes(out) == _bytes(runs.clean(_items(), FakeEncoder()))


def test_a_damaged_chunk_is_computed_again(runs: Runs) -> None:
    _, first = runs.run(_items(), FakeEncoder())
    chunk = max((runs.folder / "cache").glob("*/*.rows"), key=lambda path: path.stat().st_size)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 8
    chunk.write_bytes(data)
    encoder = FakeEncoder()
    done, second = runs.run(_items(), encoder)
    assert done.damaged == 1 and done.computed == 16
    assert _bytes(first) == _bytes(second)


def test_rows_that_are_no_embeddings_are_refused_and_the_old_files_stay(runs: Runs) -> None:
    _, out = runs.run(_items(), FakeEncoder())
    before = _bytes(out)

    class Broken(FakeEncoder):
        def _row(self, content: bytes) -> np.ndarray:
            return np.full(DIM, np.nan, dtype=np.float32)

    with (
        EmbeddingCache(runs.folder / "other", max_bytes=10**9) as cache,
        pytest.raises(IntegrityError, match="the embedding of the image of item 't0' is not finite"),
    ):
        embed_catalog(runs.folder / "hf1", out, Broken(), cache, LocalEngine(Broken(), decode_workers=1))  # type: ignore[arg-type]
    assert _bytes(out) == before
    assert not list((runs.folder / "other").glob("*/*.rows")), "nor are they kept for the next run"


@pytest.mark.parametrize(("split", "words"), [("train", "validation or test"), ("test", "train")])
def test_nothing_to_ask_or_to_search_is_an_error(runs: Runs, split: str, words: str) -> None:
    with pytest.raises(DataError, match=f"no item in {words}; check data.splits"):
        runs.run([("a", split, "x", "y")], FakeEncoder())


def test_what_an_embedding_depends_on_is_in_the_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preprocessing, weights, batch shape, threads and the code itself: each makes another space."""
    import json

    import torch

    from lib.encoding import encoder as encoder_module
    from lib.encoding.backbone import CONFIG, load_backbone, save_backbone
    from lib.encoding.encoder import Encoder

    import open_clip  # isort: skip

    config: dict[str, Any] = {
        "embed_dim": 16,
        "vision_cfg": {"layers": 1, "width": 32, "head_width": 32, "patch_size": 16, "image_size": 32},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    model = open_clip.CLIP(**config)
    open_clip.factory.set_model_preprocess_cfg(model, vars(open_clip.transform.PreprocessCfg(size=32)))

    def facts(*, batch_size: int = 2) -> dict[str, Any]:
        save_backbone(tmp_path, model, model_config=config, source="checkpoint")
        return dict(Encoder(load_backbone(tmp_path), batch_size=batch_size).facts)

    before = facts()
    assert facts() == before and all(isinstance(value, str | int) for value in before.values())
    assert facts(batch_size=4) != before
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert facts() != before
    finally:
        torch.set_num_threads(threads)
    changed = tmp_path / "code"
    changed.mkdir()
    for name in encoder_module._CODE:
        source = (Path(encoder_module.__file__).parent / name).read_text(encoding="utf-8")
        (changed / name).write_text(source + ("# a change\n" if name == "textures.py" else ""), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(encoder_module, "__file__", str(changed / "encoder.py"))
        assert facts() != before
    model.visual.preprocess_cfg["mean"] = (0.5, 0.5, 0.5)
    other = facts()
    assert json.loads((tmp_path / CONFIG).read_text())["preprocess_cfg"]["mean"] == [0.5, 0.5, 0.5]
    assert other["backbone"] != before["backbone"]
    model.visual.preprocess_cfg["mean"] = model.visual.preprocess_cfg["std"]
    with torch.no_grad():
        model.logit_scale += 1
    assert facts()["backbone"] not in (before["backbone"], other["backbone"])


def test_the_code_that_an_embedding_depends_on_is_all_that_its_encoder_imports() -> None:
    """Of this room; a file left out would let `dvc repro` find rows that today's code would not compute."""
    import lib.encoding.encoder as encoder_module

    room = Path(encoder_module.__file__).parent
    reached = {Path(name) for name in closure(room / "encoder.py")}
    own = {path.name for path in reached if path.parent.name == room.name}
    assert own == set(encoder_module._CODE)
