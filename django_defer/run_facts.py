"""What can be counted about a run, in words: attempts, lateness, missed slots, children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.db import connections
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_defer.catch_up import MOST_MISSED
from django_defer.conf import conf
from django_defer.counting import MOST_COUNTED, count_each
from django_defer.models import Attempt, Run
from django_defer.states import WAITING, State
from django_defer.wording import show_duration

if TYPE_CHECKING:
    from uuid import UUID

RETRYING: Final = "retrying"  # shown instead of "scheduled" once an attempt did not succeed
ORDER: Final = [
    State.SUCCEEDED,
    State.RUNNING,
    State.CLAIMED,
    State.QUEUED,
    State.SCHEDULED,
    RETRYING,
    State.PARKED,
    State.FAILED,
    State.ABORTED,
    State.CANCELLED,
    State.DISCARDED,
    State.SKIPPED,
]


def latest_attempts(run: Run, most: int) -> list[Attempt]:
    """Return the latest attempts, oldest first; the one that succeeded is in the run itself."""
    rows = Attempt.objects.filter(run=run.pk).order_by("-number", "-id")[:most]
    return [*reversed(rows), *run.attempt_that_succeeded()]


def attempts_made(run: Run) -> int:
    """Return how many attempts count against `max_attempts`, the current one included."""
    if run.state in WAITING:
        return run.failures
    return max(0, min(run.attempt - run.losses, run.failures + 1))


def attempts_in_words(run: Run) -> str:
    """Return "2 of 17", and how often the run was lost besides."""
    made = _("%(n)s of %(most)s") % {"n": attempts_made(run), "most": run.max_attempts}
    if not run.losses:
        return made if run.attempt else ""
    return f"{made}, {lost_in_words(run.losses)}"


def lost_in_words(times: int) -> str:
    """Return "lost once" or "lost 3 times"."""
    return ngettext("lost once", "lost %(n)s times", times) % {"n": times}


def lateness_in_words(run: Run) -> str:
    """Return how long after its slot the run started; of a retry, its latest attempt."""
    if run.slot is None or run.started_at is None:
        return ""
    facts = {"n": run.attempt, "time": show_duration(run.started_at - run.slot)}
    if run.attempt > 1:
        return _("attempt %(n)s started %(time)s after it") % facts
    return _("started %(time)s after it") % facts


def missed_in_words(run: Run) -> str:
    """Return "its slot and 3 missed ones before it", "" where there are no others."""
    if not run.missed_slots:
        return ""
    if run.missed_slots >= MOST_MISSED:
        most = f"{MOST_MISSED:,}"
        return _("its slot and %(n)s or more missed ones before it") % {"n": most}
    return ngettext(
        "its slot and %(n)s missed one before it",
        "its slot and %(n)s missed ones before it",
        run.missed_slots,
    ) % {"n": run.missed_slots}


def count_children(run_id: UUID) -> dict[str, int]:
    """Count what this run enqueued by state, each up to the limit of `count_each`.

    Those that wait for another attempt are counted apart from the delayed ones, unless there are
    too many to look at.
    """
    key = Run._meta.pk.get_db_prep_value(run_id, connections[str(conf.database)])
    counts = count_each("state", State.values, "parent_id = %s", key)
    scheduled = counts.get(State.SCHEDULED, 0)
    if 0 < scheduled <= MOST_COUNTED:
        retrying = Run.objects.children_of(run_id).retrying()[:scheduled].count()
        counts |= {State.SCHEDULED: scheduled - retrying, RETRYING: retrying}
    return {str(state): counts[state] for state in ORDER if counts.get(state)}


def state_word(state: str) -> str:
    """Return the word for a state as it is shown."""
    return _("retrying") if state == RETRYING else str(State(state).label)
