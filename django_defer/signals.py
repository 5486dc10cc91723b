"""Signals about runs, and the log lines of these. The event's name is the signal's name.

Each is sent after its commit with `send_robust`, in the process where it happened: what follows
from the death of a worker (`run_lost`, and `run_failed` if that was one time too many; a time-out)
comes from a supervisor, `run_discarded` from whoever noticed, all else from a worker. Receivers get
`event`, a RunEvent.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.dispatch import Signal

logger = logging.getLogger("django_defer.runs")

run_started = Signal(use_caching=True)
run_succeeded = Signal(use_caching=True)
run_failed = Signal(use_caching=True)
run_retrying = Signal(use_caching=True)
run_lost = Signal(use_caching=True)
run_cancelled = Signal(use_caching=True)
run_aborted = Signal(use_caching=True)
run_discarded = Signal(use_caching=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """What happened to a run. `retry_in` says when it is tried again, if it is.

    `slot` is the one that the run, or the run that it repeats, stands for. `exception` is there in
    the process that it was raised in; unlike `error`, it may quote sensitive arguments.
    """

    name: str
    run_id: UUID
    function: str
    attempt: int
    seconds: float | None = None
    error: str = ""
    retry_in: timedelta | None = None
    slot: datetime | None = None
    exception: BaseException | None = field(default=None, repr=False, compare=False)


_SIGNALS = {
    "run.started": (run_started, logging.DEBUG),
    "run.succeeded": (run_succeeded, logging.INFO),
    "run.failed": (run_failed, logging.ERROR),
    "run.retrying": (run_retrying, logging.WARNING),
    "run.lost": (run_lost, logging.WARNING),
    "run.cancelled": (run_cancelled, logging.INFO),
    "run.aborted": (run_aborted, logging.WARNING),
    "run.discarded": (run_discarded, logging.WARNING),
}


def emit(name: str, **facts: Any) -> None:
    """Log what happened, and send the signal called `name` ("run.failed") with these facts."""
    signal, level = _SIGNALS[name]
    is_logged = logger.isEnabledFor(level)
    if not (is_logged or signal.has_listeners(RunEvent)):
        return  # as a rule nobody wants to know that a run was started
    event = RunEvent(name=name, **facts)
    if is_logged:
        _log(event, level)
    for receiver, answer in signal.send_robust(sender=RunEvent, event=event):
        if isinstance(answer, Exception):
            logger.error(
                "signal.receiver_failed %s receiver=%r: %r",  # Django logs the traceback
                name,
                receiver,
                answer,
                extra={"event": "signal.receiver_failed"},
            )


def _log(event: RunEvent, level: int) -> None:
    """Write one line a person can read."""
    text, values = (
        "%s %s run=%s attempt=%s",
        [event.name, event.function, event.run_id, event.attempt],
    )
    if event.seconds is not None:
        text += " in %.3fs"
        values.append(event.seconds)
    if event.retry_in is not None:
        text += " again in %.1fs"
        values.append(event.retry_in.total_seconds())
    if event.error:
        text += ": %s"
        values.append(event.error)
    logger.log(
        level,
        text,
        *values,
        extra={
            "event": event.name,
            "run_id": str(event.run_id),
            "function": event.function,
            "attempt": event.attempt,
        },
    )
