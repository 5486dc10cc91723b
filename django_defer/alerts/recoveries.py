"""What is over: a function that failed and succeeds again, a schedule that is in time again.

A function has recovered once the newest of its runs to end is a success that began after the last
failure, and no failure was told for QUIET: where some runs fail while others succeed, nothing has
recovered yet. Only its newest runs are looked at: behind a longer queue it is noticed later.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.db.models import Max, Q

from django_defer.alerts.events import FAILURES, Event
from django_defer.alerts.gathering import close
from django_defer.alerts.slots import due_at, slot_margin
from django_defer.models import Alert, AlertEvent, CronDefinition, Run
from django_defer.states import State

if TYPE_CHECKING:
    from datetime import datetime

RECOVERING: Final = FAILURES | {Event.SLOT_MISSED}
QUIET: Final = timedelta(minutes=5)  # without a failure
NEWEST: Final = 500  # runs of a function that are looked at
NEWEST_SLOTS: Final = 20  # of a definition
MOST: Final = 200  # alerts that are looked at, the newest


def close_recovered(using: str, now: datetime) -> None:
    """Close the alerts of what has recovered."""
    is_open = Alert.objects.using(using).filter(closed_at=None, event__in=sorted(RECOVERING))
    alerts = list(is_open.order_by("-last_at")[:MOST])
    if not alerts:
        return
    written = AlertEvent.objects.using(using).filter(event__in=sorted(RECOVERING))
    not_gathered = set(written.values_list("event", "subject").distinct())
    failing = {subject for event, subject in not_gathered if event in FAILURES}
    good: dict[str, datetime | None] = {}  # when the success began that shows that it works
    for alert in alerts:
        key = alert.subject
        if alert.event == Event.SLOT_MISSED:
            is_over = (alert.event, key) not in not_gathered and _is_in_time(using, alert)
        elif key in failing or alert.last_at > now - QUIET:
            is_over = False
        else:
            if key not in good:
                good[key] = _success(using, key)
            began = good[key]
            is_over = began is not None and began > alert.last_at
        if is_over:
            close(using, alert, now, recovered=True)


def _success(using: str, function: str) -> datetime | None:
    """Return when the newest success began, if nothing failed after it."""
    newest = Run.objects.using(using).filter(function=function).order_by("-id")[:NEWEST]
    succeeded = Q(state=State.SUCCEEDED)
    found = newest.aggregate(
        began=Max("started_at", filter=succeeded),
        succeeded=Max("finished_at", filter=succeeded),
        failed=Max("finished_at", filter=Q(state=State.FAILED)),
    )
    if found["began"] is None or (found["failed"] and found["failed"] >= found["succeeded"]):
        return None
    began: datetime = found["began"]
    return began


def _is_in_time(using: str, alert: Alert) -> bool:
    """Say whether a slot's run began within its margin since the last that did not."""
    definition = CronDefinition.objects.using(using).filter(function=alert.subject).first()
    if definition is None:
        return False
    of_slots = Run.objects.using(using).filter(definition=definition, slot__isnull=False)
    newest = of_slots.annotate(was_due=due_at()).order_by("-slot")[:NEWEST_SLOTS]
    return any(
        alert.last_at < started_at <= was_due + slot_margin()
        for started_at, was_due in newest.values_list("started_at", "was_due")
        if started_at is not None
    )
