"""Data sets of the Hugging Face Hub: pinned by one command, fetched shard by shard, compared with their pin."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fake_hub import SIGNATURE, TOKEN, Done, FakeHub, Stages, closed_port, git_blob, serving
from marqo_shards import MARQO, ROOT, SCHEMA, Shards, fingerprints, real_rows

from lib.base.errors import ConfigError
from lib.base.params import parse_params
from lib.catalog.sources import hub_fetch, hub_pin, shard_places
from lib.catalog.sources.hub_listing import pin_dataset
from lib.catalog.sources.hub_pin import HubPin, PinnedShard, matches, read_pin, write_pin
from lib.catalog.sources.registry import open_source

REPO = "Marqo/deepfashion-inshop"
FIRST, LAST = "data/a/train-0.parquet", "test.parquet"


def stored(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=7)
    return bytes(sink.getvalue())


def shard(rows: list[dict[str, Any]]) -> bytes:
    return stored(pa.Table.from_pylist(rows, schema=MARQO))


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def pin_of(files: Mapping[str, bytes]) -> HubPin:
    shards = tuple(PinnedShard(path=path, size=len(data), git_blob=git_blob(data)) for path, data in files.items())
    return HubPin(repo=REPO, commit="c" * 40, pattern="**/*.parquet", shards=shards)


@dataclass
class Place:
    """A working folder beside a hub; both stage commands run as their own processes."""

    stages: Stages
    hub: FakeHub
    folder: Path
    files: dict[str, bytes]

    def run(self, name: str, *words: str | Path, home: str = "hf_home", port: int | None = None, **more: Any) -> Done:
        port = self.hub.port if port is None else port
        return self.stages.run(name, *words, port=port, home=self.folder / home, cwd=self.folder, **more)

    def pin(self, uri: str = f"hf://{REPO}", out: str = "raw", **more: Any) -> Done:
        return self.run("pin_hub", "--hub", uri, "--out", out, **more)

    def process(self, out: str = "hf", raw: str = "raw", **more: Any) -> Done:
        return self.run("process_data", "--raw", raw, "--schema", SCHEMA, "--out", out, **more)

    def pinned(self) -> None:
        assert self.pin().returncode == 0
        self.hub.asked.clear()

    def outs(self, out: str = "hf") -> dict[str, str]:
        return fingerprints(self.folder / out)


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    with Stages() as running:
        yield running


@pytest.fixture
def place(stages: Stages, tmp_path: Path) -> Iterator[Place]:
    """Three shards at three depths, one of them not stored as a large file; a bad photo and a README."""
    rows = real_rows()
    rows[30]["image"] = {"bytes": b"<html></html>", "path": "broken.jpg"}
    rows[60]["image"] = None
    parts = {FIRST: rows[:20], "data/train-1.parquet": rows[20:45], LAST: rows[45:]}
    files = {path: shard(part) for path, part in parts.items()}
    params = yaml.safe_load((ROOT / "profiles/deepfashion.yaml").read_text(encoding="utf-8"))
    params["data"] = Shards(tmp_path / "raw").data().model_dump(mode="json")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    hub = FakeHub(small={LAST})
    hub.commit(REPO, {**files, "README.md": b"# A data set", ".hidden/x.parquet": b"no shard"})
    with serving(hub):
        yield Place(stages, hub, tmp_path, files)


def is_one_line(done: Done, code: int, *parts: str) -> bool:
    """Whether a stage ended with this code and one readable message that has these parts."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    for part in parts:
        assert part in last, last
    return True


