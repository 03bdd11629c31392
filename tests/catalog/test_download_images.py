"""From a table of addresses to processed rows, as a user runs it: interrupted, twice, on a full disk, again later."""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from photo_server import PhotoServer, body, one_after_another, raw, redirect, serving, status

from lib.base.artifacts import read_parquet
from lib.base.errors import ConfigError, DataError, IntegrityError
from lib.base.params import load_params, parse_params
from lib.catalog.process import process_catalog
from lib.catalog.processed import read_images, read_rows
from stages import download_images

ROOT = Path(__file__).parents[2]
SWITCH = "--allow-test-server-on-loopback"
LIMITS = {
    "workers": 4,
    "per_host": 4,
    "silence_s": 30,
    "deadline_s": 30,
    "max_bytes": 200_000,
    "attempts": 2,
    "backoff_s": 0.01,
    "max_backoff_s": 0.1,
}


class Shop:
    """A folder with a table of addresses on the server; `run` is the command."""

    def __init__(self, folder: Path, server: PhotoServer, make: Callable[[int], bytes]) -> None:
        self.folder = folder
        self.server = server
        self.cache = folder / "data" / "image_cache"
        self.rows: list[dict[str, str]] = []
        self._make = make
        (folder / "raw").mkdir()
        self.settings: dict[str, Any] = {
            "source": "table",
            "raw_dir": "raw",
            "metadata": "items.csv",
            "image_root": "",
            "columns": {"item_id": "sku", "image_url": "url", "category2": "kind"},
            "max_bad_fraction": 0.9,
            "max_image_side": 64,
            "splits": {"train": 1.0, "validation": 0.0, "test": 0.0},
        }

    def add(self, sku: str, path: str | None = None, answer: Any = None) -> bytes:
        """A row; without an answer the server gives it a photo of its own."""
        data = self._make(len(self.rows) + 1)
        path = f"/{len(self.rows)}.jpg" if path is None else path
        self.server.answers[path] = answer or body(data)
        self.rows.append({"sku": sku, "url": self.server.url(path), "kind": "tees"})
        return data

    def write(self) -> None:
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        schema = str(ROOT / "lib/catalog/attributes.yaml")
        params["data"] |= {**self.settings, "attribute_schema": schema}
        params["download"] = LIMITS
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        with open(self.folder / "raw" / "items.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in self.rows for name in row)), restval="")
            writer.writeheader()
            writer.writerows(self.rows)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """The command as a process."""
        self.write()
        return subprocess.Popen(
            [sys.executable, "-m", "stages.download_images", *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def command(self, *words: str, code: int, **options: Any) -> str:
        process = self.start(*words, **options)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, out + err
        assert "Traceback" not in err
        return out if code == 0 else err

    def run(self, sample: str | None = None) -> str:
        """What the command does, without the cost of a process."""
        self.write()
        args = argparse.Namespace(sample=sample, allow_test_server_on_loopback=True)
        return download_images.run(args, load_params(self.folder / "params.yaml"))

    def process(self) -> Any:
        """Runs `process_data`; what went to quarantine, by item."""
        self.write()
        data = load_params(self.folder / "params.yaml").data
        raw, schema, out = self.folder / "raw", Path(data.attribute_schema), self.folder / "hf"
        process_catalog(raw, schema, out, data, workers=1, image_cache=Path(data.image_cache))
        return read_parquet(out / "quarantine.parquet").set_index("item_id")

    def cached(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.cache.iterdir()) if path.suffix != ".jsonl"}

    def index(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.cache / "index.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def shop(tmp_path, encode, draw, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        yield Shop(tmp_path, server, lambda seed: encode(draw(seed)))


def test_from_addresses_to_rows(shop, encode, draw):
    photos = {f"S{number}": shop.add(f"S{number}") for number in range(8)}
    for sku in ("../x", "a/b", "s1", "größe", "CON", "y" * 300):
        photos[sku] = shop.add(sku)
    png = encode(draw(99), "PNG")
    shop.add("png", "/p.jpg", body(png, "image/jpeg"))
    shop.add("moved", "/old", redirect("/0.jpg"))
    shop.add("busy", "/busy", one_after_another(status(503), body(encode(draw(98)))))
    shop.add("gone", "/gone", status(404))
    shop.add("login", "/login", body(b"<html>please log in</html>", "image/jpeg"))
    shop.add("cut", "/cut", body(photos["S0"], length=10_000))
    shop.add("metadata", "/metadata", redirect("http://169.254.169.254/latest/"))
    for sku, url in {
        "file": "file:///etc/passwd",
        "user": "http://u:secret@127.0.0.1/",
        "none": "",
        "na": "#N/A",
    }.items():
        shop.rows.append({"sku": sku, "url": url, "kind": "tees"})
    shop.rows.append(dict(shop.rows[0]))  # a duplicate row
    said = shop.command(SWITCH, code=0)
    lines = said.splitlines()
    assert lines[0] == "17 of 23 photos are there: 17 fetched now, 0 before; 6 failed"
    assert lines[1] == "of 26 rows, 0 name a photo file and 2 neither file nor address"
    assert (
        "  1 × http_404, first item 'gone', http://127.0.0.1" in said and "the server answers 404 Not Found" in said
    )
    assert "secret" not in said and lines[-1] == "now: dvc repro process_data"
    cached = shop.cached()
    assert {f"S{number}.jpg" for number in range(8)} <= set(cached) and cached["png.png"] == png
    assert cached["%2E.%2Fx.jpg"] == photos["../x"] and len(cached) == 17
    assert len({name.lower() for name in cached}) == 17
    assert sorted(path.name for path in shop.folder.iterdir()) == [".cache", "data", "params.yaml", "raw"]

    command = [sys.executable, "-m", "stages.process_data", "--raw", "raw", "--image-cache", "data/image_cache"]
    command += ["--schema", str(ROOT / "lib/catalog/attributes.yaml"), "--out", "hf"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    report = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "17 of 26 rows" in report
    hf = shop.folder / "hf"
    bad = read_parquet(hf / "quarantine.parquet").set_index("item_id")
    assert len(bad) == 9
    assert bad.loc["gone", "reason"] == "not_downloaded"
    assert bad.loc["gone", "detail"].startswith(
        "http_404: the server answers 404 Not Found; `python -m stages.download_"
    )
    assert bad.loc["login", "detail"].startswith("not_an_image: no known image format: it looks like HTML")
    assert bad.loc["cut", "detail"].startswith("short_body")
    assert bad.loc["metadata", "detail"].startswith("refused_address: 169.254.169.254 is")
    assert bad.loc["file", "detail"].startswith("refused_scheme") and bad.loc["none", "reason"] == "no_image"
    assert bad.loc["na", "reason"] == "no_image" and bad.loc["S0", "reason"] == "duplicate_row"
    rows = read_rows(hf)
    assert len(rows) + len(bad) == len(shop.rows)
    stored = read_images(hf, list(photos))
    assert stored == photos


def test_a_second_run_fetches_what_is_missing_only(shop):
    for number in range(6):
        shop.add(f"i{number}")
    shop.add("late", "/late", one_after_another(status(404), body(shop.add("other"))))
    shop.run()
    first = dict(shop.server.asked)
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in shop.cache.glob("*.jpg")}
    said = shop.run()
    assert said.startswith("8 of 8 photos are there: 1 fetched now, 7 before; 0 failed\n")
    assert shop.server.asked == {**first, "/late": 2}
    assert before == {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in shop.cache.glob("*.jpg")
        if path.stem != "late"
    }
    index = (shop.cache / "index.jsonl").read_bytes()
    shop.run()
    assert (shop.cache / "index.jsonl").read_bytes() == index, "no dates, always in the same order"
    assert [entry["item_id"] for entry in shop.index()] == sorted(entry["item_id"] for entry in shop.index())


def test_changed_addresses_lost_files_and_vanished_items(shop, encode, draw):
    for sku in ("a", "b", "c", "d", "e"):
        shop.add(sku)
    shop.run()
    before = shop.cached()
    shop.rows[0]["url"] = shop.server.url("/new-a")
    shop.server.answers["/new-a"] = body(encode(draw(77), "PNG"))
    shop.rows[1]["url"] = shop.server.url("/new-b")  # 404
    (shop.cache / "c.jpg").unlink()
    (shop.cache / "d.jpg").write_bytes(before["d.jpg"][:-5])
    bad = shop.process()["detail"]
    assert bad["a"].startswith("not fetched yet") and "gone or cut" in bad["c"] and "gone or cut" in bad["d"]
    assert "e" not in bad
    del shop.rows[4]
    said = shop.run()
    assert said.startswith("3 of 4 photos are there: 3 fetched now, 0 before; 1 failed\n")
    assert "1 photos in the cache belong to no row any more: left there, not used" in said
    after = shop.cached()
    assert after == {
        "a.png": encode(draw(77), "PNG"),
        "b.jpg": before["b.jpg"],
        "c.jpg": before["c.jpg"],
        "d.jpg": before["d.jpg"],
        "e.jpg": before["e.jpg"],
    }
    bad = shop.process()["detail"]
    assert list(bad.index) == ["b"] and bad["b"].startswith("http_404"), "a photo of an old address is not used"


def test_a_sample_grows_without_fetching_twice(shop):
    for number in range(30):
        shop.add(f"i{number:02d}")
    assert shop.run("5").startswith("5 of 5 photos are there, a sample of 30: 5 fetched now")
    five = set(shop.cached())
    assert shop.run("12").startswith("12 of 12 photos are there, a sample of 30: 7 fetched now, 5 before")
    assert five < set(shop.cached()) and len(shop.cached()) == 12
    assert five != {f"i{number:02d}.jpg" for number in range(5)}, "drawn, not the first rows"
    assert set(shop.server.asked.values()) == {1}
    assert shop.process()["detail"].value_counts().to_dict() == {
        "not fetched yet; run `python -m stages.download_images`": 18
    }
    for wrong in ("0", "-3", "many", "1.5"):
        with pytest.raises(ConfigError, match="--sample: expected how many photos"):
            shop.run(wrong)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_in_the_middle_it_goes_on_where_it_was(shop, how):
    photos = {f"i{number:02d}.jpg": shop.add(f"i{number:02d}") for number in range(40)}
    several = threading.Event()
    for number, data in enumerate(photos.values()):

        def slow(to: Any, data: bytes = data) -> None:
            if shop.server.asked.total() >= 15:
                several.set()
            header = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data)
            raw(header, data[:100], data[100:], pause=lambda: time.sleep(0.03))(to)

        shop.server.answers[f"/{number}.jpg"] = slow
    dribble = raw(b"HTTP/1.1 200 OK\r\n\r\n", b"x", pause=lambda: time.sleep(0.05), forever=True)
    shop.server.answers["/0.jpg"] = one_after_another(dribble, shop.server.answers["/0.jpg"])
    process = shop.start(SWITCH)
    assert several.wait(timeout=30)
    process.send_signal(how)
    sent = time.monotonic()
    process.communicate(timeout=30)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143}[how]
    assert time.monotonic() - sent < 15, "it does not wait for what is under way"
    left = shop.cached()
    assert left and all(photos[name] == data for name, data in left.items() if not name.startswith("."))
    before = shop.server.asked.total()
    assert before < 40
    said = shop.run()
    assert shop.cached() == photos
    there = int(said.partition("fetched now, ")[2].split()[0])
    assert there >= before - LIMITS["workers"], "only what was under way is fetched again"
    assert shop.server.asked.total() == before + 40 - there


def test_two_runs_at_once(shop):
    hold = threading.Event()
    shop.add("a", "/a", lambda to: (hold.wait(30), body(shop._make(1))(to)))
    first = shop.start(SWITCH)
    while not shop.server.asked:
        time.sleep(0.02)
    assert f"process {first.pid} is writing the same out" in shop.command(SWITCH, code=75)
    hold.set()
    assert first.wait(timeout=30) == 0
    first.communicate()


def test_a_full_disk_keeps_what_was_there_and_the_next_run_goes_on(shop, encode, draw):
    small = {f"i{number}.jpg": shop.add(f"i{number}") for number in range(5)}
    shop.run()
    big = encode(draw(50, (200, 200)))
    assert len(big) > 20_000 > 10 * len(small["i0.jpg"])
    shop.add("i0-new", "/big", body(big))
    shop.rows[0]["url"] = shop.server.url("/big")  # i0 gets another photo, for which there is no room
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))}
    said = shop.command(SWITCH, code=75, **limit)
    assert "error: download_images: data/image_cache/i0" in said and "no room to write it" in said
    assert shop.cached() == small
    shop.run()
    assert shop.cached() == {**small, "i0.jpg": big, "i0-new.jpg": big}


