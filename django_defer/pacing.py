"""Do what may become slow less often: never more than a tenth of the time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

REST: Final = 9  # times as long as it took


class Pace:
    """When something may be done again: at once if it is quick, else after a rest.

    What is quicker than `quick` (seconds) needs no rest.
    """

    def __init__(self, *, quick: float = 0.0) -> None:
        self._quick = quick
        self._next_at = 0.0  # monotonic

    def seconds_until_due(self) -> float:
        """Return how long it rests, still."""
        return max(0.0, self._next_at - time.monotonic())

    @property
    def is_due(self) -> bool:
        """Whether it may be done now."""
        return self.seconds_until_due() <= 0

    def timed(self, action: Callable[[], T]) -> T:
        """Do it, and note when it may be done again."""
        began = time.monotonic()
        try:
            return action()
        finally:
            took = time.monotonic() - began
            self._next_at = time.monotonic() + REST * took if took > self._quick else 0.0
