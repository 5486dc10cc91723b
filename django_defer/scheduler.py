"""What time makes due: scheduled runs are promoted, slots become runs, what is late is discarded.

`tick(now)` does it; `look` is the one query an idle scheduler makes; `run_scheduler` is the loop
of a process that does nothing else.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from django.db import DatabaseError, connections

from django_defer.clock import SQL_NOW, as_instant
from django_defer.connections import UNREACHABLE, persistently
from django_defer.exceptions import NotMigrated
from django_defer.materialise import materialise
from django_defer.models import CronDefinition, Run
from django_defer.overlaps import end_waits
from django_defer.prune import Pruner
from django_defer.statements import execute, prefer_indexes
from django_defer.states import ACTIVE, WAITING, Reason, State
from django_defer.transitions import BATCH, discard, promote
from django_defer.wakeup import announce

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from uuid import UUID

logger = logging.getLogger(__name__)

LONGEST_SLEEP: Final = 1.0  # seconds; what is enqueued for soon is seen this late at most
LONGEST_ROUND: Final = 2.0  # seconds after which a tick begins nothing more
DISCARDED_AT_ONCE: Final = 50  # runs: a project's receivers of `run_discarded` may take long
SHORTEST_SLEEP: Final = 0.05  # seconds, for the loop: whatever a row says, it doesn't spin

_LOOK: Final = """
SELECT {now},
       (SELECT min(run_after) FROM {run} WHERE state = 'scheduled'),
       (SELECT min(next_slot_at) FROM {definition}
        WHERE enabled AND paused_at IS NULL AND orphaned_at IS NULL),
       (SELECT min(discard_after) FROM {run}
        WHERE discard_after IS NOT NULL AND state IN ({waiting})),
       (SELECT min(claimed_at) FROM {run}
        WHERE cluster = %(cluster)s AND attempt >= 0 AND state IN ({active}) AND state = 'claimed')
"""


@dataclass(frozen=True, slots=True)
class Look:
    """The database's time, and the next instants at which there is something to do."""

    now: datetime
    next_run: datetime | None
    next_slot: datetime | None
    next_deadline: datetime | None = None
    oldest_claim: datetime | None = None  # that the cluster which looks has not started

    @property
    def has_due_runs(self) -> bool:
        """Whether a scheduled run is due."""
        return self.next_run is not None and self.next_run <= self.now

    @property
    def has_expired_runs(self) -> bool:
        """Whether a run waits that had to begin by now."""
        return self.next_deadline is not None and self.next_deadline <= self.now

    def seconds_until_next(self, *, slots: bool = True) -> float:
        """Return how long there is nothing to do, in seconds, LONGEST_SLEEP at most."""
        moments = [self.next_run, self.next_deadline, self.next_slot if slots else None]
        waits = [(moment - self.now).total_seconds() for moment in moments if moment]
        return max(0.0, min([LONGEST_SLEEP, *waits]))


@dataclass(frozen=True, slots=True)
class Ticked:
    """What one tick did, as counts."""

    promoted: int = 0
    fired: int = 0
    discarded: int = 0


def look(using: str, cluster: UUID | None = None) -> Look:
    """Ask the database for its time and the next due instants, in one query."""
    connection = connections[using]
    (row,) = execute(using, _look_sql(connection.vendor), {"cluster": cluster and cluster.hex})
    now, *moments = row
    return Look(
        as_instant(now, connection),
        *(as_instant(moment, connection) if moment else None for moment in moments),
    )


@cache
def _look_sql(vendor: str) -> str:
    return _LOOK.format(
        now=SQL_NOW[vendor],
        run=Run._meta.db_table,
        definition=CronDefinition._meta.db_table,
        waiting=", ".join(f"'{state}'" for state in sorted(WAITING)),
        active=", ".join(f"'{state}'" for state in sorted(ACTIVE)),
    )


def tick(
    using: str,
    now: datetime,
    *,
    runs: bool = True,
    slots: bool = True,
    deadlines: bool = True,
    on_news: Callable[[], object] | None = None,
) -> Ticked:
    """Promote every run, if `runs`, and fire every slot, if `slots`, that is due at `now`.

    Before that, if `deadlines`, discard every run that had to begin by `now` and still waits.

    `on_news` is called as soon as runs may have become claimable, before other clusters are told.
    After an outage that can be a lot, and a heartbeat is due meanwhile: what takes longer than
    LONGEST_ROUND for either is left for the next tick.
    """
    expire = partial(discard_expired, using, now)
    discarded = _in_batches(expire, DISCARDED_AT_ONCE) if deadlines else 0
    promoted = _in_batches(partial(promote, using, now), BATCH) if runs else 0
    fired = materialise(using, now, seconds=LONGEST_ROUND) if slots else []
    if promoted or fired or discarded:
        if on_news is not None:
            on_news()
        announce(using)
    for run in fired:
        _log(run)
    return Ticked(promoted, len(fired), discarded)


def discard_expired(using: str, now: datetime) -> int:
    """Discard a batch of the runs that wait and had to begin by `now`; return how many."""
    expired = Run.objects.using(using).expired(now)
    discarded = discard(using, expired, Reason.EXPIRED, most=DISCARDED_AT_ONCE)
    if discarded:
        end_waits(using)  # the run of a newer slot may have waited for one of these
    return discarded


def _in_batches(move_batch: Callable[[], int], size: int) -> int:
    """Repeat until a batch is not full or LONGEST_ROUND is over; return how many were moved."""
    total, until = 0, time.monotonic() + LONGEST_ROUND
    while moved := move_batch():
        total += moved
        if moved < size or time.monotonic() >= until:
            break
    return total


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


def run_scheduler(
    using: str, should_stop: Callable[[], bool], *, also: Callable[[], object] = lambda: None
) -> None:
    """Tick whenever something is due, prune, and wait for a database that is away.

    `also` is called each time round. Returns at most two seconds after `should_stop()` is true.
    """
    logger.info("scheduler.started", extra={"event": "scheduler.started"})
    pruner = Pruner(using)
    while not should_stop():
        try:
            pause = persistently(using, lambda: tick_if_due(using), give_up=should_stop)
            persistently(using, pruner.step_if_due, give_up=should_stop)
            also()
        except UNREACHABLE:
            break  # told to stop while the database was away
        time.sleep(max(SHORTEST_SLEEP, min(pause, pruner.seconds_until_next())))
    logger.info("scheduler.stopped", extra={"event": "scheduler.stopped"})


def tick_if_due(using: str) -> float:
    """Do what is due, if anything; return for how many seconds there will be nothing to do."""
    try:
        prefer_indexes(using)
        seen = look(using)
        if seen.seconds_until_next() <= 0:
            tick(using, seen.now)
            seen = look(using)
    except DatabaseError as error:
        if NotMigrated.explains(error):
            raise NotMigrated from error
        raise
    return max(SHORTEST_SLEEP, seen.seconds_until_next())
