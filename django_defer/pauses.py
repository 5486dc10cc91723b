"""Pause and resume a definition, a function or a queue: who, when, why, until when.

The same rules serve Python calls and the admin. `actor` is text: who did it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connections, models, transaction
from django.db.models.functions import Coalesce

from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.event_loop import in_thread, refuse_event_loop
from django_defer.exceptions import InvalidOption
from django_defer.models import BackgroundFunction, CronDefinition, Queue, Run
from django_defer.states import Reason, State
from django_defer.transitions import BATCH, park, unpark
from django_defer.wakeup import announce

EARLIER_PAUSES: Final = 20  # spans that a definition remembers


def pause(target: Any, *, reason: str = "", until: datetime | None = None, actor: str = "") -> None:
    """Pause a definition, a function or a queue.

    Waiting runs of a function are parked, and its definition, if it has one, is paused with it.
    With `until` (an aware datetime), a worker ends the pause then, to within a few seconds.
    """
    refuse_event_loop(".pause()")
    if until is not None and until.tzinfo is None:
        raise InvalidOption(f"until={until!r} has no time zone: give an aware datetime.")
    using = str(conf.database)
    values: dict[str, Any] = {
        "paused_at": database_now(using),
        "paused_by": actor[:150],
        "paused_until": until,
        "pause_reason": reason[:500],
    }
    with transaction.atomic(using=using):
        rows = type(target).objects.filter(pk=target.pk)
        if isinstance(target, CronDefinition):
            _pause_definitions(rows, values)
        else:
            rows.update(**values)
        if isinstance(target, BackgroundFunction):
            own = CronDefinition.objects.filter(function=target.key, paused_at__isnull=True)
            _pause_definitions(own, values)
    if isinstance(target, BackgroundFunction):
        paused = BackgroundFunction.objects.paused().filter(pk=target.pk)
        queued = Run.objects.queued().filter(function=target.key, function__in=paused)
        _all(lambda: park(using, queued, Reason.FUNCTION_PAUSED))
    target.refresh_from_db()


def resume(target: Any, *, actor: str = "", catch_up: bool = False) -> None:
    """End a pause, and with a function's that of its definition, if they began together.

    A definition fires from its next slot on. With `catch_up` the slots of the pause count as
    missed, and the definition's own catch-up decides which of them are run. What is not paused
    stays as it is: a slot that is due now must not be passed over.
    """
    refuse_event_loop(".resume()")
    still = type(target).objects.filter(paused_at__isnull=False)
    _end_pause(target, still, actor=actor, catch_up=catch_up)
    target.refresh_from_db()


def resume_overdue(using: str, now: datetime) -> int:
    """End the pauses whose `until` has come; return how many."""
    resumed = 0
    for model in (CronDefinition, BackgroundFunction, Queue):
        overdue = model.objects.using(using).filter(paused_until__lte=now)
        for row in overdue:
            _end_pause(row, overdue)
            resumed += 1
    return resumed


def pause_queue(name: str, **how: Any) -> Queue:
    """Pause a queue by name: its runs stay where they are and nobody claims them."""
    refuse_event_loop(".pause_queue()")
    queue, _ = Queue.objects.get_or_create(name=name)
    pause(queue, **how)
    return queue


apause, aresume, apause_queue = in_thread(pause), in_thread(resume), in_thread(pause_queue)


def locked(target: Any) -> Any:
    """Return the row as it is now, and keep others from changing it in this transaction."""
    rows = type(target).objects.filter(pk=target.pk)
    if connections[rows.db].features.has_select_for_update:
        rows = rows.select_for_update()
    return rows.get()


def _pause_definitions(rows: Any, values: dict[str, Any]) -> None:
    rows.update(
        **values,
        unfired_slot_at=Coalesce(models.F("unfired_slot_at"), models.F("next_slot_at")),
        next_slot_at=None,
        version=models.F("version") + 1,
    )


def _end_pause(
    target: Any, still: models.QuerySet[Any], *, actor: str = "", catch_up: bool = False
) -> None:
    """Resume, if the row is still in the set `still`."""
    using = str(conf.database)
    values: dict[str, Any] = {
        "paused_at": None,
        "paused_by": "",
        "paused_until": None,
        "pause_reason": "",
    }
    with transaction.atomic(using=using):
        now = database_now(using)
        row = locked(target)
        mine = still.filter(pk=target.pk)
        if isinstance(row, CronDefinition):
            mine.update(**values, **_resumed(row, now, actor, catch_up=catch_up))
        elif mine.update(**values) and isinstance(row, BackgroundFunction):
            together = CronDefinition.objects.filter(function=row.key, paused_at=row.paused_at)
            for definition in together:
                definition = locked(definition)
                resumed = _resumed(definition, now, actor, catch_up=catch_up)
                together.filter(pk=definition.pk).update(**values, **resumed)
    if isinstance(target, BackgroundFunction):
        parked = Run.objects.filter(
            state=State.PARKED, reason=Reason.FUNCTION_PAUSED, function=target.key
        )
        _all(lambda: unpark(using, parked))
    announce(using)


def _resumed(
    row: CronDefinition, now: datetime, actor: str, *, catch_up: bool = False
) -> dict[str, Any]:
    """Return the columns of a definition whose pause ends now: what comes next, and the record."""
    span = {
        "from": row.paused_at and row.paused_at.astimezone(UTC).isoformat(),
        "to": now.isoformat(),
        "by": row.paused_by,
        "reason": row.pause_reason,
        "ended_by": actor[:150],
    }
    row.paused_at = None
    upcoming = row.next_slot_after(now)
    if catch_up and upcoming is not None and row.unfired_slot_at is not None:
        upcoming = min(upcoming, row.unfired_slot_at)
    return {
        "next_slot_at": upcoming,
        "unfired_slot_at": None,
        "pauses": [span, *row.pauses][:EARLIER_PAUSES],
        "error": "",
        "version": models.F("version") + 1,
    }


def _all(batch: Callable[[], int]) -> int:
    total = 0
    while moved := batch():
        total += moved
        if moved < BATCH:
            break
    return total
