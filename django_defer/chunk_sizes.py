"""How many claims a worker gets at once: a chunk, where runs take milliseconds and many wait.

A claim costs two commits and a handful of wake-ups, however many runs it brings. So each worker
may get as many as it is expected to finish within BUDGET, and never more than its fair share of
what waits: with one waiting run a worker there is no chunk. How long a function takes is learned
here, from what workers say. Of a function that is not known yet, and of one whose effects must not
be doubted after a crash, a worker gets one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from django_defer.registry import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

BUDGET: Final = 0.05  # seconds that a chunk is expected to take, at most
OWN_SHARE: Final = 0.0005  # seconds that each run takes besides its function
DECAY: Final = 0.7  # what remains of a longer time at each shorter one


class ChunkSizes:
    """Decides, from what each function took lately."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._seconds: dict[str, float] = {}

    def learn(self, functions: Sequence[str], seconds: float) -> None:
        """Note that these runs took a worker so long, all together."""
        each = seconds / len(functions)
        for function in set(functions):
            before = self._seconds.get(function, each)
            self._seconds[function] = max(each, before * DECAY + each * (1 - DECAY))

    def is_of_use(self) -> bool:
        """Say whether any function is quick enough, as far as is known."""
        return self.most > 1 and any(
            2 * (each + OWN_SHARE) <= BUDGET for each in self._seconds.values()
        )

    def size(self, waiting: Sequence[str], idle: int, fleet: int) -> int:
        """Return how many claims each of the idle workers gets: 1, 2, 4…

        A statement that claims so many is prepared once; few sizes make few of them.
        `waiting`: the functions of the runs that are first in line, in order. `fleet`: how many
        workers there are in all clusters, idle or not.
        """
        fair = min(self.most, len(waiting) // max(fleet, idle))
        expected = 0.0
        for size in range(1, fair + 1):
            row = waiting[(size - 1) * idle : size * idle]
            expected += max(map(self._expected, row)) + OWN_SHARE
            if expected > BUDGET:
                return _power_of_two(size - 1)
        return _power_of_two(fair)

    def _expected(self, key: str) -> float:
        """Return how long it takes; for ever where that is unknown, or it must be alone."""
        function = registry.find(key)
        if function is None or function.options.atomic or not function.options.rerun_if_lost:
            return math.inf
        return self._seconds.get(key, math.inf)


def _power_of_two(size: int) -> int:
    """Return the highest one that is not above `size`, or 1."""
    return 1 << max(size.bit_length() - 1, 0)