def test_pinned_shards_give_the_bytes_of_local_ones(place):
    write_files(place.folder / "local", place.files)
    assert place.process(out="expected", raw="local").returncode == 0
    commit = place.hub.repos[REPO].refs["main"]
    done = place.pin(HF_TOKEN=TOKEN)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{REPO} at commit {commit}: 3 shards, 0.1 MB, in raw/hub.json\n")
    pinned = (place.folder / "raw/hub.json").read_bytes()
    assert [path.name for path in (place.folder / "raw").iterdir()] == ["hub.json"]
    # `main` moves on before anything was fetched
    moved = place.hub.commit(REPO, {FIRST: shard(real_rows()[:40])})
    processed = place.process(HF_TOKEN=TOKEN)
    assert processed.returncode == 0, processed.stderr
    assert place.outs() == place.outs("expected")
    assert place.hub.fetched() == [FIRST, "data/train-1.parquet"]  # and the small one from the hub itself
    # the token goes to the hub, not to its store, and nowhere else
    asked = [(path, "authorization" in headers) for _, path, headers in place.hub.asked if "harness" not in path]
    assert {known for path, known in asked if path.startswith("/store/")} == {False}
    assert {known for path, known in asked if not path.startswith("/store/")} == {True}
    assert TOKEN not in done.stdout + done.stderr + processed.stdout + processed.stderr
    # pinning that commit again writes the same bytes; `main` is another one now
    assert place.pin(f"hf://datasets/{REPO}@{commit}").returncode == 0
    assert (place.folder / "raw/hub.json").read_bytes() == pinned
    assert place.pin().returncode == 0
    again = json.loads((place.folder / "raw/hub.json").read_text(encoding="utf-8"))
    assert (again["commit"], len(again["shards"])) == (moved, 1)


def test_what_is_in_the_cache_needs_no_hub(place):
    place.pinned()
    assert place.process(HF_HUB_DISABLE_XET="1").returncode == 0
    first = place.outs()
    dead = closed_port()
    assert place.process(port=dead).returncode == 0
    assert place.process(HF_HUB_OFFLINE="1").returncode == 0
    assert place.outs() == first
    is_one_line(place.process(port=dead, home="cold"), 75, FIRST, "cannot be reached", "check the network")
    is_one_line(
        place.process(home="cold", HF_HUB_OFFLINE="1"), 75, FIRST, "HF_HUB_OFFLINE is set; run once without it"
    )
    place.hub.answer = 503
    is_one_line(place.process(home="cold"), 75, FIRST, "cannot answer now (503: out of order); run again later")
    assert place.outs() == first  # what was there is left alone


def test_a_cut_connection_is_resumed(place):
    large = pq.read_table(pa.BufferReader(place.files[FIRST]))
    ballast = np.random.default_rng(0).bytes(len(large) * 600_000)
    cells = [ballast[i * 600_000 : (i + 1) * 600_000] for i in range(len(large))]
    place.files[FIRST] = stored(large.append_column("ballast", pa.array(cells, pa.binary())))
    place.hub.commit(REPO, place.files)
    place.pinned()
    place.hub.cut = {FIRST: 11_000_000, "data/train-1.parquet": 1}
    done = place.process()
    assert done.returncode == 0, done.stderr
    ranges = [headers["range"] for _, _, headers in place.hub.asked if "range" in headers]
    assert ranges == ["bytes=10485760-"]  # the library writes 10 MiB at once; what came after them is lost
    write_files(place.folder / "local", place.files)
    assert place.process(out="expected", raw="local").returncode == 0
    assert place.outs() == place.outs("expected")


def test_a_shard_that_is_not_what_was_pinned(place):
    place.pinned()
    changed = {path: data[:-9] + b"?" + data[-8:] for path, data in place.files.items()}  # of the same size
    place.hub.lies = {FIRST: changed[FIRST]}
    done = place.process()
    is_one_line(done, 4, f"/{FIRST}: not what hub.json pins: expected sha256 ", "pin it again")
    assert not (place.folder / "hf").exists()
    named = Path(done.stderr.split("; delete ")[1].split(" and run")[0])
    place.hub.lies = {LAST: changed[LAST]}
    is_one_line(place.process(), 4, f"/{FIRST}: not what hub.json pins")  # the cache has it still
    named.unlink()
    is_one_line(place.process(), 4, f"/{LAST}: not what hub.json pins: expected git blob ")
    whole = place.files[FIRST]
    place.hub.lies = {FIRST: whole + b"more"}
    is_one_line(place.process(home="other"), 4, f"expected {len(whole)} bytes, got {len(whole) + 4} bytes")


def test_a_commit_or_a_shard_that_the_hub_no_longer_has(place):
    place.pinned()
    repo = place.hub.repos[REPO]
    commit = repo.refs["main"]
    del repo.commits[commit][FIRST]
    is_one_line(place.process(), 4, f"the hub has no such file at commit {commit}", "pin again")
    repo.commits.clear()
    is_one_line(place.process(), 4, f"the hub has no such file at commit {commit}", "pin again")


