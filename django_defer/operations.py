"""What a person does with runs: run now, cancel, reschedule, rerun, wait.

The same rules serve Python calls, commands and the admin. `actor` is text: who did it.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from typing import Any

from django.db import connections

from django_defer.call_options import CallOptions
from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.context import current_run
from django_defer.deadlines import refuse_later
from django_defer.durations import parse_duration
from django_defer.enqueue import build_run, inherit, insert, is_pending
from django_defer.event_loop import refuse_event_loop
from django_defer.exceptions import (
    AbortInProgress,
    InvalidOption,
    ResultNotReady,
    ResultUnavailable,
    RunNotCancellable,
    RunNotEnqueued,
    RunNotRerunnable,
    RunNotReschedulable,
    WaitInsideRun,
    WaitInsideTransaction,
)
from django_defer.models import CronDefinition, Run
from django_defer.payloads import decode_result
from django_defer.registry import registry
from django_defer.states import FINISHED, WAITING, State
from django_defer.transitions import cancel_waiting, request_abort
from django_defer.transitions import reschedule as move_to
from django_defer.wakeup import announce

logger = logging.getLogger(__name__)

POLL = (0.01, 0.5)  # seconds between two looks while waiting: first, most
LOOKS = 3  # at a run that is to be cancelled and moves on meanwhile: to running, or back

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


def cancel(run: Run, *, force: bool = False, actor: str = "", reason: str = "") -> None:
    """Cancel a run that has not started: immediate and final. With `force`, abort a running one.

    The function of a run that is aborted gets RunAborted, and is killed if it goes on.
    """
    refuse_event_loop(".cancel()")
    _refuse_not_enqueued(run)
    mine = Run.objects.using(_alias(run)).filter(pk=run.pk)
    for _ in range(LOOKS):
        done = cancel_waiting(_alias(run), run.pk, _why("cancelled", actor, reason))
        if not done and force:
            done = bool(request_abort(_alias(run), mine, _why("aborted", actor, reason)))
        run.refresh_from_db()
        if done:
            return
        if force and run.state == State.RUNNING and run.abort_requested_at is not None:
            raise AbortInProgress(run.pk, str(run.state), run.abort_requested_at)
        if run.state in FINISHED or (run.state == State.RUNNING and not force):
            break
    raise RunNotCancellable(run.pk, str(run.state))


def _why(verb: str, actor: str, reason: str) -> str:
    by = f"{verb} by {actor}" if actor else verb
    return f"{reason} ({by})" if reason and actor else reason or by


def reschedule(run: Run, when: datetime | None = None, *, actor: str = "") -> None:
    """Let a waiting run wait until `when` (an aware datetime), or make it due now."""
    refuse_event_loop(".reschedule()")
    _refuse_not_enqueued(run)
    if when is not None and when.tzinfo is None:
        raise InvalidOption(f"when={when!r} has no time zone: give an aware datetime.")
    run.refresh_from_db()
    if run.discard_after is not None and run.state in WAITING:
        due = when or database_now(_alias(run))
        refuse_later(due, run.discard_after, "Let it be due earlier, or cancel it.")
    if not move_to(_alias(run), run.pk, when):
        run.refresh_from_db()
        raise RunNotReschedulable(run.pk, str(run.state))
    announce(_alias(run))
    run.refresh_from_db()
    logger.info(
        "run.rescheduled %s run=%s to %s%s",
        run.function_id,
        run.pk,
        run.run_after,
        f" by {actor}" if actor else "",
        extra={"event": "run.rescheduled", "run_id": str(run.pk), "function": run.function_id},
    )


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
    """Return when the run has ended, refreshed. Inside another run, give a timeout."""
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
        if until is None and (current := current_run()) is not None:
            raise WaitInsideRun(run.pk, current.id)
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
