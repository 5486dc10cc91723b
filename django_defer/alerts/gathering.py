"""Gather events into alerts, and say which messages are due.

There is one open alert of an event and a subject. Each function works in short transactions that
lock the alert they change, so any number of processes may call them at once.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from django.db import IntegrityError, connections, transaction
from django.db.models import F, Max, Q

from django_defer.alerts.events import CONDITIONS, FAILURES, Event
from django_defer.alerts.examples import with_examples
from django_defer.alerts.recording import names_of
from django_defer.alerts.routes import routes
from django_defer.models import Alert, AlertDelivery, AlertEvent
from django_defer.models.alerts import MessageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from datetime import datetime

    from django.db.models import QuerySet

    from django_defer.alerts.routes import Route

T = TypeVar("T")

BATCH: Final = 500  # events of a transaction
MOST_BATCHES: Final = 100  # of one call
MOST_ALERTS: Final = 200  # of which one call makes messages
GATHER: Final = timedelta(seconds=10)  # a first message waits so long for more of its kind
MOST_GATHER: Final = timedelta(seconds=60)  # and so long while they keep coming
REMINDERS: Final = (  # after the first, second … message; the last one goes on
    timedelta(minutes=10),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=8),
    timedelta(days=1),
)
# What begins again so soon after it was over is the same alert: its messages become rarer.
SAME: Final = timedelta(hours=1)
SILENT: Final = timedelta(days=7)  # after which failures without a success are over
PAST: Final = timedelta(hours=1)  # after which what happens at a moment is over
MOMENTS: Final = frozenset(Event) - CONDITIONS - FAILURES
SUPERSEDED: Final = "a later message took its place"


def gather(using: str, now: datetime) -> int:
    """Fold the events that were written into open alerts; return how many there were."""
    total = 0
    for _ in range(MOST_BATCHES):
        if not _written(using).exists():
            break
        taken = _again_if_raced(lambda: _gather_batch(using, now))
        total += taken
        if taken < BATCH:
            break
    return total


def raise_condition(using: str, event: Event, subject: str, detail: str, now: datetime) -> None:
    """Open the alert of a condition, or say that it lasts. Safe to repeat."""

    def update() -> None:
        with _writing(using):
            alert, is_new = _open(using, event, subject, now, now)
            if is_new:
                alert.count += 1
                alert.next_message_at = max(alert.next_message_at or now, now + GATHER)
            alert.detail, alert.last_at = detail, now
            alert.save(using=using, update_fields=(*_FOLDED, "detail"))

    _again_if_raced(update)


def close(using: str, alert: Alert, now: datetime, *, recovered: bool) -> None:
    """Close an alert, unless anything has happened to it since it was read.

    Whoever was told of it is told that it has recovered. What nobody was told yet still is, of
    failures: a run that failed for good stays failed. A condition that nobody noticed is over.
    """
    with _writing(using):
        unchanged = Alert.objects.using(using).filter(
            pk=alert.pk, closed_at__isnull=True, count=alert.count, last_at=alert.last_at
        )
        if not unchanged.update(closed_at=now):
            return
        alert.refresh_from_db(using=using)
        if recovered:
            _say_recovered(using, alert, now)
        if alert.event in CONDITIONS:
            alert.told_count = alert.count
        alert.save(using=using, update_fields=("told_count",))


def schedule_messages(using: str, now: datetime) -> int:
    """Make the messages that are due; return how many deliveries that makes."""
    due = list(due_alerts(using, now).order_by("pk").values_list("pk", flat=True)[:MOST_ALERTS])
    made = sum(_schedule(using, pk, now) for pk in due)
    _close_what_is_past(using, now)
    return made


def due_alerts(using: str, now: datetime) -> QuerySet[Alert]:
    """Return the alerts of which somebody is to be told now."""
    news = Q(count__gt=F("told_count")) | Q(event__in=CONDITIONS, closed_at__isnull=True)
    return Alert.objects.using(using).filter(
        news, next_message_at__lte=now, acknowledged_at__isnull=True, event__in=Event
    )


def hurry(using: str, now: datetime) -> None:
    """Let first messages of events wait no longer: nothing more is coming."""
    new = Alert.objects.using(using).filter(messages=0, next_message_at__gt=now)
    new = new.exclude(event__in=CONDITIONS)  # these may be over soon
    if new.exists():
        new.update(next_message_at=now)


# -- one transaction each ----------------------------------------------------------------------


def _gather_batch(using: str, now: datetime) -> int:
    with _writing(using):
        rows = list(_written(using).order_by("pk").select_for_update(skip_locked=True)[:BATCH])
        found: dict[tuple[str, str], list[AlertEvent]] = {}
        for row in rows:
            found.setdefault((row.event, row.subject), []).append(row)
        for (event, subject), events in sorted(found.items()):  # all lock in the same order
            _fold(using, Event(event), subject, events, now)
        AlertEvent.objects.using(using).filter(pk__in=[row.pk for row in rows])._raw_delete(using)
    return len(rows)


def _fold(
    using: str, event: Event, subject: str, events: Sequence[AlertEvent], now: datetime
) -> None:
    alert, _ = _open(using, event, subject, min(each.at for each in events), now)
    had_news = alert.count > alert.told_count
    alert.count += len(events)
    alert.last_at = max(alert.last_at, *(each.at for each in events))
    if not alert.messages:
        alert.next_message_at = min(alert.last_at + GATHER, alert.opened_at + MOST_GATHER)
    elif not had_news:
        alert.next_message_at = max(alert.next_message_at or now, alert.last_at + GATHER)
    alert.examples = with_examples(using, alert.examples, events)
    alert.save(using=using, update_fields=(*_FOLDED, "examples"))


_FOLDED: Final = (
    *("count", "last_at", "next_message_at", "closed_at"),
    *("acknowledged_at", "acknowledged_by"),
)


def _open(
    using: str, event: Event, subject: str, first_at: datetime, now: datetime
) -> tuple[Alert, bool]:
    """Return the open alert, locked, and whether it is new or was over before; save that."""
    alerts = Alert.objects.using(using).filter(event=event, subject=subject)
    locked = alerts.order_by("-pk").select_for_update()
    if alert := locked.filter(closed_at__isnull=True).first():
        return alert, False
    recent = locked.filter(closed_at__gt=first_at - SAME).first() if event not in MOMENTS else None
    if recent is not None:
        recent.closed_at = None
        recent.acknowledged_at, recent.acknowledged_by = None, ""  # that was of what is over
        if recent.next_message_at is not None:
            recent.next_message_at = min(recent.next_message_at, now + SAME)
        return recent, True
    new = Alert(event=event, subject=subject, opened_at=first_at, last_at=first_at)
    Alert.objects.using(using).bulk_create([new], ignore_conflicts=True)
    alert = locked.get(closed_at__isnull=True)
    return alert, not alert.count


def _schedule(using: str, pk: int, now: datetime) -> int:
    with _writing(using):
        alert = due_alerts(using, now).select_for_update(skip_locked=True).filter(pk=pk).first()
        if alert is None:  # another was faster
            return 0
        kind = MessageKind.REMINDER if alert.messages else MessageKind.OPENED
        told = [route.name for route in _wanting(alert)]
        _deliver(using, alert, told, kind, now)
        _is_told(using, alert, now, by_anybody=bool(told))
    return len(told)


def _say_recovered(using: str, alert: Alert, now: datetime) -> None:
    """Tell those who were told of the alert, if they want to know."""
    latest = dict(alert.deliveries.order_by("pk").values_list("channel", "kind"))
    names = names_of(alert.subject)
    told = [
        route.name
        for route in routes()
        if latest.get(route.name, MessageKind.RECOVERED) != MessageKind.RECOVERED
        and route.wants(Event.RUN_RECOVERED, alert.subject, names)
    ]
    if not told:
        return
    _deliver(using, alert, told, MessageKind.RECOVERED, now)
    if alert.count > alert.told_count and alert.acknowledged_at is None:  # the others' news
        others = [route.name for route in _wanting(alert) if route.name not in told]
        _deliver(using, alert, others, MessageKind.REMINDER, now)
    alert.told_count = alert.count


def _wanting(alert: Alert) -> list[Route]:
    names = names_of(alert.subject)
    return [route for route in routes() if route.wants(Event(alert.event), alert.subject, names)]


def _deliver(
    using: str, alert: Alert, channels: Collection[str], kind: MessageKind, now: datetime
) -> None:
    """Write a message's deliveries; they take the place of earlier ones that were not sent."""
    deliveries = AlertDelivery.objects.using(using).filter(alert=alert)
    number = (deliveries.aggregate(most=Max("number"))["most"] or 0) + 1
    deliveries.filter(channel__in=channels, sent_at__isnull=True, given_up_at__isnull=True).update(
        given_up_at=now, answer=SUPERSEDED
    )
    AlertDelivery.objects.using(using).bulk_create(
        AlertDelivery(
            alert=alert, number=number, kind=kind, channel=channel, made_at=now, due_at=now
        )
        for channel in channels
    )


