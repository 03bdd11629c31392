"""What becomes of a table's rows that cannot be used: counted by reason, with places to look at."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

MAX_EXAMPLES = 20


class BadRows:
    """Rows of one table that cannot be used, by reason."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: dict[str, list[tuple[int, str]]] = defaultdict(list)

    @property
    def count(self) -> int:
        """Rows added so far."""
        return sum(map(len, self._found.values()))

    def add(self, reason: str, line: int, detail: str) -> None:
        """Note a row: its line, one word for counting, and what is wrong for reading."""
        self._found[reason].append((line, detail))

    def report(self) -> dict[str, Any]:
        """By reason, the count and the first `MAX_EXAMPLES` as `file:line: detail`; JSON-ready."""
        return {
            reason: {"count": len(found), "first": [self._place(place) for place in sorted(found)[:MAX_EXAMPLES]]}
            for reason, found in sorted(self._found.items())
        }

    def lines(self) -> str:
        """The five most frequent reasons, a line each, for messages."""
        common = Counter({reason: len(found) for reason, found in sorted(self._found.items())}).most_common(5)
        return "\n".join(
            f"  {count} × {reason}, first {self._place(min(self._found[reason]))}" for reason, count in common
        )

    def _place(self, place: tuple[int, str]) -> str:
        line, detail = place
        return f"{self._file}:{line}: {detail}"
