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

# Native layout ("@"): a number is then one aligned store, so no reader sees half of it.
_HEAD: Final = struct.Struct("@dB7x")  # supervisor's last beat, stop flag
_ORDER: Final = struct.Struct("@I4x16s")  # supervisor → worker: generation, claim to interrupt
_GIVEN: Final = struct.Struct("@I4x")  # pusher: last ticket given
_CELL: Final = struct.Struct("@IIIBI16sHd")
_SLOT_SIZE: Final = 128
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
        self._memory = mmap.mmap(-1, _HEAD.size + slots * _SLOT_SIZE)
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self.beat()

    # -- supervisor ----------------------------------------------------------------------

    def beat(self) -> None:
        """Say that the supervisor is alive."""
        _HEAD.pack_into(self._memory, 0, time.monotonic(), self.is_stopping)

    def stop(self) -> None:
        """Tell pusher and workers to start nothing more."""
        _HEAD.pack_into(self._memory, 0, time.monotonic(), True)
        self.wake_pusher()

    @property
    def is_stopping(self) -> bool:
        """Whether the cluster is to start nothing more."""
        return bool(_HEAD.unpack_from(self._memory, 0)[1])

    @property
    def is_stale(self) -> bool:
        """Whether the supervisor has not been heard of for too long to start anything."""
        return time.monotonic() - float(_HEAD.unpack_from(self._memory, 0)[0]) > self.stale_after

    def set_generation(self, slot: int, generation: int) -> None:
        """Announce a new worker in this slot."""
        _ORDER.pack_into(self._memory, self._order(slot), generation, _NO_CLAIM)

    def generation(self, slot: int) -> int:
        """Return the generation of the worker that the supervisor put into this slot."""
        return int(_ORDER.unpack_from(self._memory, self._order(slot))[0])

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
        _GIVEN.pack_into(self._memory, self._given(slot), ticket)

    def given(self, slot: int) -> int:
        """Return the last ticket sent to this slot."""
        return int(_GIVEN.unpack_from(self._memory, self._given(slot))[0])

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
        offset = self._cell(slot)
        sequence = (_CELL.unpack_from(self._memory, offset)[0] | 1) & 0xFFFFFFFF
        struct.pack_into("@I", self._memory, offset, sequence)
        claim = claim_id.bytes if claim_id else _NO_CLAIM
        values = (generation, os.getpid(), doing, done, claim, attempt, deadline)
        _CELL.pack_into(self._memory, offset, sequence, *values)
        struct.pack_into("@I", self._memory, offset, (sequence + 1) & 0xFFFFFFFF)

    def read(self, slot: int) -> Cell | None:
        """Read a worker's cell; None when it died while writing."""
        for _ in range(1000):
            sequence, *values = _CELL.unpack_from(self._memory, self._cell(slot))
            after = struct.unpack_from("@I", self._memory, self._cell(slot))[0]
            if sequence == after and not sequence & 1:
                generation, pid, doing, done, claim, attempt, deadline = values
                claim_id = UUID(bytes=claim) if claim != _NO_CLAIM else None
                return Cell(generation, pid, Doing(doing), done, claim_id, attempt, deadline)
        return None

    # -- waking the pusher ---------------------------------------------------------------

    @property
    def wake_fd(self) -> int:
        """The file descriptor that becomes readable when the pusher should look."""
        return self._wake_read

    def wake_pusher(self) -> None:
        """Make the pusher look at once: a worker became idle, or there is news."""
        try:
            os.write(self._wake_write, b".")
        except BlockingIOError:  # a full pipe wakes it just as well
            pass

    def drain_wakes(self) -> None:
        """Forget the wake-ups that were seen."""
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass

    # -- where things are ----------------------------------------------------------------

    def _order(self, slot: int) -> int:
        return _HEAD.size + slot * _SLOT_SIZE

    def _given(self, slot: int) -> int:
        return self._order(slot) + _ORDER.size

    def _cell(self, slot: int) -> int:
        return self._given(slot) + _GIVEN.size
