"""Tell idle clusters that there is work: NOTIFY on PostgreSQL, after the commit, throttled.

NOTIFY takes a database-wide lock at commit, so it never rides on the caller's transaction. It is
a hint: clusters also look by themselves, and after each wake-up they look again one WINDOW later,
so a notification that was throttled away delays nothing for longer than that.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from django.db import Error, connections, transaction

from django_defer.conf import conf

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger(__name__)

CHANNEL = "django_defer"
WINDOW = 0.005  # seconds

_last_sent = 0.0
_has_warned = False


def announce(using: str) -> None:
    """Wake clusters once the transaction on `using` commits; at once outside one."""
    connection = connections[using]
    if connection.vendor != "postgresql" or not conf.listen:
        return
    if not connection.in_atomic_block:
        _notify(using)
    elif not _is_registered(connection):
        transaction.on_commit(partial(_notify, using), using=using, robust=True)


def _is_registered(connection: BaseDatabaseWrapper) -> bool:
    """Say whether the newest callback is ours and can only be rolled back together with us."""
    callbacks = connection.run_on_commit
    if not callbacks:
        return False
    savepoints, callback = callbacks[-1][:2]
    ours = isinstance(callback, partial) and callback.func is _notify
    return ours and savepoints <= set(connection.savepoint_ids)


def _notify(using: str) -> None:
    global _last_sent
    now = time.monotonic()
    if now - _last_sent < WINDOW:
        return
    _last_sent = now
    try:
        with connections[using].cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")
    except Error as error:  # what it announces is committed: its caller has not failed
        _warn(error)


def _warn(error: Error) -> None:
    """Say, once a process, that clusters are not woken and find work when they look themselves."""
    global _has_warned
    if _has_warned:
        return
    _has_warned = True
    logger.warning("wakeup.failed %s", error, extra={"event": "wakeup.failed"})
