"""`current_run()`: what a function can know about the run that is executing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentRun:
    """The run being executed here.

    `attempt` counts from 1. `slot` is the UTC instant of the schedule that the run stands for, or
    None. `missed_slots` says how many earlier slots were missed and are covered by this run,
    counted to 1,000.
    """

    id: UUID
    function: str
    attempt: int
    is_last_attempt: bool
    root_id: UUID
    slot: datetime | None = None
    missed_slots: int = 0
    started_at: datetime | None = None

    @property
    def lateness(self) -> timedelta | None:
        """How long after its slot this attempt started; None for a run without a slot."""
        if self.slot is None or self.started_at is None:
            return None
        return self.started_at - self.slot


_current: ContextVar[CurrentRun | None] = ContextVar("django_defer_current_run", default=None)


def current_run() -> CurrentRun | None:
    """Return the run this code executes in, or None outside a run."""
    return _current.get()


@contextmanager
def running(run: CurrentRun) -> Iterator[None]:
    """Make `run` the current one for the code inside."""
    token = _current.set(run)
    try:
        yield
    finally:
        _current.reset(token)
