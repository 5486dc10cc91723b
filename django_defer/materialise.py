"""Turn due slots into runs: exactly one run a slot, however many schedulers look at once.

One UPDATE moves a batch of definitions to their next slots, on the condition that slot and version
are still what was read; only what it returns is inserted, in the same transaction. It reads rows
only, never the registry, so a host with other code may do it.
"""

from __future__ import annotations

import logging
import math
import random
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import connections, transaction
from django.db.models import F

from django_defer.catch_up import Due, look_at
from django_defer.inserts import insert
from django_defer.models import CronDefinition, Run
from django_defer.outcomes import Ended, record
from django_defer.overlaps import end_waits, make_way, skip
from django_defer.payloads import encode_call
from django_defer.states import Reason, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_defer.catch_up import Slot

logger = logging.getLogger(__name__)

BATCH: Final = 1000  # definitions a transaction
ENOUGH: Final = 1000  # runs after which a transaction looks at no further definition


def materialise(using: str, now: datetime, *, seconds: float = math.inf) -> list[Run]:
    """Make the runs of all slots that are due at `now`; return them, with the skipped ones.

    After `seconds` nothing more is begun: what is still due then is for the next call.
    """
    runs: list[Run] = []
    until = time.monotonic() + seconds
    while True:
        with transaction.atomic(using=using):
            found = _due(using, now)
            made, looked_at = _fire(using, found[:BATCH], now, until)
        runs += made
        if waiting := {run.definition_id for run in made if run.state == State.PARKED}:
            # What they wait for may have ended before anyone could see that they wait.
            end_waits(using, waiting)  # type: ignore[arg-type]
        if looked_at == len(found) or time.monotonic() >= until:
            return runs


def fire_before_change(using: str, definition: CronDefinition, now: datetime) -> CronDefinition:
    """Make the runs that are due by a schedule that is about to change; return the row anew.

    Call it in the transaction of the change: so a deploy or an override in the very second of a
    slot does not lose it.
    """
    due = definition.next_slot_at is not None and definition.next_slot_at <= now
    if not due or definition.error or definition.next_slot_after(now) is None:
        return definition
    _fire(using, [definition], now, math.inf)
    return CronDefinition.objects.using(using).get(pk=definition.pk)


def begin_anew(definition: CronDefinition, now: datetime) -> dict[str, Any]:
    """Return the columns of a definition whose schedule, already set on it, is in force from now.

    While it is paused, the first slot after now is where a resume that catches up begins.
    """
    paused_at, definition.paused_at = definition.paused_at, None
    upcoming = definition.next_slot_after(now)
    definition.paused_at = paused_at
    return {
        "next_slot_at": None if definition.is_paused else upcoming,
        "unfired_slot_at": upcoming if definition.is_paused else None,
        "meaning": definition.read_meaning(),
        "error": "",
        "version": F("version") + 1,
    }


def _fire(
    using: str, definitions: Iterable[CronDefinition], now: datetime, until: float
) -> tuple[list[Run], int]:
    """Look at each until the time is up or there are enough runs for one transaction.

    Return the runs, and how many definitions were looked at.
    """
    made: list[tuple[CronDefinition, Due, list[Run]]] = []
    count = 0
    for definition in definitions:
        due = look_at(definition, now)
        made.append((definition, due, [_run_of(definition, slot, now) for slot in due.slots]))
        count += len(due.slots)
        if count >= ENOUGH or time.monotonic() >= until:
            break
    runs = _advance(using, made)
    make_way(using, runs, now)
    return _insert(using, runs), len(made)


def _run_of(definition: CronDefinition, slot: Slot, now: datetime) -> Run:
    spread = random.uniform(0, definition.jitter.total_seconds())  # noqa: S311
    run_after = slot.at + timedelta(seconds=spread)
    run = Run(
        function_id=definition.function_id,
        queue=definition.queue,
        priority=definition.priority,
        args=encode_call(str(definition.function_id), (), (), {}),
        metadata=definition.metadata,
        max_attempts=definition.max_attempts,
        rerun_if_lost=definition.rerun_if_lost,
        definition=definition,
        slot=slot.at,
        missed_slots=slot.missed,
        discard_after=run_after + definition.discard_after if definition.discard_after else None,
        state=State.QUEUED if run_after <= now else State.SCHEDULED,
        run_after=run_after,
        enqueued_by="schedule",
    )
    if slot.skipped:
        skip(run, Reason.MISSED, now)
    return run


