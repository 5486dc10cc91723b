"""The states of a run, the outcomes of an attempt, and the moves that are allowed.

`transitions.move` refuses every move that is not in MOVES, and a test holds the statements written
by hand (claim, start, success) to it. So this table is the whole life of a run.
"""

from __future__ import annotations

from typing import Final

from django.db import models
from django.utils.translation import gettext_lazy as _


class State(models.TextChoices):
    """Where a run is in its life."""

    SCHEDULED = "scheduled", _("scheduled")
    QUEUED = "queued", _("queued")
    PARKED = "parked", _("parked")
    CLAIMED = "claimed", _("claimed")
    RUNNING = "running", _("running")
    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    ABORTED = "aborted", _("aborted")
    CANCELLED = "cancelled", _("cancelled")
    DISCARDED = "discarded", _("discarded")
    SKIPPED = "skipped", _("skipped")


class Outcome(models.TextChoices):
    """How an attempt ended."""

    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    RETRIED = "retried", _("retried")
    CANCELLED = "cancelled", _("cancelled")
    TIMED_OUT = "timed_out", _("timed out")
    LOST = "lost", _("lost")
    ABORTED = "aborted", _("aborted")


class Reason(models.TextChoices):
    """Why a run is parked, was skipped or discarded, or failed without a retry (`Run.reason`)."""

    NO_CODE = "no_code", _("no live worker's code has this function")
    FUNCTION_PAUSED = "function_paused", _("the function is paused")
    OVERLAP = "overlap", _("a run of another slot is or was not finished")
    MISSED = "missed", _("no scheduler ran at that time")
    SUPERSEDED = "superseded", _("a newer slot took its place")
    EXPIRED = "expired", _("it could not begin by its discard_after")


WAITING: Final = frozenset({State.SCHEDULED, State.QUEUED, State.PARKED})
ACTIVE: Final = frozenset({State.CLAIMED, State.RUNNING})
UNFINISHED: Final = WAITING | ACTIVE
FINISHED: Final = frozenset(State) - UNFINISHED

MOVES: Final[dict[State, frozenset[State]]] = {
    State.SCHEDULED: frozenset({State.QUEUED, State.CANCELLED, State.DISCARDED}),
    State.QUEUED: frozenset(
        {State.CLAIMED, State.PARKED, State.SCHEDULED, State.CANCELLED, State.DISCARDED}
    ),
    State.PARKED: frozenset({State.QUEUED, State.SCHEDULED, State.CANCELLED, State.DISCARDED}),
    # claimed → succeeded and the like: a start is not durable, so after a database crash the
    # row of a run that did run may say "claimed" again when its finish arrives.
    State.CLAIMED: frozenset(
        {
            State.RUNNING,
            State.QUEUED,
            State.SCHEDULED,
            State.SUCCEEDED,
            State.FAILED,
            State.ABORTED,
            State.CANCELLED,
            State.DISCARDED,
        }
    ),
    State.RUNNING: frozenset(
        {State.SUCCEEDED, State.FAILED, State.ABORTED, State.SCHEDULED, State.CANCELLED}
    ),
    **{state: frozenset() for state in FINISHED},
}


def is_allowed(old: State, new: State) -> bool:
    """Say whether a run in state `old` may move to `new`."""
    return new in MOVES[old]
