"""A small shop behind the real server: drawn pictures, a real but untrained backbone, two models, in seconds."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from PIL import Image

from lib.base.artifacts import write_manifest, write_torch
from lib.base.atomic import replacing_folder
from lib.base.params import load_params
from lib.catalog.captions import compose_caption
from lib.catalog.partner_kinds import PARTNERS, save_partner_kinds
from lib.catalog.schema import SPLITS, STRING_COLUMNS
from lib.catalog.shards import SplitWriter
from lib.embeddings import load_embedding_set, save_embedding_set
from lib.encoding.backbone import load_backbone, save_backbone
from lib.encoding.embed import embed_catalog
from lib.encoding.embedding_cache import EmbeddingCache
from lib.encoding.encoder import Encoder
from lib.encoding.engine import LocalEngine
from lib.retrieval.index import build_indexes
from lib.serving.opening import Places, open_searcher
from lib.serving.searcher import Searcher
from lib.training.checkpoint import save_checkpoint
from lib.training.compatibility_head import CompatibilityHead
from lib.training.protocol_model import ModelConfig, ProtocolModel
from lib.training.trained_model import embed_with, load_model

import open_clip  # isort: skip  # after the backbone, which prepares torchvision for it

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "lib/catalog/attributes.yaml"
DIM = 16
CONFIG: dict[str, Any] = {
    "embed_dim": DIM,
    "vision_cfg": {"layers": 1, "width": 32, "head_width": 32, "patch_size": 16, "image_size": 32},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
COLOURS = {
    "black": (30, 30, 30),
    "white": (240, 240, 240),
    "red": (200, 40, 40),
    "blue": (50, 90, 190),
    "green": (50, 130, 70),
    "yellow": (240, 205, 60),
    "pink": (235, 155, 185),
    "grey": (140, 145, 150),
    "brown": (110, 75, 45),
    "purple": (110, 60, 160),
}
CATEGORIES = ("tees", "dresses", "cardigans", "skirts", "shorts")
NECKLINES = ("v-neck", "round neck", "boat neck")
PATTERNS = ("striped", "solid", "floral print")
MATERIALS = ("cotton", "wool", "denim", "silk")
SLEEVES = ("long sleeve", "short sleeve")

SCRIPT = "window.injected = true"
HOSTILE = (
    f"<script>{SCRIPT}</script>",
    f'"><img src=x onerror="{SCRIPT}">',
    f"' onmouseover='{SCRIPT}' x='",
    "Donaudampfschifffahrtsgesellschaft" * 4,
    "قميص أبيض بأكمام طويلة",
    "a < b &amp; c / d?e=f#g%20 + ü",
)
"""Ids, captions and, the first two, colours of the last items of the gallery."""
N_PRODUCTS = 64
"""Two of three in the gallery; every fourth product has two views."""


def picture(place: int, colour: tuple[int, int, int] = (120, 120, 120)) -> bytes:
    """A portrait, a landscape or a square: a garment's colour before a pattern of its own, as no two look alike."""
    width, height = ((60, 80), (80, 60), (64, 64))[place % 3]
    blocks = np.random.default_rng(place).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    canvas = np.kron(blocks, np.ones((height // 4, width // 4, 1), dtype=np.uint8))
    canvas[height // 3 : -height // 4, width // 3 : -width // 3] = colour
    stream = io.BytesIO()
    Image.fromarray(canvas).save(stream, "PNG")
    return stream.getvalue()


def rows() -> list[tuple[str, dict[str, Any]]]:
    """Split and row of every item; values go round, so that all counts are known and none is zero."""
    found = []
    names = list(COLOURS)
    for place in range(N_PRODUCTS):
        split = ("train", "train", "test")[place % 3]
        known = {
            "color": names[place % len(names)],
            "neckline": NECKLINES[place % 3] if place % 2 else None,
            "pattern": PATTERNS[place // 2 % 3],
            "material": MATERIALS[place // 3 % 4] if place % 5 else None,
            "sleeve": SLEEVES[place // 4 % 2],
        }
        category = CATEGORIES[place * 7 % 11 % 5]
        text = f"Number {place} of the shop. Made to be found."
        caption = compose_caption(known, category=category, text=text)
        ids = [f"P{place:03d}_A"] + [f"P{place:03d}_B"] * (place % 4 == 0)
        hostile = N_PRODUCTS - 1 - place
        if split == "train" and hostile < len(HOSTILE) * 3 // 2:
            word = HOSTILE[hostile * 2 // 3]
            ids, caption = [word], word
            known["color"] = word if hostile < 3 else known["color"]
        for view, item_id in enumerate(ids):
            row = dict.fromkeys(STRING_COLUMNS) | known | {"item_id": item_id, "product_id": f"P{place:03d}"}
            row |= {"category1": ("women", "men")[place % 2], "category2": category, "product_key": "item_id"}
            row |= {"text": text, "caption": caption}
            image = picture(place + view, COLOURS.get(str(known["color"]), (0, 0, 0)))
            found.append((split, row | {"image": {"bytes": image, "path": None}}))
    return found


def build(root: Path) -> Path:
    """Write catalogue, backbone, both models' embeddings, heads and indexes where the pipeline puts them."""
    places = Places.under(root)
    found = rows()
    with replacing_folder(places.processed) as fresh:
        for split in SPLITS:
            with SplitWriter(fresh, split) as writer:
                for _, row in (entry for entry in found if entry[0] == split):
                    writer.add(row)
        write_manifest(fresh, [path.name for path in fresh.glob("*.parquet")], facts={})
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG)
    open_clip.factory.set_model_preprocess_cfg(model, vars(open_clip.transform.PreprocessCfg(size=32)))
    save_backbone(places.backbone, model, model_config=CONFIG, source="checkpoint")
    with EmbeddingCache(root / "cache", max_bytes=10**8) as cache:
        encoder = Encoder(load_backbone(places.backbone), batch_size=16)
        embed_catalog(places.processed, places.baseline, encoder, cache, LocalEngine(encoder, decode_workers=1))
    baseline = load_embedding_set(places.baseline)
    _save_protocol(places, baseline.fingerprint)
    protocol = load_model(places.checkpoint, dim=DIM, backbone=baseline.fingerprint)
    seen = embed_with(protocol, baseline, checkpoint=places.checkpoint)
    save_embedding_set(places.protocol, seen)
    kinds = load_params(ROOT / "params.yaml").index.model_copy(update={"build": ("flat", "hnsw")})
    build_indexes(places.index, seen, kinds, rng=np.random.default_rng(0))
    _save_compatibility(places, baseline.fingerprint)
    return root


def _save_protocol(places: Places, backbone: str) -> None:
    """Heads that are far from changing nothing, so that the two models disagree."""
    config = ModelConfig(DIM, backbone, "linear", 4, 0.0, {"pattern": PATTERNS}, {}, 0.07)
    generator = torch.Generator().manual_seed(1)
    heads = ProtocolModel(config, generator=generator)
    with torch.no_grad():
        for head in (heads.image_head, heads.text_head):
            for weight in head.parameters():
                weight.add_(3.0 * torch.randn(weight.shape, generator=generator))
    save_checkpoint(places.checkpoint, {"model_config": config.as_dict(), "model": heads.state_dict()})


def _save_compatibility(places: Places, backbone: str) -> None:
    """A head that has learnt nothing, as `train_compatibility` leaves it."""
    head = CompatibilityHead(DIM, 8, hidden=0, generator=torch.Generator().manual_seed(2))
    best = places.compatibility / "checkpoints/best.pt"
    write_torch(best, {"head": head.state_dict(), "in_dim": DIM, "out_dim": 8})
    write_manifest(places.compatibility, ["checkpoints/best.pt"], facts={"backbone": backbone})
    save_partner_kinds(places.compatibility / PARTNERS, {})


def open_tiny(root: Path) -> Searcher:
    """The searcher of what `build` wrote, as the server opens it."""
    return open_searcher(replace(Places.under(root), schema=SCHEMA))


@contextmanager
def serving(app: Callable[..., Any]) -> Iterator[str]:
    """Serve an application on a free port of this machine; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
