"""Remove runs that ended long ago, with their attempts, a window of the table at a time.

The walk goes by the runs' ids, which are in the order of their enqueueing. So each step reads and
deletes a bounded number of rows in a short transaction, and nobody waits for it.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from django.db import DatabaseError, connections, transaction

from django_defer.clock import LONGEST_OFFSET, database_now
from django_defer.connections import UNREACHABLE, is_busy
from django_defer.models import (
    Alert,
    AlertDelivery,
    AlertEvent,
    Attempt,
    LogLine,
    Progress,
    Run,
)
from django_defer.retention import Retention
from django_defer.states import FINISHED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

logger = logging.getLogger(__name__)

WINDOW: Final = 500  # rows that a step looks at
MOST_LINES: Final = 5000  # log lines that a step deletes
INTERVAL: Final = 600.0  # seconds between two walks, on average
ALERTS_KEPT: Final = timedelta(days=7)  # at least: messages of them may be on their way
BEGINNING: Final = UUID(int=0)
FIRST: Final = (10.0, 60.0)  # seconds after the start within which the first walk begins
BUSY: Final = 1.0  # seconds until the next try when SQLite's one write lock was taken
STINT: Final = 0.05  # seconds after which a walk takes a rest
REST: Final = 4  # that is so many times as long
REST_OF_COMMAND: Final = 1  # somebody waits for it, and others wait for the disk

Counts = Counter[tuple[str, str]]  # by function and state


@dataclass(slots=True)
class Walk:
    """One walk through the runs, from the oldest on.

    `until` is the id at which it ends; None: it looks at all. A dry one deletes nothing.
    """

    retention: Retention
    until: UUID | None = None
    is_dry: bool = False
    removed: Counts = field(default_factory=Counter)
    is_over: bool = False
    _after: UUID = BEGINNING

    def stint(self) -> float:
        """Take steps for a moment; return how many seconds they took."""
        began = time.monotonic()
        while not self.is_over and time.monotonic() - began < STINT:
            self.step()
        return time.monotonic() - began

    def step(self) -> None:
        """Look at the next window, and delete what is not kept."""
        using = self.retention.using
        runs = Run.objects.using(using).filter(pk__gt=self._after).order_by("pk")
        if self.until is not None:
            runs = runs.filter(pk__lt=self.until)
        rows = list(runs.values_list("pk", "function", "state", "finished_at")[:WINDOW])
        over = {
            pk: (function, state)
            for pk, function, state, finished_at in rows
            if state in FINISHED and self.retention.is_over(pk, function, state, finished_at)
        }
        for original in _with_reruns(using, over):
            del over[original]
        if over and not self.is_dry and _delete_lines(using, list(over)) == MOST_LINES:
            return  # there may be more: the next step goes on with the same runs
        gone = _delete(using, list(over)) if over and not self.is_dry else over
        self.removed.update(over[pk] for pk in gone)
        self.is_over = len(rows) < WINDOW
        if rows:
            self._after = rows[-1][0]


def prune(using: str, now: datetime, *, dry_run: bool = False) -> Counts:
    """Remove every run that need not be kept at `now`; return how many, by function and state.

    It rests half of the time, so that neither the disk nor the processors are its alone.
    """
    walk = Walk(Retention.read(using, now), is_dry=dry_run)
    while not walk.is_over:
        took = walk.stint()
        if not walk.is_over:
            time.sleep(REST_OF_COMMAND * took)
    while not dry_run and _delete_alerts(walk.retention) == WINDOW:
        pass
    return walk.removed


def _delete_lines(using: str, ids: list[UUID]) -> int:
    """Delete log lines of these runs, as many as a step may; return how many."""
    lines = LogLine.objects.using(using)
    some = list(lines.filter(run__in=ids).order_by().values_list("pk", flat=True)[:MOST_LINES])
    if some:
        lines.filter(pk__in=some)._raw_delete(using)
    return len(some)


def _with_reruns(using: str, ids: Collection[UUID]) -> list[UUID]:
    """Return those that a rerun names: its slot is found by way of them."""
    if not ids:
        return []
    reruns = Run.objects.using(using).filter(rerun_of__in=list(ids), rerun_of__isnull=False)
    named = reruns.order_by().values_list("rerun_of", flat=True).distinct()
    return [run_id for run_id in named if run_id is not None]


def _delete(using: str, ids: list[UUID]) -> list[UUID]:
    """Delete these runs, but for those that somebody else is deleting; return which."""
    with transaction.atomic(using=using):
        if connections[using].vendor == "postgresql":
            with connections[using].cursor() as cursor:  # what a crash takes back goes later
                cursor.execute("SET LOCAL synchronous_commit = off")
        runs = Run.objects.using(using).filter(pk__in=ids).order_by("pk")
        if connections[using].features.has_select_for_update_skip_locked:
            runs = runs.select_for_update(skip_locked=True)
        else:  # a write before the first read: SQLite's one lock is taken at once
            runs.filter(pk=BEGINNING).delete()
        ids = list(runs.values_list("pk", flat=True))
        # Without loading a row, and without the signals of deletion: a project's receivers of
        # these would run in the supervisor.
        for rows in (
            Attempt.objects.using(using).filter(run__in=ids),
            Progress.objects.using(using).filter(pk__in=ids),
            Run.objects.using(using).filter(pk__in=ids),
        ):
            rows._raw_delete(using)
    return ids


def _delete_alerts(retention: Retention) -> int:
    """Delete some alerts that were closed long ago, with their deliveries; return how many.

    Old events, too: had anybody been interested, they would be in an alert.
    """
    using, span = retention.using, retention.general["keep_failed"]
    if span is None:
        return 0
    before = retention.now - min(max(span, ALERTS_KEPT), LONGEST_OFFSET)
    events = AlertEvent.objects.using(using).filter(at__lt=before)
    closed = Alert.objects.using(using).filter(closed_at__lt=before).order_by("pk")
    if not (events.exists() or closed.exists()):
        return 0
    with transaction.atomic(using=using):
        events._raw_delete(using)
        ids = [alert.pk for alert in closed.select_for_update(skip_locked=True).only("pk")[:WINDOW]]
        AlertDelivery.objects.using(using).filter(alert__in=ids)._raw_delete(using)
        Alert.objects.using(using).filter(pk__in=ids)._raw_delete(using)
    return len(ids)


class Pruner:
    """Prunes all the time and never much: some steps at a time, a walk every ten minutes or so.

    `may_begin` says whether a walk may begin: of many schedulers one is enough.
    """

    def __init__(self, using: str, may_begin: Callable[[datetime], bool] | None = None) -> None:
        self.using = using
        self._may_begin = may_begin
        self._walk: Walk | None = None
        self._next_at = time.monotonic() + random.uniform(*FIRST)  # noqa: S311

    def seconds_until_next(self) -> float:
        """Return how long there is nothing to do."""
        return max(0.0, self._next_at - time.monotonic())

    def step_if_due(self) -> None:
        """Take the next steps, if it is time to. After an error, the next walk begins anew."""
        if self.seconds_until_next() > 0:
            return
        walk, self._walk = self._walk, None
        self._next_at = time.monotonic() + INTERVAL * random.uniform(0.8, 1.2)  # noqa: S311
        try:
            walk = walk or self._begin()
            if walk is not None:
                self._step(walk)
        except UNREACHABLE as error:
            if is_busy(error, self.using):
                self._walk, self._next_at = walk, time.monotonic() + BUSY
            raise
        except DatabaseError as error:
            logger.error(
                "prune.failed %s: old runs are not removed",
                str(error).strip(),
                extra={"event": "prune.failed"},
            )

    def _begin(self) -> Walk | None:
        now = database_now(self.using)
        if self._may_begin is not None and not self._may_begin(now):
            return None
        retention = Retention.read(self.using, now)
        until = retention.first_id_kept()
        return Walk(retention, until) if until is not None else None

    def _step(self, walk: Walk) -> None:
        took = walk.stint()
        if not walk.is_over:
            self._walk = walk
            self._next_at = time.monotonic() + REST * took
            return
        _delete_alerts(walk.retention)
        if removed := walk.removed.total():
            logger.info(
                "prune.completed removed=%s",
                removed,
                extra={"event": "prune.completed", "removed": removed},
            )
