"""One attempt in the database: its start, and how it ends.

Each is one conditional UPDATE that names the `claim_id`, so a worker whose claim was taken away
changes nothing. An attempt that did not succeed also gets a row of its own.
"""

from __future__ import annotations

import json
import random
import time
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connections, transaction
from django.db.models import F, Q

from django_defer.attempt_facts import Failure, Started
from django_defer.claims import Claim
from django_defer.clock import SQL_NOW, DatabaseNow, as_instant
from django_defer.metadata import Pairs
from django_defer.models import Attempt, Run
from django_defer.outcomes import Ended, is_success_wanted, record
from django_defer.statements import execute
from django_defer.states import ACTIVE, Outcome, Reason, State
from django_defer.transitions import discard, move

MAX_LOSSES: Final = 3


# Only the start's durability is advisory: after a database crash the row says "claimed" again,
# and the finish accepts that. Where a second execution is forbidden, the start is durable too.
_START: Final = """
UPDATE {run} SET state = 'running', started_at = {now}, worker = %(worker)s
WHERE id = %(id)s AND claim_id = %(claim)s AND (state = 'running'
    OR state = 'claimed' AND (discard_after IS NULL OR discard_after > {now}))
RETURNING function, args, started_at, slot, missed_slots, root_id, failures, max_attempts,
    definition_id, rerun_of_id, metadata{lazy}
"""
_LAZY_COMMIT: Final = (
    ", CASE WHEN rerun_if_lost THEN set_config('synchronous_commit', 'off', true) END"
)
_SUCCEED: Final = """
UPDATE {run} SET state = 'succeeded', finished_at = {now}, started_at = %(started_at)s,
    result = %(result)s, error_class = '', error_message = '', key = NULL
WHERE id = %(id)s AND claim_id = %(claim)s AND state IN ('claimed', 'running')
RETURNING 1
"""


def start(using: str, claim: Claim, worker: str) -> Started | None:
    """Move claimed → running and return what to execute; None: do not run it.

    Safe to repeat when the answer to it was lost: one worker alone holds the claim.
    """
    connection = connections[using]
    lazy = _LAZY_COMMIT if connection.vendor == "postgresql" else ""
    rows = execute(using, _sql(_START, using, lazy=lazy), {**_ids(using, claim), "worker": worker})
    if not rows:
        return None
    function, args, started_at, slot, missed, root, failures, most = rows[0][:8]
    definition, original, metadata = rows[0][8:11]
    return Started(
        claim=claim,
        function=function,
        args=_from_json(args),
        started_at=as_instant(started_at, connection),
        slot=as_instant(slot, connection) if slot else slot_of_original(using, original),
        missed_slots=missed,
        root_id=UUID(str(root)) if root else claim.run_id,
        failures=failures,
        max_attempts=most,
        definition_id=definition,
        metadata=Pairs(_from_json(metadata)),
    )


def _from_json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def discard_expired(using: str, claim: Claim) -> bool:
    """Discard what was claimed too late to begin. False: the claim itself was taken away."""
    mine = Run.objects.using(using).filter(pk=claim.run_id, claim_id=claim.claim_id)
    return bool(discard(using, mine.filter(discard_after__lte=DatabaseNow()), Reason.EXPIRED))


def slot_of_original(using: str, original: Any) -> datetime | None:
    """Return the slot that a rerun, which has none of its own, stands for."""
    while original is not None:
        runs = Run.objects.using(using).filter(pk=original)
        row = runs.values_list("slot", "rerun_of").first()
        if row is None or row[0] is not None:
            return row and row[0]
        original = row[1]
    return None


def succeed(using: str, started: Started, result: str) -> bool:
    """Finish with a result (JSON text). False: the claim was taken away."""
    field = Run._meta.get_field("started_at")
    values = {
        **_ids(using, started.claim),
        "started_at": field.get_db_prep_value(started.started_at, connections[using]),
        "result": result,
    }
    statement, seconds = _sql(_SUCCEED, using), time.monotonic() - started.clock
    if not is_success_wanted(started.function, seconds):
        return bool(execute(using, statement, values))
    with transaction.atomic(using=using):
        if not execute(using, statement, values):
            return False
        end = Ended(
            run_id=started.claim.run_id,
            function=started.function,
            state=State.SUCCEEDED,
            outcome=Outcome.SUCCEEDED,
            seconds=seconds,
        )
        record(using, [end])
    return True


def fail(
    using: str, started: Started, failure: Failure, retry_in: timedelta | None
) -> State | None:
    """Finish without a result: retry after `retry_in`, or for good when it is None.

    Returns the run's new state; None: the claim was taken away. So do all below.
    """
    return end_attempt(
        using,
        started.claim,
        failure,
        retry_in=retry_in,
        counts={"failures": F("failures") + 1},
        started_at=started.started_at,
    )


def cancel_running(using: str, started: Started, reason: str) -> State | None:
    """Finish because the function raised Cancel."""
    return end_attempt(
        using,
        started.claim,
        Failure(outcome=Outcome.CANCELLED, error_class="Cancel", error_message=reason),
        retry_in=None,
        to=State.CANCELLED,
        started_at=started.started_at,
        reason=reason[:500],
    )


