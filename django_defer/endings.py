"""How an attempt ends without a result: failed, cancelled, aborted, timed out or lost.

Each is one conditional UPDATE that names the `claim_id`, so a worker whose claim was taken away
changes nothing; and the attempt gets a row of its own, which one that succeeds does not need.
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import F, Q

from django_defer.attempt_facts import Failure, Started
from django_defer.claims import Claim
from django_defer.clock import DatabaseNow
from django_defer.models import Attempt, Run
from django_defer.outcomes import Ended, record
from django_defer.states import ACTIVE, Outcome, Reason, State
from django_defer.transitions import move

MAX_LOSSES: Final = 3


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
