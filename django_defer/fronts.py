"""The front of a queue: claims begin there, unless the way to it has become long.

An index keeps the entries of rows that were claimed until VACUUM removes them, which it can't as
long as one old transaction is open anywhere. A claim walks over all of them (50 ms after 200,000
runs). Then most claims go on from where the last one ended, and only a tenth of the time is spent
on looks from the very front, which find retries, higher priorities and late commits too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from django_defer.claims import Claim, claim, waiting_functions
from django_defer.pacing import Pace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from django_defer.claims import Place

QUICK: Final = 0.002  # seconds; a claim from the front that takes longer is not made each time,
SLOWER: Final = 2  # unless one that goes on from the last takes half as long: then the disk is slow
LONGEST: Final = 2.0  # seconds between two such claims, however long one takes


class Front:
    """Claims from one queue, and remembers how far it came."""

    def __init__(self, using: str, queue: str, cluster: UUID, keys: Sequence[str]) -> None:
        self._parts = (using, queue, cluster)
        self._keys = keys
        self._pace = Pace(quick=QUICK, longest=LONGEST)
        self._last: Place | None = None
        self._has_more = False  # the last look from the front came back full
        self.was_full = False  # the last claim, wherever it began, did
        self._is_behind = False  # the last claim was not from the front
        self._usual = 0.0  # seconds that the last such claim took

    def look(self, most: int) -> list[str]:
        """Return the functions of the runs that would be claimed first, `most` at most."""
        beyond = None if self._pace.is_due else self._last
        return waiting_functions(self._parts[0], self._parts[1], most, beyond)

    def claim(self, workers: Sequence[str]) -> list[tuple[str, Claim]]:
        """Claim a run for each of these, as far as there are any."""
        if self._last is not None and not self._pace.is_due:
            began = time.monotonic()
            pairs = claim(*self._parts, workers, self._keys, beyond=self._last)
            self._usual = time.monotonic() - began
            if pairs or not self._has_more:
                self._is_behind = True
                return self._noted(pairs, workers)
        pairs = self._pace.timed(
            lambda: claim(*self._parts, workers, self._keys), usual=SLOWER * self._usual
        )
        self._has_more, self._is_behind = len(pairs) == len(workers), False
        return self._noted(pairs, workers)

    def _noted(
        self, pairs: list[tuple[str, Claim]], workers: Sequence[str]
    ) -> list[tuple[str, Claim]]:
        self.was_full = len(pairs) == len(workers)
        if pairs:
            self._last = pairs[-1][1].place
        return pairs

    def seconds_until_look(self) -> float | None:
        """Return after how long the next look is from the very front; None: the last one was."""
        return self._pace.seconds_until_due() if self._is_behind else None
