"""When a run is due, and by when it must have begun (`discard_after`); else it is discarded.

The deadline holds for every attempt: one that could only begin later is not made. What code says
about a function is counted from when the run is due, what a call says from the call.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from django_defer.clock import DatabaseNow
from django_defer.exceptions import InvalidOption

if TYPE_CHECKING:
    from django_defer.call_options import CallOptions

Instant = DatabaseNow | datetime  # a span from now is added by the database's own clock


def due_at(options: CallOptions) -> Instant | None:
    """Return when a run with these options is due; None: at once."""
    if options.delay:
        return DatabaseNow(options.delay)
    return options.run_after


def deadline(options: CallOptions, span: timedelta | None) -> Instant | None:
    """Return when a run with these options is discarded; None: never.

    `span` is what its function says. Raises InvalidOption if it would not be due by then.
    """
    asked = options.discard_after
    if asked is None:
        if span is None:
            return None
        if options.run_after is not None:
            return options.run_after + span
        return DatabaseNow((options.delay or timedelta()) + span)
    now = timezone.now().astimezone(UTC)
    due = now + options.delay if options.delay else options.run_after
    until = asked if isinstance(asked, datetime) else now + asked
    if due is not None:
        refuse_later(due, until, "Give a later discard_after=, or let it be due earlier.")
    return asked if isinstance(asked, datetime) else DatabaseNow(asked)


def refuse_later(due: datetime, until: datetime, instead: str) -> None:
    """Refuse that a run is due at an instant at which it is discarded already."""
    if due >= until:
        raise InvalidOption(
            f"It would be discarded at {until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC "
            f"(discard_after), and is not due before {due.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC. "
            f"{instead}"
        )
