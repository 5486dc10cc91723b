"""What a person does: run now, pause, resume, cancel, reschedule, rerun, wait.

The same rules serve Python calls, commands and the admin. `actor` is text: who did it.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, models, transaction

from django_defer.call_options import CallOptions
from django_defer.clock import DatabaseNow, database_now
from django_defer.conf import conf
from django_defer.durations import parse_duration
from django_defer.enqueue import build_run, inherit, insert, is_pending
from django_defer.event_loop import in_thread, refuse_event_loop
from django_defer.exceptions import (
    InvalidOption,
    ResultNotReady,
    ResultUnavailable,
    RunNotCancellable,
    RunNotEnqueued,
    RunNotRerunnable,
    RunNotReschedulable,
    WaitInsideTransaction,
)
from django_defer.models import BackgroundFunction, CronDefinition, Queue, Run
from django_defer.payloads import decode_result
from django_defer.registry import registry
from django_defer.states import FINISHED, Reason, State
from django_defer.sync import next_slot
from django_defer.transitions import BATCH, cancel_waiting, park, unpark
from django_defer.transitions import reschedule as move_to
from django_defer.wakeup import announce

POLL = (0.01, 0.5)  # seconds between two looks while waiting: first, most

# A row that we see was written by a transaction that is over, or by our own, and each savepoint of
# ours is a transaction with an id after ours. `xmin` is the writer's id without the upper half.
IS_UNCOMMITTED = """
SELECT CASE
    WHEN after >= 1::bigint << 31 THEN false  -- before, rather: ids go round
    WHEN own + after >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint THEN true
    ELSE pg_xact_status((own + after)::text::xid8) = 'in progress'
