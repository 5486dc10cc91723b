"""Read-only numbers: who works, what waits, what failed, what fires next; is it working right now?

Each function takes `now`, the database's. However many runs and definitions there are, a status
is a dozen queries and one a queue, each answered by a partial index or cut off at a cap.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from django.db import connections
from django.db.models import Case, Count, F, Min, Q, Value, When
from django.db.models.functions import Coalesce

from django_defer.claims import waiting_queues
from django_defer.clock import InstantField
from django_defer.conf import conf
from django_defer.durations import parse_duration
from django_defer.models import Cluster, CronDefinition, Queue, Run
from django_defer.schedules import SLOTS_SHOWN
from django_defer.states import ACTIVE, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LATE: Final = timedelta(seconds=60)  # what is due this long and untouched is trouble
MOST_WAITING: Final = 10_000  # runs that are counted in each queue
MOST_FAILURES: Final = 1_000  # failed runs that are looked at, the newest
FAILURES_SINCE: Final = timedelta(days=1)
DEFINITIONS_SHOWN: Final = 20

# SQLite takes the partial index of what is held for its very own literals only: no parameters.
_RUNNING: Final = (
    "SELECT queue, count(*) FROM {run} WHERE attempt >= 0 AND state IN ({states}) GROUP BY queue"
)


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """A cluster; one that isn't live fell silent and was not reaped yet."""

    row: Cluster
    is_live: bool


@dataclass(frozen=True, slots=True)
class SchedulerReport:
    """The last tick that a live cluster recorded, and the first thing that is due.

    A `defer_scheduler` records no ticks. So whether one is missing is judged by what is overdue.
    """

    now: datetime
    ticked_at: datetime | None
    next_run_at: datetime | None
    next_slot_at: datetime | None
    next_slot_of: str

    @property
    def overdue_run_at(self) -> datetime | None:
        """When the oldest scheduled run should have been promoted, if that is long ago."""
        return self.next_run_at if is_overdue(self.next_run_at, self.now) else None

    @property
    def overdue_slot_at(self) -> datetime | None:
        """The oldest slot that should have fired, if that is long ago."""
        return self.next_slot_at if is_overdue(self.next_slot_at, self.now) else None

    @property
    def is_stalled(self) -> bool:
        """Whether something is due and nobody does it."""
        return self.overdue_run_at is not None or self.overdue_slot_at is not None

    @property
    def ticks(self) -> bool:
        """Whether a live cluster ticked lately: then it is not missing but behind."""
        return self.ticked_at is not None and self.ticked_at > self.now - LATE


@dataclass(frozen=True, slots=True)
class QueueReport:
    """A queue in which something waits or runs, or that is paused.

    At most MOST_WAITING runs were counted (`is_capped`: there are more), and `oldest_due_at` is
    the oldest of these. `pause` is the row of a queue that is paused.
    """

    name: str
    waiting: int
    is_capped: bool
    oldest_due_at: datetime | None
    running: int
    is_served: bool
    pause: Queue | None


@dataclass(frozen=True, slots=True)
class FailureReport:
    """How many runs failed lately, among the newest MOST_FAILURES that failed."""

    since: datetime
    count: int
    is_capped: bool
    latest: Run | None


