"""embed.engine: ray. Without Ray: nothing imports it, and a user who lacks it is told. With it: the local bytes."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import yaml
from PIL import UnidentifiedImageError
from ray_shop import write_catalogue, write_untrained_backbone

from lib.base import stage
from lib.base.errors import BusyError, ConfigError
from lib.base.params import Embed, parse_params
from lib.encoding.backbone import load_backbone
from lib.encoding.embed import Embedded, embed_catalog
from lib.encoding.embedding_cache import EmbeddingCache
from lib.encoding.encoder import Encoder
from lib.encoding.engine import Engine, LocalEngine, opened_engine

ROOT = Path(__file__).resolve().parents[2]
MB = 10**6


def _section(**changes: Any) -> Embed:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["embed"] |= changes
    return parse_params(raw).embed


def test_the_default_is_this_process() -> None:
    assert _section().engine == "local"
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key in ("engine", "ray_address", "ray_workers"):
        del raw["embed"][key]
    assert parse_params(raw).embed.engine == "local", "parameters that were written before are still whole"


@pytest.mark.parametrize("address", ["", "auto", "10.0.0.7:6379", "head.example:6379"])
def test_addresses_of_clusters(address: str) -> None:
    assert _section(ray_address=address).ray_address == address


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("engine", "rya", "'embed.engine': input should be 'local' or 'ray'; got 'rya'"),
        (
            "ray_address",
            "10.0.0.7",
            "'embed.ray_address': expected ''.*auto or host:port; got '10.0.0.7'",
        ),
        ("ray_address", "http://10.0.0.7:8265", "'embed.ray_address'"),
        ("ray_address", "local", "'embed.ray_address'"),
        ("ray_address", "ray://10.0.0.7:10001", "'embed.ray_address': addresses of Ray's client are not supported"),
        ("ray_workers", 0, "'embed.ray_workers': input should be greater than or equal to 1"),
        ("ray_adress", "auto", "unknown key 'embed.ray_adress'. Did you mean 'ray_address'"),
    ],
)
def test_what_the_parameters_cannot_mean(key: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        _section(**{key: value})


def test_one_module_imports_ray_and_is_itself_imported_on_demand_only() -> None:
    for file in [*(ROOT / "lib").rglob("*.py"), *(ROOT / "stages").glob("*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if file.name != "ray_engine.py":
            assert not [node for node in ast.walk(tree) if "ray" in _top_packages(node)], file
        at_import = [name for node in tree.body for name in _modules(node)]
        assert "lib.encoding.ray_engine" not in at_import, file


def _top_packages(node: ast.AST) -> set[str]:
    return {name.split(".")[0] for name in _modules(node)}


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_the_default_path_never_loads_ray() -> None:
    code = (
        "import sys; from pathlib import Path; import stages.embed_catalog;"
        "from lib.encoding.engine import opened_engine; from lib.base.params import load_params;"
        "opened_engine(None, Path(), load_params().embed).__enter__();"
        "sys.exit(any(name.split('.')[0] == 'ray' or name == 'lib.encoding.ray_engine' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_who_lacks_ray_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "lib.encoding.ray_engine", raising=False)
    with (
        pytest.raises(ConfigError, match=r"pip install -r requirements-ray\.txt -c requirements\.txt"),
        opened_engine(None, Path(), _section(engine="ray")),  # type: ignore[arg-type]
    ):
        pass


@pytest.mark.parametrize("n_batches", [0, 1, 2, 3, 7])
def test_the_local_engine_gives_batches_back_in_order_and_takes_few_ahead(n_batches: int) -> None:
    taken = 0

    class Lengths:
        def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
            return np.array([[len(text)] for text in texts], dtype=np.float32)

    def batches() -> Iterator[list[bytes]]:
        nonlocal taken
        for i in range(n_batches):
            taken += 1
            yield [b"x" * (3 * i + j) for j in range(3)]

    given = 0
    for rows in LocalEngine(Lengths(), decode_workers=2).embed("text", batches()):  # type: ignore[arg-type]
        np.testing.assert_array_equal(rows[:, 0], np.arange(3) + 3 * given)
        given += 1
        assert taken <= given + 2
    assert given == n_batches


# From here on with Ray: `make test-ray`.


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After a test with Ray: no process, no connection, no folder, and SIGTERM as before."""
    if "ray" not in request.keywords:
        yield
        return
    ray = pytest.importorskip("ray", reason="needs requirements-ray.txt")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "5eed" * 16)  # else there would be one in ~/.ray; read once in a process
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    folders = set(Path(tempfile.gettempdir()).glob("ray-*"))
    stage.pin_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")
    assert not ray.is_initialized()
    _, alive = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=30)
    assert not alive
    assert set(Path(tempfile.gettempdir()).glob("ray-*")) == folders
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.fixture
def cluster(_nothing_is_left: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster with a head of one processor; a test may add a second node."""
    from ray.cluster_utils import Cluster

    handler = signal.getsignal(signal.SIGTERM)
    with tempfile.TemporaryDirectory(prefix="cluster-", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "ray").mkdir()
        monkeypatch.setenv("RAY_TMPDIR", folder)
        started = Cluster()
        try:
            started.add_node(num_cpus=1, object_store_memory=100 * MB, include_dashboard=False)
            yield started
        finally:
            started.shutdown()
            signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_untrained_backbone(tmp_path_factory.mktemp("backbone"))


def _encoder(backbone: Path) -> Encoder:
    return Encoder(load_backbone(backbone), batch_size=64)


def _ray_engine(encoder: Encoder, backbone: Path, *, address: str = "", workers: int = 2) -> Any:
    from lib.encoding.ray_engine import RayEngine

    return RayEngine(encoder, backbone, address=address, workers=workers, decode_workers=1)


def _embedded(processed: Path, out: Path, encoder: Encoder, engine: Engine) -> tuple[Embedded, dict[str, bytes]]:
    with EmbeddingCache(out.with_name(f"{out.name}-cache"), max_bytes=10**9) as cache:
        done = embed_catalog(processed, out, encoder, cache, engine)
    return done, {path.name: path.read_bytes() for path in sorted(out.iterdir())}


class KillsANode:
    """An engine that loses a node as soon as it has seen it work."""

    def __init__(self, engine: Any, cluster: Any, node: Any) -> None:
        self.batches_after = 0
        self.killed = False
        self._engine, self._cluster, self._node = engine, cluster, node

    def embed(self, kind: Any, batches: Iterable[Sequence[bytes]]) -> Iterator[np.ndarray]:
        for rows in self._engine.embed(kind, batches):
            yield rows
            self.batches_after += self.killed
            if not self.killed and self._node.node_id in self._engine.nodes:
                self.killed = True
                self._cluster.remove_node(self._node, allow_graceful=False)


@pytest.mark.ray
def test_two_nodes_give_the_local_bytes_although_one_is_killed(tmp_path: Path, backbone: Path, cluster: Any) -> None:
    processed = write_catalogue(tmp_path / "hf", n_train=1200, n_test=300)
    encoder = _encoder(backbone)
    done, local = _embedded(processed, tmp_path / "local", encoder, LocalEngine(encoder, decode_workers=1))
    node = cluster.add_node(num_cpus=1, object_store_memory=100 * MB)
    with _ray_engine(encoder, backbone, address=cluster.address, workers=2) as engine:
        killing = KillsANode(engine, cluster, node)
        by_ray, rows = _embedded(processed, tmp_path / "ray", encoder, killing)
        assert engine.nodes == {cluster.head_node.node_id, node.node_id}
    assert killing.killed and killing.batches_after >= 10
    assert by_ray == done and by_ray.computed > 1500
    assert rows == local


@pytest.mark.ray
def test_an_error_of_the_encoder_comes_back_as_it_was_raised(tmp_path: Path, backbone: Path) -> None:
    processed = write_catalogue(tmp_path / "hf", n_train=70, n_test=3, broken={"train66": b"no picture"})
    encoder = _encoder(backbone)
    said = []
    for name, engine in {
        "local": LocalEngine(encoder, decode_workers=1),
        "ray": _ray_engine(encoder, backbone, workers=1),
    }.items():
        with pytest.raises(UnidentifiedImageError) as caught:
            if name == "ray":
                with engine:
                    _embedded(processed, tmp_path / name, encoder, engine)
            else:
                _embedded(processed, tmp_path / name, encoder, engine)
        said.append((type(caught.value), str(caught.value).split("<")[0]))
    assert said[0] == said[1]


@pytest.mark.ray
def test_a_node_that_would_give_other_bytes_is_refused(
    tmp_path: Path, backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processed = write_catalogue(tmp_path / "hf", n_train=5, n_test=3)
    encoder = _encoder(backbone)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")  # torch of this process has chosen its kernels already
    with (
        pytest.raises(ConfigError, match=r"would give other bytes: processor is '.* DEFAULT' and not"),
        _ray_engine(encoder, backbone, workers=1) as engine,
    ):
        _embedded(processed, tmp_path / "out", encoder, engine)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("out-cache/*/*.rows"))


@pytest.mark.ray
def test_a_private_cluster_through_the_stages_own_door(tmp_path: Path, backbone: Path) -> None:
    import ray

    processed = write_catalogue(tmp_path / "hf", n_train=40, n_test=9)
    encoder = _encoder(backbone)
    _, local = _embedded(processed, tmp_path / "local", encoder, LocalEngine(encoder, decode_workers=1))
    params = _section(engine="ray", ray_workers=1)
    with opened_engine(encoder, backbone, params) as engine:
        assert not ray.is_initialized(), "nothing is started before there is something to embed"
        _, rows = _embedded(processed, tmp_path / "ray", encoder, engine)
        assert ray.is_initialized()
    assert rows == local
    with opened_engine(encoder, backbone, params) as engine:
        done, rows = _embedded(processed, tmp_path / "ray", encoder, engine)
        assert done.computed == 0 and not ray.is_initialized()
    assert rows == local


@pytest.mark.ray
def test_what_always_ends_its_worker_is_not_tried_for_ever(
    backbone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from lib.encoding import ray_engine

    def ends(block: Any, *, kind: Any, job: Any) -> Any:
        os._exit(1)

    monkeypatch.setattr(ray_engine, "_embed_block", ends)
    monkeypatch.setattr(ray_engine, "_RETRIES", 1)
    with (
        pytest.raises(BusyError, match=r"embed\.engine: .*The worker died.*run again"),
        _ray_engine(_encoder(backbone), backbone, workers=1) as engine,
    ):
        list(engine.embed("text", [[b"a"]]))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.ray
def test_nodes_that_are_too_small_are_an_error_and_no_endless_wait(backbone: Path, cluster: Any) -> None:
    torch.set_num_threads(2)
    encoder = _encoder(backbone)
    with (
        pytest.raises(ConfigError, match="no node of the Ray cluster has 2 processors, the largest has 1"),
        _ray_engine(encoder, backbone, address=cluster.address) as engine,
    ):
        list(engine.embed("text", [[b"a"]]))


@pytest.mark.ray
def test_a_cluster_that_is_not_there(backbone: Path) -> None:
    encoder = _encoder(backbone)
    with (
        pytest.raises(ConfigError, match=r"embed\.ray_address: no Ray cluster at '127\.0\.0\.1:9'"),
        _ray_engine(encoder, backbone, address="127.0.0.1:9") as engine,
    ):
        list(engine.embed("text", [[b"a"]]))


@pytest.mark.ray
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stage_that_is_ended_leaves_no_process(tmp_path: Path, backbone: Path, number: int, code: int) -> None:
    processed = write_catalogue(tmp_path / "hf", n_train=600, n_test=60)
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["embed"] |= {"engine": "ray", "ray_workers": 1, "batch_size": 1}
    raw["runtime"]["threads"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    paths = {"--processed": processed, "--backbone": backbone, "--out": tmp_path / "out"}
    as_a_user = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryDirectory(prefix="tmp-", ignore_cleanup_errors=True) as folder:
        running = subprocess.Popen(
            [sys.executable, "-m", "stages.embed_catalog", *(str(word) for pair in paths.items() for word in pair)],
            cwd=tmp_path,
            env={**as_a_user, "PYTHONPATH": str(ROOT), "TMPDIR": folder, "HOME": str(tmp_path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        _until(lambda: list(tmp_path.glob(".cache/embeddings/*/*.rows")), seconds=300)
        assert _processes_of(folder), "its cluster is at work"
        running.send_signal(number)
        said = running.communicate(timeout=120)[1]
        assert running.returncode == code, said
        _until(lambda: not _processes_of(folder), seconds=240)  # after SIGKILL some of Ray's take a minute to notice
        assert number == signal.SIGKILL or not list(Path(folder).iterdir())
    assert number == signal.SIGKILL or "error: stopped by SIGTERM" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists() and not (tmp_path / ".ray").exists()


def _processes_of(folder: str) -> list[psutil.Process]:
    """Processes of a private cluster: each has its folder on the command line or as its directory of logs."""
    found = []
    for process in psutil.process_iter():
        try:
            if folder in " ".join(process.cmdline()) or folder in str(process.environ().get("TMPDIR")):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _until(condition: Callable[[], object], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
