"""One pass in the foreground, and what can be said of the channels afterwards."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django_defer.alerts.causes import as_words
from django_defer.alerts.dispatch import work
from django_defer.alerts.gathering import GATHER
from django_defer.alerts.routes import routes
from django_defer.clock import database_now
from django_defer.models import Alert, AlertChannel, AlertDelivery
from django_defer.status_text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator


NO_CHANNELS: Final = "The setting ALERTS has no channel, so nobody is told anything."
PAUSE: Final = 0.1  # seconds, beyond those for which a new alert waits for more of its kind


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass did: messages sent by it or meanwhile, and those that are to be tried again."""

    sent: int
    waiting: int

    def __str__(self) -> str:
        if not routes():
            return NO_CHANNELS
        messages = "message" if self.sent == 1 else "messages"
        return f"{self.sent} {messages} sent, {self.waiting} to be sent later."


def run_pass(using: str, seconds: float) -> Pass:
    """Notice, gather and send, until nothing is due or the time is up.

    What is new is looked at twice: a deploy between two workers is over by then.
    """
    until, began = time.monotonic() + seconds, database_now(using)
    work(using, seconds)
    new = Alert.objects.using(using).filter(closed_at=None, messages=0, acknowledged_at=None)
    soon = began + timedelta(seconds=seconds)
    if new.filter(next_message_at__gt=began, next_message_at__lte=soon).exists():
        time.sleep(max(0.0, min(GATHER.total_seconds() + PAUSE, until - time.monotonic())))
        work(using, max(1.0, until - time.monotonic()), is_last=True)
    deliveries = AlertDelivery.objects.using(using)
    return Pass(
        sent=deliveries.filter(sent_at__gte=began).count(),
        waiting=deliveries.filter(sent_at=None, given_up_at=None).count(),
    )


def describe_channels(using: str) -> Iterator[str]:
    """Yield lines that say how each channel of the settings is doing."""
    rows = AlertChannel.objects.using(using).in_bulk([route.name for route in routes()])
    if not routes():
        yield NO_CHANNELS
    for route in routes():
        row = rows.get(route.name) or AlertChannel(name=route.name)
        yield route.name
        yield f"  class       {route.path}"
        yield f"  events      {', '.join(sorted(route.events)) or 'none'}"
        yield f"  last sent   {as_words(row.last_sent_at) if row.last_sent_at else 'never'}"
        if row.last_error_at:
            yield f"  last error  {as_words(row.last_error_at)}: {one_line(row.last_error)}"
        if row.not_before:
            yield f"  not before  {as_words(row.not_before)}"
