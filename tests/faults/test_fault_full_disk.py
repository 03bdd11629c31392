"""A disk that fills up in the middle of a stage: 75 in one line, what was there is intact, room lets it go on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from damage import stamps
from disks import SmallDisk, SmallFiles, small_disk
from stage_server import StageServer, command
from workspace import Workspace


@pytest.fixture(scope="module")
def whole(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(reproduced.folder, tmp_path_factory.mktemp("full") / "workspace", symlinks=True))


@pytest.fixture(params=["disk", "files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk | SmallFiles]:
    if request.param == "files":
        (tmp_path / "disk").mkdir()
        yield SmallFiles(tmp_path / "disk")
    else:
        with small_disk(tmp_path / "disk") as made:
            yield made


def with_out(words: list[str], out: Path, option: str = "--out") -> list[str]:
    return [*words[: words.index(option) + 1], str(out), *words[words.index(option) + 2 :]]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def old_artifact(whole: Path, disk: SmallDisk | SmallFiles, words: list[str], option: str = "--out") -> Path:
    """A copy, on the disk, of what the stage wrote when nothing was in its way."""
    made = whole / words[words.index(option) + 1]
    return Path(shutil.copytree(made, disk.place / made.name))


def check_refused(
    stages: StageServer,
    whole: Path,
    disk: SmallDisk | SmallFiles,
    words: list[str],
    free: int,
    option: str = "--out",
) -> Path:
    """Run without room: 75, one line, every old file in its place, nothing beside them. Returns the out."""
    out = old_artifact(whole, disk, words, option)
    words, before = with_out(words, out, option), stamps(disk.place)
    ended = disk.run(stages, whole, words, free=free)
    assert ended.code == 75, ended
    lines = [line for line in ended.said.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and lines[0].startswith(f"error: {words[0]}: {out}") and "no room to write" in lines[0]
    assert "Traceback" not in ended.said and ".partial" not in lines[0]
    assert stamps(disk.place) == before
    return out


TOGETHER = ("process_data", "prepare_backbone", "embed_catalog", "evaluate", "embed_protocol")
"""Stages whose files are all old or all new: room for nine tenths of them is room for none."""
LONG = ("prepare_backbone", "evaluate", "embedding_map", "scoreboard")
"""They compute for seconds before they write."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in TOGETHER]
)
@pytest.mark.parametrize("disk", ["disk"], indirect=True)
def test_files_that_belong_together_stay_the_old_ones(
    stages: StageServer, whole: Path, disk: SmallDisk | SmallFiles, name: str
) -> None:
    words = command(name, "baseline")
    size = sum(path.stat().st_size for path in (whole / words[-1]).iterdir() if path.name != "gallery.html")
    out = check_refused(stages, whole, disk, words, size * 9 // 10)
    if name in ("process_data", "embed_protocol"):  # the others are the same code and take longer
        ended = stages.run(whole, with_out(words, out))
        assert ended.code == 0, ended.said
        assert contents(out) == contents(whole / words[-1])


@pytest.mark.parametrize(("name", "option"), [("process_data", "--photos"), ("embed_catalog", "--rows")])
@pytest.mark.parametrize("disk", ["disk"], indirect=True)
def test_photos_of_pairs_stay_the_old_ones(
    stages: StageServer, whole: Path, disk: SmallDisk | SmallFiles, name: str, option: str
) -> None:
    """The second out of a stage whose first one has room, with a little room and with nearly enough."""
    if isinstance(disk, SmallFiles):
        pytest.skip("needs a disk of its own: the first out would not fit either")
    words = command(name)
    made = whole / words[words.index(option) + 1]
    for share in (0.1, 0.9):
        free = int(share * sum(path.stat().st_size for path in made.iterdir()))
        out = check_refused(stages, whole, disk, words, free, option)
        assert contents(out) == contents(made)
        shutil.rmtree(out)


@pytest.mark.parametrize("name", ["embed_protocol", "build_pairs", "build_groups", "mine_hard_negatives"])
def test_without_any_room_nothing_changes(
    stages: StageServer, whole: Path, disk: SmallDisk | SmallFiles, name: str
) -> None:
    words = command(name)
    out = check_refused(stages, whole, disk, words, 1000)
    assert stages.run(whole, with_out(words, out)).code == 0
    assert contents(out) == contents(whole / words[-1])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in LONG else ())
        for name in ("scoreboard", "embedding_map", "grounding_audit")
    ],
)
@pytest.mark.parametrize("disk", ["disk"], indirect=True)
def test_pages_and_pictures_are_whole_or_not_there(
    stages: StageServer, whole: Path, disk: SmallDisk | SmallFiles, name: str
) -> None:
    """Each file is one of its own; the page is the largest and finds no room."""
    words = command(name)
    out = old_artifact(whole, disk, words)
    page = max(path.stat().st_size for path in out.glob("*.html"))
    before = contents(disk.place)
    ended = disk.run(stages, whole, with_out(words, out), free=page * 2 // 3)
    assert ended.code == 75 and "no room to write" in ended.said and "Traceback" not in ended.said
    assert contents(disk.place) == before


def test_a_sample_is_drawn_whole_or_not_at_all(
    stages: StageServer, whole: Path, disk: SmallDisk | SmallFiles, tmp_path: Path
) -> None:
    few = tmp_path / "params.yaml"
    few.write_text((whole / "params.yaml").read_text().replace("n_products: 120", "n_products: 12"))
    words = ["make_sample", "--params", str(few), "--out", str(disk.place / "sample")]
    assert stages.run(whole, words).code == 0
    before, drawn = stamps(disk.place), contents(disk.place / "sample")
    ended = disk.run(stages, whole, words, free=sum(map(len, drawn.values())) // 2)
    assert ended.code == 75 and "sample: no room to write it" in ended.said and "Traceback" not in ended.said
    assert stamps(disk.place) == before
    assert stages.run(whole, words).code == 0 and contents(disk.place / "sample") == drawn


@pytest.mark.parametrize("disk", ["disk"], indirect=True)
def test_training_goes_on_where_the_disk_was_full(
    stages: StageServer, whole: Path, disk: SmallDisk | SmallFiles, tmp_path: Path
) -> None:
    """Into the folder of an old run with other settings: its model stays until `--resume` has made the new one."""
    if isinstance(disk, SmallFiles):
        pytest.skip("needs a disk of its own: checkpoints are of one size")
    params = yaml.safe_load((whole / "params.yaml").read_text())
    params["train"] |= {"lr": 0.02, "epochs": 5, "patience": 0}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    words = [*command("train_protocol"), "--params", str(tmp_path / "params.yaml")]
    assert stages.run(whole, with_out(words, tmp_path / "undisturbed")).code == 0
    out = old_artifact(whole, disk, words)
    best = out / "checkpoints" / "best.pt"
    validate = f"validate_checkpoint --embeddings artifacts/retrieval/baseline --checkpoint {best}"
    old = stages.run(whole, validate)
    ended = disk.run(stages, whole, with_out(words, out), free=best.stat().st_size)  # and what old epochs give back
    assert ended.code == 75 and "no room to write" in ended.said and "Traceback" not in ended.said, ended
    left = sorted(path.name for path in best.parent.iterdir())
    assert "epoch_00.pt" in left and "epoch_05.pt" not in left and not any(name.startswith(".") for name in left)
    again = stages.run(whole, validate)
    assert old.code == again.code == 0 and again.out == old.out, "the old model still serves"
    resumed = stages.run(whole, [*with_out(words, out), "--resume"])
    assert resumed.code == 0, resumed.said
    assert contents(out) == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("disk", ["disk"], indirect=True)
def test_a_disk_without_a_single_byte_is_one_line_too(
    stages: StageServer, whole: Path, disk: SmallDisk | SmallFiles
) -> None:
    """The lock, the log and the out lie on it."""
    if isinstance(disk, SmallFiles):
        pytest.skip("needs a disk of its own")
    shutil.copy(whole / "params.yaml", disk.place)
    words = command("build_groups")
    words[words.index("--embeddings") + 1] = str(whole / "artifacts/retrieval/baseline")
    with disk.filled(0):
        ended = stages.run(disk.place, words)
    assert ended.code == 75 and ended.said.startswith("error: build_groups: ") and "Traceback" not in ended.said
    assert ended.said.count("\n") == 1 and "no room to write" in ended.said
    assert stages.run(disk.place, words).code == 0
