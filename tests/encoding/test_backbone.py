"""The three backbone sources. No pretrained weights here: a full-size ViT-B-32 with random ones stands in."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lib.base.errors import BusyError, ConfigError, IntegrityError
from lib.encoding import torchvision_ops  # noqa: F401
from lib.encoding.backbone import CONFIG, WEIGHTS, load_backbone, load_checkpoint, save_backbone
from lib.encoding.encoder import Encoder

import open_clip  # isort: skip

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full-size, randomly initialised ViT-B-32 as a state-dict file."""
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32")
    path = tmp_path_factory.mktemp("weights") / "vit.pt"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, config = load_checkpoint("ViT-B-32", checkpoint)
    out = tmp_path_factory.mktemp("backbone")
    save_backbone(out, model, model_config=config, source="checkpoint")
    return out


def test_checkpoint_gives_a_folder_that_open_clip_loads(folder: Path, checkpoint: Path) -> None:
    model = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)
    original = torch.load(checkpoint, weights_only=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, original[name]), name
    assert model.visual.image_size == (224, 224)


def test_encoder_equals_plain_open_clip(folder: Path) -> None:
    encoder = Encoder(load_backbone(folder), batch_size=4)
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (64, 48, 3), dtype=np.uint8)) for _ in range(3)]
    stored = [_png(picture) for picture in pictures]
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    with torch.no_grad():
        images = model.encode_image(torch.stack([preprocess(p) for p in pictures]), normalize=True).numpy()
        texts = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(["a red shirt"]), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_images([encoder.preprocess(s) for s in stored]), images, atol=2e-5)
    np.testing.assert_allclose(encoder.encode_texts(["a red shirt"]), texts, atol=2e-5)
    assert encoder.dim == 512


def test_a_row_does_not_depend_on_its_batch(folder: Path) -> None:
    encoder = Encoder(load_backbone(folder), batch_size=4)
    rng = np.random.default_rng(1)
    tensors = [torch.from_numpy(rng.normal(size=(3, 224, 224)).astype(np.float32)) for _ in range(6)]
    together = encoder.encode_images(tensors)
    for i in (0, 3, 5):
        assert encoder.encode_images([tensors[i]]).tobytes() == together[i : i + 1].tobytes()
    texts = [f"text {i}" for i in range(6)]
    assert encoder.encode_texts(texts)[4].tobytes() == encoder.encode_texts(texts[4:5])[0].tobytes()
    assert encoder.encode_images([]).shape == (0, 512)
    assert encoder.encode_texts([]).shape == (0, 512)


def test_same_weights_same_bytes_and_fingerprint(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    model, config = load_checkpoint("ViT-B-32", checkpoint)
    again = save_backbone(tmp_path, model, model_config=config, source="checkpoint")
    assert again == load_backbone(folder).fingerprint
    for name in (CONFIG, WEIGHTS, "manifest.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_flipped_bit_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in (CONFIG, WEIGHTS, "manifest.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with open(tmp_path / WEIGHTS, "rb+") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-100, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(IntegrityError, match="damaged"):
        load_backbone(tmp_path)


def test_wrong_architecture_names_the_remedy(checkpoint: Path) -> None:
    with pytest.raises(IntegrityError, match=r"does not hold weights of ViT-B-16.*\n.*backbone\.model"):
        load_checkpoint("ViT-B-16", checkpoint)


def test_unknown_architecture_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="near: ViT-B-32"):
        load_checkpoint("ViT-B32", tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=r"expected a file with weights, .* is none"):
        load_checkpoint("ViT-B-32", tmp_path / "x.pt")


def test_a_malicious_pickle_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    torch.save({"state_dict": Payload()}, tmp_path / "bad.pt")
    with pytest.raises(IntegrityError):
        load_checkpoint("ViT-B-32", tmp_path / "bad.pt")
    assert not marker.exists()


# --- hub: real huggingface_hub client, a loopback server in the hub's place --------------------------------

OPENAI_REPO = "timm/vit_base_patch32_clip_224.openai"


@pytest.fixture(scope="module")
def hub(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that answers like the hub for `OPENAI_REPO` (safetensors) and 404 for all else."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("hub")
    weights = folder / WEIGHTS
    save_file(torch.load(checkpoint, weights_only=True), weights)
    files = {f"/{OPENAI_REPO}/resolve/main/{WEIGHTS}": weights}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = files.get(self.path.split("?")[0])
            if path is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(path.stat().st_size))
            self.send_header("ETag", '"0123456789abcdef"')
            self.send_header("X-Repo-Commit", "a" * 40)
            self.end_headers()
            if body:
                with open(path, "rb") as file:
                    while chunk := file.read(1 << 20):
                        self.wfile.write(chunk)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def _prepare_from_hub(tmp_path: Path, endpoint: str, **backbone: str) -> subprocess.CompletedProcess[str]:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["backbone"] |= {"source": "hub", **backbone}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
    environment |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", "stages.prepare_backbone", "--processed", "none", "--out", "backbone"]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)


def test_hub_by_tag(tmp_path: Path, hub: str, checkpoint: Path) -> None:
    done = _prepare_from_hub(tmp_path, hub, model="ViT-B-32", pretrained="openai")
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "backbone" / CONFIG).read_text())
    # OpenAI's weights need QuickGELU although the architecture of that name has GELU
    assert config["model_cfg"]["quick_gelu"] is True
    assert tuple(config["preprocess_cfg"]["mean"]) == open_clip.OPENAI_DATASET_MEAN
    model = open_clip.create_model(f"local-dir:{tmp_path / 'backbone'}", require_pretrained=True)
    original = torch.load(checkpoint, weights_only=True)
    assert torch.equal(model.state_dict()["visual.proj"], original["visual.proj"])


def test_hub_without_the_model_is_one_readable_error(tmp_path: Path, hub: str) -> None:
    done = _prepare_from_hub(tmp_path, hub, model="ViT-B-16", pretrained="openai")
    assert done.returncode == BusyError.exit_code
    assert "could not fetch ViT-B-16/openai" in done.stderr and "Traceback" not in done.stderr
    assert "dvc commit -f prepare_backbone" in done.stderr, "without -f DVC refuses a stage whose parameters changed"
    assert not (tmp_path / "backbone").exists()


def test_hub_unknown_tag_lists_the_tags(tmp_path: Path, hub: str) -> None:
    done = _prepare_from_hub(tmp_path, hub, model="ViT-B-32", pretrained="opnai")
    assert done.returncode == ConfigError.exit_code
    assert "laion2b_s34b_b79k" in done.stderr


def _png(picture: Image.Image) -> bytes:
    import io

    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
