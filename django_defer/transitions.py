"""Every move of a run outside an attempt: release, promote, park, cancel, discard, reschedule.

Each is one conditional UPDATE ("… WHERE it is still in the old state"); 0 rows changed means
that somebody else was faster. `attempts` does the rest, and `move` refuses what MOVES forbids.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Case, F, PositiveSmallIntegerField, When

from django_defer.clock import DatabaseNow
from django_defer.models import Run
from django_defer.outcomes import Ended, record
from django_defer.querysets import RunQuerySet
from django_defer.signals import emit
from django_defer.states import WAITING, Reason, State, is_allowed

BATCH: Final = 500  # rows a promote, park or unpark touches at once
UNSTARTED: Final = WAITING | {State.CLAIMED}

# A claim reserves the number of an attempt; it is given back when that does not begin.
_UNSTARTED_ATTEMPT: Final = Case(
    When(state=State.CLAIMED, then=F("attempt") - 1),
    default=F("attempt"),
    output_field=PositiveSmallIntegerField(),
)


def release(runs: RunQuerySet) -> int:
    """Give claims back that were not started; the attempt's number too."""
    return move(
        runs.filter(state=State.CLAIMED),
        {State.CLAIMED},
        State.QUEUED,
        claim_id=None,
        cluster=None,
        worker="",
        attempt=F("attempt") - 1,
    )


def promote(using: str, now: datetime) -> int:
    """Move scheduled runs whose time has come into the queue, the earliest first."""
    due = Run.objects.using(using).due(now).order_by("run_after")
    return _move_batch(using, due, State.SCHEDULED, State.QUEUED, queued_at=DatabaseNow())


def park(using: str, runs: RunQuerySet, reason: Reason) -> int:
    """Take queued runs out of the way of others, with a reason."""
    return _move_batch(using, runs, State.QUEUED, State.PARKED, reason=reason)


def unpark(using: str, runs: RunQuerySet) -> int:
    """Put parked runs back into the queue."""
    return _move_batch(using, runs, State.PARKED, State.QUEUED, reason="", queued_at=DatabaseNow())


def cancel_waiting(using: str, run_id: UUID, reason: str) -> bool:
    """Cancel a run that has not started."""
    run = Run.objects.using(using).filter(pk=run_id)
    return bool(
        move(
            run,
            UNSTARTED,
            State.CANCELLED,
            finished_at=DatabaseNow(),
            attempt=_UNSTARTED_ATTEMPT,
            claim_id=None,
            key=None,
            reason=reason[:500],
        )
    )


def discard(using: str, runs: RunQuerySet, reason: Reason, *, most: int | None = None) -> int:
    """End runs that have not started, since they have become pointless; return how many.

    With `most`, so many at once, passing over what another process holds.
    """
    if most is not None:
        return _discard_batch(using, runs, reason, most, passing=True)
    total = 0
    with transaction.atomic(using=using):
        while ended := _discard_batch(using, runs, reason, BATCH, passing=False):
            total += ended
    return total


def _discard_batch(
    using: str, runs: RunQuerySet, reason: Reason, most: int, *, passing: bool
) -> int:
    features = connections[using].features
    with transaction.atomic(using=using):
        found = runs.filter(state__in=UNSTARTED)
        if features.has_select_for_update:
            skip = passing and features.has_select_for_update_skip_locked
            found = found.select_for_update(skip_locked=skip)
        rows = list(found.values_list("pk", "function", "attempt", "slot")[:most])
        move(
            Run.objects.using(using).filter(pk__in=[row[0] for row in rows]),
            UNSTARTED,
            State.DISCARDED,
            finished_at=DatabaseNow(),
            attempt=_UNSTARTED_ATTEMPT,
            claim_id=None,
            key=None,
            reason=reason,
        )
        ended = [
            Ended(
                run_id=run_id,
                function=function,
                state=State.DISCARDED,
                error=str(reason.label),
                has_slot=slot is not None,
            )
            for run_id, function, _, slot in rows
        ]
        record(using, ended)
        for run_id, function, attempt, slot in rows:
            facts = {"function": function, "attempt": attempt, "slot": slot}
            facts["error"] = str(reason.label)
            tell = partial(emit, "run.discarded", run_id=run_id, **facts)
            transaction.on_commit(tell, using=using, robust=True)
    return len(rows)


def request_abort(using: str, runs: RunQuerySet, reason: str) -> int:
    """Ask the clusters that execute these runs to end them; return how many are asked."""
    running = runs.using(using).filter(state=State.RUNNING, abort_requested_at__isnull=True)
    return running.update(abort_requested_at=DatabaseNow(), reason=reason[:500])


def reschedule(using: str, run_id: UUID, when: datetime | None) -> bool:
    """Let a waiting run wait until `when`, or make it due now."""
    run = Run.objects.using(using).filter(pk=run_id)
    if when is not None:
        return bool(move(run, WAITING, State.SCHEDULED, run_after=when, queued_at=None, reason=""))
    return bool(
        move(
            run,
            WAITING,
            State.QUEUED,
            run_after=DatabaseNow(),
            queued_at=DatabaseNow(),
            reason="",
        )
    )


def move(runs: RunQuerySet, old: Collection[State], new: State, **columns: Any) -> int:
    """Move the runs that are still in one of the `old` states; return how many."""
    for state in old:
        if state != new and not is_allowed(state, new):
            raise ValueError(f"a run cannot move from {state} to {new}")
    return runs.filter(state__in=old).update(state=new, **columns)


def _move_batch(using: str, runs: RunQuerySet, old: State, new: State, **columns: Any) -> int:
    """Move at most BATCH of them, passing over what another process holds."""
    with transaction.atomic(using=using):
        runs = runs.filter(state=old)
        if connections[using].features.has_select_for_update_skip_locked:
            runs = runs.select_for_update(skip_locked=True)
        ids = list(runs.values_list("pk", flat=True)[:BATCH])
        return move(Run.objects.using(using).filter(pk__in=ids), {old}, new, **columns)
