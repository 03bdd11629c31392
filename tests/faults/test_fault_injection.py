"""Markup, addresses and formulas in every cell of a catalogue, through the pipeline, into every page and sheet."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import small_pipeline
from stage_server import StageServer, command
from workspace import Workspace

from lib.catalog.grounding.sheet import restore
from lib.catalog.processed import read_rows

MARKUP = (
    '<x-evil evil="1" onerror="evil()">',
    '"><x-evil evil=1 onmouseover=evil()>',
    "' onfocus='evil()' evil='",
    "</script><script>evil()</script>",
    '<img src="http://evil.example/x" onerror="evil()">',
    "javascript:evil()",
    "--><x-evil><!--",
    "&lt;x-evil&gt; {{ 7 * 7 }}",
)
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
ODD_IDS = ("NA", "nan", "001", "5.0", "None", "1e5")
PAGES = ("evaluation/baseline/gallery", "evaluation/protocol/gallery", "scoreboard/changes", "audit/grounding_audit",
         "map/embedding_map")  # fmt: skip


def hostile_rows() -> list[dict[str, str]]:
    """Sixty products of two views; every cell is hostile in turn."""
    rows = []
    for number in range(120):
        product, evil = number // 2, MARKUP[number // 2 % len(MARKUP)]
        formula = FORMULAS[number % len(FORMULAS)]
        item_id = f"{formula}{number} {evil}" if number % 3 else f"{evil} {number}"
        rows.append(
            {
                "item_id": ODD_IDS[number] if number < len(ODD_IDS) else item_id,
                "image": f"{number}.jpg",
                "url": f"javascript:evil({number})" if number % 2 else f'https://shop.example/"><x-evil>{number}.jpg',
                "product": f"{product} {evil}",
                "category2": ("tees", MARKUP[0], "dresses", MARKUP[1])[product % 4],
                "color": ("red", MARKUP[3], "blue", MARKUP[2])[product % 4],
                "neckline": ("v-neck", MARKUP[0], "=cmd()", "crew neck")[product % 4],
                "material": ("cotton", "wool", MARKUP[4])[product % 3],
                "title": f"{formula}cmd() {evil} V-neck denim shirt {number}",
            }
        )
    return rows


@pytest.fixture(scope="module")
def hostile(stages: StageServer, reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    columns = {"image_url": "url", "product_id": "product", "text": ["title"]}
    columns |= {key: key for key in ("color", "neckline", "material")}
    splits = {"train": 0.5, "validation": 0.2, "test": 0.3}  # a map needs thirty test items
    data = {"columns": columns, "pattern_only_categories": [], "splits": splits}
    small_pipeline.prepare(folder, reproduced.folder / "artifacts/backbone", hostile_rows(), data)
    small_pipeline.run(stages, folder)
    return folder


class Reader(HTMLParser):
    """Elements with their attributes, text outside scripts, and scripts, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text, self.scripts, self._inside = "", [""], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif not self._inside:
            self.text += data


def test_hostile_ids_come_through_unchanged(hostile: Path) -> None:
    assert set(read_rows(hostile / "data/processed/hf")["item_id"]) == {row["item_id"] for row in hostile_rows()}


def test_no_page_is_left_out(hostile: Path) -> None:
    assert sorted(hostile.rglob("*.html")) == sorted(hostile / "artifacts" / f"{name}.html" for name in PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_no_element_and_no_attribute_comes_from_data(hostile: Path, name: str) -> None:
    page = (hostile / "artifacts" / f"{name}.html").read_text(encoding="utf-8")
    reader = Reader(page)
    known = set(re.findall(r"<([a-z][a-z0-9]*)", "".join(template_sources())))
    assert {tag for tag, _ in reader.elements} <= known
    for tag, attributes in reader.elements:
        for attribute, value in attributes.items():
            assert attribute != "evil" and not attribute.startswith("on"), (tag, attributes)
            if attribute in ("src", "href", "action", "formaction", "data", "srcset", "poster"):
                assert value.startswith(("data:image/", "#")), (tag, value[:80])
            if "evil" in value:
                assert attribute in ("alt", "title", "aria-label"), (tag, attribute, value)
    shown = reader.text + " ".join(value for _, attributes in reader.elements for value in attributes.values())
    shown += "".join(reader.scripts).replace("\\u003c", "<").replace("\\u003e", ">").replace('\\"', '"')
    assert all(evil in shown for evil in (MARKUP[0], MARKUP[5])), "or nothing hostile was shown"


def template_sources() -> list[str]:
    import lib.report.page as page

    folder = Path(str(page.__file__)).parent / "templates"
    return [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.j2"))]


@pytest.mark.parametrize("name", PAGES)
def test_the_policy_allows_nothing_but_the_pages_own(hostile: Path, name: str) -> None:
    reader = Reader((hostile / "artifacts" / f"{name}.html").read_text(encoding="utf-8"))
    metas = [attributes for tag, attributes in reader.elements if tag == "meta"]
    policies = [meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'")
    tags = [tag for tag, _ in reader.elements]
    assert tags.index("meta") < min(tags.index("style"), *(i for i, tag in enumerate(tags) if tag == "script"), 99)
    scripts = [script for script in reader.scripts if script]
    if name.startswith("map/"):
        allowed = re.findall(r"'sha256-([^']+)'", policies[0])
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
        assert len(allowed) == 1 and allowed[0] in digests and "unsafe" not in policies[0].split("style-src")[0]
        others = [text for text, digest in zip(scripts, digests, strict=True) if digest != allowed[0]]
        assert all("<" not in text and ">" not in text for text in others), "data cannot end its element"
    else:
        assert scripts == [] and "script-src" not in policies[0]


def test_no_cell_of_the_sheet_is_a_formula(hostile: Path) -> None:
    sheet = hostile / "artifacts/audit/grounding_audit.csv"
    with open(sheet, encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.startswith(FORMULAS)]
    for formula in FORMULAS:
        assert any(cell.startswith(f"'{formula}") for cell in cells), f"{formula!r} never reached the sheet"
    ids = {restore(row[header.index("item_id")]) for row in rows}
    assert ids <= {row["item_id"] for row in hostile_rows()} and len(ids) > 50


def test_a_completed_hostile_sheet_is_summed_up(stages: StageServer, hostile: Path) -> None:
    """The reviewer's own words are as little trusted as the shop's."""
    sheet = hostile / "artifacts/audit/grounding_audit.csv"
    completed = hostile / "data" / "audit" / "completed.csv"
    completed.parent.mkdir(exist_ok=True)
    with open(sheet, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["verdict"] = ("correct", "wrong", "not_visible")[number % 3]
        row["note"] = MARKUP[number % 2]
        if row["verdict"] == "wrong":
            row["true_value"] = MARKUP[0]
    with open(completed, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    ended = stages.run(hostile, ["analyze_grounding", "--completed", str(completed), "--out", "data/audit"])
    assert ended.code == 0 and "Traceback" not in ended.said, ended
    shutil.rmtree(hostile / "data" / "audit")
    assert command("grounding_audit")


def test_no_text_file_holds_markup_from_data(hostile: Path) -> None:
    """Markdown viewers show HTML."""
    written = [path for ending in ("md", "txt") for path in (hostile / "artifacts").rglob(f"*.{ending}")]
    assert {path.name for path in written} == {"scoreboard.md", "scoreboard.txt", "text_audit.md"}
    for path in written:
        assert not re.search(r"<(x-evil|script|img)", path.read_text(encoding="utf-8")), path.name
