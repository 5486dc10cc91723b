"""What the pusher has given to workers: how long it takes them, and which run holds up its chunk.

Where a run takes longer than PATIENCE, what its worker has not begun yet goes back to the queue,
for another worker to take. The worker is told first, on the board; what it begins all the same is
running by then, and stays.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from django_defer.board import Doing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from django_defer.board import Board
    from django_defer.claims import Claim

PATIENCE: Final = 0.05  # seconds that a run may take before the rest of its chunk goes back
LOOK_EVERY: Final = 0.02  # seconds


@dataclass(slots=True)
class Given:
    """What one worker was given at once, and how far it is."""

    worker: str
    claims: list[Claim]
    is_taken: bool
    current: UUID | None = None
    since: float = 0.0  # monotonic

    def may_wait(self) -> bool:
        """Say whether any of it may be held up by a run, or by the end of the task before."""
        return len(self.claims) > (1 if self.is_taken else 0)

    def rest(self) -> list[Claim]:
        """Return what comes after the run that the worker is at."""
        if not self.is_taken:
            return self.claims
        ids = [each.claim_id for each in self.claims]
        return (
            self.claims[ids.index(self.current) + 1 :] if self.current in ids else self.claims[1:]
        )


@dataclass(slots=True)
class ChunkWatch:
    """Looks at the board for what became of what was given. Times are `time.monotonic()`."""

    board: Board
    learn: Callable[[Sequence[str], float], None]
    _given: dict[int, Given] = field(default_factory=dict)

    def give(self, slot: int, worker: str, claims: list[Claim]) -> None:
        """Note what the worker in this slot is given now."""
        cell = self.board.read(slot)
        is_idle = cell is not None and cell.doing is Doing.IDLE
        self._given[slot] = Given(worker, claims, is_taken=is_idle)

    def seconds_until_look(self) -> float | None:
        """Return how long nobody need look; None: nothing could be held up."""
        return LOOK_EVERY if any(each.may_wait() for each in self._given.values()) else None

    def look(self) -> Iterator[tuple[str, list[Claim]]]:
        """Yield (worker, claims) for what is to go back; its worker knows already."""
        now = time.monotonic()
        for slot, given in list(self._given.items()):
            cell = self.board.read(slot)
            if cell is None or given.worker != f"{slot}.{cell.generation}":
                del self._given[slot]  # that worker is gone
                continue
            given.is_taken = cell.done >= self.board.given(slot)
            if given.is_taken and (cell.doing is Doing.IDLE or cell.asks):
                del self._given[slot]
                if given.claims:
                    self.learn([each.function for each in given.claims], cell.spent)
            elif cell.claim_id != given.current:
                given.current, given.since = cell.claim_id, now
            elif (
                given.current is not None
                and now - given.since > PATIENCE
                and (rest := given.rest())
            ):
                self.board.recall(slot, self.board.given(slot))
                given.claims = given.claims[: -len(rest)]
                yield given.worker, rest
