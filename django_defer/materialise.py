"""Turn due slots into runs: exactly one run a slot, however many schedulers look at once.

One UPDATE moves a batch of definitions to their next slots, on the condition that slot and version
are still what was read; only what it returns is inserted, in the same transaction. It reads rows
only, never the registry, so a host with other code may do it.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import connections, transaction

from django_defer.models import CronDefinition, Run
from django_defer.payloads import encode_call
from django_defer.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.cron import CronSchedule

logger = logging.getLogger(__name__)

BATCH: Final = 100  # definitions a transaction
MOST_MISSED: Final = 1000  # missed slots are counted up to here
MOMENT: Final = timedelta(microseconds=1)
LOOK_AGAIN: Final = timedelta(hours=1)  # when a definition that cannot be read is tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A due definition: the run of the slot to fire (None: there is none), and what comes next."""

    definition: CronDefinition
    next_slot_at: datetime | None
    run: Run | None = None
    error: str = ""


def materialise(using: str, now: datetime, *, seconds: float = math.inf) -> list[Run]:
    """Make the runs of all slots that are due at `now`; return them.

    After `seconds` no other batch is begun: what is still due then is for the next call.
    """
    runs: list[Run] = []
    until = time.monotonic() + seconds
    while True:
        with transaction.atomic(using=using):
            due = [look_at(definition, now) for definition in _due(using, now)]
            runs += _insert(using, _advance(using, due))
        if len(due) < BATCH or time.monotonic() >= until:
            return runs


def look_at(definition: CronDefinition, now: datetime) -> Due:
    """Compute which slot fires now (the latest) and which comes next.

    A definition that cannot be read (any more) fires nothing, is marked with its error, and is
    looked at again in an hour; the others go on.
    """
    try:
        schedule = definition.schedule
        newest = schedule.previous_before(now + MOMENT)
        next_slot_at = schedule.next_after(now)
        missed = None if newest is None else _count_missed(definition, schedule, newest)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others go on
        text = str(error) or type(error).__name__
        return Due(definition=definition, next_slot_at=now + LOOK_AGAIN, error=text)
    if newest is None or missed is None:
        return Due(definition=definition, next_slot_at=next_slot_at)
    return Due(
        definition=definition, next_slot_at=next_slot_at, run=_run_of(definition, newest, missed)
    )


def _count_missed(
    definition: CronDefinition, schedule: CronSchedule, newest: datetime
) -> int | None:
    """Return how many slots before `newest` were not fired, or None if `newest` itself was.

    After an error, `next_slot_at` was a time to look again and not a slot, so what is not fired
    yet begins after the last slot that was.
    """
    assert definition.next_slot_at is not None
    fired = definition.next_slot_at - MOMENT
    if definition.error:
        fired = definition.last_slot_at or min(fired, newest - MOMENT)
    if newest <= fired:
        return None
    slots = _slots(schedule, fired, newest)
    return sum(1 for _ in itertools.islice(slots, MOST_MISSED))


def _slots(schedule: CronSchedule, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the slots after `start` and before `end`."""
    slot = schedule.next_after(start)
    while slot is not None and slot < end:
        yield slot
        slot = schedule.next_after(slot)


def _run_of(definition: CronDefinition, slot: datetime, missed: int) -> Run:
    return Run(
        function_id=definition.function_id,
        queue=definition.queue,
        priority=definition.priority,
        args=encode_call(str(definition.function_id), (), (), {}),
        max_attempts=definition.max_attempts,
        rerun_if_lost=definition.rerun_if_lost,
        definition=definition,
        slot=slot,
        missed_slots=missed,
        state=State.QUEUED,
        run_after=slot,
        enqueued_by="schedule",
    )


def _due(using: str, now: datetime) -> list[CronDefinition]:
    definitions = CronDefinition.objects.using(using).due(now)
    if connections[using].features.has_select_for_update_skip_locked:
        definitions = definitions.select_for_update(skip_locked=True)
    return list(definitions[:BATCH])


_ADVANCE: Final = """
WITH moved (definition, read_slot, read_version, next, slot, run, error) AS (VALUES {rows})
UPDATE {definition} AS d
SET next_slot_at = moved.next, version = d.version + 1, error = moved.error,
    last_slot_at = COALESCE(moved.slot, d.last_slot_at),
    last_run_id = COALESCE(moved.run, d.last_run_id)
FROM moved
WHERE d.id = moved.definition AND d.next_slot_at = moved.read_slot
  AND d.version = moved.read_version
RETURNING id
"""
_ROW: Final = {
    "postgresql": "(%s::bigint, %s::timestamptz, %s::integer, %s::timestamptz, "
    "%s::timestamptz, %s::uuid, %s::text)",
    "sqlite": "(%s, %s, %s, %s, %s, %s, %s)",
}


def _advance(using: str, due: list[Due]) -> list[Run]:
    """Move the definitions on that nobody else has moved; return the runs to insert."""
    if not due:
        return []
    connection = connections[using]
    instant, key = CronDefinition._meta.get_field("next_slot_at"), Run._meta.pk
    values: list[Any] = []
    for each in due:
        values += [
            each.definition.pk,
            instant.get_db_prep_value(each.definition.next_slot_at, connection),
            each.definition.version,
            instant.get_db_prep_value(each.next_slot_at, connection),
            instant.get_db_prep_value(each.run.slot if each.run else None, connection),
            key.get_db_prep_value(each.run.pk if each.run else None, connection),
            each.error,
        ]
    sql = _ADVANCE.format(
        definition=CronDefinition._meta.db_table,
        rows=", ".join([_ROW[connection.vendor]] * len(due)),
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        moved = {pk for (pk,) in cursor.fetchall()}
    won = [each for each in due if each.definition.pk in moved]
    for each in won:
        if each.error:
            logger.error(
                "definition.error %s: %s",
                each.definition.function_id,
                each.error,
                extra={"event": "definition.error", "function": each.definition.function_id},
            )
    return [each.run for each in won if each.run is not None]


def _insert(using: str, runs: list[Run]) -> list[Run]:
    """Insert the runs; one whose slot has a run already is an alarm, and the others go on."""
    if not runs:
        return []
    rows = Run.objects.using(using)
    rows.bulk_create(runs, ignore_conflicts=True)
    made = {run.pk: run for run in rows.filter(pk__in=[run.pk for run in runs])}
    for run in runs:
        if run.pk not in made:
            first = rows.filter(definition=run.definition_id, slot=run.slot)
            logger.error(
                "slot.duplicate %s slot=%s had a run already",
                run.function_id,
                run.slot,
                extra={"event": "slot.duplicate", "function": run.function_id},
            )
            definition = CronDefinition.objects.using(using).filter(function=run.function_id)
            definition.update(last_run=first.values("pk")[:1])
    return list(made.values())
