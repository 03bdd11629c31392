"""Parts side by side: every one once, in order, as many as pay."""

from __future__ import annotations

import threading

import pytest
import torch

from lib.retrieval.threads import each, slices


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)


def test_slices_cover_everything_once_and_are_as_many_as_pay() -> None:
    assert slices(10, 300, least=100) == [slice(0, 3), slice(3, 6), slice(6, 10)]
    assert slices(10, 250, least=100) == [slice(0, 5), slice(5, 10)]
    assert slices(10, 99, least=100) == [slice(0, 10)]
    assert slices(0, 0, least=100) == [slice(0, 0)]


def test_results_come_in_order_whoever_is_done_first() -> None:
    """The first part waits for the last one: they do run at the same time."""
    last = threading.Event()

    def work(part: int) -> int:
        if part == 0:
            assert last.wait(20)
        elif part == 2:
            last.set()
        return 10 * part

    assert each(work, [0, 1, 2]) == [0, 10, 20]
    assert each(work, [7]) == [70]


def test_work_that_has_parts_itself_does_not_wait_for_itself() -> None:
    def outer(part: int) -> list[int]:
        return each(lambda inner: 10 * part + inner, [0, 1, 2])

    assert each(outer, list(range(8))) == [[10 * part, 10 * part + 1, 10 * part + 2] for part in range(8)]


def test_one_part_is_done_by_who_asks_and_a_failure_is_told() -> None:
    assert each(lambda _: threading.current_thread(), [0]) == [threading.current_thread()]

    def fail(part: int) -> None:
        if part:
            raise ValueError(f"part {part}")

    with pytest.raises(ValueError, match="part 1"):
        each(fail, [0, 1])