END
FROM (
    SELECT own, (xmin::text::bigint - own) & ((1::bigint << 32) - 1) AS after
    FROM {table}, (SELECT pg_current_xact_id_if_assigned()::text::bigint AS own) AS current
    WHERE id = %s
) AS row
"""


def run_now(
    key: str, *, actor: str = "", options: CallOptions | None = None, call: Any = None
) -> Run:
    """Make a run outside the schedule. The schedule does not move.

    `call` is `(args, kwargs)`; a scheduled function needs none.
    """
    refuse_event_loop(".run_now()")
    function = registry.get(key)
    args, kwargs = call or ((), {})
    run = build_run(function, tuple(args), kwargs, options or CallOptions())
    using = str(conf.database)
    if function.schedule is not None:
        run.definition = CronDefinition.objects.using(using).filter(function=key).first()
    run.enqueued_by = actor[:200] or run.enqueued_by
    return insert(run)


def pause(target: Any, *, reason: str = "", until: datetime | None = None, actor: str = "") -> None:
    """Pause a definition, a function or a queue. Waiting runs of a function are parked.

    With `until` (an aware datetime), a worker ends the pause then, to within a few seconds.
    """
    refuse_event_loop(".pause()")
    using = str(conf.database)
    values: dict[str, Any] = {
        "paused_at": DatabaseNow(),
        "paused_by": actor[:150],
        "paused_until": until,
        "pause_reason": reason[:500],
    }
    if isinstance(target, CronDefinition):
        values |= {"next_slot_at": None, "version": models.F("version") + 1}
    type(target).objects.filter(pk=target.pk).update(**values)
    if isinstance(target, BackgroundFunction):
        paused = BackgroundFunction.objects.paused().filter(pk=target.pk)
        queued = Run.objects.queued().filter(function=target.key, function__in=paused)
        _all(lambda: park(using, queued, Reason.FUNCTION_PAUSED))
    target.refresh_from_db()


def resume(target: Any, *, actor: str = "") -> None:
    """End a pause. A definition fires from its next slot on; what was missed stays missed.

    What is not paused stays as it is: a slot that is due now must not be passed over.
    """
    refuse_event_loop(".resume()")
    _end_pause(target, type(target).objects.filter(paused_at__isnull=False))
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


def _end_pause(target: Any, still: models.QuerySet[Any]) -> None:
    """Resume, if the row is still in the set `still`."""
    using = str(conf.database)
    values: dict[str, Any] = {
        "paused_at": None,
        "paused_by": "",
        "paused_until": None,
        "pause_reason": "",
    }
    with transaction.atomic(using=using):
        row = _locked(target)
        if isinstance(row, CronDefinition):
            row.paused_at = None
            upcoming = None if row.orphaned_at else next_slot(row, database_now(using))
            values |= {"next_slot_at": upcoming, "error": "", "version": models.F("version") + 1}
        still.filter(pk=target.pk).update(**values)
    if isinstance(target, BackgroundFunction):
        parked = Run.objects.filter(
            state=State.PARKED, reason=Reason.FUNCTION_PAUSED, function=target.key
        )
        _all(lambda: unpark(using, parked))
    announce(using)


def pause_queue(name: str, **how: Any) -> Queue:
    """Pause a queue by name: its runs stay where they are and nobody claims them."""
    refuse_event_loop(".pause_queue()")
    queue, _ = Queue.objects.get_or_create(name=name)
    pause(queue, **how)
    return queue


apause, aresume, apause_queue = in_thread(pause), in_thread(resume), in_thread(pause_queue)


def cancel(run: Run, *, actor: str = "", reason: str = "") -> None:
    """Cancel a run that has not started: immediate and final."""
    refuse_event_loop(".cancel()")
    _refuse_not_enqueued(run)
    by = f"cancelled by {actor}" if actor else "cancelled"
    text = f"{reason} ({by})" if reason and actor else reason or by
    if not cancel_waiting(_alias(run), run.pk, text):
        run.refresh_from_db()
        raise RunNotCancellable(run.pk, str(run.state))
    run.refresh_from_db()


def reschedule(run: Run, when: datetime | None = None, *, actor: str = "") -> None:
    """Let a waiting run wait until `when` (an aware datetime), or make it due now."""
    refuse_event_loop(".reschedule()")
    _refuse_not_enqueued(run)
    if when is not None and when.tzinfo is None:
        raise InvalidOption(f"when={when!r} has no time zone: give an aware datetime.")
    if not move_to(_alias(run), run.pk, when):
        run.refresh_from_db()
        raise RunNotReschedulable(run.pk, str(run.state))
    announce(_alias(run))
    run.refresh_from_db()


def rerun(run: Run, *, actor: str = "") -> Run:
    """Enqueue a new run of the same function with the same stored arguments."""
    refuse_event_loop(".rerun()")
    _refuse_not_enqueued(run)
    run.refresh_from_db()
    if run.state not in FINISHED:
        raise RunNotRerunnable(run.pk, str(run.state))
    again = Run(
        function_id=run.function_id,
        queue=run.queue,
        priority=run.priority,
        args=run.args,
        label=run.label,
        metadata=run.metadata,
        max_attempts=run.max_attempts,
        rerun_if_lost=run.rerun_if_lost,
        definition_id=run.definition_id,
        missed_slots=run.missed_slots,
        parent_id=run.parent_id,
        root_id=run.root_id,
        rerun_of=run,
        enqueued_by=actor[:200],
    )
    if not actor:
        inherit(again)
    return insert(again)


def wait(run: Run, timeout: float | str | timedelta | None = None) -> Run:
    """Return when the run has ended, refreshed."""
    refuse_event_loop(".wait()")
    limit = None if timeout is None else parse_duration(timeout, name="timeout").total_seconds()
    until = None if limit is None else time.monotonic() + limit
    pause_seconds, longest = POLL
    while True:
        if run.state is not None:
            run.refresh_from_db()
            if run.is_finished:
                return run
        _refuse_own_transaction(run)
        left = longest if until is None else until - time.monotonic()
        if left <= 0:
            raise ResultNotReady(run.pk, str(run.state))
        time.sleep(min(pause_seconds, left))
        pause_seconds = min(pause_seconds * 1.5, longest)


def get_result(run: Run, timeout: float | str | timedelta | None = None) -> Any:
    """Wait, then return what the function returned."""
    refuse_event_loop(".get_result()")
    wait(run, timeout)
    if run.state != State.SUCCEEDED:
        detail = run.error or run.reason
        raise ResultUnavailable(run.pk, str(run.state), detail)
    return decode_result(run.result)


def _refuse_own_transaction(run: Run) -> None:
    """Refuse to wait in the transaction that enqueued or changed the run: no worker gets it.

    On SQLite any transaction will do: it holds the one write lock that the worker needs.
    """
    connection = connections[_alias(run)]
    if run.state is None:
        if not is_pending(run):
            _refuse_not_enqueued(run)
        raise WaitInsideTransaction(run.pk)
    if not connection.in_atomic_block:
        return
    if connection.vendor == "sqlite" or _is_uncommitted(run):
        raise WaitInsideTransaction(run.pk)


def _is_uncommitted(run: Run) -> bool:
    """Say whether PostgreSQL's current transaction wrote the row as it is now."""
    with connections[_alias(run)].cursor() as cursor:
        cursor.execute(IS_UNCOMMITTED.format(table=Run._meta.db_table), [run.pk])
        return any(uncommitted for (uncommitted,) in cursor.fetchall())


def _refuse_not_enqueued(run: Run) -> None:
    """Refuse a run whose INSERT waits for the commit of another database: it has no row."""
    if run.state is None and run.enqueued_after is not None:
        raise RunNotEnqueued(run.pk, run.enqueued_after[0], is_pending=is_pending(run))


def _alias(run: Run) -> str:
    return str(run._state.db or conf.database)


def _locked(target: Any) -> Any:
    """Return the row as it is now, and keep others from changing it meanwhile."""
    rows = type(target).objects.filter(pk=target.pk)
    if connections[rows.db].features.has_select_for_update:
        rows = rows.select_for_update()
    return rows.get()


def _all(batch: Any) -> int:
    total = 0
    while moved := batch():
        total += moved
        if moved < BATCH:
            break
    return total
