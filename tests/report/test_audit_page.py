"""grounding_audit.html: escaping, marks in the text, a place for every claim, readable where it is read."""

import re
import shutil
import subprocess

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_pages import EVIL, check_page, picture

from lib.report.audit import audit_page, segments

TEXT = f"Red denim blue jacket {EVIL}"
COUNTS = {
    "coverage": 0.5, "coverage_where_applicable": 0.75, "from_column": 2, "from_text": 1, "column_and_text": 4,
    "ambiguous_text": 3, "agreement": 0.75, "agreement_low": 0.3006, "agreement_high": 0.9544,
    "disagreements": [{"column": EVIL, "text": "blue", "items": 7}],
}  # fmt: skip
REPORT = {
    "items": 9, "audited_items": 2, "claims": 3, "categories_left_out": [EVIL],
    "attributes": {"color": COUNTS, "material": COUNTS | {"coverage": "skipped: no items", "disagreements": []}},
}  # fmt: skip


@pytest.fixture
def claims():
    columns = ["row", "item_id", "product_id", "category", "text", "attribute", "value", "source", "phrase", "spans"]
    rows = [
        ("1", EVIL, "P1", "jackets", TEXT, "material", "denim", "text", "denim", ((4, 9),)),
        ("2", EVIL, "P1", "jackets", TEXT, "color", "blue", "text", "denim blue", ((4, 14),)),
        ("3", "b", "b", "", "", "color", EVIL, "column", "", ()),
    ]
    return pd.DataFrame(rows, columns=columns)


def test_page(claims):
    images = {EVIL: picture("red"), "b": picture("blue", (600, 800))}
    page = audit_page(claims, REPORT, images)
    reader = check_page(page)
    assert len([t for t, _ in reader.tags if t == "img"]) == 2
    assert page.count('<div class="claim">') == 3 and page.count("☐ wrong, it is") == 3
    marks = [a for t, a in reader.tags if t == "mark"]
    assert [m["class"] for m in marks[:2]] == ["material color", "color"]
    assert re.search(r'title="material, color">denim</mark><mark class="color"[^>]*> blue</mark> jacket', page)
    assert "no category" in page and "no text" in page
    assert re.findall(r'class="number">(\d+)<', page) == ["1", "2", "3"]
    assert "75.0 [30.1, 95.4]" in page and re.search(r'<th scope="row">material</th><td>–</td>', page)
    targets = {a["id"] for _, a in reader.tags if "id" in a}
    links = [a["href"] for t, a in reader.tags if t == "a"]
    assert links and {link.removeprefix("#") for link in links} == targets
    assert page == audit_page(claims, REPORT, images)
    assert '<div class="blank">' in audit_page(claims, REPORT, {})


def test_page_without_claims(claims):
    page = audit_page(claims.head(0), REPORT, {})
    check_page(page)
    assert "there is nothing to review" in page and "☐" not in page


@given(st.text(max_size=20), st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=4))
def test_segments_are_the_whole_text(text, pairs):
    places = [(min(a, b), max(a, b)) for a, b in pairs if max(a, b) <= len(text)]
    found = segments(text, {"x": places[:2], "y": places[2:]})
    assert "".join(piece.text for piece in found) == text
    marked = {i for a, b in places[:2] for i in range(a, b)}
    position = 0
    for piece in found:
        inside = set(range(position, position + len(piece.text)))
        assert inside <= marked if "x" in piece.attributes else not inside & marked
        position += len(piece.text)


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(claims, tmp_path, width):
    """A frame of the page's width is scrolled to the right; what it shows there has to be what it showed before."""
    long = claims.assign(text="w" * 300 + " " + TEXT, item_id=[f"{i}-{'x' * 120}" for i in claims["item_id"]])
    long["spans"] = [()] * 3
    (tmp_path / "page.html").write_text(audit_page(long, REPORT, {}), encoding="utf-8")
    script = (
        "document.title = Math.max(...[...document.querySelectorAll('main > :not(.scroll)')].map(e => e.scrollWidth))"
    )
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    (tmp_path / "probe.html").write_text(
        page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8"
    )
    # headless chromium has no window narrower than 500 pixels, a frame has any width
    (tmp_path / "frame.html").write_text(
        f'<iframe src="probe.html" width="{width}" height="800" '
        "onload=\"setTimeout(() => document.body.append('width:' + frames[0].document.title + ';'), 100)\"></iframe>"
    )
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--allow-file-access-from-files", "--virtual-time-budget=4000",
         "--dump-dom", str(tmp_path / "frame.html")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search(r"width:(\d+);", done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    assert 0 < int(found.group(1)) <= width
