"""The numbers as prometheus_client's metric families."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from django.db import Error
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.health import impatient
from django_defer.metrics.numbers import Histogram, Numbers, gather
from django_defer.metrics.statements import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric

logger = logging.getLogger(__name__)

MAX_AGE: Final = 5.0  # seconds that numbers are used again
QUICK: Final = 0.5  # seconds; numbers that took longer are used so many times longer too
PATIENCE: Final = 5.0  # seconds that one waits for another thread which is asking


class Snapshot(Collector):
    """The numbers of one moment; None: the database did not answer."""

    def __init__(self, numbers: Numbers | None) -> None:
        self.numbers = numbers

    @property
    def is_up(self) -> bool:
        """Whether the database answered."""
        return self.numbers is not None

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, or that there is none."""
        yield GaugeMetricFamily("defer_up", "Whether the database answered.", value=self.is_up)
        if self.numbers is not None:
            yield from _recent(self.numbers)
            yield from _now(self.numbers)


class DeferCollector(Collector):
    """Asks the database at most once in `max_age` seconds, however often it is scraped.

    It asks less often if that takes long: for no more than a tenth of the time. A failure is kept
    for `max_age` too, so that those who ask while the database is away don't queue up.
    """

    def __init__(self, max_age: float = MAX_AGE) -> None:
        self.max_age = max_age
        self._lock = threading.Lock()
        self._kept, self._keep_until = Snapshot(None), 0.0  # monotonic

    def describe(self) -> Iterable[Metric]:
        """Yield the names of the metrics, without asking the database."""
        return Snapshot(Numbers()).collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        return self.snapshot().collect()

    def snapshot(self) -> Snapshot:
        """Return numbers that are young enough; none if another thread waits for them too long."""
        if not self._lock.acquire(timeout=PATIENCE):
            return Snapshot(None)
        try:
            if (began := time.monotonic()) >= self._keep_until:
                self._kept = _take()
                ended = time.monotonic()
                slowness = (ended - began) / QUICK if self._kept.is_up else 1.0
                self._keep_until = ended + self.max_age * max(1.0, slowness)
            return self._kept
        finally:
            self._lock.release()


def _take() -> Snapshot:
    try:
        with impatient():
            return Snapshot(gather(database_now(str(conf.database))))
    except Error as error:
        logger.warning(
            "metrics.database_error %s", error, extra={"event": "metrics.database_error"}
        )
        return Snapshot(None)


def _recent(numbers: Numbers) -> Iterator[Metric]:
    yield _gauge(
        "defer_recent_window_seconds",
        "The length of the window that ends now, in which the other defer_recent metrics count.",
        {(): numbers.window},
    )
    yield _gauge(
        "defer_recent_runs_finished",
        "Runs that ended in the window.",
        numbers.finished,
        "function",
        "outcome",
    )
    yield _histogram(
        "defer_recent_run_duration_seconds",
        "How long the last attempts of runs took that ended in the window.",
        numbers.took,
        "function",
    )
    yield _histogram(
        "defer_recent_run_wait_seconds",
        "How long runs that ended in the window had waited for a worker since they were due.",
        numbers.waited,
        "queue",
    )
    yield _gauge(
        "defer_recent_slot_lateness_seconds",
        "The most that a run began after its slot, of those that ended in the window.",
        _by_one(numbers.late),
        "function",
    )


def _now(numbers: Numbers) -> Iterator[Metric]:
    yield _gauge(
        "defer_slot_overdue_seconds",
        "How long ago the next slot was due, of definitions whose slot was not made a run yet.",
        _by_one(numbers.overdue),
        "function",
    )
    yield _gauge(
        "defer_definitions_in_error",
        "Cron definitions that should fire and cannot.",
        {(): numbers.definitions_in_error},
    )
    yield _gauge("defer_queue_runs", "Unfinished runs.", numbers.unfinished, "queue", "state")
    yield _gauge(
        "defer_queue_runs_capped",
        "Whether more runs wait in this state than were counted.",
        _by_one(numbers.capped),
        "state",
    )
    yield _gauge(
        "defer_queue_oldest_due_seconds",
        "How long the oldest due run of a queue has waited; 0 if none waits.",
        _by_one(numbers.oldest_due),
        "queue",
    )
    yield _gauge(
        "defer_queue_paused", "Whether a queue is paused.", _by_one(numbers.paused), "queue"
    )
    yield _gauge("defer_clusters", "Clusters, live or silent.", _by_one(numbers.clusters), "state")
    yield _gauge("defer_workers", "Worker processes of live clusters.", {(): numbers.workers})
    yield _gauge(
        "defer_scheduler_tick_age_seconds",
        "Time since the last tick of a live cluster; absent if none recorded one.",
        {} if numbers.tick_age is None else {(): numbers.tick_age},
    )
    yield _gauge(
        "defer_scheduler_behind_seconds",
        "How long the first slot or delayed run that is due has waited for the scheduler.",
        {(): numbers.behind},
    )
    yield _gauge("defer_alerts_open", "Open alerts.", _by_one(numbers.alerts), "event")


def _by_one(values: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(name,): value for name, value in values.items()}


def _gauge(name: str, words: str, values: Mapping[Any, float], *labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, float(value))
    return family


def _histogram(
    name: str, words: str, values: Mapping[str, Histogram], label: str
) -> GaugeHistogramMetricFamily:
    family = GaugeHistogramMetricFamily(name, words, labels=[label])
    for key, histogram in sorted(values.items()):
        family.add_metric([key], list(_buckets(histogram)), histogram.total)
    return family


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    so_far = 0
    for most, count in zip([*map(str, BUCKETS), "+Inf"], histogram.counts, strict=True):
        so_far += count
        yield most, float(so_far)
