"""What time makes due: scheduled runs are promoted, slots become runs.

`tick(now)` does it; `look` is the one query an idle scheduler makes; `run_scheduler` is the loop
of a process that does nothing else.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.db import DatabaseError, connections

from django_defer.clock import SQL_NOW, as_instant
from django_defer.connections import UNREACHABLE, persistently
from django_defer.exceptions import NotMigrated
from django_defer.materialise import materialise
from django_defer.models import CronDefinition, Run
from django_defer.states import State
from django_defer.transitions import BATCH, promote
from django_defer.wakeup import announce

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

logger = logging.getLogger(__name__)

LONGEST_SLEEP: Final = 1.0  # seconds; what is enqueued for soon is seen this late at most
LONGEST_ROUND: Final = 2.0  # seconds after which a tick begins nothing more
SHORTEST_SLEEP: Final = 0.05  # seconds, for the loop: whatever a row says, it doesn't spin

_LOOK: Final = """
SELECT {now},
       (SELECT min(run_after) FROM {run} WHERE state = 'scheduled'),
       (SELECT min(next_slot_at) FROM {definition}
        WHERE enabled AND paused_at IS NULL AND orphaned_at IS NULL)
"""


@dataclass(frozen=True, slots=True)
class Look:
    """The database's time, and the next instants at which there is something to do."""

    now: datetime
    next_run: datetime | None
    next_slot: datetime | None

    @property
    def has_due_runs(self) -> bool:
        """Whether a scheduled run is due."""
        return self.next_run is not None and self.next_run <= self.now

    def seconds_until_next(self, *, slots: bool = True) -> float:
        """Return how long there is nothing to do, in seconds, LONGEST_SLEEP at most."""
        moments = [self.next_run, self.next_slot if slots else None]
        waits = [(moment - self.now).total_seconds() for moment in moments if moment]
        return max(0.0, min([LONGEST_SLEEP, *waits]))


@dataclass(frozen=True, slots=True)
class Ticked:
    """What one tick did, as counts."""

    promoted: int = 0
    fired: int = 0


def look(using: str) -> Look:
    """Ask the database for its time and the next due instants, in one query."""
    connection = connections[using]
    sql = _LOOK.format(
        now=SQL_NOW[connection.vendor],
        run=Run._meta.db_table,
        definition=CronDefinition._meta.db_table,
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [])
        now, run, slot = cursor.fetchone()
    return Look(
        as_instant(now, connection),
        as_instant(run, connection) if run else None,
        as_instant(slot, connection) if slot else None,
    )


def tick(
    using: str,
    now: datetime,
    *,
    runs: bool = True,
    slots: bool = True,
    on_news: Callable[[], object] | None = None,
) -> Ticked:
    """Promote every run, if `runs`, and fire every slot, if `slots`, that is due at `now`.

    `on_news` is called as soon as runs may have become claimable, before other clusters are told.
    After an outage that can be a lot, and a heartbeat is due meanwhile: what takes longer than
    LONGEST_ROUND for either is left for the next tick.
    """
    promoted, until = 0, time.monotonic() + LONGEST_ROUND
    while runs and (moved := promote(using, now)):
        promoted += moved
        if moved < BATCH or time.monotonic() >= until:
            break
    fired = materialise(using, now, seconds=LONGEST_ROUND) if slots else []
    if promoted or fired:
        if on_news is not None:
            on_news()
        announce(using)
    for run in fired:
        _log(run)
    return Ticked(promoted, len(fired))


def _log(run: Run) -> None:
    event = "slot.skipped" if run.state == State.SKIPPED else "slot.fired"
    logger.info(
        "%s %s slot=%s run=%s missed=%s%s",
        event,
        run.function_id,
        run.slot,
        run.pk,
        run.missed_slots,
        f" reason={run.reason}" if run.reason else "",
        extra={"event": event, "function": run.function_id, "run_id": str(run.pk)},
    )


def run_scheduler(using: str, should_stop: Callable[[], bool]) -> None:
    """Tick whenever something is due, and wait for a database that is away.

    Returns at most two seconds after `should_stop()` is true.
    """
    logger.info("scheduler.started", extra={"event": "scheduler.started"})
    while not should_stop():
        try:
            pause = persistently(using, lambda: tick_if_due(using), give_up=should_stop)
        except UNREACHABLE:
            break  # told to stop while the database was away
        time.sleep(pause)
    logger.info("scheduler.stopped", extra={"event": "scheduler.stopped"})


def tick_if_due(using: str) -> float:
    """Do what is due, if anything; return for how many seconds there will be nothing to do."""
    try:
        seen = look(using)
        if seen.seconds_until_next() <= 0:
            tick(using, seen.now)
            seen = look(using)
    except DatabaseError as error:
        if NotMigrated.explains(error):
            raise NotMigrated from error
        raise
    return max(SHORTEST_SLEEP, seen.seconds_until_next())
