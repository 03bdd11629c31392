"""The index of the cache, the plan of a run and the order in which hosts are asked."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from lib.base.errors import IntegrityError
from lib.catalog.download.photo_index import INDEX, Failure, IndexWriter, Photo, PhotoIndex
from lib.catalog.download.plan import Plan, Scheduler, Wanted
from lib.catalog.schema import BadRow, RawRow

ROOT = Path(__file__).parents[2]


def photo(item_id: str, file: str | None = None, address: str = "http://x/1") -> Photo:
    return Photo(item_id=item_id, address=address, file=file or f"{item_id}.jpg", sha256="0" * 64, size=3)


def failure(item_id: str) -> Failure:
    return Failure(item_id=item_id, address="http://x/2", reason="http_404", detail="gone\n")


def test_entries_survive_in_any_order_as_the_same_bytes(tmp_path):
    entries = [photo("b"), failure("a"), photo("größe", "gr%C3%B6%C3%9Fe.png"), failure("\0\x1b\n")]
    for folder, order in ((tmp_path / "one", entries), (tmp_path / "two", entries[::-1])):
        with IndexWriter(PhotoIndex(folder)) as writer:
            for entry in order:
                writer.record(entry)
    assert (tmp_path / "one" / INDEX).read_bytes() == (tmp_path / "two" / INDEX).read_bytes()
    index = PhotoIndex(tmp_path / "one")
    assert [index.find(entry.item_id) for entry in entries] == entries
    assert [one.item_id for one in index.photos()] == ["b", "größe"]
    assert index.photo_in("b.jpg") == entries[0] and index.photo_in("c.jpg") is None
    assert index.find("nobody") is None
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [INDEX]


def test_the_later_line_counts(tmp_path):
    with IndexWriter(PhotoIndex(tmp_path)) as writer:
        writer.record(photo("a"))
        writer.record(failure("a"))
        lines = (tmp_path / INDEX).read_text().splitlines()
        assert [json.loads(line).get("file") for line in lines] == ["a.jpg", None], "appended, and at once"
        assert PhotoIndex(tmp_path).find("a") == failure("a")
        assert PhotoIndex(tmp_path).photo_in("a.jpg") is None
    assert len((tmp_path / INDEX).read_text().splitlines()) == 1


def test_a_torn_last_line_is_passed_over_wherever_it_was_torn(tmp_path):
    first, second = (f"{photo(item).model_dump_json()}\n".encode() for item in "ab")
    for length in range(0, len(second), 12):
        (tmp_path / INDEX).write_bytes(first + second[:length])
        index = PhotoIndex(tmp_path)
        assert index.find("a") == photo("a") and index.find("b") is None
        with IndexWriter(index) as writer:
            writer.record(failure("c"))
        assert [json.loads(line)["item_id"] for line in (tmp_path / INDEX).read_text().splitlines()] == ["a", "c"]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "{}",
        '{"item_id": "b"}',
        photo("b").model_dump_json().replace("b.jpg", "../b.jpg"),
        photo("b").model_dump_json().replace("b.jpg", "/etc/passwd"),
        photo("b").model_dump_json().replace("b.jpg", ".b.jpg"),
        photo("b").model_dump_json().replace("b.jpg", "b.exe"),
        photo("b").model_dump_json().replace(":3", ":-3"),
        photo("b").model_dump_json().replace("00000", "zzzzz"),
        photo("b").model_dump_json().replace('"b"', '"\\ud800"'),
        photo("b").model_dump_json().replace('"b"', '""'),
        "[" * 100_000,
    ],
)
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / INDEX).write_text(f"{failure('a').model_dump_json()}\n{line}\n{failure('c').model_dump_json()}\n")
    with pytest.raises(IntegrityError, match=r"index.jsonl:2: damaged"):
        PhotoIndex(tmp_path)


def test_names_that_differ_in_case_alone_are_told_apart_for_good(tmp_path):
    index = PhotoIndex(tmp_path)
    stems = {item: index.claim_stem(item) for item in ("Ab", "aB", "AB", "ab", "../x")}
    assert stems["Ab"] == "Ab" and len({stem.lower() for stem in stems.values()}) == 5
    assert {item: index.claim_stem(item) for item in reversed(stems)} == stems
    with IndexWriter(index) as writer:
        for item, stem in stems.items():
            writer.record(photo(item, f"{stem}.jpg"))
    again = PhotoIndex(tmp_path)
    assert {item: again.claim_stem(item) for item in reversed(stems)} == stems


def test_litter_of_a_killed_run_is_cleared_and_nothing_else(tmp_path):
    for name in (".a.jpg.k3j_2x9a", ".index.jsonl.abcdefgh", ".gitkeep", ".DS_Store", "b.jpg", "notes.txt", ".a.jpg"):
        (tmp_path / name).write_bytes(b"")
    with IndexWriter(PhotoIndex(tmp_path)):
        pass
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".DS_Store", ".a.jpg", ".gitkeep", "b.jpg", INDEX, "notes.txt"]


def test_a_linked_index_is_not_written_through(tmp_path):
    """DVC may link files from its cache; appending to one would change the cache."""
    kept = tmp_path / "kept"
    kept.write_text(failure("a").model_dump_json() + "\n")
    before = kept.read_bytes()
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / INDEX).hardlink_to(kept)
    with IndexWriter(PhotoIndex(folder)) as writer:
        writer.record(photo("b"))
    assert kept.read_bytes() == before


def rows(n: int) -> list[RawRow | BadRow]:
    return [RawRow(number + 2, f"i{number}", image_url=f"http://h{number % 3}/{number}") for number in range(n)]


def ids(plan: Plan) -> list[str]:
    return [wanted.item_id for wanted in plan.wanted()]


def test_all_rows_in_their_order():
    plan = Plan(iter(rows(1000)), sample=None, seed=1)
    assert ids(plan) == [f"i{number}" for number in range(1000)]
    assert (plan.rows, plan.chosen, plan.addresses) == (1000, 1000, 1000)


def test_a_larger_sample_holds_the_smaller_ones():
    samples = [ids(Plan(iter(rows(1000)), sample=n, seed=1)) for n in (1, 10, 300, 1000, 5000)]
    for smaller, larger in pairwise(samples):
        assert larger[: len(smaller)] == smaller
    assert len(samples[2]) == 300 and len(set(samples[-1])) == 1000
    assert samples[1] != ids(Plan(iter(rows(1000)), sample=10, seed=2))
    reordered = rows(1000)[::-1]
    assert ids(Plan(iter(reordered), sample=300, seed=1)) == samples[2], "the order of the rows does not matter"
    assert 240 < sum(int(item[1:]) < 850 for item in samples[2]) < 270, "drawn evenly"


def test_what_a_row_needs_to_be_wanted():
    found = Plan(
        iter(
            [
                RawRow(2, "own", image="own.jpg", image_url="http://x/own"),
                RawRow(3, "own", image_url="http://x/duplicate"),
                RawRow(4, "twice", image_url=" http://x/1 "),
                RawRow(5, "twice", image_url="http://x/2"),
                RawRow(6, "none"),
                RawRow(7, "blank", image_url="  "),
                RawRow(8, "none", image_url="http://x/late"),
                BadRow(9, None, None, "empty_id", ""),
            ]
        ),
        sample=None,
        seed=0,
    )
    assert list(found.wanted()) == [Wanted("twice", "http://x/1")]
    assert (found.rows, found.own_photo, found.neither, found.addresses) == (8, 1, 2, 1)
    assert found.names("twice") and not found.names("own") and not found.names("none")


def test_no_rows():
    plan = Plan(iter([]), sample=3, seed=0)
    assert ids(plan) == [] and plan.chosen == 0


def test_hosts_take_turns_and_none_is_asked_too_much():
    wanted = [Wanted(f"a{n}", f"http://a/{n}") for n in range(5)]
    wanted += [Wanted("b", "http://B:8080/x"), Wanted("c", "n/a")]
    scheduler = Scheduler(iter(wanted), per_host=2, ahead=100)
    first = [scheduler.next() for _ in range(5)]
    assert [one.item_id if one else None for one in first] == ["a0", "b", "c", "a1", None]
    scheduler.finished(first[0])
    assert scheduler.next() == wanted[1 + 1]
    assert scheduler.next() is None
    for _ in range(2):
        scheduler.finished(wanted[1])
    assert [scheduler.next(), scheduler.next(), scheduler.next()] == [wanted[3], wanted[4], None]


def test_looking_ahead_is_bounded():
    taken: list[int] = []

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield Wanted(str(number), "http://a/")
            number += 1

    scheduler = Scheduler(endless(), per_host=1, ahead=10)
    first = scheduler.next()
    for _ in range(100):
        assert scheduler.next() is None
    assert len(taken) <= 11
    scheduler.finished(first)
    assert scheduler.next().item_id == "1"


MEMORY = """
import sys
from pathlib import Path
from lib.catalog.download.photo_index import Failure, IndexWriter, PhotoIndex
from lib.catalog.download.plan import Plan, Scheduler
from lib.catalog.schema import RawRow

def rows(n):
    for i in range(n):
        yield RawRow(i, f"item-{i:09d}-{'x' * 300}", image_url=f"https://shop.example/photos/{i:09d}/{'y' * 600}.jpg")

def peak():  # of this program; ru_maxrss would begin with the parent's
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

def run(n):
    index = PhotoIndex(Path(sys.argv[1]))
    plan = Plan(rows(n), sample=None, seed=0)
    with IndexWriter(index) as writer:
        scheduler = Scheduler(plan.wanted(), per_host=4, ahead=256)
        while (wanted := scheduler.next()) is not None:
            assert index.find(wanted.item_id) is None
            writer.record(Failure(item_id=wanted.item_id, address=wanted.address, reason="r", detail="d"))
            scheduler.finished(wanted)
    return sum(not plan.names(photo.item_id) for photo in index.photos())

run(3_000)
before = peak()
Path(sys.argv[1], "index.jsonl").unlink()
run(12_000)
print(peak() - before, Path(sys.argv[1], "index.jsonl").stat().st_size // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_catalogue(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    grown, index_size = map(int, done.stdout.split())  # KiB
    assert index_size > 10_000
    assert grown < 8_000, "both databases had filled their 2 MB of memory before"
