"""Do what may become slow less often: a tenth of the time, as a rule."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

REST: Final = 9  # times as long as it took


class Pace:
    """When something may be done again: at once if it is quick, else after a rest.

    What is quicker than `quick` seconds needs no rest but the `shortest`, and none is longer than
    `longest`.
    """

    def __init__(
        self, *, quick: float = 0.0, shortest: float = 0.0, longest: float = math.inf
    ) -> None:
        self._quick, self._shortest, self._longest = quick, shortest, longest
        self._next_at = 0.0  # monotonic

    def seconds_until_due(self) -> float:
        """Return how long it rests, still."""
        return max(0.0, self._next_at - time.monotonic())

    @property
    def is_due(self) -> bool:
        """Whether it may be done now."""
        return self.seconds_until_due() <= 0

    def timed(self, action: Callable[[], T], *, usual: float = 0.0) -> T:
        """Do it, and note when it may be done again.

        It is quick, too, if it takes no longer than `usual` seconds.
        """
        began = time.monotonic()
        try:
            return action()
        finally:
            took = time.monotonic() - began
            is_quick = took <= max(self._quick, usual)
            rest = 0.0 if is_quick else min(REST * took, self._longest)
            self._next_at = time.monotonic() + max(rest, self._shortest)
