"""Tables with photos from addresses: beside photo files, without a photo folder, with a damaged cache."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from lib.base.artifacts import read_parquet
from lib.base.errors import ConfigError
from lib.catalog.download.photo_index import INDEX, Failure, IndexWriter, Photo, PhotoIndex
from lib.catalog.process import process_catalog
from lib.catalog.processed import read_images, read_rows
from lib.catalog.sources.downloaded import DownloadedPhotos
from lib.catalog.sources.registry import open_source

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "lib/catalog/attributes.yaml"
COLUMNS = {"item_id": "id", "image": "image", "image_url": "url"}


@pytest.fixture
def cached(catalogue, encode, draw):
    """Puts a photo into the cache of a catalogue, as the command does; returns its bytes."""
    catalogue.header = ("id", "url", "image", "category", "title", "color", "neckline")
    catalogue.settings = {"columns": COLUMNS, "splits": {"train": 1.0, "validation": 0.0, "test": 0.0}}
    folder = catalogue.raw.parent / "image_cache"

    def put(item_id: str, seed: int, url: str | None = None) -> bytes:
        data = encode(draw(seed))
        index = PhotoIndex(folder)
        file = f"{index.claim_stem(item_id)}.jpg"
        folder.mkdir(exist_ok=True)
        (folder / file).write_bytes(data)
        address, sha256 = url or f"http://x/{item_id}", hashlib.sha256(data).hexdigest()
        with IndexWriter(index) as writer:
            writer.record(Photo(item_id=item_id, address=address, file=file, sha256=sha256, size=len(data)))
        return data

    return put


def process(catalogue, **changes):
    catalogue.write()
    out = catalogue.raw.parent / "hf"
    cache = catalogue.raw.parent / "image_cache"
    report = process_catalog(catalogue.raw, SCHEMA, out, catalogue.data(**changes), workers=2, image_cache=cache)
    bad = read_parquet(out / "quarantine.parquet")
    return report, dict(zip(bad["item_id"], bad["reason"], strict=True)), out


def test_a_rows_own_photo_wins(catalogue, cached, encode, draw):
    own = encode(draw(1))
    (catalogue.raw / "images" / "own.jpg").write_bytes(own)
    catalogue.add("both", image="own.jpg", url="http://x/both")
    fetched = cached("both", 2), cached("../b", 3), cached("unused", 4)
    catalogue.add("../b", image="", url="http://x/../b")
    catalogue.add("gone", image="gone.jpg", url="http://x/gone")
    cached("gone", 5)
    report, bad, out = process(catalogue)
    assert read_images(out, ["both", "../b"]) == {"both": own, "../b": fetched[1]}
    assert bad == {"gone": "missing_file"}, "a photo file that is named has to be there"
    names = [f"downloaded:{name}.jpg" for name in ("both", "gone", "unused")]
    assert report["images_without_row"] == {"count": 3, "first": names}
    assert read_rows(out).set_index("item_id").loc["../b", "product_id"]


def test_without_a_photo_folder(catalogue, cached):
    (catalogue.raw / "images").rmdir()
    catalogue.add("a", image="", url="http://x/a")
    data = cached("a", 1)
    for columns, root in ((COLUMNS, "images"), (COLUMNS, ""), ({"item_id": "id", "image_url": "url"}, "nowhere")):
        report, bad, out = process(catalogue, columns=columns, image_root=root)
        assert not bad and read_images(out, ["a"]) == {"a": data}
        assert report["images_without_row"]["count"] == 0
    catalogue.add("b", image="b.jpg", url="http://x/b")
    with pytest.raises(ConfigError, match="image_root"):
        process(catalogue, image_root="nowhere")
    with pytest.raises(ConfigError, match="image_root"):
        process(catalogue, columns={"item_id": "id", "image": "image"}, image_root="nowhere")


def test_a_cache_that_is_not_what_was_fetched(catalogue, cached, encode, draw):
    folder = catalogue.raw.parent / "image_cache"
    for number, item_id in enumerate(("good", "flipped", "cut", "lost", "swapped", "linked")):
        catalogue.add(item_id, image="", url=f"http://x/{item_id}")
        cached(item_id, number)
    data = bytearray((folder / "flipped.jpg").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "flipped.jpg").write_bytes(data)
    (folder / "cut.jpg").write_bytes(b"\xff\xd8")
    (folder / "lost.jpg").unlink()
    (folder / "lost.jpg").mkdir()
    other = encode(draw(70))
    size = (folder / "swapped.jpg").stat().st_size
    (folder / "swapped.jpg").write_bytes((other + bytes(size))[:size])
    (folder / "linked.jpg").rename(catalogue.raw / "linked.jpg")
    (folder / "linked.jpg").symlink_to(catalogue.raw / "linked.jpg")
    _, bad, out = process(catalogue)
    assert bad == {
        "flipped": "damaged_download",
        "cut": "not_downloaded",
        "lost": "not_downloaded",
        "swapped": "damaged_download",
        "linked": "path_escape",
    }
    detail = read_parquet(out / "quarantine.parquet").set_index("item_id").loc["flipped", "detail"]
    assert "flipped.jpg, run `python -m stages.download_images`" in detail


def test_why_a_photo_is_not_there(catalogue, cached):
    catalogue.add("ok", image="", url="http://x/ok")
    cached("ok", 1)
    catalogue.add("new", image="", url="http://x/new")
    catalogue.add("moved", image="", url="http://y/moved")
    cached("moved", 2)
    catalogue.add("failed", image="", url="http://x/failed")
    catalogue.add("blank", image="", url=" #N/A ")
    failed = Failure(
        item_id="failed", address="http://x/failed", reason="http_410", detail="the server answers 410 Gone"
    )
    with IndexWriter(PhotoIndex(catalogue.raw.parent / "image_cache")) as writer:
        writer.record(failed)
    _, bad, out = process(catalogue)
    assert bad == {
        "new": "not_downloaded",
        "moved": "not_downloaded",
        "failed": "not_downloaded",
        "blank": "no_image",
    }
    details = read_parquet(out / "quarantine.parquet").set_index("item_id")["detail"]
    assert (
        "not fetched yet; run `python -m stages.download_images`" in details["new"]
        and details["moved"] == details["new"]
    )
    assert (
        details["failed"] == "http_410: the server answers 410 Gone; `python -m stages.download_images` tries again"
    )


def test_duplicate_rows_and_same_photos_are_seen_through_addresses(catalogue, cached):
    for item_id in ("a", "b"):
        catalogue.add(item_id, image="", url=f"http://x/{item_id}")
        cached(item_id, 9)
    catalogue.rows.append(list(catalogue.rows[0]))
    _, bad, out = process(catalogue)
    assert bad == {"a": "duplicate_row"}
    assert set(read_rows(out)["product_key"]) == {"same_image"}


def test_a_photo_file_that_is_called_like_a_cached_one(catalogue, cached, encode, draw):
    name = "downloaded:a.jpg"
    (catalogue.raw / "images" / name).write_bytes(encode(draw(50)))
    catalogue.add("own", image=name, url="")
    catalogue.add("a", image="", url="http://x/a")
    data = cached("a", 51)
    _, bad, out = process(catalogue)
    assert not bad and read_images(out, ["own", "a"]) == {"own": encode(draw(50)), "a": data}


def test_an_index_that_is_being_written(catalogue, cached):
    catalogue.add("a", image="", url="http://x/a")
    cached("a", 1)
    folder = catalogue.raw.parent / "image_cache"
    with open(folder / INDEX, "ab") as file:
        file.write(b'{"item_id": "b", "addr')
    before = (folder / INDEX).read_bytes()
    _, bad, _ = process(catalogue)
    assert not bad and (folder / INDEX).read_bytes() == before, "process_data only reads"


def test_the_same_cache_gives_the_same_bytes(catalogue, cached):
    for number in range(12):
        catalogue.add(f"i{number}", image="", url=f"http://x/i{number}")
        cached(f"i{number}", number)
    _, _, out = process(catalogue)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    process(catalogue)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_rows_can_be_read_again(catalogue, cached):
    catalogue.add("a", image="", url="http://x/a")
    cached("a", 1)
    catalogue.write()
    source = DownloadedPhotos(open_source(catalogue.raw, catalogue.data()), catalogue.raw.parent / "image_cache")
    first, second = list(source.rows()), list(source.rows())
    assert first == second and first[0].image == "downloaded:a.jpg" and first[0].image_name == "a.jpg"
    assert source.image_size("downloaded:a.jpg") == len(source.image_bytes("downloaded:a.jpg"))
    assert source.image_size("downloaded:b.jpg") is None


def test_git_never_sees_a_photo_and_dvc_no_placeholder():
    ignored = subprocess.run(
        [
            "git",
            "check-ignore",
            "data/image_cache/a.jpg",
            "data/image_cache/index.jsonl",
            "data/image_cache/.gitkeep",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert ignored == ["data/image_cache/a.jpg", "data/image_cache/index.jsonl"]
    assert "/data/image_cache/.gitkeep" in (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()
