"""What is known of an attempt when it starts, and of one that did not succeed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django_defer.claims import Claim
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
    clock: float = field(default_factory=time.monotonic)


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
