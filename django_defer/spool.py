"""The spool: how log lines and progress reach the supervisor. One a seat, shared memory, no locks.

A function may sit in its own transaction, so its worker writes what is said into memory that it
shares with the supervisor, which writes it to the database. The memory outlives a worker that is
killed. It has three parts, each with one writer:

- what is kept: a ring that is never overwritten. What does not fit is refused;
- the latest: a ring that overwrites its oldest records, and so always takes the newest;
- the progress: a cell that shows the last state, guarded by a sequence number as the board's are.

Nothing here waits for anybody. A record is published by moving the ring's end behind it, and it
carries a checksum, so that half of one is never taken for a whole.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from typing import Final, NamedTuple
from uuid import UUID

KEPT_BYTES: Final = 512 * 1024
LATEST_BYTES: Final = 256 * 1024
_PAGE: Final = 4096  # a head of 3 numbers for each ring, and the progress cell

_FRAME: Final = struct.Struct("<II")  # bytes with the frame, checksum
_LINE: Final = struct.Struct(
    "<B16sHIhqH"
)  # kind, run, attempt, number, level, time, logger's bytes
_PROGRESS: Final = struct.Struct("<B16sHqqqH")  # kind, run, attempt, done, total, time, bytes
_KIND_LINE, _KIND_PROGRESS = 1, 2
_NO_TOTAL: Final = -1
_KEPT_AT, _LATEST_AT, _CELL_AT = 0, 32, 64  # in the page
_END, _BEGIN = 0, 1  # of a ring: where the next record goes, where the oldest one is


class Line(NamedTuple):
    """A log line of an attempt. `at` is in microseconds since 1970."""

    run_id: UUID
    attempt: int
    number: int
    level: int
    at: int
    logger: str
    message: str


class Step(NamedTuple):
    """How far an attempt is. `at` is in microseconds since 1970."""

    run_id: UUID
    attempt: int
    done: int
    total: int | None
    at: int
    message: str


class Taken(NamedTuple):
    """What the supervisor took: lines that are kept, the latest lines, and progress."""

    kept: list[Line]
    latest: list[Line]
    steps: list[Step]


class _Ring:
    """A ring in shared memory. Positions only grow; the place is their remainder."""

    def __init__(self, memory: memoryview, head: int, start: int, size: int) -> None:
        self._head = memory[head : head + 16].cast("Q")
        self._data = memory[start : start + size]
        self.size = size
        self._doubted = -1  # where the reader met what it could not read

    # -- writer ----------------------------------------------------------------------------

    def put(self, payload: bytes, *, overwrite: bool) -> bool:
        """Add a record; False where there is no room and nothing may be overwritten."""
        head = self._head
        end, length = head[_END], len(payload) + _FRAME.size
        too_much = end + length - head[_BEGIN] - self.size
        if too_much > 0:
            if not overwrite or length > self.size:
                return False
            begin = head[_BEGIN]
            while end + length - begin > self.size:
                begin += max(_FRAME.unpack(self._copy(begin, _FRAME.size))[0], _FRAME.size)
            head[_BEGIN] = min(begin, end)
        record = _FRAME.pack(length, zlib.crc32(payload)) + payload
        place = end % self.size
        until_edge = self.size - place
        if length <= until_edge:
            self._data[place : place + length] = record
        else:
            self._data[place:] = record[:until_edge]
            self._data[: length - until_edge] = record[until_edge:]
        head[_END] = end + length
        return True

    # -- reader ----------------------------------------------------------------------------

    def read(self, position: int) -> tuple[list[bytes], int]:
        """Return the records from `position` on, and where the next ones will be."""
        head = self._head
        end = head[_END]
        start = max(position, head[_BEGIN])
        if start >= end:
            return [], end
        data = self._copy(start, end - start)
        begin = max(start, head[_BEGIN])  # what was overwritten meanwhile is not looked at
        records, read_to = _records(data, begin - start)
        position = start + read_to
        if position < end:  # its bytes may not have arrived: look again, once
            if position == self._doubted:
                position = end
            self._doubted = position
        return records, position

    def free(self, position: int) -> None:
        """Let the writer use the place of everything before `position`."""
        self._head[_BEGIN] = position

    def _copy(self, position: int, length: int) -> bytes:
        place = position % self.size
        until_edge = self.size - place
        if length <= until_edge:
            return bytes(self._data[place : place + length])
        return bytes(self._data[place:]) + bytes(self._data[: length - until_edge])


class Spool:
    """Shared by fork: make it before the first child."""

    def __init__(self, kept_bytes: int = KEPT_BYTES, latest_bytes: int = LATEST_BYTES) -> None:
        memory = memoryview(mmap.mmap(-1, _PAGE + kept_bytes + latest_bytes))
        self._kept = _Ring(memory, _KEPT_AT, _PAGE, kept_bytes)
        self._latest = _Ring(memory, _LATEST_AT, _PAGE + kept_bytes, latest_bytes)
        self._sequence = memory[_CELL_AT : _CELL_AT + 4].cast("I")
        self._cell = memory[_CELL_AT + 8 : _PAGE]
        self._kept_to = self._latest_to = 0  # what the supervisor has taken
        self._seen = 0  # the sequence number of the progress that it has seen

    # -- worker ----------------------------------------------------------------------------

    def put(self, record: bytes, *, keep: bool) -> None:
        """Add a record. One that is not to be kept, or has no room there, joins the latest."""
        if not (keep and self._kept.put(record, overwrite=False)):
            self._latest.put(record, overwrite=True)

    def show(self, progress: bytes) -> None:
        """Show how far the worker's attempt is."""
        sequence = self._sequence[0] | 1
        self._sequence[0] = sequence
        self._cell[: len(progress)] = progress
        self._sequence[0] = (sequence + 1) & 0xFFFFFFFF

    # -- supervisor ------------------------------------------------------------------------

    def take(self) -> Taken:
        """Take what came since the last time."""
        taken = Taken([], [], [])
        records, self._kept_to = self._kept.read(self._kept_to)
        self._kept.free(self._kept_to)
        _sort(records, taken.kept, taken.steps)
        records, self._latest_to = self._latest.read(self._latest_to)
        _sort(records, taken.latest, taken.steps)
        if (step := self._read_progress()) is not None:
            taken.steps.append(step)
        return taken

    def _read_progress(self) -> Step | None:
        """Return the progress if it has changed; None, too, when its writer died writing."""
        for _ in range(100):
            before = self._sequence[0]
            if before == self._seen:
                return None
            data = bytes(self._cell)
            if before == self._sequence[0] and not before & 1:
                self._seen = before
                return _step(data)
        return None


