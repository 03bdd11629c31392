"""Items' images on the fly: unaugmented they train the very head that cached embeddings train."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from lib.base.artifacts import write_manifest
from lib.base.atomic import replacing_folder
from lib.base.errors import IntegrityError
from lib.base.params import Compatibility, parse_params
from lib.catalog.schema import SPLITS, STRING_COLUMNS
from lib.catalog.shards import SplitWriter
from lib.embeddings import EmbeddingSet, load_embedding_set
from lib.encoding.backbone import Backbone, load_backbone, save_backbone
from lib.encoding.embed import embed_catalog
from lib.encoding.embedding_cache import EmbeddingCache
from lib.encoding.encoder import Encoder
from lib.encoding.engine import LocalEngine
from lib.encoding.item_images import ImageRows, cropped, open_image_rows
from lib.evaluation.compatibility import held_out_pairs
from lib.training.compatibility_training import Embed, cached_rows, train_compatibility

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
N = 40


def photo(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((40, 36)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, EmbeddingSet]:
    """A processed catalogue of noise, an untrained backbone, and the catalogue embedded by it."""
    from open_clip.model import CLIP

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("shop")
    torch.manual_seed(0)
    model = CLIP(**CONFIG)  # type: ignore[arg-type]
    model.visual.preprocess_cfg = {"size": 32, "mode": "RGB", "mean": (0.5,) * 3, "std": (0.3,) * 3}
    save_backbone(folder / "backbone", model, model_config=CONFIG, source="train")
    with replacing_folder(folder / "hf") as fresh:
        for place, split in enumerate(SPLITS):
            with SplitWriter(fresh, split) as writer:
                for number in range(N * 5):
                    if (0, 0, 0, 1, 2)[number % 5] == place:
                        row = dict.fromkeys(STRING_COLUMNS) | {
                            "item_id": f"i{number}",
                            "product_id": f"p{number // 10}",
                        }
                        writer.add(row | {"category2": "tees", "image": {"bytes": photo(number), "path": "x"}})
        write_manifest(fresh, [path.name for path in fresh.glob("*.parquet")], facts={})
    with EmbeddingCache(folder / "cache", max_bytes=10**9) as cache:
        own = encoder(folder / "backbone")
        embed_catalog(folder / "hf", folder / "out", own, cache, LocalEngine(own, decode_workers=1))
    return folder / "hf", folder / "backbone", load_embedding_set(folder / "out")


def encoder(backbone: Path) -> Encoder:
    loaded: Backbone = load_backbone(backbone)
    return Encoder(loaded, batch_size=16)


def recipe(**changed: object) -> Compatibility:
    raw = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    raw["compatibility"] |= {
        "inputs": "images",
        "epochs": 2,
        "hidden": 8,
        "head_out_dim": 8,
        "batch_size": 16,
    } | changed
    return parse_params(raw).compatibility


def trained(out: Path, embedded: EmbeddingSet, embed: Embed) -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    items = pd.concat([embedded.catalog.meta, embedded.queries.meta], ignore_index=True)
    ids = {split: items.loc[items["split"] == split, "item_id"].to_numpy() for split in ("train", "validation")}
    rows = [(*rng.choice(ids[split], 2, replace=False), n % 2, split) for n in range(60) for split in ids]
    pairs = pd.DataFrame(rows, columns=["a_id", "b_id", "label", "split"])
    train_compatibility(
        pairs[pairs["split"] == "train"],
        embedded.catalog.meta,
        embed=embed,
        backbone=embedded.fingerprint,
        params=recipe(),
        validate=held_out_pairs(pairs[pairs["split"] == "validation"], items, embed).auc,
        out=out,
    )
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_images_train_the_same_head_to_the_byte(shop: tuple[Path, Path, EmbeddingSet], tmp_path: Path) -> None:
    processed, backbone, embedded = shop
    images = open_image_rows(
        processed, backbone, batch_size=16, fingerprint=embedded.fingerprint, augment="none", seed=0
    )
    found = trained(tmp_path / "images", embedded, images)
    assert len(found) == 5 and found == trained(tmp_path / "cached", embedded, cached_rows(embedded))
    augmented = ImageRows(processed, encoder(backbone), augment="crops", seed=0)
    other = trained(tmp_path / "augmented", embedded, augmented)
    assert other["checkpoints/epoch_02.pt"] != found["checkpoints/epoch_02.pt"]


def test_rows_are_those_of_the_embedded_catalogue(shop: tuple[Path, Path, EmbeddingSet]) -> None:
    processed, backbone, embedded = shop
    ids = ["i4", "i0", "i3", "i4", "i77"]  # test, train, validation, repeated
    for augment in ("none", "crops"):
        rows = ImageRows(processed, encoder(backbone), augment=augment, seed=0)  # type: ignore[arg-type]
        assert rows(ids, 0).tobytes() == cached_rows(embedded)(ids, 0).tobytes()
        assert rows([], 0).shape == (0, 16) and rows([], 1).shape == (0, 16)


def test_augmentation_comes_from_seed_and_epoch(shop: tuple[Path, Path, EmbeddingSet]) -> None:
    processed, backbone, _ = shop
    ids = ["i0", "i1", "i5"]
    one, again, other_seed = (ImageRows(processed, encoder(backbone), augment="crops", seed=s) for s in (0, 0, 1))
    assert one(ids, 2).tobytes() == again(ids, 2).tobytes()
    plain, second, third = one(ids, 0), one(ids, 2), one(ids, 3)
    for left, right in ((plain, second), (second, third), (second, other_seed(ids, 2))):
        assert (left != right).any(axis=1).all()
    np.testing.assert_allclose(np.linalg.norm(second, axis=1), 1, atol=1e-5)


def test_an_image_is_embedded_once(shop: tuple[Path, Path, EmbeddingSet], monkeypatch: pytest.MonkeyPatch) -> None:
    processed, backbone, _ = shop
    own = encoder(backbone)
    rows, seen = ImageRows(processed, own, augment="none", seed=0), []
    encode = own.encode_images
    monkeypatch.setattr(own, "encode_images", lambda images: seen.append(len(images)) or encode(images))
    rows(["i0", "i1"], 1)
    rows(["i1", "i2"], 2)
    assert sum(seen) == 3


def test_unknown_items_and_another_backbone(shop: tuple[Path, Path, EmbeddingSet]) -> None:
    processed, backbone, _ = shop
    with pytest.raises(IntegrityError, match="item 'zz' is not in it"):
        ImageRows(processed, encoder(backbone), augment="none", seed=0)(["i0", "zz"], 0)
    with pytest.raises(IntegrityError, match="expected backbone ffffffffffff, which made the embeddings, got"):
        open_image_rows(processed, backbone, batch_size=16, fingerprint="f" * 64, augment="none", seed=0)


def test_crops_keep_most_of_the_picture_and_its_direction_half_of_the_time() -> None:
    ramp = np.tile(np.linspace(0, 255, 60, dtype=np.uint8)[None, :, None], (40, 1, 3))
    stream = io.BytesIO()
    Image.fromarray(ramp).save(stream, "PNG")
    rng, mirrored, sizes = np.random.default_rng(0), 0, set()
    for _ in range(200):
        with Image.open(io.BytesIO(cropped(stream.getvalue(), rng))) as image:
            pixels = np.asarray(image)
        height, width = pixels.shape[:2]
        assert 0.6 < height * width / 2400 <= 1
        sizes.add((height, width))
        mirrored += pixels[0, 0, 0] > pixels[0, -1, 0]
    assert 70 < mirrored < 130 and len(sizes) > 50
    tiny = io.BytesIO()
    Image.fromarray(ramp[:1, :1]).save(tiny, "PNG")
    cropped(tiny.getvalue(), rng)
