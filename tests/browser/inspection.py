"""What is wrong with an open page, as sentences; `inspection.js` runs in the browser, on what is really laid out."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

FAULTS = (Path(__file__).parent / "inspection.js").read_text(encoding="utf-8")

FOCUSABLE = "a[href], button:enabled, input:enabled, select:enabled, summary, [tabindex='0']"


def faults_of(page: Page) -> list[str]:
    """Faults of layout, injection, pictures, tables, headings, names and contrast; empty when there is none."""
    return [str(fault) for fault in page.evaluate(FAULTS)]


def faults_by_keyboard(page: Page, *, limit: int = 400) -> list[str]:
    """Controls that Tab does not reach, or whose focus cannot be seen.

    Args:
        page: an open page.
        limit: presses of Tab after which to give up.
    """
    page.evaluate(
        "(selector) => document.querySelectorAll(selector).forEach((n, i) => {"
        " if (n.checkVisibility() && n.type !== 'radio') n.dataset.control = i; })",
        FOCUSABLE,
    )
    wanted = set(
        page.evaluate("() => [...document.querySelectorAll('[data-control]')].map((n) => n.dataset.control)")
    )
    faults, reached = [], set()
    for _ in range(limit):
        page.keyboard.press("Tab")
        place, outline, shown = page.evaluate(
            "() => { const n = document.activeElement, s = getComputedStyle(n);"
            " return [n.dataset.control ?? '', s.outlineStyle, n.outerHTML.slice(0, 120)]; }"
        )
        if place in reached:
            break
        if place:
            reached.add(place)
            if outline == "none":
                faults.append(f"focus cannot be seen: {shown}")
    return faults + [f"not reached by Tab: control {place}" for place in sorted(wanted - reached)]
