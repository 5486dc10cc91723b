"""What is known of an attempt when it starts, and when it has succeeded or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django_defer.claims import Claim
from django_defer.context import CurrentRun
from django_defer.exceptions import TimeLimitExceeded
from django_defer.metadata import Pairs
from django_defer.states import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What the start returned: all that an attempt needs to know."""

    claim: Claim
    function: str
    args: Any
    started_at: datetime
    slot: datetime | None
    missed_slots: int
    root_id: UUID
    failures: int
    max_attempts: int
    definition_id: int | None = None
    metadata: Pairs = field(default_factory=Pairs)

    def as_current_run(self) -> CurrentRun:
        """Return what the function may know."""
        return CurrentRun(
            id=self.claim.run_id,
            function=self.function,
            attempt=self.claim.attempt,
            is_last_attempt=self.failures + 1 >= self.max_attempts,
            root_id=self.root_id,
            slot=self.slot,
            missed_slots=self.missed_slots,
            started_at=self.started_at,
            metadata=self.metadata,
        )


@dataclass(frozen=True, slots=True)
class Success:
    """An attempt whose function returned: its result as JSON text, and how long it took."""

    started: Started
    result: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt did not succeed, as text."""

    outcome: Outcome
    error_class: str = ""
    error_message: str = ""
    traceback: str = ""
    exit_code: int | None = None
    signal: str = ""

    def as_time_limit(self) -> TimeLimitExceeded:
        """Return the error that the function would have seen, for the retry policy."""
        return TimeLimitExceeded(self.error_message)
