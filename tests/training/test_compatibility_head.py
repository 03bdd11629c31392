"""The head's inference face: what a checkpoint holds, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.base.artifacts import write_json, write_manifest, write_torch
from lib.base.errors import IntegrityError
from lib.training.compatibility_head import BATCH, CompatibilityHead, load_head, save_head

IN, OUT = 6, 4


def new_head(*, hidden: int = 5, seed: int = 0) -> CompatibilityHead:
    head = CompatibilityHead(IN, OUT, hidden=hidden, dropout=0.5, generator=torch.Generator().manual_seed(seed))
    head.standardise(torch.randn(50, IN, generator=torch.Generator().manual_seed(seed + 1)) * 3 + 1)
    return head


def rows(n: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n, IN))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def saved(folder: Path, head: CompatibilityHead, *, backbone: str = "b" * 64) -> Path:
    path = folder / "checkpoints" / "best.pt"
    save_head(path, head)
    write_manifest(folder, ["checkpoints/best.pt"], facts={"backbone": backbone})
    return path


@pytest.mark.parametrize("hidden", [0, 5])
def test_a_checkpoint_holds_exactly_three_things(tmp_path: Path, hidden: int) -> None:
    head = new_head(hidden=hidden)
    save_head(tmp_path / "epoch_01.pt", head)
    content = torch.load(tmp_path / "epoch_01.pt", weights_only=True)
    assert type(content) is dict and set(content) == {"head", "in_dim", "out_dim"}
    assert (content["in_dim"], content["out_dim"]) == (IN, OUT)
    assert {
        name: torch.equal(value, head.state_dict()[name]) for name, value in content["head"].items()
    } == dict.fromkeys(head.state_dict(), True)


@pytest.mark.parametrize("hidden", [0, 5])
def test_what_is_loaded_encodes_to_the_same_bytes(tmp_path: Path, hidden: int) -> None:
    head, x = new_head(hidden=hidden), rows(20)
    path = saved(tmp_path, head)
    found = load_head(path, in_dim=IN, backbone="b" * 64).encode(x)
    assert found.tobytes() == head.encode(x).tobytes()
    assert found.dtype == np.float32 and found.shape == (20, OUT) and found.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_encoding_against_numpy() -> None:
    head, x = new_head(), rows(7)
    weights = {name: value.numpy().astype(np.float64) for name, value in head.state_dict().items()}
    z = (x - weights["mean"]) / weights["deviation"] @ weights["first.weight"].T + weights["first.bias"]
    hidden = torch.nn.functional.gelu(torch.tensor(z)).numpy()
    y = hidden @ weights["last.weight"].T + weights["last.bias"]
    np.testing.assert_allclose(head.encode(x), y / np.linalg.norm(y, axis=1, keepdims=True), atol=2e-6)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    head = CompatibilityHead(16, 8, hidden=8, generator=torch.Generator().manual_seed(0))
    drawn = np.random.default_rng(0).normal(size=(BATCH + 3, 16))
    x = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    whole = head.encode(x)
    assert whole[BATCH - 1 : BATCH + 2].tobytes() == head.encode(x[BATCH - 1 : BATCH + 2]).tobytes()
    assert head.encode(x[:0]).shape == (0, 8)


def test_embeddings_that_cannot_be_encoded() -> None:
    head, x = new_head(), rows(3)
    with pytest.raises(IntegrityError, match=r"expected embeddings \(n, 6\), got \(3, 5\)"):
        head.encode(np.ascontiguousarray(x[:, :5]))
    x[1, 2] = np.nan
    with pytest.raises(IntegrityError, match="row 1 is not finite"):
        head.encode(x)


def test_another_dimension_or_backbone_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, new_head())
    with pytest.raises(
        IntegrityError, match=r"expected a head for embeddings of 7 dim.*, got 6; re-run train_compat"
    ):
        load_head(path, in_dim=7)
    with pytest.raises(IntegrityError, match=r"expected a head for backbone aaaaaaaaaaaa, got bbbbbbbbbbbb; re-run"):
        load_head(path, in_dim=IN, backbone="a" * 64)
    (tmp_path / "manifest.json").unlink()
    load_head(path, in_dim=IN)  # a checkpoint that was copied elsewhere
    with pytest.raises(IntegrityError, match="manifest"):
        load_head(path, in_dim=IN, backbone="b" * 64)


def test_every_flipped_byte_is_seen(tmp_path: Path) -> None:
    path = saved(tmp_path, new_head())
    data = path.read_bytes()
    for place in range(0, len(data), 97):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(IntegrityError, match="damaged"):
            load_head(path, in_dim=IN)


def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    path = tmp_path / "checkpoints" / "best.pt"
    path.parent.mkdir()
    torch.save({"head": Payload(), "in_dim": IN, "out_dim": OUT}, path)
    with pytest.raises(IntegrityError, match="not loaded"):
        load_head(path, in_dim=IN)
    assert not (tmp_path / "ran").exists()


def test_contents_that_are_no_head(tmp_path: Path) -> None:
    good = {"head": dict(new_head().state_dict()), "in_dim": IN, "out_dim": OUT}
    path = tmp_path / "x.pt"
    for content, says in (
        ([1], "not a checkpoint of the compatibility head"),
        ({**good, "more": 1}, "not a checkpoint"),
        ({**good, "out_dim": 10**12}, f"expected a last layer of out_dim {10**12} rows, got {OUT} rows"),
        ({**good, "head": {}}, "got none"),
        ({**good, "head": {**good["head"], "mean": torch.zeros(3)}}, "do not fit a head 6 -> 4"),
        ({**good, "head": {k: v for k, v in good["head"].items() if k != "last.bias"}}, "do not fit"),
    ):
        write_torch(path, content)
        with pytest.raises(IntegrityError, match=says):
            load_head(path, in_dim=IN)
    with pytest.raises(IntegrityError, match="missing"):
        load_head(tmp_path / "none.pt", in_dim=IN)


def test_a_manifest_of_something_else_is_no_obstacle(tmp_path: Path) -> None:
    path = saved(tmp_path, new_head())
    write_json(tmp_path / "manifest.json", json.loads('{"skipped": "no pairs", "files": {}}'))
    load_head(path, in_dim=IN)
    with pytest.raises(IntegrityError, match="got none"):
        load_head(path, in_dim=IN, backbone="b" * 64)
