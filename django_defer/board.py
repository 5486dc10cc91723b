"""The board: shared memory in which a cluster's processes see each other, without locks.

A lock would outlive the process that was killed holding it. So each cell has one writer:
the supervisor (its heartbeat, the order to stop, a worker's generation), the pusher (the last
ticket it gave a worker, the claims that came with it and with the one before, and whether it wants
them back) or the worker itself (what it is doing). A worker's cell and a list of claims are each
guarded by a sequence number that is odd while they are written; a reader looks again.

Times are `time.monotonic()` seconds, which all processes of one machine share.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from django_defer.bell import Bell
from django_defer.conf import MOST_CLAIMS

T = TypeVar("T")

# A lone number is one aligned store through a memoryview, so no reader sees half of it
# (struct.pack_into clears the place first). Offsets are in bytes.
_BEAT, _STOP, _FLEET, _HEAD_SIZE = 0, 8, 12, 16  # last beat (double), stop flag (byte), workers
_GENERATION, _GIVEN, _RECALLED, _SEQUENCE, _PAYLOAD, _ABORT = 0, 8, 12, 16, 24, 96  # in each slot
_CHUNKS: Final = 112  # two, those of even tickets and those of odd ones
_CELL: Final = struct.Struct("@IIIB?16sHdd")
_CHUNK_HEAD: Final = 16  # its sequence number, its ticket, the number of its claims
_CHUNK_SIZE: Final = _CHUNK_HEAD + 16 * MOST_CLAIMS
_SLOT_SIZE: Final = _CHUNKS + 2 * _CHUNK_SIZE
_NO_CLAIM: Final = bytes(16)

STALE_AFTER: Final = 20.0  # seconds without a supervisor's beat after which nothing is started


class Doing(IntEnum):
    """What a worker is doing."""

    STARTING = 0
    IDLE = 1
    BUSY = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """One worker's own half of the board. `deadline` is 0 while nothing limits it.

    `spent` is how many seconds the attempts of its task took that are over. `asks`: they all are,
    and it wants another task while it still writes how the last one went.
    """

    generation: int
    pid: int
    doing: Doing
    asks: bool
    done: int
    claim_id: UUID | None
    attempt: int
    deadline: float
    spent: float = 0.0


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
        """Return the claims that workers are at; None when that cannot be known just now.

        With those of their chunks, begun or not. Where a chunk is wanted back, or the cluster
        stops, nothing more of it begins: then with those up to the one that the worker shows. Some
        are over, but a database that crashed may have forgotten it until the worker says it again.
        """
        found: set[UUID] = set()
        for slot in range(self.slots):
            cell = self.read(slot)
            if cell is None:
                return None
            if cell.claim_id is not None:
                found.add(cell.claim_id)
            for ticket, claims in self.chunks(slot):
                if ticket < cell.done + (cell.doing is Doing.IDLE):
                    continue
                if self.is_stopping or self.is_recalled(slot, ticket):
                    begun = claims.index(cell.claim_id) + 1 if cell.claim_id in claims else 0
                    claims = claims[:begun]
                found.update(claims)
        return found

    def set_fleet(self, workers: int) -> None:
        """Note how many workers there are in all clusters."""
        self._numbers[_FLEET // 4] = workers

    @property
    def fleet(self) -> int:
        """How many workers there are in all clusters, as far as is known."""
        return max(self._numbers[_FLEET // 4], self.slots)

    # -- pusher --------------------------------------------------------------------------

    def idle_slots(self) -> list[int]:
        """Return the slots whose worker has taken all it was given: who waits, then who asks."""
        idle, asking = [], []
        for slot in range(self.slots):
            cell = self.read(slot)
            if (
                cell is not None
                and cell.generation == self.generation(slot)
                and cell.done >= self.given(slot)
            ):
                if cell.doing is Doing.IDLE:
                    idle.append(slot)
                elif cell.asks:
                    asking.append(slot)
        return idle + asking

    def next_ticket(self, slot: int) -> int:
        """Return the number of the next message to this slot's worker."""
        cell = self.read(slot)
        return max(self.given(slot), cell.done if cell else 0) + 1

    def give(self, slot: int, ticket: int, claims: Sequence[UUID] = ()) -> None:
        """Note that the message with this ticket was sent, and which claims it brings."""
        begin = self._chunk_at(slot, ticket)
        place, end = begin // 4, begin + _CHUNK_HEAD + 16 * len(claims)
        sequence = self._numbers[place] | 1
        self._numbers[place] = sequence
        self._numbers[place + 1], self._numbers[place + 2] = ticket, len(claims)
        self._bytes[begin + _CHUNK_HEAD : end] = b"".join(each.bytes for each in claims)
        self._numbers[place] = (sequence + 1) & 0xFFFFFFFF
        self._numbers[self._at(slot, _GIVEN) // 4] = ticket

    def given(self, slot: int) -> int:
        """Return the last ticket sent to this slot."""
        return self._numbers[self._at(slot, _GIVEN) // 4]

    def chunks(self, slot: int) -> Iterator[tuple[int, list[UUID]]]:
        """Yield the two tickets that `give` noted last, and their claims; none if it died there."""
        for parity in (0, 1):
            begin = self._chunk_at(slot, parity)
            read = partial(self._read_chunk, begin)
            ticket, ids = self._steadily(read, begin // 4) or (0, b"")
            yield ticket, [UUID(bytes=ids[n : n + 16]) for n in range(0, len(ids), 16)]

    def _read_chunk(self, begin: int) -> tuple[int, bytes]:
        ticket, count = self._numbers[begin // 4 + 1], self._numbers[begin // 4 + 2]
        end = begin + _CHUNK_HEAD + 16 * min(count, MOST_CLAIMS)
        return ticket, bytes(self._bytes[begin + _CHUNK_HEAD : end])

    def recall(self, slot: int, ticket: int) -> None:
        """Tell this slot's worker to begin no more of what came with this ticket."""
        self._numbers[self._at(slot, _RECALLED) // 4] = ticket

    def recall_all(self) -> None:
        """Tell every worker so: the pusher is dead, and nobody watches what holds them up."""
        for slot in range(self.slots):
            self.recall(slot, self.given(slot))

    def is_recalled(self, slot: int, ticket: int) -> bool:
        """Say whether what came with this ticket is not to be begun any more."""
        return self._numbers[self._at(slot, _RECALLED) // 4] == ticket

    # -- worker --------------------------------------------------------------------------

    def write(
        self,
        slot: int,
        *,
        generation: int,
        doing: Doing,
        done: int,
        asks: bool = False,
        claim_id: UUID | None = None,
        attempt: int = 0,
        deadline: float = 0.0,
        spent: float = 0.0,
    ) -> None:
        """Write a worker's own cell (only that worker does)."""
        place = self._at(slot, _SEQUENCE) // 4
        sequence = self._numbers[place] | 1
        self._numbers[place] = sequence
        claim = claim_id.bytes if claim_id else _NO_CLAIM
        values = (generation, os.getpid(), done, doing, asks, claim, attempt, deadline, spent)
        _CELL.pack_into(self._memory, self._at(slot, _PAYLOAD), *values)
        self._numbers[place] = (sequence + 1) & 0xFFFFFFFF

    def read(self, slot: int) -> Cell | None:
        """Read a worker's cell; None when it died while writing."""
        place = self._at(slot, _SEQUENCE) // 4
        values = self._steadily(
            lambda: _CELL.unpack_from(self._memory, self._at(slot, _PAYLOAD)), place
        )
        if values is None:
            return None
        generation, pid, done, doing, asks, claim, *rest = values
        claim_id = UUID(bytes=claim) if claim != _NO_CLAIM else None
        return Cell(generation, pid, Doing(doing), asks, done, claim_id, *rest)

    def _steadily(self, read: Callable[[], T], place: int) -> T | None:
        """Return what was read while nobody wrote it; None when its writer died over it.

        Its sequence number is in this place.
        """
        for _ in range(1000):
            before = self._numbers[place]
            found = read()
            if before == self._numbers[place] and not before & 1:
                return found
        return None

    def _at(self, slot: int, what: int) -> int:
        return _HEAD_SIZE + slot * _SLOT_SIZE + what

    def _chunk_at(self, slot: int, ticket: int) -> int:
        return self._at(slot, _CHUNKS + ticket % 2 * _CHUNK_SIZE)
