"""Slots whose runs did not begin within `SLOT_MARGIN`: each is told once, however many look.

How far it was looked is a mark that one conditional UPDATE moves, in the transaction that writes
the events: of several that look at once, one finds each of them. The mark is in the row of
`AlertChannel` whose name, an empty one, no channel can have.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.db.models.functions import Greatest

from django_defer.alerts.causes import (
    NO_WORKERS,
    SCHEDULER_STALLED,
    Condition,
    as_words,
    is_news,
)
from django_defer.alerts.events import Event
from django_defer.clock import InstantField
from django_defer.conf import conf
from django_defer.durations import parse_duration
from django_defer.models import AlertChannel, AlertEvent, BackgroundFunction, CronDefinition, Run
from django_defer.querysets import InStates
from django_defer.states import UNFINISHED, WAITING, Reason, State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from uuid import UUID

WATCH: Final = ""  # the name of the row that is no channel
LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
MOST: Final = 1_000  # runs, and definitions, that are told in one round


def due_at() -> Greatest:
    """Return when a slot's run was to begin: not at its slot if that was caught up later."""
    return Greatest("slot", "run_after", "enqueued_at", output_field=InstantField())


def slot_margin() -> timedelta:
    """Return how late a slot's run may begin."""
    return parse_duration(conf.slot_margin, name='DEFER["SLOT_MARGIN"]')


def report_missed(
    using: str, now: datetime, found: Collection[tuple[Event, str]], paused_queues: Collection[str]
) -> None:
    """Write an event for each slot whose margin has passed since somebody looked last.

    `found` are the keys of the conditions that are so now: what these explain is left out.
    """
    marks = AlertChannel.objects.using(using).filter(name=WATCH)
    mark = marks.first()
    if mark is None:
        new = [AlertChannel(name=WATCH)]
        AlertChannel.objects.using(using).bulk_create(new, ignore_conflicts=True)
    before = mark.last_sent_at if mark else None
    if before is not None and before >= now:
        return
    margin = slot_margin()
    window = ((before or LONG_AGO) - margin, now - margin)
    with transaction.atomic(using=using):
        if not marks.filter(last_sent_at=before).update(last_sent_at=now):
            return  # another was faster
        missed = [*_not_begun(using, window, paused_queues), *_not_fired(using, window)]
        AlertEvent.objects.using(using).bulk_create(
            AlertEvent(
                event=each.event, subject=each.subject, run_id=run_id, error=each.detail, at=now
            )
            for each, run_id in missed
            if is_news(each, found)
        )


def _not_begun(
    using: str, window: tuple[datetime, datetime], paused_queues: Collection[str]
) -> Iterator[tuple[Condition, UUID]]:
    """Yield the runs of slots that were to begin within the window, and wait."""
    waiting = Run.objects.using(using).filter(
        InStates(UNFINISHED), state__in=WAITING, slot__isnull=False, attempt=0
    )
    late = waiting.annotate(was_due=due_at()).filter(was_due__gt=window[0], was_due__lte=window[1])
    stopped = BackgroundFunction.objects.using(using).paused().values("key")
    late = late.exclude(queue__in=paused_queues).exclude(reason=Reason.FUNCTION_PAUSED)
    columns = late.exclude(function__in=stopped).only("function", "queue", "state", "reason")
    for run in columns.order_by("slot")[:MOST]:
        unqueued = run.state == State.SCHEDULED
        cause = SCHEDULER_STALLED if unqueued else (Event.QUEUE_STALLED, run.queue)
        yield _missed(str(run.function_id), _why(run), NO_WORKERS, cause), run.pk


def _why(run: Run) -> str:
    if run.state == State.PARKED:
        return f"it has not begun: {dict(Reason.choices).get(run.reason, run.reason)}"
    if run.state == State.SCHEDULED:
        return "it has not begun: no scheduler put it into the queue"
    return f'it has not begun: it waits in queue "{run.queue}"'


def _not_fired(
    using: str, window: tuple[datetime, datetime]
) -> Iterator[tuple[Condition, UUID | None]]:
    """Yield the definitions that were to fire within the window, and did not."""
    firing = CronDefinition.objects.using(using).due(window[1])
    for row in firing.filter(next_slot_at__gt=window[0])[:MOST]:
        why = f"the slot of {as_words(row.next_slot_at)} did not fire: no scheduler is at work"
        yield _missed(str(row.function_id), why, NO_WORKERS, SCHEDULER_STALLED), None


def _missed(function: str, why: str, *causes: tuple[Event, str]) -> Condition:
    return Condition(event=Event.SLOT_MISSED, subject=function, detail=why, causes=causes)