def test_who_may_not_read_it(place):
    place.pinned()
    place.hub.echo = True
    place.hub.repos[REPO].gated = True
    page = f"accept its terms at http://127.0.0.1:{place.hub.port}/datasets/{REPO}"
    for env in ({}, {"HF_TOKEN": TOKEN}):
        done = place.process(**env)
        is_one_line(done, 2, FIRST, "access is restricted", page, "`hf auth login`")
        assert TOKEN not in done.stdout + done.stderr
    wrong = "a_token_of_another_form"
    done = place.pin(HF_TOKEN=wrong)
    is_one_line(done, 2, "the hub refuses access (401: Invalid credentials", "`hf auth login`")
    assert wrong not in done.stdout + done.stderr
    del place.hub.repos[REPO]
    is_one_line(place.pin(), 2, f"hf://datasets/{REPO}: no such data set", "if it is private: `hf auth login`")
    is_one_line(place.process(HF_TOKEN=TOKEN), 2, FIRST, "no such data set")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (REPO, "Must start with 'hf://'"),
        ("hf://inshop", "must be 'namespace/name', got 'inshop'"),
        ("hf://Marqo/deep fashion", "must use alphanumeric"),
        (f"hf://spaces/{REPO}", "is no data set; it must be hf://owner/name"),
        (f"hf://models/{REPO}", "is no data set; it must be hf://owner/name"),
        (f"https://me:{TOKEN}@huggingface.co/Marqo", r"User/organization pages .* must be hf://owner/name"),
    ],
)
def test_what_is_no_address(uri, message, tmp_path):
    with pytest.raises(ConfigError, match=f"^--hub: .*{message}") as error:
        pin_dataset(uri, tmp_path)
    assert TOKEN not in str(error.value)


def test_what_cannot_be_pinned(place):
    is_one_line(place.run("pin_hub", "--out", "raw"), 2, "--hub is missing")
    is_one_line(place.pin(f"hf://{REPO}@release/2024"), 2, "no revision 'release'; it has main, and its commits")
    is_one_line(place.pin(f"hf://{REPO}/images"), 2, "no file like 'images/**/*.parquet'; its parquet files are")
    place.hub.commit(REPO, {"README.md": b"#", "a.csv": b"1", "b.csv": b"2"})
    is_one_line(place.pin(), 2, "no parquet files, there is 2 × .csv, 1 × .md", "@refs/convert/parquet")
    assert not (place.folder / "raw").exists()
    is_one_line(place.pin(port=closed_port()), 75, "cannot be reached", "check the network")
    is_one_line(place.pin(HF_HUB_OFFLINE="1"), 75, "HF_HUB_OFFLINE is set")
    place.hub.page = "<html>Welcome to the hotel</html>"
    is_one_line(place.pin(), 75, "is not a hub's", "login page")
    place.hub.page = "{}"
    is_one_line(place.pin(), 75, "cannot be pinned (KeyError")


def test_revisions_with_a_slash_and_parts_of_a_data_set(place):
    other = {"default/train/0000.parquet": place.files[FIRST], "other/train/0000.parquet": place.files[LAST]}
    converted = place.hub.commit(REPO, other, ref="refs/convert/parquet")
    release = place.hub.commit(REPO, {**place.files, "extra.parquet": b"no parquet"}, ref="release/2024")
    cases = {
        "@refs/convert/parquet": (converted, sorted(other)),
        "@refs/convert/parquet/default": (converted, ["default/train/0000.parquet"]),
        "@release%2F2024/data": (release, [FIRST, "data/train-1.parquet"]),
        "@release%2F2024/data/*.parquet": (release, ["data/train-1.parquet"]),
    }
    for number, (suffix, (commit, paths)) in enumerate(cases.items()):
        assert place.pin(f"hf://{REPO}{suffix}", out=f"raw{number}").returncode == 0
        pin = read_pin(place.folder / f"raw{number}")
        assert (pin.commit, [shard.path for shard in pin.shards]) == (commit, paths)
    assert place.process(raw="raw1").returncode == 0
    assert json.loads((place.folder / "hf/report.json").read_text(encoding="utf-8"))["rows"] == 20


