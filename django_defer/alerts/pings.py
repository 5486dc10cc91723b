"""The dead man's switch: an address outside is told that a function started, and how it went.

A ping is a row, written with the outcome that it is about; `send_due_pings` makes the requests, one
function's in their order. Nobody gains from one that comes late, so after an hour it is dropped.
The address comes from the code of the function, never from a row.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from django.db import DatabaseError, connections, transaction
from django.db.models import Min

from django_defer.conf import conf
from django_defer.connections import UNREACHABLE, drop
from django_defer.models import Ping, PingKind
from django_defer.registry import registry
from django_defer.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from django.db.models import QuerySet

    from django_defer.outcomes import Ended
    from django_defer.signals import RunEvent

logger = logging.getLogger(__name__)

TOO_LATE: Final = timedelta(hours=1)
LEASE: Final = timedelta(seconds=60)  # a sender that died keeps its ping so long
PAUSES: Final = (5, 15, 60, 300, 900)  # seconds after the first, second, … failure
KINDS: Final = {
    State.SUCCEEDED: PingKind.SUCCESS,
    State.CANCELLED: PingKind.SUCCESS,  # the function said so itself
    State.FAILED: PingKind.FAIL,
    State.ABORTED: PingKind.FAIL,
}


# -- writing ---------------------------------------------------------------------------------------


def is_event_wanted(name: str, function: str) -> bool:
    """Say whether `receive` is to be told of this: the start of a function that is pinged."""
    return name == "run.started" and _key_of_pinged(function) is not None


def receive(event: RunEvent) -> None:
    """Write the ping of a run's first start. If that fails, the run goes on without."""
    if event.attempt != 1 or (key := _key_of_pinged(event.function)) is None:
        return
    using = str(conf.database)
    try:
        with transaction.atomic(using=using):
            Ping.objects.using(using).create(function=key, kind=PingKind.START, run_id=event.run_id)
    except DatabaseError as error:
        if isinstance(error, UNREACHABLE) and not connections[using].in_atomic_block:
            drop(using)  # the function may do better with a new connection
        logger.warning(
            "ping.not_written %s run=%s: %s",
            key,
            event.run_id,
            str(error).strip(),
            extra={"event": "ping.not_written", "run_id": str(event.run_id)},
        )


def record(using: str, ended: Sequence[Ended]) -> None:
    """Write the pings of what ended for good; called with the outcome's transaction open."""
    Ping.objects.using(using).bulk_create(_pings_of(ended))


def is_success_wanted(function: str, seconds: float) -> bool:
    """Say whether this function's success is pinged."""
    return _key_of_pinged(function) is not None


def _pings_of(ended: Sequence[Ended]) -> Iterator[Ping]:
    for each in ended:
        kind = KINDS.get(each.state)
        if kind is None or each.outcome is None:  # it goes on, or it never began
            continue
        if (key := _key_of_pinged(each.function)) is not None:
            yield Ping(function=key, kind=kind, run_id=each.run_id)


def _key_of_pinged(key: str) -> str | None:
    """Return the key that the function has now, if it is to be pinged."""
    function = registry.find(key)
    if function is None or function.schedule_options.ping_url is None:
        return None
    return str(function.key)


# -- sending ---------------------------------------------------------------------------------------


def addresses() -> dict[str, str]:
    """Return the address of each function that has one."""
    urls = ((function.key, function.schedule_options.ping_url) for function in registry)
    return {key: url for key, url in urls if url is not None}


def is_ping_due(using: str, now: datetime) -> bool:
    """Say, in one query at most, whether `send_due_pings` has anything to do."""
    known = addresses()
    return bool(known) and (
        Ping.objects.using(using).filter(function__in=known, due_at__lte=now).exists()
    )


def send_due_pings(using: str, now: datetime, seconds: float) -> int:
    """Make the requests that are due, for so long at most; return how many went through."""
    until = time.monotonic() + seconds
    urls, sent = addresses(), 0
    _drop_late(using, now)
    while time.monotonic() < until and (ping := _lease(using, urls, now)) is not None:
        sent += _send(using, ping, urls[ping.function], now)
    _hold_back(using, urls, now)
    return sent


def _drop_late(using: str, now: datetime) -> None:
    dropped, _ = Ping.objects.using(using).filter(at__lt=now - TOO_LATE).delete()
    if dropped:
        logger.warning("ping.dropped too late: %s", dropped, extra={"event": "ping.dropped"})


def _heads(using: str, urls: dict[str, str]) -> QuerySet[Ping]:
    """Return the oldest ping of each function: the others wait for it."""
    pings = Ping.objects.using(using).filter(function__in=urls)
    oldest = pings.order_by().values("function").annotate(oldest=Min("id")).values("oldest")
    return pings.filter(pk__in=oldest)


def _lease(using: str, urls: dict[str, str], now: datetime) -> Ping | None:
    """Take a ping that is due, so that nobody else sends it meanwhile."""
    for ping in _heads(using, urls).filter(due_at__lte=now).order_by("due_at", "id"):
        mine = Ping.objects.using(using).filter(pk=ping.pk, attempts=ping.attempts)
        ping.attempts += 1
        if mine.update(due_at=now + LEASE, attempts=ping.attempts):
            return ping
    return None


def _send(using: str, ping: Ping, url: str, now: datetime) -> bool:
    # Needed by who sends alone, and urllib.request is slow to import.
    from django_defer.alerts.ping_requests import PingRefused, PingUndelivered, request

    row = Ping.objects.using(using).filter(pk=ping.pk, attempts=ping.attempts)
    try:
        request(address_of(url, ping))
    except PingUndelivered as error:
        pause = PAUSES[min(ping.attempts, len(PAUSES)) - 1]
        row.update(due_at=now + (error.after or timedelta(seconds=pause)))
        _say(logging.INFO, "ping.undelivered", ping, error)
        return False
    except PingRefused as error:
        row.delete()
        _say(logging.WARNING, "ping.refused", ping, error)
        return False
    row.delete()
    return True


def _hold_back(using: str, urls: dict[str, str], now: datetime) -> None:
    """Let pings that wait for an earlier one of their function be due when that is."""
    pings = Ping.objects.using(using)
    for head in _heads(using, urls).filter(due_at__gt=now):
        pings.filter(function=head.function, due_at__lt=head.due_at).update(due_at=head.due_at)


def address_of(url: str, ping: Ping) -> str:
    """Return the address for this ping: "/start", nothing or "/fail", and the run's id."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/") + (f"/{ping.kind}" if ping.kind else "")
    query = "&".join(filter(None, [parts.query, urlencode({"rid": str(ping.run_id)})]))
    return parts._replace(path=path, query=query).geturl()


def _say(level: int, event: str, ping: Ping, error: Exception) -> None:
    text = f"{event} %s kind=%s run=%s: %s"
    values = (ping.function, ping.kind or "success", ping.run_id, error)
    logger.log(level, text, *values, extra={"event": event, "run_id": str(ping.run_id)})
