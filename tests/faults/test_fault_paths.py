"""Names of photos that lead out of the photo folder, or nowhere: refused, and what lies there is not read."""

from __future__ import annotations

from pathlib import Path

import pytest
from raw_shop import RawShop, encoded, picture
from stage_server import StageServer

from lib.base.artifacts import read_parquet


@pytest.fixture
def shop(stages: StageServer, tmp_path: Path) -> RawShop:
    """With a valid photo beside the photo folder, and links that lead to it."""
    made = RawShop(tmp_path, stages)
    made.fill(6)
    (tmp_path / "raw" / "secret.jpg").write_bytes(encoded(picture(1000)))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.jpg").write_bytes(encoded(picture(1001)))
    (made.images / "link.jpg").symlink_to("../secret.jpg")
    (made.images / "far").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (made.images / "loop.jpg").symlink_to("loop.jpg")
    (made.images / "within.jpg").symlink_to("P000_front.jpg")
    return made


def bad_names(shop: RawShop) -> dict[str, tuple[str, str]]:
    """Item id -> name of its photo and the reason to refuse it."""
    return {
        "parent": ("../secret.jpg", "path_escape"),
        "parents": ("P000_front.jpg/../../../elsewhere/secret.jpg", "path_escape"),
        "absolute": (str(shop.folder / "elsewhere" / "secret.jpg"), "path_escape"),
        "password": ("/etc/passwd", "path_escape"),
        "link": ("link.jpg", "path_escape"),
        "linked folder": ("far/secret.jpg", "path_escape"),
        "loop": ("loop.jpg", "unreadable"),
        "300 bytes": ("é" * 148 + ".jpg", "name_too_long"),
        "5000 bytes": ("/".join(["folder"] * 700) + ".jpg", "name_too_long"),
        "nul": ("P000_front.jpg\0.png", "bad_path"),
        "nul in the middle": ("\0", "bad_path"),
    }


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_names_that_lead_elsewhere_are_refused(shop: RawShop, form: str) -> None:
    good = [row["id"] for row in shop.rows]
    bad = bad_names(shop)
    for item_id, (name, _) in bad.items():
        shop.add(item_id, image=name)
    shop.add("within", image="within.jpg")
    if form == "csv":
        shop.write()
    else:
        shop.write_parquet()
        shop.set_data(metadata="items.parquet")
    ended = shop.process()
    assert ended.code == 0 and "Traceback" not in ended.said, ended.said
    assert shop.reasons() == {item_id: reason for item_id, (_, reason) in bad.items()}
    assert sorted(shop.items()) == sorted([*good, "within"])
    secrets = {encoded(picture(1000)), encoded(picture(1001))}
    assert not secrets & set(shop.items().values())
    table = read_parquet(shop.folder / "hf" / "quarantine.parquet").set_index("item_id")
    assert {item_id: table.loc[item_id, "path"] for item_id in bad} == {i: name for i, (name, _) in bad.items()}
    assert shop.report()["ok"] + shop.report()["quarantined"] == shop.report()["rows"] == len(shop.rows)


def test_an_id_in_a_template_cannot_lead_out(shop: RawShop) -> None:
    shop.set_data(columns={"item_id": "id", "image": "{id}.jpg", "category2": "category"})
    for item_id in ("../secret", "far/secret", "nothing/../../secret"):
        shop.add(item_id, image="")
    shop.write()
    assert shop.process().code == 0
    assert set(shop.reasons().values()) == {"path_escape"} and len(shop.reasons()) == 3
