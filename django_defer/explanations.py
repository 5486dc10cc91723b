"""What a run does now and why, in a sentence: the same one on its page and in `defer_explain`.

Plain text with the zone's name beside each time; a page escapes it. Every state has its function
in SENTENCES, and every reason what it means in REASONS.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_defer.conf import conf
from django_defer.durations import parse_duration
from django_defer.models import Attempt, BackgroundFunction, Cluster, Queue, Run
from django_defer.reports import is_overdue
from django_defer.run_facts import attempts_made, lost_in_words, missed_in_words
from django_defer.states import ACTIVE, WAITING, Outcome, Reason, State
from django_defer.wording import (
    first_line,
    paused_how,
    relative,
    show_duration,
    slot_beside,
    with_zone,
)

if TYPE_CHECKING:
    from collections.abc import Callable

EARLIER_SLOTS: Final = 1_000  # among which the run is looked for that a skipped slot met

# What each reason means for a run in the states that it leads to.
REASONS: Final[dict[tuple[str, str], Any]] = {
    (State.PARKED, Reason.NO_CODE): gettext_lazy("Waits: no live worker's code has %(function)s."),
    (State.PARKED, Reason.FUNCTION_PAUSED): gettext_lazy("Waits: %(function)s is paused%(how)s"),
    (State.PARKED, Reason.OVERLAP): gettext_lazy(
        "Waits: the run of an earlier slot is not finished."
    ),
    (State.SKIPPED, Reason.OVERLAP): gettext_lazy("Skipped: %(why)s."),
    (State.SKIPPED, Reason.MISSED): gettext_lazy("Skipped: %(why)s."),
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


def state_in_words(run: Run, at: datetime) -> str:
    """Return what the run does now and why."""
    said = SENTENCES.get(run.state, _ended)(run, at)
    return f"{said} {_deadline_in_words(run)}".strip()


def why_skipped(run: Run) -> str:
    """Return why a slot was skipped, as the end of a sentence; "" of what was not skipped."""
    if run.state != State.SKIPPED:
        return ""
    if run.reason == Reason.MISSED:
        return _("no scheduler ran at that time, and its catch-up left it out")
    if run.reason != Reason.OVERLAP:
        return _label_of(run)
    earlier = _run_in_the_way(run)
    if earlier is None or run.slot is None or earlier.slot is None:
        return _("the run of another slot was not finished")
    slot = {"slot": slot_beside(earlier.slot, run.slot)}
    if earlier.started_at and run.finished_at and earlier.started_at <= run.finished_at:
        return _("the run of %(slot)s was still running") % slot
    return _("the run of %(slot)s was not finished") % slot


def _run_in_the_way(run: Run) -> Run | None:
    """Return the run of the nearest earlier slot that was unfinished when this one was skipped."""
    if run.definition_id is None or run.slot is None or run.finished_at is None:
        return None
    before = Run.objects.filter(definition=run.definition_id, slot__lt=run.slot).order_by("-slot")
    nearest = before.values("pk")[:EARLIER_SLOTS]
    unfinished = Q(finished_at__isnull=True) | Q(finished_at__gt=run.finished_at)
    found = Run.objects.filter(unfinished, pk__in=nearest).exclude(state=State.SKIPPED)
    return found.only("slot", "started_at").order_by("-slot").first()


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
    if is_overdue(run.run_after, at):
        return (
            _(
                "Due since %(time)s (%(relative)s), and no scheduler has queued it. "
                "Start one with manage.py defer_worker."
            )
            % when
        )
    if run.attempt and _was_lost(run):
        return _("Lost, starts again at %(time)s (%(relative)s).") % when
    if not run.failures:
        return _("Waits until %(time)s (%(relative)s).") % when
    facts = {"n": run.failures + 1, "most": run.max_attempts, "error": run.error_class, **when}
    if run.error_class:
        return (
            _("Retrying: attempt %(n)s of %(most)s at %(time)s (%(relative)s), after %(error)s.")
            % facts
        )
    return _("Retrying: attempt %(n)s of %(most)s at %(time)s (%(relative)s).") % facts


def _was_lost(run: Run) -> bool:
    """Say whether the latest attempt was lost."""
    outcomes = Attempt.objects.filter(run=run.pk).order_by("-number", "-id")
    return outcomes.values_list("outcome", flat=True).first() == Outcome.LOST


def _queued(run: Run, at: datetime) -> str:
    since = show_duration(at - (run.queued_at or run.enqueued_at))
    facts = {"time": since, "queue": run.queue}
    if queue := Queue.objects.filter(name=run.queue, paused_at__isnull=False).first():
        facts["how"] = paused_how(queue)
        return _("Due for %(time)s, and waits: the queue “%(queue)s” is paused%(how)s") % facts
    if function := BackgroundFunction.objects.paused().filter(pk=run.function_id).first():
        facts["how"] = paused_how(function)
        return _("Due for %(time)s, and waits: its function is paused%(how)s") % facts
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
    if said := reason_in_words(run):
        return said
    return _("Waits: %(reason)s.") % {"reason": _label_of(run) or _("no reason was recorded")}


def reason_in_words(run: Run) -> str:
    """Return what our own reason means in this state, "" if it is none of ours."""
    sentence = REASONS.get((run.state, run.reason))
    if sentence is None:
        return ""
    if run.state == State.DISCARDED and run.reason == Reason.EXPIRED and run.attempt:
        sentence = _("Discarded: it had not started again by %(deadline)s.")
    facts = {
        "function": run.function_id,
        "deadline": with_zone(run.discard_after) if run.discard_after else _("its deadline"),
        "why": why_skipped(run),
    }
    if run.reason == Reason.FUNCTION_PAUSED:
        row = BackgroundFunction.objects.paused().filter(pk=run.function_id).first()
        facts["how"] = paused_how(row)
    said = str(sentence) % facts
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
    lost = f" ({lost_in_words(run.losses)})" if run.losses else ""
    said = f"{made}{lost}: {first_line(run.error)}" if run.error else f"{made}{lost}."
    reason = reason_in_words(run)
    return f"{said.rstrip('.')}. {reason}" if reason else said


def _ended(run: Run, at: datetime) -> str:
    """Return the reason of what ended without an error; operators' reasons are sentences."""
    if said := reason_in_words(run):
        return said
    reason = _label_of(run)
    if run.state in (State.CANCELLED, State.ABORTED) and reason.startswith(str(run.state)):
        return f"{reason[:1].upper()}{reason[1:]}."
    label = str(State(run.state).label) if run.state in State.values else str(run.state)
    return f"{label[:1].upper()}{label[1:]}" + (f": {reason}." if reason else ".")


def _label_of(run: Run) -> str:
    return str(Reason(run.reason).label) if run.reason in Reason.values else run.reason


SENTENCES: Final[dict[str, Callable[[Run, datetime], str]]] = {
    State.SCHEDULED: _scheduled,
    State.QUEUED: _queued,
    State.PARKED: _parked,
    State.CLAIMED: _claimed,
    State.RUNNING: _running,
    State.SUCCEEDED: _succeeded,
    State.FAILED: _failed,
    State.ABORTED: _ended,
    State.CANCELLED: _ended,
    State.DISCARDED: _ended,
    State.SKIPPED: _ended,
}
