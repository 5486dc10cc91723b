"""Turn due slots into runs: exactly one run a slot, however many schedulers look at once.

One UPDATE moves each definition to its next slot, on the condition that slot and version are
still what was read; only what it returns is inserted, in the same transaction. It reads rows
only, never the registry, so a host with other code may do it.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connections, transaction

from django_defer.exceptions import DeferError
from django_defer.models import CronDefinition, Run
from django_defer.payloads import encode_call
from django_defer.states import State

logger = logging.getLogger(__name__)

BATCH: Final = 200  # definitions a transaction
MOST_MISSED: Final = 1000  # missed slots are counted up to here
LOOK_AGAIN: Final = timedelta(hours=1)  # when a definition that cannot be read is tried again


@dataclass(frozen=True, slots=True)
class Due:
    """A due definition: the slot to fire (None: none, it is broken), and what comes next."""

    definition: CronDefinition
    slot: datetime | None
    missed: int
    next_slot_at: datetime | None
    error: str = ""


def materialise(using: str, now: datetime) -> list[Run]:
    """Make the runs of all slots that are due at `now`; return them."""
    runs: list[Run] = []
    while True:
        with transaction.atomic(using=using):
            due = [look_at(definition, now) for definition in _due(using, now)]
            runs += _insert(using, [each for each in due if _advance(using, each)])
        if len(due) < BATCH:
            return runs


def look_at(definition: CronDefinition, now: datetime) -> Due:
    """Compute which slot fires now (the latest) and which comes next.

    A definition that cannot be read (any more) fires nothing, is marked with its error, and is
    looked at again in an hour; the others go on.
    """
    first = definition.next_slot_at
    assert first is not None
    try:
        schedule = definition.schedule
        slot, missed = first, 0
        newest = schedule.previous_before(now + timedelta(microseconds=1))
        if newest is not None and newest > first:
            slot = newest
            missed = sum(1 for _ in itertools.islice(_slots(schedule, first, newest), MOST_MISSED))
        return Due(definition, slot, missed, schedule.next_after(now))
    except DeferError as error:
        return Due(definition, None, 0, now + LOOK_AGAIN, str(error))


def _slots(schedule: Any, first: datetime, end: datetime) -> Any:
    """Yield `first` and the slots after it, up to and without `end`."""
    slot = first
    while slot is not None and slot < end:
        yield slot
        slot = schedule.next_after(slot)


def _due(using: str, now: datetime) -> list[CronDefinition]:
    definitions = CronDefinition.objects.using(using).due(now)
    if connections[using].features.has_select_for_update_skip_locked:
        definitions = definitions.select_for_update(skip_locked=True)
    return list(definitions[:BATCH])


def _advance(using: str, due: Due) -> bool:
    """Move the definition on, if nobody else has. Returns whether there is a run to make."""
    definition = due.definition
    values: dict[str, Any] = {"next_slot_at": due.next_slot_at, "error": due.error}
    if due.slot is not None:
        values["last_slot_at"] = due.slot
    moved = (
        CronDefinition.objects.using(using)
        .filter(
            pk=definition.pk, next_slot_at=definition.next_slot_at, version=definition.version
        )
        .update(version=definition.version + 1, **values)
    )
    if moved and due.error:
        logger.error(
            "definition.error %s: %s",
            definition.function_id,
            due.error,
            extra={"event": "definition.error", "function": definition.function_id},
        )
    return bool(moved) and due.slot is not None


def _insert(using: str, due: list[Due]) -> list[Run]:
    runs = [
        Run(
            function_id=each.definition.function_id,
            queue=each.definition.queue,
            priority=each.definition.priority,
            args=encode_call(str(each.definition.function_id), (), (), {}),
            max_attempts=each.definition.max_attempts,
            rerun_if_lost=each.definition.rerun_if_lost,
            definition=each.definition,
            slot=each.slot,
            missed_slots=each.missed,
            state=State.QUEUED,
            run_after=each.slot,
            enqueued_by="schedule",
        )
        for each in due
    ]
    Run.objects.using(using).bulk_create(runs)
    for run in runs:
        CronDefinition.objects.using(using).filter(pk=run.definition_id).update(last_run=run)
    return runs
