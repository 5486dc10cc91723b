"""Take back what dead workers and dead clusters held: claimed → queued, running → lost.

It needs no code of the functions: the limits are on the run since it was enqueued.
"""

from __future__ import annotations

import signal
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from django.db import connections, transaction

from django_defer.attempt_facts import Failure
from django_defer.attempts import slot_of_original
from django_defer.endings import fail_overdue, lose
from django_defer.models import Cluster, Run
from django_defer.registry import registry
from django_defer.signals import emit
from django_defer.states import Outcome, State
from django_defer.transitions import release

SILENT: Final = Failure(
    outcome=Outcome.LOST,
    error_class="Lost",
    error_message="its cluster was not heard of for the whole lease",
)
SHUT_DOWN: Final = Failure(
    outcome=Outcome.LOST,
    error_class="Lost",
    error_message="it was still running when its worker was told to stop",
)


def failure_of_exit(exit_code: int | None) -> Failure:
    """Say in words how a worker process ended."""
    name, message = "", f"its worker process exited with code {exit_code}"
    if exit_code is not None and exit_code < 0:
        name = _signal_name(-exit_code)
        message = f"its worker process was killed by {name}"
        if name == "SIGKILL":
            message = "its worker process was killed, possibly out of memory"
    return Failure(
        outcome=Outcome.LOST,
        error_class="Lost",
        error_message=message,
        exit_code=exit_code,
        signal=name,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def take_back(
    using: str,
    cluster: UUID | None,
    worker: str | None,
    failure: Failure,
    *,
    counted: bool = True,
) -> tuple[int, int]:
    """Take back all that a cluster, or one worker of it, held.

    Returns how many claims were released and how many attempts were lost.
    """
    held = Run.objects.using(using).held_by(cluster, worker)
    released = release(held)
    lost = 0
    for run in held.filter(state=State.RUNNING):
        if failure.outcome is Outcome.TIMED_OUT:
            written = _time_out(using, run, failure)
        else:
            written = lose(using, run, failure, counted=counted)
        if written:
            lost += 1
            _tell(using, run, failure)
    return released, lost


def _tell(using: str, run: Run, failure: Failure) -> None:
    """Send the signals for an attempt that was taken back, once that is committed."""
    run.refresh_from_db(using=using, fields=["state", "error_message"])
    names = ["run.lost"] if failure.outcome is Outcome.LOST else []
    if run.state == State.ABORTED:
        names = ["run.aborted"]
    elif run.state == State.FAILED:
        names.append("run.failed")
    elif failure.outcome is Outcome.TIMED_OUT:
        names.append("run.retrying")
    slot = run.slot or slot_of_original(using, run.rerun_of_id)
    for name in names:
        tell = partial(
            emit,
            name,
            run_id=run.pk,
            function=run.function_id,
            attempt=run.attempt,
            error=run.error_message,
            slot=slot,
        )
        transaction.on_commit(tell, using=using, robust=True)


def _time_out(using: str, run: Run, failure: Failure) -> State | None:
    """End the attempt of a worker that was killed for exceeding the function's max_duration."""
    function = registry.find(str(run.function_id))
    failures = run.failures + 1
    delay: timedelta | None = None
    if function is not None and failures < run.max_attempts:
        policy = function.options.retry
        if policy.should_retry(failure.as_time_limit()):
            delay = policy.delay(failures)
    return fail_overdue(using, run, failure, delay)


def reap(using: str, now: datetime, lease: timedelta) -> list[Cluster]:
    """Take back what silent clusters held and remove their rows; return these clusters.

    Row and runs change in one transaction, so a cluster that comes back finds itself dead
    before it can claim or finish anything.
    """
    reaped: list[Cluster] = []
    for dead in Cluster.objects.using(using).dead(now, lease):
        with transaction.atomic(using=using):
            mine = Cluster.objects.using(using).dead(now, lease).filter(pk=dead.pk)
            if connections[using].features.has_select_for_update_skip_locked:
                mine = mine.select_for_update(skip_locked=True)
            if not mine.exists():
                continue
            take_back(using, dead.pk, None, SILENT)
            mine.delete()
            reaped.append(dead)
    _take_back_from_nobody(using)
    return reaped


def _take_back_from_nobody(using: str) -> None:
    """Take back what is held by clusters that have no row.

    A claim that began before its cluster's row was removed may commit afterwards.
    """
    clusters = Cluster.objects.using(using).values("pk")
    held = Run.objects.using(using).active().exclude(cluster__in=clusters)
    for cluster in set(held.values_list("cluster", flat=True)):
        take_back(using, cluster, None, SILENT)
