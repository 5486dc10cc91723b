"""`current_run()`: what a function can know about the run that is executing it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar
from uuid import UUID

from django_defer.metadata import Pairs
from django_defer.progress import Recorder, check_progress, track

T = TypeVar("T")


class CurrentRun(NamedTuple):
    """The run being executed here.

    `attempt` counts from 1. `slot` is the UTC instant of the schedule that the run stands for, or
    None. `missed_slots` says how many earlier slots were missed and are covered by this run,
    counted to 1,000. `metadata` can be read only.
    """

    id: UUID
    function: str
    attempt: int
    is_last_attempt: bool
    root_id: UUID
    slot: datetime | None = None
    missed_slots: int = 0
    started_at: datetime | None = None
    metadata: Mapping[str, str] = Pairs()

    @property
    def lateness(self) -> timedelta | None:
        """How long after its slot this attempt started; None for a run without a slot."""
        if self.slot is None or self.started_at is None:
            return None
        return self.started_at - self.slot

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """Show on the run's page how far this attempt is. Cheap: call it as often as you like.

        TypeError or ValueError for what isn't a whole number from 0 up, or text.
        """
        check_progress(done, total, message)
        recorder = _recorders.get((self.id, self.attempt))
        if recorder is not None:
            recorder.show(done, total, message)

    def track(self, items: Iterable[T], total: int | None = None, message: str = "") -> Iterator[T]:
        """Yield the items, and show after each how many are done.

        `total` is their len() if they have one.
        """
        return track(items, total, message, self.progress)


_current: ContextVar[CurrentRun | None] = ContextVar("django_defer_current_run", default=None)


def current_run() -> CurrentRun | None:
    """Return the run this code executes in, or None outside a run."""
    return _current.get()


# Of the attempts that this process is at. Not in a context: a copy of that may outlive the attempt.
_recorders: dict[tuple[UUID, int], Recorder] = {}


def current_recorder() -> Recorder | None:
    """Return what takes down this code's log lines; None outside a run that is executing."""
    run = _current.get()
    return None if run is None else _recorders.get((run.id, run.attempt))


@contextmanager
def running(run: CurrentRun, recorder: Recorder | None = None) -> Iterator[None]:
    """Make `run` the current one for the code inside; `recorder` takes down what that says."""
    token = _current.set(run)
    if recorder is not None:
        _recorders[run.id, run.attempt] = recorder
    try:
        yield
    finally:
        _current.reset(token)
        if recorder is not None:
            _recorders.pop((run.id, run.attempt), None)
            recorder.close()