def _due(using: str, now: datetime) -> list[CronDefinition]:
    """Return a batch of those that are due, and one more to tell that there are more."""
    definitions = CronDefinition.objects.using(using).due(now)
    if connections[using].features.has_select_for_update_skip_locked:
        definitions = definitions.select_for_update(skip_locked=True)
    return list(definitions[: BATCH + 1])


_ADVANCE: Final = """
WITH moved (definition, read_slot, read_version, next, slot, run, error) AS ({rows})
UPDATE {definition} AS d
SET next_slot_at = moved.next, version = d.version + 1, error = moved.error,
    unfired_slot_at = CASE WHEN moved.error = '' THEN NULL
                           ELSE COALESCE(d.unfired_slot_at, d.next_slot_at) END,
    last_slot_at = COALESCE(moved.slot, d.last_slot_at),
    last_run_id = COALESCE(moved.run, d.last_run_id)
FROM moved
WHERE d.id = moved.definition AND d.next_slot_at = moved.read_slot
  AND d.version = moved.read_version
RETURNING id
"""
_ARRAYS: Final = (
    "SELECT * FROM unnest(%s::bigint[], %s::timestamptz[], %s::integer[], %s::timestamptz[], "
    "%s::timestamptz[], %s::uuid[], %s::text[])"
)


def _advance(using: str, made: list[tuple[CronDefinition, Due, list[Run]]]) -> list[Run]:
    """Move the definitions on that nobody else has moved; return the runs to insert."""
    if not made:
        return []
    connection = connections[using]
    instant, key = CronDefinition._meta.get_field("next_slot_at"), Run._meta.pk
    rows: list[tuple[Any, ...]] = []
    for definition, due, runs in made:
        newest = runs[-1] if runs else None
        rows.append(
            (
                definition.pk,
                instant.get_db_prep_value(definition.next_slot_at, connection),
                definition.version,
                instant.get_db_prep_value(due.next_slot_at, connection),
                instant.get_db_prep_value(newest and newest.slot, connection),
                key.get_db_prep_value(newest and newest.pk, connection),
                due.error,
            )
        )
    if connection.vendor == "postgresql":
        source, values = _ARRAYS, [list(column) for column in zip(*rows, strict=True)]
    else:
        source = "VALUES " + ", ".join(["(%s, %s, %s, %s, %s, %s, %s)"] * len(rows))
        values = [value for row in rows for value in row]
    sql = _ADVANCE.format(definition=CronDefinition._meta.db_table, rows=source)
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        moved = {pk for (pk,) in cursor.fetchall()}
    won = [each for each in made if each[0].pk in moved]
    for definition, due, _ in won:
        if due.error:
            logger.error(
                "definition.error %s: %s",
                definition.function_id,
                due.error,
                extra={"event": "definition.error", "function": definition.function_id},
            )
    return [run for _, _, runs in won for run in runs]


def _insert(using: str, runs: list[Run]) -> list[Run]:
    """Insert the runs; one whose slot has a run already is an alarm, and the others go on."""
    made = insert(using, runs)
    for run in runs:
        if run.pk not in made:
            first = Run.objects.using(using).filter(definition=run.definition_id, slot=run.slot)
            logger.error(
                "slot.duplicate %s slot=%s had a run already",
                run.function_id,
                run.slot,
                extra={"event": "slot.duplicate", "function": run.function_id},
            )
            definition = CronDefinition.objects.using(using).filter(function=run.function_id)
            definition.update(last_run=first.values("pk")[:1])
    inserted = [run for run in runs if run.pk in made]
    record(using, [_skipped(run) for run in inserted if run.state == State.SKIPPED])
    return inserted


def _skipped(run: Run) -> Ended:
    error = str(Reason(run.reason).label)
    return Ended(
        run_id=run.pk,
        function=str(run.function_id),
        state=State.SKIPPED,
        error=error,
        has_slot=True,
    )
