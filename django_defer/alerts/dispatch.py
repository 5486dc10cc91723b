"""Send what is due, each channel in its turn.

A delivery is leased by a conditional UPDATE, sent outside of any transaction, and what came of it
is written then. Who dies in between leaves a lease that runs out: the message is sent again.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import DatabaseError
from django.db.models import Exists, F, OuterRef, Value
from django.utils import timezone, translation

from django_defer.alerts.composing import compose, is_old_news
from django_defer.alerts.conditions import watch
from django_defer.alerts.events import Event
from django_defer.alerts.gathering import due_alerts, gather, hurry, schedule_messages
from django_defer.alerts.messages import Refused, TryLater
from django_defer.alerts.pings import addresses, is_ping_due, send_due_pings
from django_defer.alerts.routes import routes
from django_defer.alerts.sending import MOST_ANSWER, reason_of, send_within
from django_defer.clock import database_now
from django_defer.connections import UNREACHABLE
from django_defer.models import AlertChannel, AlertDelivery, AlertEvent

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from django.db.models import QuerySet

    from django_defer.alerts.messages import Channel
    from django_defer.alerts.routes import Route

logger = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=60)
SEND_SECONDS: Final = 15.0  # that one message may take: mail has several steps
FIRST_PAUSE: Final = timedelta(seconds=10)  # before the second try; it doubles
LONGEST_PAUSE: Final = timedelta(hours=1)
TRIED_FOR: Final = timedelta(hours=24)
LONGEST_AFTER: Final = timedelta(hours=24)  # that the other side may ask us to wait
NOT_OPENED_PAUSE: Final = timedelta(minutes=10)  # for somebody to mend the settings
UNKNOWN_FOR: Final = timedelta(minutes=10)  # a channel, before its messages are given up
MINUTE: Final = timedelta(minutes=1)
TOLD_BEFORE: Final = "an earlier message has told it"


def work(
    using: str, seconds: float, *, is_last: bool = False, patience: float = SEND_SECONDS
) -> None:
    """Notice, gather and send, until nothing is due or the time is up.

    `is_last`: nobody may come by again soon, so failures wait for no more of their kind. What is
    begun in time is waited for, `patience` seconds each.
    """
    until = time.monotonic() + seconds
    if routes():
        _tell(using, until, is_last, patience)
    if addresses() and (left := until - time.monotonic()) > 0:
        _guarded(send_due_pings, using, database_now(using), left)


def _tell(using: str, until: float, is_last: bool, patience: float) -> None:
    with translation.override("en"), timezone.override(None):
        _guarded(watch, using, database_now(using))
        if is_last:
            _guarded(gather, using, database_now(using))
            _guarded(hurry, using, database_now(using))
        while (left := until - time.monotonic()) > 0:
            now = database_now(using)
            done = _guarded(gather, using, now) + _guarded(schedule_messages, using, now)
            done += _guarded(send_due, using, now, left, patience)
            if not done:
                break


def is_wanted() -> bool:
    """Say whether there is anybody to tell anything: a channel, or an address to ping."""
    return bool(routes() or addresses())


def is_work_due(using: str, now: datetime) -> bool:
    """Say, in one query or two, whether there is anything for `work` to do."""
    return is_ping_due(using, now) or (bool(routes()) and _is_message_due(using, now))


def _is_message_due(using: str, now: datetime) -> bool:
    one = Value(1)
    events = AlertEvent.objects.using(using).filter(event__in=Event).order_by()
    alerts, deliveries = due_alerts(using, now).order_by(), _due(using, now).order_by()
    sets = [rows.annotate(one=one).values("one") for rows in (events, alerts, deliveries)]
    return sets[0].union(*sets[1:], all=True).exists()


def send_due(using: str, now: datetime, seconds: float, patience: float | None = None) -> int:
    """Begin to send what is due for so many seconds; return how many messages were sent.

    One message of each channel after another, those first that worked last time.
    """
    began, sent = time.monotonic(), 0
    known = {route.name: route for route in routes()}
    names = set(_due(using, now).order_by().values_list("channel", flat=True).distinct())
    _give_up_unknown(using, names - set(known), now)
    failures = dict(
        AlertChannel.objects.using(using).filter(name__in=names).values_list("name", "failures")
    )
    names &= set(known)
    turns = [
        Turn(using, known[name])
        for name in sorted(names, key=lambda name: (failures.get(name, 0), name))
    ]
    while turns:
        for turn in list(turns):
            passed = time.monotonic() - began
            if passed >= seconds:
                return sent
            # The time that is left says what is begun; what is begun gets all of its own.
            done = turn.send_one(now + timedelta(seconds=passed), patience or SEND_SECONDS)
            sent += done is True
            if done is None:
                turns.remove(turn)
    return sent


class Turn:
    """What one channel has to send."""

    def __init__(self, using: str, route: Route) -> None:
        self.using = using
        self.route = route
        self.channel: Channel | None = None

    def send_one(self, now: datetime, patience: float) -> bool | None:
        """Send the next message: True: sent; False: it failed; None: nothing more for now."""
        if not self._may_send(now):
            return None
        delivery = self._lease(now)
        if delivery is None:
            return None
        began = time.monotonic()

        def clock() -> datetime:
            return now + timedelta(seconds=time.monotonic() - began)

        if is_old_news(delivery):
            same = AlertDelivery.objects.using(self.using).filter(pk=delivery.pk, sent_at=None)
            same.update(given_up_at=now, answer=TOLD_BEFORE)
            return False
        try:
            if self.channel is None:
                self.channel = self.route.open()
            message = compose(delivery)
            answer = send_within(
                self.channel,
                message,
                patience,
                lambda late: self._sent(delivery, message.count, late, clock()),
            )
        except UNREACHABLE:
            raise
        except Exception as error:  # noqa: BLE001 - a channel of somebody's own may raise anything
            self._failed(delivery, error, clock())
            return False
        self._sent(delivery, message.count, answer, clock())
        return True

    # -- the channel -------------------------------------------------------------------------

    def _may_send(self, now: datetime) -> bool:
        """Say whether neither the other side nor our own rate tells it to wait."""
        channels = AlertChannel.objects.using(self.using)
        if channels.filter(name=self.route.name, not_before__gt=now).exists():
            return False
        recent = AlertDelivery.objects.using(self.using).filter(
            channel=self.route.name, sent_at__gt=now - MINUTE
        )
        sent = list(
            recent.order_by("-sent_at").values_list("sent_at", flat=True)[: self.route.rate]
        )
        if len(sent) < self.route.rate or sent[-1] is None:
            return True
        self._note(not_before=sent[-1] + MINUTE)
        return False

    def _note(self, **values: object) -> None:
        channels = AlertChannel.objects.using(self.using)
        if not channels.filter(name=self.route.name).update(**values):
            channels.bulk_create([AlertChannel(name=self.route.name)], ignore_conflicts=True)
            channels.filter(name=self.route.name).update(**values)

    # -- the delivery ------------------------------------------------------------------------

    def _lease(self, now: datetime) -> AlertDelivery | None:
        """Take the next delivery; nobody else sends it until the lease is over."""
        due = _due(self.using, now).filter(channel=self.route.name)
        for delivery in due.select_related("alert").order_by("due_at", "pk")[:5]:
            same = due.filter(pk=delivery.pk, due_at=delivery.due_at)
            if same.update(attempts=F("attempts") + 1, due_at=now + LEASE):
                delivery.attempts += 1
                delivery.due_at = now + LEASE
                return delivery
        return None

    def _sent(self, delivery: AlertDelivery, count: int, answer: str, now: datetime) -> None:
        AlertDelivery.objects.using(self.using).filter(pk=delivery.pk, sent_at=None).update(
            sent_at=now, given_up_at=None, count=count, answer=answer[:MOST_ANSWER]
        )
        self._note(failures=0, not_before=None, last_sent_at=now)
        logger.info(
            "alert.sent %s channel=%s: %s",
            delivery.alert,
            self.route.name,
            answer,
            extra={"event": "alert.sent", "channel": self.route.name},
        )

    def _failed(self, delivery: AlertDelivery, error: Exception, now: datetime) -> None:
        reason = reason_of(error, self.route)
        found = AlertChannel.objects.using(self.using).filter(name=self.route.name)
        failures = (found.values_list("failures", flat=True).first() or 0) + 1
        news: dict[str, object] = {
            "failures": failures,
            "last_error": reason,
            "last_error_at": now,
        }
        mine = AlertDelivery.objects.using(self.using).filter(
            pk=delivery.pk, due_at=delivery.due_at, sent_at=None
        )
        if self.channel is None:  # nothing was tried: it waits as long as it takes
            news["not_before"] = now + NOT_OPENED_PAUSE
            mine.update(due_at=now + NOT_OPENED_PAUSE, attempts=F("attempts") - 1, answer=reason)
        elif isinstance(error, Refused) or now - delivery.made_at >= TRIED_FOR:
            mine.update(given_up_at=now, answer=reason)
        else:
            mine.update(due_at=now + pause_after(delivery.attempts), answer=reason)
        if self.channel is not None and not isinstance(error, Refused):
            after = error.after if isinstance(error, TryLater) else None
            after = pause_after(failures) if after is None else min(after, LONGEST_AFTER)
            news["not_before"] = now + after
        self._note(**news)
        logger.warning(
            "alert.not_sent %s channel=%s attempt=%s: %s",
            delivery.alert,
            self.route.name,
            delivery.attempts,
            reason,
            extra={"event": "alert.not_sent", "channel": self.route.name},
        )


def pause_after(failures: int) -> timedelta:
    """Return how long to wait after so many failures."""
    return min(FIRST_PAUSE * 2.0 ** min(max(failures, 1) - 1, 16), LONGEST_PAUSE)


def _due(using: str, now: datetime) -> QuerySet[AlertDelivery]:
    """Return the deliveries to send now, but for those whose channel is to wait."""
    waiting = AlertChannel.objects.using(using).filter(name=OuterRef("channel"), not_before__gt=now)
    return AlertDelivery.objects.using(using).filter(
        ~Exists(waiting), due_at__lte=now, sent_at__isnull=True, given_up_at__isnull=True
    )


def _give_up_unknown(using: str, names: set[str], now: datetime) -> None:
    """Give up what is for channels that are no longer in the settings.

    After a while: another host may have newer settings than this one.
    """
    for name in sorted(names):
        unknown = _due(using, now).filter(channel=name)
        unknown.filter(made_at__lte=now - UNKNOWN_FOR).update(
            given_up_at=now, answer=f'the setting ALERTS has no channel "{name}" any more'
        )
        unknown.update(due_at=now + MINUTE)


def _guarded(step: Callable[..., int | None], *arguments: Any) -> int:
    """Do one step; an error of it is logged and keeps no other step from being done."""
    try:
        return step(*arguments) or 0
    except UNREACHABLE:
        raise
    except DatabaseError as error:
        logger.error("alerts.failed %s", str(error).strip(), extra={"event": "alerts.failed"})
    except Exception:
        logger.exception("alerts.failed", extra={"event": "alerts.failed"})
    return 0
