"""What makes a status one of trouble: judged here once, and put into words by whoever tells it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.reports import DefinitionReport, QueueReport, Status


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