def _is_told(using: str, alert: Alert, now: datetime, *, by_anybody: bool) -> None:
    alert.messages += int(by_anybody)
    alert.told_count = alert.count
    alert.next_message_at = now + REMINDERS[min(max(alert.messages, 1), len(REMINDERS)) - 1]
    alert.save(using=using, update_fields=("messages", "told_count", "next_message_at"))


def _close_what_is_past(using: str, now: datetime) -> None:
    alerts = Alert.objects.using(using)
    is_open = alerts.filter(closed_at__isnull=True)
    for past in (
        is_open.filter(event__in=FAILURES, last_at__lt=now - SILENT),
        is_open.filter(event__in=MOMENTS, last_at__lt=now - PAST),
    ):
        if past.exists():  # else nobody has to wait for SQLite's one write lock
            past.update(closed_at=now)
    told = Q(count=F("told_count")) | Q(acknowledged_at__isnull=False)
    done = alerts.filter(told, closed_at__isnull=False, next_message_at__lte=now)
    if done.exists():
        done.update(next_message_at=None)


def _written(using: str) -> QuerySet[AlertEvent]:
    """Return the events that are in no alert, but for those that only newer code knows."""
    return AlertEvent.objects.using(using).filter(event__in=Event)


@contextmanager
def _writing(using: str) -> Iterator[None]:
    """Open a transaction that writes first: so SQLite's one lock is taken at once."""
    with transaction.atomic(using=using):
        if connections[using].vendor == "sqlite":
            AlertEvent.objects.using(using).filter(pk=0)._raw_delete(using)
        yield


def _again_if_raced(action: Callable[[], T]) -> T:
    """Do it once more if another process has opened or closed the same alert at that moment."""
    try:
        return action()
    except (IntegrityError, Alert.DoesNotExist):
        return action()
