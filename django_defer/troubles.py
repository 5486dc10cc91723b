"""What makes a status one of trouble: judged here once, and put into words by whoever tells it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from django.db.models import Q

from django_defer.models import CronDefinition, Run
from django_defer.reports import (
    DEFINITIONS_SHOWN,
    FAILURES_SINCE,
    LATE,
    FailureReport,
    Status,
    cluster_reports,
    definition_reports,
    queue_reports,
    scheduler_report,
)
from django_defer.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from django_defer.reports import DefinitionReport, QueueReport


class Kind(StrEnum):
    """What is wrong, as the health view names it."""

    NO_WORKERS = "no_workers"
    QUEUE_UNSERVED = "queue_unserved"
    SCHEDULER_STALLED = "scheduler_stalled"
    DEFINITION_ERROR = "definition_error"


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong, with the queue or the definition that it is about, if any."""

    kind: Kind
    queue: QueueReport | None = None
    definition: DefinitionReport | None = None


def troubles_of(status: Status) -> Iterator[Trouble]:
    """Yield each thing that makes `defer_status` exit with 1."""
    if status.needs_workers and not status.has_workers:
        yield Trouble(Kind.NO_WORKERS)
    elif status.has_workers:
        for queue in status.unserved:
            yield Trouble(Kind.QUEUE_UNSERVED, queue=queue)
    if status.scheduler.is_stalled:
        yield Trouble(Kind.SCHEDULER_STALLED)
    for definition in status.broken:
        yield Trouble(Kind.DEFINITION_ERROR, definition=definition)


def judged_status(now: datetime) -> Status:
    """Return what `reports.status` does, without what the judgement does not need.

    It counts no failures, and of the definitions only those in trouble (`definitions_total`).
    """
    clusters = cluster_reports(now)
    in_trouble = ~Q(error="") | Q(next_slot_at__lt=now - LATE)
    return Status(
        now=now,
        clusters=clusters,
        scheduler=scheduler_report(now, clusters),
        queues=list(queue_reports(clusters)),
        failures=FailureReport(now - FAILURES_SINCE, 0, is_capped=False, latest=None),
        definitions=definition_reports(now, DEFINITIONS_SHOWN),
        definitions_total=CronDefinition.objects.firing().filter(in_trouble).count(),
        has_parked=Run.objects.filter(state=State.PARKED).exists(),
    )
