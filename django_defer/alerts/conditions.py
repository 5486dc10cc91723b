"""Notice what no run tells of: what lasts, slots whose runs did not start, and what has recovered.

Any process that is alive may do it, and several at once. The judgement is that of `defer_status`;
here it is put into words that stay the same as long as nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django_defer.alerts.causes import (
    NO_WORKERS,
    SCHEDULER_STALLED,
    Condition,
    as_words,
    is_news,
)
from django_defer.alerts.events import CONDITIONS, Event
from django_defer.alerts.gathering import close, raise_condition
from django_defer.alerts.recoveries import RECOVERING, close_recovered
from django_defer.alerts.routes import wanted
from django_defer.alerts.slots import report_missed
from django_defer.conf import conf
from django_defer.durations import parse_duration
from django_defer.models import Alert, CronDefinition, Run
from django_defer.troubles import Kind, judged_status, troubles_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime, timedelta

    from django_defer.reports import Status

NOTICED: Final = CONDITIONS | {Event.SLOT_MISSED}
MOST_LATE: Final = 1_000  # scheduled runs, those longest overdue, that are looked at


def watch(using: str, now: datetime) -> None:
    """Raise and close the alerts of conditions, and find what has recovered.

    Where no channel wants to know, the database is not asked anything.
    """
    if wanted(NOTICED):
        status = judged_status(now)
        rows = Alert.objects.using(using).filter(closed_at=None, event__in=sorted(CONDITIONS))
        alerts = {(Event(alert.event), alert.subject): alert for alert in rows}
        found = {each.key: each for each in conditions_of(using, status, alerts)}
        for key, condition in found.items():
            alert = alerts.get(key)
            if is_news(condition, found) if alert is None else alert.detail != condition.detail:
                raise_condition(using, *key, condition.detail, now)
        for key in alerts.keys() - found.keys():
            _look_again(using, status, alerts[key])
        if wanted((Event.SLOT_MISSED,)):
            report_missed(using, now, found, {each.name for each in status.queues if each.pause})
    if wanted(RECOVERING):
        close_recovered(using, now)


def conditions_of(
    using: str, status: Status, known: Collection[tuple[Event, str]] = ()
) -> Iterator[Condition]:
    """Yield what is wrong. `known` are the keys of open alerts: a queue is not well at once."""
    without = () if status.has_workers else (NO_WORKERS,)
    slow = _slow_queues(status, known)
    for trouble in troubles_of(status):
        if trouble.kind is Kind.NO_WORKERS:
            yield Condition(event=Event.NO_WORKERS, detail=_no_workers(status))
        elif trouble.kind is Kind.SCHEDULER_STALLED:
            yield Condition(event=Event.SCHEDULER_STALLED, detail=_stalled(status), causes=without)
        elif trouble.definition is not None:
            key = str(trouble.definition.row.function_id)
            error = trouble.definition.error
            yield Condition(event=Event.DEFINITION_ERROR, subject=key, detail=error)
        elif trouble.queue is not None and trouble.queue.oldest_due_at is not None:
            slow[trouble.queue.name] = trouble.queue.oldest_due_at
    served = {queue.name for queue in status.queues if queue.is_served}
    for name, oldest in slow.items():
        why = "The workers that serve it are behind" if name in served else "No worker serves it"
        detail = f"{why}: its oldest run has been due since {as_words(oldest)}."
        yield Condition(event=Event.QUEUE_STALLED, subject=name, detail=detail, causes=without)
    for name, oldest in _late_queues(using, status).items():
        if name not in slow:
            detail = f"Runs have been due since {as_words(oldest)}, and no scheduler queues them."
            causes = (*without, SCHEDULER_STALLED)
            yield Condition(event=Event.QUEUE_STALLED, subject=name, detail=detail, causes=causes)


def _slow_queues(status: Status, known: Collection[tuple[Event, str]]) -> dict[str, datetime]:
    """Return the queues that are not paused and whose oldest due run has waited too long.

    One that was reported is well again only below half of the limit, so that it is not reported
    again and again.
    """
    limit = _stalled_after()
    return {
        queue.name: queue.oldest_due_at
        for queue in status.queues
        if queue.oldest_due_at is not None and not queue.pause
        if status.now - queue.oldest_due_at
        > (limit / 2 if (Event.QUEUE_STALLED, queue.name) in known else limit)
    }


def _late_queues(using: str, status: Status) -> dict[str, datetime]:
    """Return the queues, none of them paused, with runs that should be in them for long."""
    limit, first = _stalled_after(), status.scheduler.next_run_at
    if first is None or first > status.now - limit:
        return {}
    paused = [queue.name for queue in status.queues if queue.pause]
    late = Run.objects.using(using).due(status.now - limit).exclude(queue__in=paused)
    rows = late.order_by("run_after").values_list("queue", "run_after")[:MOST_LATE]
    return dict(reversed(rows))


def _look_again(using: str, status: Status, alert: Alert) -> None:
    """Close the alert of a condition that was not found, unless it is only out of sight.

    What an operator stopped is over, but has not recovered.
    """
    recovered = True
    if alert.event == Event.NO_WORKERS:
        recovered = status.has_workers
    elif alert.event == Event.QUEUE_STALLED:
        if not status.has_workers and status.needs_workers:
            return  # then nothing is said of single queues
        recovered = not any(q.name == alert.subject for q in status.queues if q.pause)
    elif alert.event == Event.DEFINITION_ERROR:
        row = CronDefinition.objects.using(using).filter(function=alert.subject).first()
        if row is not None and row.error and row.fires:
            return  # a status shows some of them only
        recovered = row is not None and not row.error
    close(using, alert, status.now, recovered=recovered)


def _stalled_after() -> timedelta:
    return parse_duration(conf.queue_stalled_after, name='DEFER["QUEUE_STALLED_AFTER"]')


def _no_workers(status: Status) -> str:
    due = [
        queue.oldest_due_at for queue in status.queues if queue.oldest_due_at and not queue.pause
    ]
    words = "No run begins."
    if due:
        words += f" The oldest that waits has been due since {as_words(min(due))}."
    return f"{words} {_stalled(status)}".strip()


def _stalled(status: Status) -> str:
    """Return what is due and does not happen, or an empty string."""
    scheduler, words = status.scheduler, []
    if slot := scheduler.overdue_slot_at:
        words.append(f"{scheduler.next_slot_of} was due at {as_words(slot)} and did not fire.")
    if at := scheduler.overdue_run_at:
        words.append(f"A run that was to begin at {as_words(at)} was not queued.")
    if words:
        behind = "The scheduler is behind." if scheduler.ticks else "No scheduler is at work."
        words.insert(0, behind)
    return " ".join(words)
