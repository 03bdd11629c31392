"""What can go wrong with one address."""

from __future__ import annotations

from lib.base.errors import PipelineError


class FetchError(PipelineError):
    """An address that gives no photo; `reason` is one word for counting, the message is for reading."""

    exit_code = 3

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class TransientError(FetchError):
    """Worth asking again soon: a time-out, 429, 5xx.

    Attributes:
        wait_s: seconds that the server asked to wait, None where it did not.
    """

    def __init__(self, reason: str, detail: str, *, wait_s: float | None = None) -> None:
        super().__init__(reason, detail)
        self.wait_s = wait_s
