"""A folder of photos and the archives that may stand for it: the same names, bytes and refusals."""

from __future__ import annotations

import shutil
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lib.base.errors import DataError
from lib.catalog.images import ImageError
from lib.catalog.photo_archive import PhotoArchive
from lib.catalog.photo_folder import PhotoFolder

FILES = {
    "1.jpg": b"one" * 100,
    "red/2.png": b"two" * 200,
    "red/dark/3.JPG": b"three" * 300,
    "notes.txt": b"no photo",
    "red/empty.jpg": b"",
}
FILES_BESIDE = {"2.jpg": b"two" * 100}
PHOTOS = ["1.jpg", "red/2.png", "red/empty.jpg", "red/dark/3.JPG"]
FORMS = ("folder", "archive", "archive with the folder in it", "compressed", "archive inside", "named as a file")


def pack(path: Path, files: dict[str, bytes], *, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def build(raw: Path, form: str) -> Path:
    """The files in one of the forms; returns what `data.image_root` names."""
    root = raw / "images"
    if form in ("folder", "archive inside"):
        for name, data in FILES.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        if form == "archive inside":
            shutil.rmtree(root / "red")
            pack(root / "red.zip", {n.removeprefix("red/"): d for n, d in FILES.items() if n.startswith("red/")})
    elif form == "archive with the folder in it":
        pack(raw / "images.zip", {"images/": b"", **{f"images/{name}": data for name, data in FILES.items()}})
    else:
        method = zipfile.ZIP_DEFLATED if form == "compressed" else zipfile.ZIP_STORED
        pack(raw / "images.zip", FILES, method=method)
    return raw / "images.zip" if form == "named as a file" else root


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_photos_and_refusals(tmp_path: Path, form: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    photos = PhotoFolder(build(tmp_path, form))
    assert photos.is_there
    assert sorted(photos.names()) == sorted(PHOTOS)
    for name, data in FILES.items():
        assert photos.size(name) == len(data)
        if data:
            assert photos.read(name) == data
    assert photos.holds("red") and not photos.holds("blue") and not photos.holds("re")
    assert photos.read("red/../1.jpg") == FILES["1.jpg"]
    for name, reason in {
        "red/empty.jpg": "zero_bytes",
        "4.jpg": "missing_file",
        "blue/4.jpg": "missing_file",
        "1.jpg/2.jpg": "missing_file",
        "../secret.jpg": "path_escape",
        "red/../../secret.jpg": "path_escape",
        "/etc/hostname": "path_escape",
        "a\0b.jpg": "bad_path",
    }.items():
        with pytest.raises(ImageError) as refused:
            photos.read(name)
        assert refused.value.reason == reason, name
        assert photos.size(name) == (0 if reason == "zero_bytes" else None)


def test_a_file_is_taken_before_an_archive(tmp_path: Path) -> None:
    root = build(tmp_path, "folder")
    pack(tmp_path / "images.zip", {"1.jpg": b"other", "5.jpg": b"five"})
    photos = PhotoFolder(root)
    assert photos.read("1.jpg") == FILES["1.jpg"] and sorted(photos.names()) == sorted(PHOTOS)
    with pytest.raises(ImageError, match="no such file"):
        photos.read("5.jpg")


def test_only_a_folder_that_holds_everything_is_left_out_of_the_names(tmp_path: Path) -> None:
    files = {"images/1.jpg": b"one", "images/2.jpg": b"two"}
    pack(tmp_path / "images.zip", files | {"3.jpg": b"three"})
    assert sorted(PhotoFolder(tmp_path / "images").names()) == ["3.jpg", "images/1.jpg", "images/2.jpg"]
    pack(tmp_path / "images.zip", files | {"__MACOSX/images/._1.jpg": b"written by a Mac"})
    assert sorted(PhotoFolder(tmp_path / "images").names()) == ["1.jpg", "2.jpg"]


def test_nothing_stands_for_a_folder(tmp_path: Path) -> None:
    photos = PhotoFolder(tmp_path / "images")
    assert not photos.is_there and list(photos.names()) == []
    with pytest.raises(ImageError, match=r"no such file under data\.image_root"):
        photos.read("1.jpg")


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    cut = pack(tmp_path / "images.zip", FILES).read_bytes()[:-30]
    (tmp_path / "images.zip").write_bytes(cut)
    with pytest.raises(DataError, match=r"images\.zip: no ZIP archive that can be read .*pack the photos again"):
        PhotoFolder(tmp_path / "images").read("1.jpg")
    root = build(tmp_path / "other", "folder")
    (root / "stray.zip").write_bytes(cut)
    assert sorted(PhotoFolder(root).names()) == sorted(PHOTOS), "a file that nobody asks for stops nothing"


def test_an_archive_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    pack(tmp_path / "elsewhere.zip", {"1.jpg": b"secret"})
    root = tmp_path / "raw" / "images"
    root.mkdir(parents=True)
    (root / "red.zip").symlink_to(tmp_path / "elsewhere.zip")
    photos = PhotoFolder(root)
    assert photos.size("red/1.jpg") is None and list(photos.names()) == []
    with pytest.raises(ImageError, match="no such file"):
        photos.read("red/1.jpg")


def flagged(path: Path, name: str, *, at: tuple[int, int], value: int) -> None:
    """Change a 16-bit field of a member, in its own header and in the archive's list."""
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", at[0]), (b"PK\1\2", at[1])):
        names = 30 if signature == b"PK\3\4" else 46
        place = data.find(signature)
        while data[place + names : place + names + len(name)] != name.encode():
            place = data.find(signature, place + 1)
        data[place + offset : place + offset + 2] = value.to_bytes(2, "little")
    path.write_bytes(bytes(data))


def test_a_false_size_does_not_unpack_what_it_hides(tmp_path: Path) -> None:
    """100 MB of zeros in 100 kB that say they are a thousand bytes: refused, and never in memory."""
    path = pack(tmp_path / "images.zip", {"1.jpg": bytes(100 * 2**20), **FILES_BESIDE}, method=zipfile.ZIP_DEFLATED)
    flagged(path, "1.jpg", at=(22, 24), value=1000)
    flagged(path, "1.jpg", at=(24, 26), value=0)
    photos = PhotoFolder(tmp_path / "images")
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"images\.zip"):
        photos.read("1.jpg")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert photos.read("2.jpg") == FILES_BESIDE["2.jpg"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_is_unpacked_without_a_bound_is_refused(tmp_path: Path, method: int) -> None:
    pack(tmp_path / "images.zip", {"1.jpg": bytes(2**20)}, method=method)
    with pytest.raises(ImageError, match="neither stored nor deflated") as refused:
        PhotoFolder(tmp_path / "images").read("1.jpg")
    assert refused.value.reason == "unreadable"


@pytest.mark.parametrize("harm", ["damaged", "encrypted", "unknown method"])
def test_a_bad_member_harms_no_neighbour(tmp_path: Path, harm: str) -> None:
    path = pack(tmp_path / "images.zip", FILES)
    if harm == "damaged":
        path.write_bytes(path.read_bytes().replace(FILES["1.jpg"], b"x" + FILES["1.jpg"][1:]))
    elif harm == "encrypted":
        flagged(path, "1.jpg", at=(6, 8), value=1)
    else:
        flagged(path, "1.jpg", at=(8, 10), value=99)
    photos = PhotoFolder(tmp_path / "images")
    with pytest.raises(ImageError, match=r"images\.zip") as refused:
        photos.read("1.jpg")
    assert refused.value.reason == "unreadable"
    assert photos.read("red/2.png") == FILES["red/2.png"]


def test_a_file_that_is_too_large_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = PhotoArchive(pack(tmp_path / "images.zip", FILES, method=zipfile.ZIP_DEFLATED))
    monkeypatch.setattr("lib.catalog.photo_archive.MAX_FILE_BYTES", 299)
    with pytest.raises(ImageError, match="300 bytes, more than 299"):
        archive.read("1.jpg")


def test_many_threads_read_one_archive(tmp_path: Path) -> None:
    files = {f"{number}.jpg": bytes([number]) * (1000 + number) for number in range(200)}
    pack(tmp_path / "images.zip", files, method=zipfile.ZIP_DEFLATED)
    photos = PhotoFolder(tmp_path / "images")
    with ThreadPoolExecutor(8) as pool:
        assert dict(zip(files, pool.map(photos.read, files), strict=True)) == files