def abort_running(using: str, started: Started, failure: Failure) -> State | None:
    """Finish because RunAborted ended the function."""
    return end_attempt(
        using,
        started.claim,
        failure,
        retry_in=None,
        to=State.ABORTED,
        started_at=started.started_at,
    )


def lose(using: str, run: Run, failure: Failure, *, counted: bool = True) -> State | None:
    """End an attempt that nobody finishes any more: its process or its cluster is gone.

    It goes back to the queue within 0 to 2 s, whatever the retry policy says; at the third
    counted loss, or where `rerun_if_lost` is off, the run fails.
    """
    losses = run.losses + counted
    again = run.rerun_if_lost and losses < MAX_LOSSES
    if not again and run.rerun_if_lost:
        message = f"lost {losses} times, last: {failure.error_message}"
    else:
        message = failure.error_message
    return end_attempt(
        using,
        Claim(run.pk, run.claim_id, run.attempt),  # type: ignore[arg-type]
        failure,
        retry_in=timedelta(seconds=random.uniform(0, 2)) if again else None,  # noqa: S311
        counts={"losses": losses, "error_message": message},
        started_at=run.started_at,
        claim_id=None,
    )


def fail_overdue(
    using: str, run: Run, failure: Failure, retry_in: timedelta | None
) -> State | None:
    """End the attempt of a worker that was killed because its function ran too long."""
    return end_attempt(
        using,
        Claim(run.pk, run.claim_id, run.attempt),  # type: ignore[arg-type]
        failure,
        retry_in=retry_in,
        counts={"failures": F("failures") + 1},
        started_at=run.started_at,
        claim_id=None,
    )


def end_attempt(
    using: str,
    claim: Claim,
    failure: Failure,
    *,
    retry_in: timedelta | None,
    to: State = State.FAILED,
    counts: dict[str, Any] | None = None,
    **columns: Any,
) -> State | None:
    """Write the attempt's row and the run's next state in one transaction, fenced.

    What could not begin again by its `discard_after` has failed. What is to be aborted is neither
    tried again nor called lost, and `counts`, the columns that a failure or a loss changes, stay
    as they are.
    """
    columns = {"error_class": failure.error_class, "error_message": failure.error_message} | columns
    over = {"finished_at": DatabaseNow(), "key": None}
    run = Run.objects.using(using).filter(pk=claim.run_id)
    mine = run.filter(claim_id=claim.claim_id)
    ending = columns | over | (counts or {})
    moves = [(mine, to, ending)]
    if retry_in is not None or failure.outcome in (Outcome.LOST, Outcome.ABORTED):
        go_on = mine.filter(abort_requested_at__isnull=True)
        moves = [(go_on, to, ending), (mine, State.ABORTED, columns | over)]
        if retry_in is not None:
            again = {"run_after": DatabaseNow(retry_in), "queued_at": None}
            in_time = Q(discard_after__isnull=True) | Q(discard_after__gt=DatabaseNow(retry_in))
            retry = columns | again | (counts or {})
            late = ending | {"reason": Reason.EXPIRED}
            moves[:1] = [(go_on.filter(in_time), State.SCHEDULED, retry), (go_on, to, late)]
    with transaction.atomic(using=using):
        made = (state for rows, state, values in moves if move(rows, ACTIVE, state, **values))
        new = next(made, None)
        if new is None:
            return None
        facts = run.values_list("cluster", "worker", "function", "error_message", "slot")
        cluster, worker, function, message, slot = facts.get()
        outcome = _outcome(failure, new)
        Attempt.objects.using(using).create(
            run_id=claim.run_id,
            number=claim.attempt,
            outcome=outcome,
            started_at=columns.get("started_at"),
            finished_at=DatabaseNow(),
            error_class=failure.error_class,
            error_message=failure.error_message,
            traceback=failure.traceback,
            exit_code=failure.exit_code,
            signal=failure.signal,
            cluster=cluster,
            worker=worker,
        )
        error = f"{failure.error_class}: {message}" if failure.error_class else message
        end = Ended(
            run_id=claim.run_id,
            function=function,
            state=new,
            outcome=outcome,
            error=error,
            has_slot=slot is not None,
        )
        record(using, [end])
    return new


def _outcome(failure: Failure, state: State) -> Outcome:
    if state == State.ABORTED:
        return Outcome.ABORTED
    retried = state == State.SCHEDULED and failure.outcome == Outcome.FAILED
    return Outcome.RETRIED if retried else failure.outcome


def _sql(template: str, using: str, **parts: str) -> str:
    """Fill in the table and the clock of this database."""
    now = SQL_NOW[connections[using].vendor]
    return template.format(run=Run._meta.db_table, now=now, **parts)


def _ids(using: str, claim: Claim) -> dict[str, Any]:
    """Return the ids as this database stores them."""
    if connections[using].features.has_native_uuid_field:
        return {"id": claim.run_id, "claim": claim.claim_id}
    return {"id": claim.run_id.hex, "claim": claim.claim_id.hex}
