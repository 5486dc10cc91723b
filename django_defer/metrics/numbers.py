"""The numbers of one scrape, of which none has more than so many names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from django.db.models import Count

from django_defer.alerts.events import Event
from django_defer.metrics import statements
from django_defer.metrics.statements import BUCKETS, MOST_WAITING
from django_defer.models import Alert, BackgroundFunction, CronDefinition, Run
from django_defer.reports import cluster_reports, queue_reports, scheduler_report
from django_defer.states import UNFINISHED, State

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from django_defer.reports import ClusterReport

MOST_FUNCTIONS: Final = 200  # the busiest
MOST_QUEUES: Final = 50  # the first by name
OTHER: Final = "other"  # the name for all that are left out


@dataclass(slots=True)
class Histogram:
    """How many values fell into each bucket, the last being those beyond all, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, bucket: int, count: int, total: float) -> None:
        """Add so many values of one bucket."""
        self.counts[bucket] += count
        self.total += max(0.0, total)


@dataclass(slots=True)
class Numbers:
    """What the database says at one moment. Ages and lengths of time are seconds."""

    window: float = 0.0
    finished: Counter[tuple[str, str]] = field(default_factory=Counter)  # by function and state
    took: dict[str, Histogram] = field(default_factory=dict)  # by function
    waited: dict[str, Histogram] = field(default_factory=dict)  # by queue
    late: dict[str, float] = field(default_factory=dict)  # by function
    overdue: dict[str, float] = field(default_factory=dict)  # by function
    definitions_in_error: int = 0
    unfinished: Counter[tuple[str, str]] = field(default_factory=Counter)  # by queue and state
    capped: dict[str, bool] = field(default_factory=dict)  # by state
    oldest_due: dict[str, float] = field(default_factory=dict)  # by queue
    paused: dict[str, bool] = field(default_factory=dict)  # by queue
    clusters: dict[str, int] = field(default_factory=dict)  # "live" and "silent"
    workers: int = 0
    tick_age: float | None = None
    behind: float = 0.0  # the scheduler
    alerts: Counter[str] = field(default_factory=Counter)  # open ones, by event


def gather(now: datetime) -> Numbers:
    """Ask the database for all of them: a dozen queries, and one a queue in which runs wait."""
    numbers = Numbers()
    _add_finished(numbers, now)
    _add_schedules(numbers, now)
    _add_clusters(numbers, now)
    _add_alerts(numbers)
    return numbers


def _add_finished(numbers: Numbers, now: datetime) -> None:
    since, rows = statements.finished(now)
    numbers.window = (now - since).total_seconds()
    runs: Counter[str] = Counter()
    for about, name, _, _, count, _ in rows:
        if about == "finished":
            runs[name] += count
    functions = _busiest(runs)
    queues = _first({name for about, name, *_ in rows if about == "waited"})
    for name in functions:
        for outcome in (State.SUCCEEDED, State.FAILED):
            numbers.finished[name, outcome] = 0
    for about, name, state, bucket, count, seconds in rows:
        function = name if name in functions else OTHER
        if about == "finished":
            numbers.finished[function, state] += count
        elif about == "took":
            numbers.took.setdefault(function, Histogram()).add(bucket, count, seconds)
        elif about == "late":
            numbers.late[function] = max(numbers.late.get(function, 0.0), seconds)
        else:
            queue = name if name in queues else OTHER
            numbers.waited.setdefault(queue, Histogram()).add(bucket, count, seconds)


def _add_schedules(numbers: Numbers, now: datetime) -> None:
    due = CronDefinition.objects.due(now).values_list("function", "next_slot_at")
    for function, slot in due[:MOST_FUNCTIONS]:
        numbers.overdue[function] = _age(slot, now)
    firing = CronDefinition.objects.firing()
    numbers.definitions_in_error = firing.exclude(error="").count()


def _add_clusters(numbers: Numbers, now: datetime) -> None:
    clusters = cluster_reports(now)
    live = [cluster.row for cluster in clusters if cluster.is_live]
    numbers.clusters = {"live": len(live), "silent": len(clusters) - len(live)}
    numbers.workers = sum(row.workers for row in live)
    scheduler = scheduler_report(now, clusters)
    numbers.tick_age = None if scheduler.ticked_at is None else _age(scheduler.ticked_at, now)
    numbers.behind = max(_age(scheduler.next_run_at, now), _age(scheduler.next_slot_at, now))
    _add_queues(numbers, clusters, now)


def _add_queues(numbers: Numbers, clusters: list[ClusterReport], now: datetime) -> None:
    # Each report is a query, asked when it is its turn.
    reports = list(islice(queue_reports(clusters), MOST_QUEUES))
    found = [(report.name, State.QUEUED, report.waiting) for report in reports]
    numbers.capped = {State.QUEUED: any(report.is_capped for report in reports)}
    for state in (State.SCHEDULED, State.PARKED):
        counts = statements.waiting(state)
        numbers.capped[state] = sum(counts.values()) > MOST_WAITING
        found += [(queue, state, count) for queue, count in counts.items()]
    active = Run.objects.active().order_by().values_list("queue", "state")
    found += [(queue, State(state), n) for queue, state, n in active.annotate(n=Count("pk"))]
    usual = BackgroundFunction.objects.in_code().order_by("queue").values_list("queue", flat=True)
    names = _first({*usual.distinct()[:MOST_QUEUES], *(queue for queue, *_ in found)})
    for name in names:
        numbers.unfinished.update(dict.fromkeys(((name, state) for state in UNFINISHED), 0))
        numbers.oldest_due[name], numbers.paused[name] = 0.0, False
    for queue, state, count in found:
        numbers.unfinished[queue if queue in names else OTHER, state] += count
    for report in reports:
        name = report.name if report.name in names else OTHER
        age = _age(report.oldest_due_at, now)
        numbers.oldest_due[name] = max(numbers.oldest_due.get(name, 0.0), age)
        numbers.paused[name] = numbers.paused.get(name, False) or report.pause is not None


def _add_alerts(numbers: Numbers) -> None:
    numbers.alerts.update(dict.fromkeys(map(str, Event), 0))
    still_open = Alert.objects.filter(closed_at__isnull=True).order_by().values_list("event")
    numbers.alerts.update(dict(still_open.annotate(n=Count("pk"))))


def _busiest(counts: Counter[str]) -> set[str]:
    ranked = sorted((name for name in counts if name != OTHER), key=lambda n: (-counts[n], n))
    return set(ranked[:MOST_FUNCTIONS])


def _first(names: Iterable[str]) -> set[str]:
    return set(sorted(name for name in names if name != OTHER)[:MOST_QUEUES])


def _age(instant: datetime | None, now: datetime) -> float:
    """Return how long ago that was; 0: it was not, or is yet to come."""
    return 0.0 if instant is None else max(0.0, (now - instant).total_seconds())
