"""The supervisor's half of logs and progress: take them out of the spools, write them to tables.

A function may sit in its own transaction, and hold SQLite's one write lock, so its worker writes
none of this itself. What a killed worker had said is in its spool like everything else.

Of each attempt the first lines and the latest are kept. The worker decides which are the first
ones; here the latest ones are trimmed, also those that are in the table already. While the database
can't be written to, lines wait here, and when there are too many in the spools, which are bounded.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.db import DatabaseError, transaction

from django_defer.connections import UNREACHABLE, is_busy
from django_defer.failures import storable
from django_defer.ids import EPOCH
from django_defer.models import LogLine, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from django_defer.spool import Line, Spool, Step

logger = logging.getLogger(__name__)

INTERVAL: Final = 2.0  # seconds from one write to the next
CHUNK: Final = 500  # lines in one transaction
PAUSE: Final = 1.0  # seconds until the next try
STINT: Final = 0.25  # seconds after which the rest waits for the next round
LAST_STINT: Final = 2.0  # seconds that the last lines may take when the supervisor ends
TAIL_LINES: Final = 500  # the latest lines of an attempt, beside the first ones
TAIL_SIZE: Final = 128 * 1024  # characters of them
MOST_WAITING: Final = 20_000  # lines; what comes then waits in the spools
MOST_TAILS: Final = 100  # attempts whose latest lines are trimmed


@dataclass(slots=True)
class _Tail:
    """The latest lines of one attempt."""

    lines: deque[tuple[int, int]] = field(default_factory=deque)  # numbers and sizes
    size: int = 0
    waiting: OrderedDict[int, Line] = field(default_factory=OrderedDict)  # not written yet
    written_from: int = 0  # the table has those of its numbers from this one
    written_to: int = 0  # to this one

    def add(self, line: Line) -> None:
        """Add a line, and leave out those that are no longer among the latest."""
        self.lines.append((line.number, len(line.message)))
        self.waiting[line.number] = line
        self.size += len(line.message)
        while len(self.lines) > TAIL_LINES or (self.size > TAIL_SIZE and len(self.lines) > 1):
            number, size = self.lines.popleft()
            self.size -= size
            self.waiting.pop(number, None)

    def note_written(self, lines: Sequence[Line]) -> None:
        """Note that these are in the table."""
        for line in lines:
            self.waiting.pop(line.number, None)
        self.written_from = self.lines[0][0]
        self.written_to = max([self.written_to, *(line.number for line in lines)])

    @property
    def outdated(self) -> tuple[int, int] | None:
        """From which to before which number the table has lines that are no longer kept."""
        first = self.lines[0][0]
        if self.written_to and self.written_from < first:
            return self.written_from, min(first, self.written_to + 1)
        return None


class LogWriter:
    """Writes what workers put into their spools."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.spools: deque[Spool] = deque()
        self._first: deque[Line] = deque()
        self._tails: OrderedDict[tuple[UUID, int], _Tail] = OrderedDict()
        self._steps: dict[UUID, Step] = {}
        self._next_at = 0.0  # monotonic
        self._has_failed = False

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to write."""
        return bool(self._first or self._steps) or any(t.waiting for t in self._tails.values())

    def seconds_until_next(self) -> float:
        """Return how long there is nothing to do, as far as is known."""
        return max(0.0, self._next_at - time.monotonic()) if self.is_waiting else INTERVAL

    def collect(self) -> None:
        """Take what the workers have said. Never touches the database."""
        self.spools.rotate(1)  # lest a loud one have all the room
        waiting = len(self._first) + sum(len(tail.waiting) for tail in self._tails.values())
        for spool in self.spools:
            if waiting > MOST_WAITING:
                return
            taken = spool.take()
            waiting += len(taken.kept) + len(taken.latest)
            self._first.extend(taken.kept)
            for line in taken.latest:
                self._tail_of(line).add(line)
            for step in taken.steps:
                known = self._steps.get(step.run_id)
                if known is None or (known.attempt, known.at) <= (step.attempt, step.at):
                    self._steps[step.run_id] = step

    def step(self) -> None:
        """Take what there is, and write it, at most every two seconds."""
        self.collect()
        began = time.monotonic()
        if self.is_waiting and began >= self._next_at:
            self._next_at = began + PAUSE  # where it fails
            is_all = self.write(began + STINT)
            self._next_at = began + INTERVAL if is_all else 0.0

    def finish(self) -> None:
        """Take and write what there is, as this process ends."""
        self.collect()
        until = time.monotonic() + LAST_STINT
        while True:
            try:
                self.write(until)
                return
            except UNREACHABLE as error:
                if not is_busy(error, self.using) or time.monotonic() > until:
                    raise

    def write(self, until: float) -> bool:
        """Write until then (monotonic). Returns whether that was all.

        What was written twice, since the first answer was lost, is there once.
        """
        self._write_steps()
        while self._first:
            if time.monotonic() > until:
                return False
            chunk = [self._first[n] for n in range(min(CHUNK, len(self._first)))]
            with self._tolerant():
                self._insert(chunk)
            for _ in chunk:
                self._first.popleft()
        for key, tail in [*self._tails.items()]:
            if tail.waiting or tail.outdated:
                if time.monotonic() > until:
                    return False
                self._write_tail(key, tail)
        return True

    def _tail_of(self, line: Line) -> _Tail:
        key = (line.run_id, line.attempt)
        tail = self._tails.setdefault(key, _Tail())
        self._tails.move_to_end(key)
        if len(self._tails) > MOST_TAILS and not next(iter(self._tails.values())).waiting:
            self._tails.popitem(last=False)
        return tail

    def _write_tail(self, key: tuple[UUID, int], tail: _Tail) -> None:
        """Write the latest lines in place of those that no longer are."""
        lines = list(tail.waiting.values())
        with self._tolerant(), transaction.atomic(using=self.using):
            if (outdated := tail.outdated) is not None:
                begin, end = outdated
                rows = LogLine.objects.using(self.using).filter(run=key[0], attempt=key[1])
                rows.filter(number__gte=begin, number__lt=end).delete()
            self._insert(lines)
        tail.note_written(lines)

    def _insert(self, lines: Sequence[Line]) -> None:
        rows = [
            LogLine(
                run_id=line.run_id,
                attempt=line.attempt,
                number=line.number,
                level=line.level,
                at=EPOCH + timedelta(microseconds=line.at),
                logger=storable(line.logger)[:200],
                message=storable(line.message),
            )
            for line in lines
        ]
        LogLine.objects.using(self.using).bulk_create(rows, ignore_conflicts=True)

    def _write_steps(self) -> None:
        """Write how far runs are, but for those whose later attempt has said more elsewhere."""
        if not self._steps:
            return
        steps = dict(self._steps)
        rows = Progress.objects.using(self.using)
        known = dict(rows.filter(pk__in=list(steps)).values_list("pk", "attempt"))
        news = [
            Progress(
                run_id=step.run_id,
                attempt=step.attempt,
                done=step.done,
                total=step.total,
                message=storable(step.message),
                at=EPOCH + timedelta(microseconds=step.at),
            )
            for step in steps.values()
            if known.get(step.run_id, 0) <= step.attempt
        ]
        with self._tolerant():
            rows.bulk_create(
                news,
                update_conflicts=True,
                unique_fields=["run"],
                update_fields=["attempt", "done", "total", "message", "at"],
            )
        self._steps.clear()

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Go on without what the database refuses; say so, once."""
        try:
            yield
        except UNREACHABLE:
            raise
        except DatabaseError as error:
            if not self._has_failed:
                logger.error(
                    "log.not_written %s: log lines or progress are lost",
                    str(error).strip(),
                    extra={"event": "log.not_written"},
                )
            self._has_failed = True
        else:
            self._has_failed = False