def pack_line(line: Line) -> bytes:
    """Return a line as a record."""
    logger = line.logger.encode("utf-8", "backslashreplace")
    level = min(max(line.level, -32768), 32767)
    fixed = _LINE.pack(
        _KIND_LINE, line.run_id.bytes, line.attempt, line.number, level, line.at, len(logger)
    )
    return fixed + logger + line.message.encode("utf-8", "backslashreplace")


def pack_step(step: Step) -> bytes:
    """Return progress as a record."""
    message = step.message.encode("utf-8", "backslashreplace")
    total = _NO_TOTAL if step.total is None else step.total
    fixed = _PROGRESS.pack(
        _KIND_PROGRESS, step.run_id.bytes, step.attempt, step.done, total, step.at, len(message)
    )
    return fixed + message


def _records(data: bytes, at: int) -> tuple[list[bytes], int]:
    """Return the whole records from there on, and the place behind the last of them."""
    records = []
    while at + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        payload = data[at + _FRAME.size : at + length]
        if length <= _FRAME.size or at + length > len(data) or zlib.crc32(payload) != checksum:
            break
        records.append(payload)
        at += length
    return records, at


def _sort(records: list[bytes], lines: list[Line], steps: list[Step]) -> None:
    for record in records:
        if record[0] == _KIND_LINE:
            lines.append(_line(record))
        else:
            steps.append(_step(record))


def _line(record: bytes) -> Line:
    _, run, attempt, number, level, at, length = _LINE.unpack_from(record)
    text = record[_LINE.size :]
    logger, message = text[:length].decode(), text[length:].decode()
    return Line(UUID(bytes=run), attempt, number, level, at, logger, message)


def _step(record: bytes) -> Step:
    _, run, attempt, done, total, at, length = _PROGRESS.unpack_from(record)
    message = record[_PROGRESS.size : _PROGRESS.size + length].decode()
    whole = None if total == _NO_TOTAL else total
    return Step(UUID(bytes=run), attempt, done, whole, at, message)