def test_columns_are_looked_at_before_the_second_shard_is_fetched(place):
    params = yaml.safe_load((place.folder / "params.yaml").read_text(encoding="utf-8"))
    params["data"]["columns"]["color"] = "colour"
    place.pinned()
    right = (place.folder / "params.yaml").read_text(encoding="utf-8")
    (place.folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    is_one_line(place.process(), 2, "no column 'colour' in hf://datasets/", FIRST, "Did you mean 'color'?")
    assert place.hub.fetched() == [FIRST]
    (place.folder / "params.yaml").write_text(right, encoding="utf-8")
    odd = pq.read_table(pa.BufferReader(place.files[LAST])).drop_columns(["color"])
    place.hub.commit(REPO, {**place.files, LAST: stored(odd)})
    place.pinned()
    is_one_line(place.process(), 2, "no column 'color' in hf://datasets/", LAST)


def test_a_full_disk_leaves_nothing_half_done(place):
    place.pinned()
    limit = len(place.files[FIRST]) // 2
    done = place.process(max_bytes=limit)
    is_one_line(done, 75, FIRST, "no room in the Hugging Face cache", "HF_HOME")
    blobs = (place.folder / "hf_home/hub").rglob("blobs/*")
    assert not any(path.is_file() for path in blobs)
    (place.folder / "file").write_bytes(b"")
    is_one_line(place.process(home="file/home"), 2, "cannot be written", "set HF_HOME to another folder")
    assert place.process().returncode == 0


def test_a_storage_that_does_not_deliver(place):
    place.pinned()
    place.hub.xet = 403
    is_one_line(place.process(), 75, FIRST, "the hub's storage does not deliver it", "HF_HUB_DISABLE_XET=1")
    assert place.process(HF_HUB_DISABLE_XET="1").returncode == 0


def test_local_shards_need_no_hub_library(place):
    write_files(place.folder / "raw", place.files)
    data = Shards(place.folder / "raw").data().model_dump_json()
    code = (
        "import sys; from pathlib import Path; import stages.process_data as stage; "
        "from lib.base.params import Data; "
        f"stage.process_catalog(Path('raw'), Path({str(SCHEMA)!r}), Path('hf'), Data.model_validate_json({data!r}), "
        "workers=1); sys.exit('huggingface_hub' in sys.modules)"
    )
    env = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=place.folder, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (place.folder / "hf/report.json").is_file()


def test_rows_flow_before_the_last_shard_is_fetched(place, monkeypatch):
    write_files(place.folder / "cache", place.files)
    (place.folder / "raw").mkdir()
    write_pin(place.folder / "raw", pin_of(place.files))
    fetched = []

    def fetch(pin, shard):
        fetched.append(shard.path)
        return place.folder / "cache" / shard.path

    monkeypatch.setattr(hub_fetch, "fetch_shard", fetch)
    shards = Shards(place.folder / "raw")
    rows = open_source(shards.raw, shards.data()).rows()
    assert fetched == []
    for _ in range(20):
        next(rows)
    assert fetched == [FIRST]
    next(rows)
    assert fetched == [FIRST, "data/train-1.parquet"]
    list(rows)
    assert fetched == [FIRST, "data/train-1.parquet", LAST]  # each once
    fetched.clear()
    source = open_source(shards.raw, shards.data(metadata="*.parquet"))
    assert source.image_bytes(f"{LAST}#1") == real_rows()[45]["image"]["bytes"]  # a photo before any row
    assert [row.image for row in source.rows()] == [f"{LAST}#{number}" for number in range(1, 24)]
    assert fetched == [LAST]
    with pytest.raises(
        ConfigError, match=r"hub\.json: no shard like 'train/\*' among the 3 that it pins, such as data/a"
    ):
        open_source(shards.raw, shards.data(metadata="train/*"))


def test_a_pin_beside_shards_is_refused(place):
    write_files(place.folder / "raw", place.files)
    shards = Shards(place.folder / "raw")
    write_pin(shards.raw, pin_of(place.files))
    for metadata in ("", "nothing/*.parquet"):
        with pytest.raises(
            ConfigError, match=r"both hub\.json and shards of its own, such as data/a/train-0\.parquet"
        ):
            open_source(shards.raw, shards.data(metadata=metadata))
    (shards.raw / "hub.json").unlink()
    is_one_line(place.pin(), 2, "raw: it holds shards of its own, such as data/a/train-0.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repo": "inshop"}, r"repo: .*; got 'inshop'"),
        ({"repo": "../../x"}, r"repo: "),
        ({"commit": "main"}, r"commit: .*; got 'main'"),
        ({"commit": None}, r"commit: "),
        ({"shards": []}, r"shards: "),
        ({"extra": 1}, r"extra: "),
        ({"shards.path": "../up.parquet"}, r"shards\[1\]\.path: must be a plain path inside the repository"),
        ({"shards.path": "/etc/x.parquet"}, r"shards\[1\]\.path: must be a plain path"),
        ({"shards.path": "a\\b.parquet"}, r"shards\[1\]\.path: must be a plain path"),
        ({"shards.path": FIRST}, r"shards: 'data/a/train-0\.parquet' is listed twice"),
        ({"shards.size": -1}, r"shards\[1\]\.size: .*; got '-1'"),
        ({"shards.size": "12"}, r"shards\[1\]\.size: "),
        ({"shards.sha256": "a" * 64}, r"shards\[1\]: must have either sha256 or git_blob"),
        ({"shards.git_blob": None}, r"shards\[1\]: must have either sha256 or git_blob"),
        ({"shards.git_blob": "A" * 40}, r"shards\[1\]\.git_blob: "),
    ],
)
def test_an_edited_pin(tmp_path, change, message):
    pin = pin_of(dict.fromkeys((FIRST, LAST), b"PAR1")).model_dump(exclude_none=True)
    for key, value in change.items():
        if key.startswith("shards."):
            pin["shards"][1][key.removeprefix("shards.")] = value
        else:
            pin[key] = value
    (tmp_path / "hub.json").write_text(json.dumps(pin), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"hub\.json: {message}.*pin again: python -m stages\.pin_hub --hub"):
        read_pin(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"<<<<<<< HEAD\n{}", b"\xff\xfe", b"[1]"], ids=["empty", "merge", "bytes", "list"]
)
def test_a_damaged_pin(tmp_path, data):
    (tmp_path / "hub.json").write_bytes(data)
    with pytest.raises(ConfigError, match=r"hub\.json: .*pin again"):
        read_pin(tmp_path)


