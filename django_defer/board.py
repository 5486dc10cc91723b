"""The board: shared memory in which a cluster's processes see each other, without locks.

A lock would outlive the process that was killed holding it. So each cell has one writer:
the supervisor (its heartbeat, the order to stop, a worker's generation), the pusher (the last
ticket it gave a worker) or the worker itself (what it is doing). A worker's cell is guarded by a
sequence number that is odd while it is being written; a reader looks again.

Times are `time.monotonic()` seconds, which all processes of one machine share.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Final
from uuid import UUID

from django_defer.bell import Bell

# A lone number is one aligned store through a memoryview, so no reader sees half of it
# (struct.pack_into clears the place first). Offsets are in bytes.
_BEAT, _STOP, _HEAD_SIZE = 0, 8, 16  # supervisor's last beat (double), stop flag (byte)
_GENERATION, _GIVEN, _SEQUENCE, _PAYLOAD, _ABORT, _SLOT_SIZE = 0, 8, 16, 24, 96, 128  # in each slot
_CELL: Final = struct.Struct("@IIIB16sHd")
_NO_CLAIM: Final = bytes(16)

STALE_AFTER: Final = 20.0  # seconds without a supervisor's beat after which nothing is started


class Doing(IntEnum):
    """What a worker is doing."""

    STARTING = 0
    IDLE = 1
    BUSY = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """One worker's own half of the board. `deadline` is 0 while nothing limits it."""

    generation: int
    pid: int
    doing: Doing
    done: int
    claim_id: UUID | None
    attempt: int
    deadline: float


class Board:
    """Shared by fork: make it before the first child."""

    def __init__(self, slots: int, *, stale_after: float = STALE_AFTER) -> None:
        self.slots = slots
        self.stale_after = stale_after
        self._memory = mmap.mmap(-1, _HEAD_SIZE + slots * _SLOT_SIZE)
        view = memoryview(self._memory)
        self._bytes, self._numbers, self._times = view, view.cast("I"), view.cast("d")
        self.pusher_bell, self.supervisor_bell = Bell(), Bell()
        self.beat()

    # -- supervisor ----------------------------------------------------------------------

    def beat(self) -> None:
        """Say that the supervisor is alive."""
        self._times[_BEAT // 8] = time.monotonic()

    def stop(self) -> None:
        """Tell pusher and workers to start nothing more."""
        self._bytes[_STOP] = 1
        self.pusher_bell.ring()

    @property
    def is_stopping(self) -> bool:
        """Whether the cluster is to start nothing more."""
        return bool(self._bytes[_STOP])

    @property
    def is_stale(self) -> bool:
        """Whether the supervisor has not been heard of for too long to start anything."""
        return time.monotonic() - self._times[_BEAT // 8] > self.stale_after

    def set_generation(self, slot: int, generation: int) -> None:
        """Announce a new worker in this slot."""
        self._numbers[self._at(slot, _GENERATION) // 4] = generation

    def generation(self, slot: int) -> int:
        """Return the generation of the worker that the supervisor put into this slot."""
        return self._numbers[self._at(slot, _GENERATION) // 4]

    def abort(self, slot: int, claim_id: UUID) -> None:
        """Ask this slot's worker to end the function that it executes under this claim.

        Half-written, it is no claim's id.
        """
        place = self._at(slot, _ABORT)
        self._bytes[place : place + 16] = claim_id.bytes

    def claim_to_abort(self, slot: int) -> UUID:
        """Return the claim that `abort` named last in this slot."""
        place = self._at(slot, _ABORT)
        return UUID(bytes=bytes(self._bytes[place : place + 16]))

    def claims_at_hand(self) -> set[UUID] | None:
        """Return the claims that workers are at; None when that cannot be known just now."""
        cells = [self.read(slot) for slot in range(self.slots)]
        if None in cells:
            return None
        return {cell.claim_id for cell in cells if cell is not None and cell.claim_id is not None}

    # -- pusher --------------------------------------------------------------------------

    def idle_slots(self) -> list[int]:
        """Return the slots whose worker waits for work and has taken all it was given."""
        idle = []
        for slot in range(self.slots):
            cell = self.read(slot)
            if (
                cell is not None
                and cell.doing is Doing.IDLE
                and cell.generation == self.generation(slot)
                and cell.done >= self.given(slot)
            ):
                idle.append(slot)
        return idle

    def next_ticket(self, slot: int) -> int:
        """Return the number of the next message to this slot's worker."""
        cell = self.read(slot)
        return max(self.given(slot), cell.done if cell else 0) + 1

    def give(self, slot: int, ticket: int) -> None:
        """Note that the message with this ticket was sent."""
        self._numbers[self._at(slot, _GIVEN) // 4] = ticket

    def given(self, slot: int) -> int:
        """Return the last ticket sent to this slot."""
        return self._numbers[self._at(slot, _GIVEN) // 4]

    # -- worker --------------------------------------------------------------------------

    def write(
        self,
        slot: int,
        *,
        generation: int,
        doing: Doing,
        done: int,
        claim_id: UUID | None = None,
        attempt: int = 0,
        deadline: float = 0.0,
    ) -> None:
        """Write a worker's own cell (only that worker does)."""
        place = self._at(slot, _SEQUENCE) // 4
        sequence = self._numbers[place] | 1
        self._numbers[place] = sequence
        claim = claim_id.bytes if claim_id else _NO_CLAIM
        values = (generation, os.getpid(), done, doing, claim, attempt, deadline)
        _CELL.pack_into(self._memory, self._at(slot, _PAYLOAD), *values)
        self._numbers[place] = (sequence + 1) & 0xFFFFFFFF

    def read(self, slot: int) -> Cell | None:
        """Read a worker's cell; None when it died while writing."""
        place = self._at(slot, _SEQUENCE) // 4
        for _ in range(1000):
            before = self._numbers[place]
            values = _CELL.unpack_from(self._memory, self._at(slot, _PAYLOAD))
            if before == self._numbers[place] and not before & 1:
                generation, pid, done, doing, claim, attempt, deadline = values
                claim_id = UUID(bytes=claim) if claim != _NO_CLAIM else None
                return Cell(generation, pid, Doing(doing), done, claim_id, attempt, deadline)
        return None

    def _at(self, slot: int, what: int) -> int:
        return _HEAD_SIZE + slot * _SLOT_SIZE + what
