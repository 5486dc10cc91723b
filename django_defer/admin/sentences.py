"""What a run does now and why, in one sentence; and what became of the runs it enqueued.

Sentences are plain text with the zone's name beside each time; the pages escape them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_defer.admin.rendering import (
    RETRYING,
    Links,
    relative,
    show_duration,
    with_zone,
)
from django_defer.admin.slots import missed_in_words, slot_in_words
from django_defer.conf import conf
from django_defer.durations import parse_duration
from django_defer.models import Attempt, BackgroundFunction, Cluster, Queue, Run
from django_defer.querysets import RunQuerySet
from django_defer.states import ACTIVE, WAITING, Outcome, Reason, State

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

# What each reason means for a run in the states that it leads to.
REASONS: Final[dict[tuple[str, str], Any]] = {
    (State.PARKED, Reason.NO_CODE): gettext_lazy("Waits: no live worker's code has %(function)s."),
    (State.PARKED, Reason.FUNCTION_PAUSED): gettext_lazy("Waits: %(function)s is paused."),
    (State.PARKED, Reason.OVERLAP): gettext_lazy(
        "Waits: the run of an earlier slot is not finished."
    ),
    (State.SKIPPED, Reason.OVERLAP): gettext_lazy(
        "Skipped: the run of another slot was not finished."
    ),
    (State.SKIPPED, Reason.MISSED): gettext_lazy(
        "Skipped: no scheduler ran at that time, and its catch-up left it out."
    ),
    (State.DISCARDED, Reason.OVERLAP): gettext_lazy(
        "Discarded: a newer slot came before it had started."
    ),
    (State.DISCARDED, Reason.SUPERSEDED): gettext_lazy(
        "Discarded: a newer slot came while it waited for a retry."
    ),
    (State.DISCARDED, Reason.EXPIRED): gettext_lazy(
        "Discarded: it had not started by %(deadline)s."
    ),
    (State.FAILED, Reason.EXPIRED): gettext_lazy(
        "Not tried again: the next attempt could not have started by %(deadline)s."
    ),
}


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
    return f"{made}, {_lost(run.losses)}"


def state_in_words(run: Run, at: datetime) -> str:
    """Return what the run does now and why."""
    sentence = (
        {
            State.SCHEDULED: _scheduled,
            State.QUEUED: _queued,
            State.PARKED: _parked,
            State.CLAIMED: _claimed,
            State.RUNNING: _running,
            State.SUCCEEDED: _succeeded,
            State.FAILED: _failed,
        }.get(State(run.state))
        if run.state in State.values
        else None
    )
    said = sentence(run, at) if sentence else _ended(run)
    return f"{said} {_deadline_in_words(run)}".strip()


def count_by_shown_state(runs: RunQuerySet) -> dict[str, int]:
    """Count by state, with the runs that wait for another attempt apart from the delayed ones."""
    counts = runs.count_by_state()
    scheduled = counts.get(State.SCHEDULED, 0)
    if scheduled:
        retrying = runs.retrying().count()
        counts |= {State.SCHEDULED: scheduled - retrying, RETRYING: retrying}
    return {str(state): counts[state] for state in ORDER if counts.get(state)}


def children_in_words(run: Run, links: Links) -> str:
    """Return "This run enqueued 300: 297 succeeded, 2 retrying, 1 failed", with links.

    For the run of a slot: "Slot Monday 2026-11-23 08:00 UTC: 297 of 300 succeeded, …".
    """
    counts = count_by_shown_state(Run.objects.children_of(run.pk))
    if not counts:
        return ""
    total = links.to_list(Run, sum(counts.values()), parent=run.pk)
    if run.slot is None:
        return format_html(_("This run enqueued {}: {}."), total, _parts(run, counts, links))
    done = counts.pop(str(State.SUCCEEDED), 0)
    first = format_html(
        _("{} of {} succeeded"),
        links.to_list(Run, done, parent=run.pk, state=State.SUCCEEDED),
        total,
    )
    rest = format_html(", {}", _parts(run, counts, links)) if counts else ""
    return format_html(_("Slot {}: {}."), slot_in_words(run.slot), format_html("{}{}", first, rest))


def _parts(run: Run, counts: dict[str, int], links: Links) -> str:
    parts = (
        (links.to_list(Run, f"{n} {_state_word(state)}", parent=run.pk, state=state),)
        for state, n in counts.items()
    )
    return format_html_join(", ", "{}", parts)


def _state_word(state: str) -> str:
    return _("retrying") if state == RETRYING else str(State(state).label)


def _lost(times: int) -> str:
    return ngettext("lost once", "lost %(n)s times", times) % {"n": times}


def _deadline_in_words(run: Run) -> str:
    """Return what becomes of a waiting run that does not start in time."""
    if run.state not in WAITING or run.discard_after is None:
        return ""
    facts = {"deadline": with_zone(run.discard_after)}
    if run.attempt:
        return _("Discarded if it has not started again by %(deadline)s.") % facts
    return _("Discarded if it has not started by %(deadline)s.") % facts


def _scheduled(run: Run, at: datetime) -> str:
    when = {"time": with_zone(run.run_after), "relative": relative(run.run_after, at)}
    if run.attempt and _was_lost(run):
        return _("Lost, starts again at %(time)s (%(relative)s).") % when
    if not run.failures:
        return _("Waits until %(time)s (%(relative)s).") % when
    return _("Retrying: attempt %(n)s of %(most)s at %(time)s (%(relative)s).") % {
        "n": run.failures + 1,
        "most": run.max_attempts,
        **when,
    }


def _was_lost(run: Run) -> bool:
    """Say whether the latest attempt was lost."""
    outcomes = Attempt.objects.filter(run=run.pk).order_by("-number", "-id")
    return outcomes.values_list("outcome", flat=True).first() == Outcome.LOST


def _queued(run: Run, at: datetime) -> str:
    since = show_duration(at - (run.queued_at or run.enqueued_at))
    facts = {"time": since, "queue": run.queue}
    if Queue.objects.filter(name=run.queue, paused_at__isnull=False).exists():
        return _("Due for %(time)s, and waits: the queue “%(queue)s” is paused.") % facts
    if BackgroundFunction.objects.paused().filter(pk=run.function_id).exists():
        return _("Due for %(time)s, and waits: its function is paused.") % facts
    if not _is_served(run.queue, at):
        return (
            _(
                "Due for %(time)s, and waits: no live worker serves the queue “%(queue)s”. "
                "Start one with manage.py defer_worker."
            )
            % facts
        )
    return _("Due for %(time)s, waits for a free worker of the queue “%(queue)s”.") % facts


def _is_served(queue: str, at: datetime) -> bool:
    lease: timedelta = parse_duration(conf.lease, name='DEFER["LEASE"]')
    queues = Cluster.objects.live(at, lease).values_list("queues", flat=True)
    return any(not served or queue in served for served in queues)


def _parked(run: Run, at: datetime) -> str:
    if said := _reason_in_words(run):
        return said
    return _("Waits: %(reason)s.") % {"reason": _label_of(run) or _("no reason was recorded")}


def _reason_in_words(run: Run) -> str:
    """Return what our own reason means in this state, "" if it is none of ours."""
    sentence = REASONS.get((run.state, run.reason))
    if sentence is None:
        return ""
    if run.state == State.DISCARDED and run.reason == Reason.EXPIRED and run.attempt:
        sentence = _("Discarded: it had not started again by %(deadline)s.")
    said = str(sentence) % {
        "function": run.function_id,
        "deadline": with_zone(run.discard_after) if run.discard_after else _("its deadline"),
    }
    missed = missed_in_words(run) if run.state == State.SKIPPED else ""
    return said + " " + _("It stands for %(slots)s.") % {"slots": missed} if missed else said


def _claimed(run: Run, at: datetime) -> str:
    return _("Handed to a worker%(place)s, about to start.") % {"place": _place(run)}


def _running(run: Run, at: datetime) -> str:
    facts = {
        "n": attempts_made(run),
        "most": run.max_attempts,
        "place": _place(run),
        "time": show_duration(at - run.started_at) if run.started_at else "",
    }
    if run.abort_requested_at:
        facts |= {"since": with_zone(run.abort_requested_at), "why": run.reason or _("no reason")}
        return _("Aborting since %(since)s (%(why)s); has run for %(time)s%(place)s.") % facts
    return _("Has run for %(time)s%(place)s, attempt %(n)s of %(most)s.") % facts


def _place(run: Run) -> str:
    if run.state not in ACTIVE or run.cluster is None:
        return ""
    cluster = Cluster.objects.filter(pk=run.cluster).defer("functions").first()
    return _(" on %(host)s") % {"host": cluster} if cluster else ""


def _succeeded(run: Run, at: datetime) -> str:
    facts = {"time": show_duration(run.duration), "n": run.attempt}
    if run.attempt > 1:
        return _("Succeeded at attempt %(n)s, in %(time)s.") % facts
    return _("Succeeded in %(time)s.") % facts


def _failed(run: Run, at: datetime) -> str:
    made = ngettext(
        "Failed for good after %(n)s attempt", "Failed for good after %(n)s attempts", run.attempt
    ) % {"n": run.attempt}
    lost = f" ({_lost(run.losses)})" if run.losses else ""
    said = f"{made}{lost}: {_first_line(run.error)}" if run.error else f"{made}{lost}."
    reason = _reason_in_words(run)
    return f"{said.rstrip('.')}. {reason}" if reason else said


def _ended(run: Run) -> str:
    """Return the reason of what ended without an error; operators' reasons are sentences."""
    if said := _reason_in_words(run):
        return said
    reason = _label_of(run)
    if run.state in (State.CANCELLED, State.ABORTED) and reason.startswith(str(run.state)):
        return f"{reason[:1].upper()}{reason[1:]}."
    label = str(State(run.state).label) if run.state in State.values else str(run.state)
    return f"{label[:1].upper()}{label[1:]}" + (f": {reason}." if reason else ".")


def _label_of(run: Run) -> str:
    return str(Reason(run.reason).label) if run.reason in Reason.values else run.reason


def _first_line(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= 300 else f"{line[:299]}…"