@dataclass(frozen=True, slots=True)
class DefinitionReport:
    """A definition, what it means, and its next slots, in its own zone.

    `error` is what it was marked with, or why it cannot be read: then it has neither words nor
    slots.
    """

    row: CronDefinition
    now: datetime
    error: str
    words: str = ""
    slots: Sequence[datetime] = ()

    @property
    def fires(self) -> bool:
        """Whether it is neither paused nor orphaned nor switched off."""
        return self.row.fires

    @property
    def is_overdue(self) -> bool:
        """Whether it has a slot that should have fired by now."""
        return self.fires and is_overdue(self.row.next_slot_at, self.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything that `defer_status` shows."""

    now: datetime
    clusters: list[ClusterReport]
    scheduler: SchedulerReport
    queues: list[QueueReport]
    failures: FailureReport
    definitions: list[DefinitionReport]
    definitions_total: int
    has_parked: bool

    @property
    def has_workers(self) -> bool:
        """Whether a cluster is live."""
        return any(cluster.is_live for cluster in self.clusters)

    @property
    def needs_workers(self) -> bool:
        """Whether something waits, or will fire."""
        waits = any(queue.waiting or queue.running for queue in self.queues) or self.has_parked
        return waits or bool(self.scheduler.next_run_at or self.scheduler.next_slot_at)

    @property
    def unserved(self) -> list[QueueReport]:
        """The queues in which runs wait for long although no live cluster serves them."""
        return [
            queue
            for queue in self.queues
            if is_overdue(queue.oldest_due_at, self.now) and not (queue.is_served or queue.pause)
        ]

    @property
    def broken(self) -> list[DefinitionReport]:
        """The definitions that should fire and cannot."""
        return [each for each in self.definitions if each.error and each.fires]


def status(now: datetime, *, most: int | None = DEFINITIONS_SHOWN) -> Status:
    """Return what there is to say at `now`, with `most` definitions at most (None: all)."""
    clusters = cluster_reports(now)
    return Status(
        now=now,
        clusters=clusters,
        scheduler=scheduler_report(now, clusters),
        queues=list(queue_reports(clusters)),
        failures=failure_report(now),
        definitions=definition_reports(now, most),
        definitions_total=CronDefinition.objects.count(),
        has_parked=Run.objects.filter(state=State.PARKED).exists(),
    )


def is_overdue(instant: datetime | None, now: datetime) -> bool:
    """Say whether something was due at `instant` and should have been done by now."""
    return instant is not None and instant < now - LATE


def cluster_reports(now: datetime) -> list[ClusterReport]:
    """Return the clusters, the live ones first."""
    lease = parse_duration(conf.lease, name='DEFER["LEASE"]')
    reports = [ClusterReport(row, row.beat_at > now - lease) for row in Cluster.objects.all()]
    return sorted(reports, key=lambda report: not report.is_live)


def scheduler_report(now: datetime, clusters: Iterable[ClusterReport]) -> SchedulerReport:
    """Return when the last tick was, and what is due first."""
    ticks = [
        cluster.row.ticked_at
        for cluster in clusters
        if cluster.is_live and cluster.row.schedules and cluster.row.ticked_at
    ]
    runs = Run.objects.filter(state=State.SCHEDULED).order_by("run_after")
    firing = CronDefinition.objects.firing().filter(next_slot_at__isnull=False)
    first = firing.order_by("next_slot_at").first()
    return SchedulerReport(
        now=now,
        ticked_at=max(ticks, default=None),
        next_run_at=runs.values_list("run_after", flat=True).first(),
        next_slot_at=first.next_slot_at if first else None,
        next_slot_of=str(first.function_id) if first else "",
    )


def queue_reports(clusters: Iterable[ClusterReport]) -> Iterator[QueueReport]:
    """Yield the queues in which something waits or runs, and the paused ones."""
    running = _running()
    pauses = {row.name: row for row in Queue.objects.filter(paused_at__isnull=False)}
    waiting = set(waiting_queues(str(conf.database)))
    live = [cluster.row for cluster in clusters if cluster.is_live]
    for name in sorted({*waiting, *running, *pauses}):
        count, oldest = _waiting(name) if name in waiting else (0, None)
        yield QueueReport(
            name=name,
            waiting=min(count, MOST_WAITING),
            is_capped=count > MOST_WAITING,
            oldest_due_at=oldest,
            running=running.get(name, 0),
            is_served=any(name in row.queues or not row.queues for row in live),
            pause=pauses.get(name),
        )


def _running() -> dict[str, int]:
    states = ", ".join(f"'{state}'" for state in sorted(ACTIVE))
    with connections[str(conf.database)].cursor() as cursor:
        cursor.execute(_RUNNING.format(run=Run._meta.db_table, states=states))
        return dict(cursor.fetchall())


def _waiting(queue: str) -> tuple[int, datetime | None]:
    due = Run.objects.queued().filter(queue=queue).order_by()
    since = Coalesce("queued_at", "enqueued_at", output_field=InstantField())
    counted = due.annotate(due_at=since)[: MOST_WAITING + 1]
    found = counted.aggregate(n=Count("pk"), oldest=Min("due_at"))
    return found["n"], found["oldest"]


def failure_report(now: datetime) -> FailureReport:
    """Return how many runs failed in the last day, as far as MOST_FAILURES rows tell."""
    since = now - FAILURES_SINCE
    # The newest by their enqueueing, in the order of the index. A run may fail long after that.
    newest = Run.objects.failed_last()
    found = list(newest.values_list("finished_at", "pk")[: MOST_FAILURES + 1])
    recent = [row for row in found[:MOST_FAILURES] if row[0] and row[0] >= since]
    return FailureReport(
        since=since,
        count=len(recent),
        is_capped=bool(recent) and len(found) > MOST_FAILURES,
        latest=Run.objects.filter(pk=max(recent)[1]).first() if recent else None,
    )


def definition_reports(now: datetime, most: int | None) -> list[DefinitionReport]:
    """Return definitions, those in trouble first, the others by their next slot."""
    fires = {"enabled": True, "paused_at": None, "orphaned_at": None}
    rank = Case(
        When(~Q(error="") & Q(**fires), then=Value(0)),
        When(Q(next_slot_at__lt=now - LATE, **fires), then=Value(1)),
        When(orphaned_at__isnull=False, then=Value(3)),
        When(paused_at__isnull=False, then=Value(2)),
        When(enabled=False, then=Value(4)),
        default=Value(5),
    )
    rows = CronDefinition.objects.order_by(rank, F("next_slot_at").asc(nulls_last=True), "function")
    return [definition_report(row, now) for row in rows[:most]]


def definition_report(row: CronDefinition, now: datetime) -> DefinitionReport:
    """Return one definition; whatever is wrong with it is its error, and no more.

    The slots of a pause that has an end are those after it; of what does not fire, those it
    would have.
    """
    after = max(now, row.paused_until or now) if row.is_paused else now
    try:
        words = row.schedule.describe()
        zone = ZoneInfo(row.timezone)
        slots = [slot.astimezone(zone) for slot in row.next_slots(SLOTS_SHOWN, after)]
    except Exception as problem:  # noqa: BLE001 - the others are shown all the same
        return DefinitionReport(row, now, str(problem) or type(problem).__name__)
    return DefinitionReport(row, now, row.error, words, slots)
