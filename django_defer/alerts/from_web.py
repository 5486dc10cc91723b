"""Tell of trouble from a web process: when no worker is alive, nobody else does.

However often it is asked for, by whomever, and in however many processes: once every PAUSE.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.db.models import Q

from django_defer.alerts.conditions import watch
from django_defer.alerts.dispatch import work
from django_defer.alerts.routes import wanted
from django_defer.alerts.slots import WATCH
from django_defer.models import AlertChannel

if TYPE_CHECKING:
    from datetime import datetime

logger = logging.getLogger(__name__)

PAUSE: Final = timedelta(seconds=30)
SECONDS: Final = 2.0  # within which messages are begun, and that each is waited for


def tell(using: str, now: datetime, *, has_workers: bool) -> None:
    """Raise what is wrong, and send it where no worker could; an error of this is logged only."""
    try:
        if not wanted() or not _is_our_turn(using, now):
            return
        if has_workers:
            watch(using, now)
        else:
            work(using, SECONDS, patience=SECONDS)
    except Exception:
        logger.exception("alerts.not_told", extra={"event": "alerts.not_told"})


def _is_our_turn(using: str, now: datetime) -> bool:
    """Take the turn, unless anybody did within PAUSE."""
    rows = AlertChannel.objects.using(using)
    free = rows.filter(Q(not_before=None) | Q(not_before__lte=now), name=WATCH)
    if free.update(not_before=now + PAUSE):
        return True
    if rows.filter(name=WATCH).exists():
        return False
    rows.bulk_create([AlertChannel(name=WATCH)], ignore_conflicts=True)
    return bool(free.update(not_before=now + PAUSE))
