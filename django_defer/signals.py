"""Signals about runs, and the log lines of these. The event's name is the signal's name.

Each is sent after its commit with `send_robust`, in the process where it happened: what follows
from the death of a worker (`run_lost`, and `run_failed` if that was one time too many; a time-out)
comes from a supervisor, `run_discarded` from whoever noticed, all else from a worker. Receivers get
`event`, a RunEvent.

Two modules of ours listen, too: `receive(event)` is called where `is_event_wanted(name, function)`
is true. That is quicker to ask than to send a signal, and as a rule nobody wants a run's start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from importlib import import_module
from typing import Any, Final
from uuid import UUID

from django.dispatch import Signal

logger = logging.getLogger("django_defer.runs")

LISTENERS: Final = ("django_defer.alerts.pings", "django_defer.sentry")

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


@cache
def listeners() -> list[Any]:
    """Return the modules, imported when something first happens to a run in this process."""
    return [import_module(name) for name in LISTENERS]


def emit(name: str, **facts: Any) -> None:
    """Log what happened, and send the signal called `name` ("run.failed") with these facts."""
    signal, level = _SIGNALS[name]
    ours = [each for each in listeners() if _is_wanted_by(each, name, facts["function"])]
    if logger.isEnabledFor(level):
        _log(level, name, **facts)
    if not (ours or signal.has_listeners(RunEvent)):
        return  # as a rule
    event = RunEvent(name=name, **facts)
    for listener in ours:
        try:
            listener.receive(event)
        except Exception:  # noqa: BLE001 - it is said, as what a receiver raises
            _say_failed(logger.exception, name, listener.__name__)
    for receiver, answer in signal.send_robust(sender=RunEvent, event=event):
        if isinstance(answer, Exception):
            _say_failed(logger.error, name, f"{receiver!r}: {answer!r}")  # Django logs the rest


def _is_wanted_by(listener: Any, name: str, function: str) -> bool:
    try:
        return bool(listener.is_event_wanted(name, function))
    except Exception:  # noqa: BLE001 - it is said, as what a receiver raises
        _say_failed(logger.exception, name, listener.__name__)
        return False


def _say_failed(say: Callable[..., None], name: str, receiver: str) -> None:
    extra = {"event": "signal.receiver_failed"}
    say("signal.receiver_failed %s receiver=%s", name, receiver, extra=extra)


def _log(
    level: int,
    name: str,
    *,
    run_id: UUID,
    function: str,
    attempt: int,
    seconds: float | None = None,
    retry_in: timedelta | None = None,
    error: str = "",
    **more: object,
) -> None:
    """Write one line a person can read."""
    text, values = "%s %s run=%s attempt=%s", [name, function, run := str(run_id), attempt]
    if seconds is not None:
        text += " in %.3fs"
        values.append(seconds)
    if retry_in is not None:
        text += " again in %.1fs"
        values.append(retry_in.total_seconds())
    if error:
        text += ": %s"
        values.append(error)
    extra = {"event": name, "run_id": run, "function": function, "attempt": attempt}
    logger.log(level, text, *values, extra=extra)
