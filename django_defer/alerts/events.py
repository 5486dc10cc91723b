"""The events that somebody can be told of, by name."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Event(StrEnum):
    """What happened. The value is what `ALERTS` and messages call it."""

    RUN_FAILED = "run_failed"  # for good
    RUN_RETRYING = "run_retrying"
    RUN_LOST = "run_lost"
    RUN_TIMED_OUT = "run_timed_out"
    RUN_SLOW = "run_slow"  # longer than `alert_after`
    RUN_RECOVERED = "run_recovered"  # the first success after one of the others
    RUN_SUCCEEDED = "run_succeeded"
    RUN_DISCARDED = "run_discarded"
    SLOT_MISSED = "slot_missed"
    DEFINITION_ERROR = "definition_error"
    QUEUE_STALLED = "queue_stalled"
    NO_WORKERS = "no_workers"
    SCHEDULER_STALLED = "scheduler_stalled"


# Told of only where a channel names them.
OFF: Final = frozenset({Event.RUN_RETRYING, Event.RUN_SUCCEEDED, Event.RUN_DISCARDED})
DEFAULT: Final = frozenset(Event) - OFF

# True as long as something is so; the others happen at a moment.
CONDITIONS: Final = frozenset(
    {Event.DEFINITION_ERROR, Event.QUEUE_STALLED, Event.NO_WORKERS, Event.SCHEDULER_STALLED}
)
# About no function in particular.
OF_ALL: Final = frozenset({Event.QUEUE_STALLED, Event.NO_WORKERS, Event.SCHEDULER_STALLED})
# Over when the function succeeds.
FAILURES: Final = frozenset(
    {Event.RUN_FAILED, Event.RUN_RETRYING, Event.RUN_LOST, Event.RUN_TIMED_OUT}
)
