"""The supervisor's short-lived child that sends alerts, so that no slow channel holds it up.

Any number of supervisors may do this at once: what is sent is leased. So that not all of them fork
at each event, the oldest live cluster does it, and another only if that leaves it undone.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import DatabaseError

from django_defer.alerts.dispatch import is_wanted, is_work_due, work
from django_defer.alerts.routes import routes
from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.connections import UNREACHABLE, close_all, drop, is_busy, keep_connections
from django_defer.django_q2 import fork_context, silence_signals
from django_defer.durations import parse_duration
from django_defer.models import Cluster
from django_defer.process import Lifeline, ignore_stop_signals
from django_defer.seats import start
from django_defer.surroundings import process_begins, process_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

logger = logging.getLogger(__name__)

LOOK: Final = 2.0  # seconds between two looks at whether anything is due
INTERVAL: Final = 30.0  # seconds after which the child runs anyway: conditions have no rows
PATIENCE: Final = 15.0  # seconds that others leave it to the oldest cluster
WORK_SECONDS: Final = 20.0
MOST_SECONDS: Final = 60.0  # after which a child that hangs is killed
AFTER_DEATH: Final = 10.0  # seconds until the next look: it may die again
GRACE: Final = 2.0  # seconds it has to end by itself when the supervisor stops
LAST_GRACE: Final = 20.0  # where nobody may come by soon who would send it
TRIES: Final = 3  # where SQLite's one write lock is taken
BUSY_TIMEOUT: Final = 5.0  # seconds it waits for SQLite's one write lock


class Alerter:
    """Forks the child when something is to be sent, and ends one that hangs.

    `is_oldest` says whether it is this process that does it first.
    """

    def __init__(
        self, using: str, lifeline: Lifeline, is_oldest: Callable[[datetime], bool]
    ) -> None:
        self.using = using
        self.process: Any = None
        self._lifeline = lifeline
        self._is_oldest = is_oldest
        self._born = self._look_at = 0.0  # monotonic
        self._worked_at = time.monotonic()
        self._due_since: float | None = None
        self._clock: tuple[datetime, float] | None = None

    def step(self) -> None:
        """Do what is due now: bury the child, or look whether one is needed."""
        now = time.monotonic()
        if self.process is not None:
            self._watch(now)
        if self.process is not None or now < self._look_at or not is_wanted():
            return
        self._look_at = now + LOOK
        try:
            is_needed = self._is_needed(now)
        except UNREACHABLE:
            drop(self.using)
            return
        except DatabaseError as error:  # the tables are not there yet, for one
            self._look_at = now + INTERVAL
            logger.error("alerts.failed %s", str(error).strip(), extra={"event": "alerts.failed"})
            return
        if is_needed:
            self._fork(now)

    def stop(self, grace: float = GRACE) -> None:
        """End the child: what it was sending is sent by somebody else after the lease."""
        process, self.process = self.process, None
        if process is None:
            return
        process.join(grace)
        if process.is_alive():
            process.kill()
            process.join()

    def _watch(self, now: float) -> None:
        if not self.process.is_alive():
            if self.process.exitcode:
                logger.warning(
                    "alerter.died exit_code=%s",
                    self.process.exitcode,
                    extra={"event": "alerter.died"},
                )
                self._look_at = now + AFTER_DEATH
            self.stop()
        elif now - self._born > MOST_SECONDS:
            logger.warning(
                "alerter.killed after %s s", f"{MOST_SECONDS:g}", extra={"event": "alerter.killed"}
            )
            self.stop(0)

    def _is_needed(self, now: float) -> bool:
        overdue = now - self._worked_at - INTERVAL if routes() else -INTERVAL
        if not is_work_due(self.using, self._database_now(now)):
            self._due_since = None
            if overdue < 0:
                return False
        elif self._due_since is None:
            self._due_since = now
        due_for = max(overdue, 0.0 if self._due_since is None else now - self._due_since)
        return due_for >= PATIENCE or self._is_oldest(database_now(self.using))

    def _database_now(self, now: float) -> datetime:
        """Return the database's time, which is asked for from time to time only."""
        if self._clock is None or now - self._clock[1] > INTERVAL:
            self._clock = database_now(self.using), now
        return self._clock[0] + timedelta(seconds=now - self._clock[1])

    def _fork(self, now: float) -> None:
        close_all()
        process = fork_context().Process(
            target=run_alerter, args=(self.using, self._lifeline), name="defer-alerter"
        )
        self._born = self._worked_at = now
        self._due_since = None
        if start(process):
            self.process = process
            logger.debug("alerter.started pid=%s", process.pid, extra={"event": "alerter.started"})


@contextmanager
def alerting(using: str) -> Iterator[Callable[[], None]]:
    """Let a process that is no supervisor do it too: it calls what this yields each second or so.

    It is no cluster, so it leaves it to one, unless there is none.
    """
    lifeline = Lifeline()
    lease = parse_duration(conf.lease)
    alerter = Alerter(
        using,
        lifeline,
        lambda now: Cluster.objects.using(using).live(now, lease).oldest() is None,
    )
    try:
        yield alerter.step
    finally:
        alerter.stop()
        lifeline.close()


def run_alerter(using: str, lifeline: Lifeline) -> None:
    """Be the child: send what is due, then end."""
    lifeline.hold()
    ignore_stop_signals()
    silence_signals()
    keep_connections(busy_timeout=BUSY_TIMEOUT)
    process_begins(forked=True)
    try:
        send_alerts(using)
    finally:
        process_ends()


def send_alerts(using: str, *, is_last: bool = False) -> None:
    """Send what is due; a database that is away, or busy for long, is for the next time."""
    for left in reversed(range(TRIES)):
        try:
            work(using, WORK_SECONDS, is_last=is_last)
            return
        except UNREACHABLE as error:
            drop(using)
            if not (left and is_busy(error, using)):
                reason = str(error).strip()
                logger.info("alerts.postponed %s", reason, extra={"event": "alerts.postponed"})
                return