def test_a_pin_is_read_as_it_was_written(tmp_path):
    pin = pin_of({"b.parquet": b"b", "a/c.parquet": b"c"})
    assert [shard.path for shard in pin.shards] == ["a/c.parquet", "b.parquet"]
    write_pin(tmp_path, pin)
    assert read_pin(tmp_path) == pin
    assert read_pin(tmp_path / "nowhere") is None


def test_patterns_are_read_as_under_a_folder(tmp_path):
    paths = ["a.parquet", "a.pq", "d/a.parquet", "d/e/a.parquet", "d/e/b.parquet", ".h/a.parquet", "d/.b.parquet"]
    write_files(tmp_path, dict.fromkeys(paths, b""))
    patterns = (
        "**/*.parquet",
        "*.parquet",
        "d/*",
        "d/**",
        "d/**/*.parquet",
        "**/e/[!b]*",
        "**/**/a.*",
        "?.pq",
        "x/*",
    )
    for pattern in patterns:
        expected = shard_places.local_shards(tmp_path, pattern)
        assert sorted(path for path in paths if matches(path, pattern)) == expected, pattern


def test_git_keeps_the_pin_and_nothing_else():
    def is_ignored(path: str) -> bool:
        return subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 0

    assert not is_ignored(f"data/raw/any/{hub_pin.PIN}")
    assert is_ignored("data/raw/any/data/a.jpg") and is_ignored("data/raw/any/items.csv")
    assert is_ignored("data/raw/sample") and is_ignored("data/raw/items.csv")


def test_an_address_as_raw_dir_says_what_to_do():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["data"]["raw_dir"] = f"hf://{REPO}"
    with pytest.raises(ConfigError, match=r"data\.raw_dir.*is a folder.*python -m stages\.pin_hub --hub hf://Marqo"):
        parse_params(params)


def test_messages_of_others_tell_no_secrets():
    text = hub_fetch.plain(
        f"failed for {TOKEN} at https://me:word@hub.example/x?X-Amz-Signature={SIGNATURE}&b=1 \x1b[2J'and'\n my-own",
        secret="my-own",
    )
    assert text == "failed for hf_… at https://hub.example/x  [2J'and' …"
    assert len(hub_fetch.plain("x" * 1000)) == 300