def test_a_full_disk_in_the_index(shop):
    for number in range(60):
        shop.add(f"i{number}", f"/{number}", status(404))
    shop.add("a")
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))}
    assert "data/image_cache/index.jsonl: no room to write it" in shop.command(SWITCH, code=75, **limit)
    assert shop.run().startswith("1 of 61 photos are there")


def test_everything_failed(shop):
    shop.add("a", "/a", status(404))
    shop.add("b", "/b", status(500))
    with pytest.raises(DataError, match=r"(?s)no photo could be fetched.*1 × http_404.*1 × http_500"):
        shop.run()
    assert {entry["item_id"]: entry["reason"] for entry in shop.index()} == {"a": "http_404", "b": "http_500"}
    with pytest.raises(DataError, match=r"2 × not_downloaded, first in row 2, id 'a', .*http_404"):
        shop.process()


def test_loopback_is_refused_without_the_switch(shop):
    shop.add("a")
    said = shop.command(code=3)
    assert "refused_address" in said and "127.0.0.1: this machine itself" in said
    assert not shop.server.asked
    params = yaml.safe_load((shop.folder / "params.yaml").read_text(encoding="utf-8"))
    for name in ("allow_loopback", "allow_test_server_on_loopback", "judge"):
        with pytest.raises(ConfigError, match=f"unknown key 'download.{name}'"):
            parse_params({**params, "download": {**LIMITS, name: True}})


def test_nothing_to_do(shop):
    shop.settings["columns"] = {"item_id": "sku", "category2": "kind"}
    shop.rows.append({"sku": "a", "kind": "tees"})
    with pytest.raises(ConfigError, match=r"data\.columns\.image_url is not set"):
        shop.run()
    shop.settings["columns"] = {"item_id": "sku", "image_url": "url"}
    shop.rows = [{"sku": "a", "url": ""}]
    assert shop.run().startswith("0 of 0 photos are there")


def test_a_hostile_index_leads_nowhere_else(shop):
    shop.add("a")
    shop.run()
    index = shop.cache / "index.jsonl"
    index.write_text(index.read_text().replace('"a.jpg"', '"../../params.jpg"'))
    for step in (shop.run, shop.process):
        with pytest.raises(IntegrityError, match=r"index\.jsonl:1: damaged"):
            step()
