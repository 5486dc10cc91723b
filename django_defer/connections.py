"""Database connections in our own processes: kept, health-checked, never shared across a fork."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from django.db import InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger(__name__)

T = TypeVar("T")

CHECK_AFTER: Final = 5.0  # seconds of idleness after which a connection is tested before use
UNREACHABLE: Final = (OperationalError, InterfaceError)


def keep_connections(*, busy_timeout: float | None = None) -> None:
    """Let connections of this process live as long as it does.

    Django's default CONN_MAX_AGE = 0 would reconnect for every run, and its pool is for
    threads. `busy_timeout` (seconds) is how long SQLite may wait for its write lock.
    """
    for connection in connections.all():
        connection.close()
        settings = connection.settings_dict
        settings["CONN_MAX_AGE"] = None
        settings["CONN_HEALTH_CHECKS"] = False
        options = settings["OPTIONS"] = dict(settings.get("OPTIONS") or {})
        if connection.vendor == "postgresql":
            options.pop("pool", None)
            options.setdefault("connect_timeout", 5)
            options.setdefault("tcp_user_timeout", 5000)
        elif connection.vendor == "sqlite" and busy_timeout is not None:
            options["timeout"] = busy_timeout


def close_all() -> None:
    """Close every connection, as before each fork."""
    connections.close_all()


def drop(using: str) -> None:
    """Close a connection that may be broken; the next query opens another."""
    connection = connections[using]
    try:
        connection.close()
    except Exception:  # noqa: BLE001 - a broken connection may fail to close in any way
        connection.connection = None
    connection.in_atomic_block = False
    connection.savepoint_ids = []
    connection.needs_rollback = False
    connection.run_on_commit = []


def clean_up_after_user_code() -> None:
    """Undo what a function may have left: an open transaction, autocommit off, a broken link."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        if connection.in_atomic_block or not connection.get_autocommit():
            drop(str(connection.alias))
        elif connection.errors_occurred and not connection.is_usable():
            drop(str(connection.alias))
        else:
            connection.errors_occurred = False


class Freshness:
    """Tests a connection that has been idle for long, once, before it is used again."""

    def __init__(self) -> None:
        self._used = time.monotonic()

    def check(self, using: str) -> None:
        """Reconnect if the connection was idle for CHECK_AFTER seconds and is gone."""
        now = time.monotonic()
        connection: BaseDatabaseWrapper = connections[using]
        if now - self._used > CHECK_AFTER and connection.connection is not None:
            if not connection.is_usable():
                drop(using)
        self._used = now


def persistently(using: str, action: Callable[[], T], *, give_up: Callable[[], bool]) -> T:
    """Do `action` until the database takes it, reconnecting, 0.1 to 2 s apart.

    `action` must be safe to repeat. Raises the database's error once `give_up()` says so.
    """
    pause, said = 0.1, False
    while True:
        try:
            return action()
        except UNREACHABLE as error:
            drop(using)
            if give_up():
                raise
            if not said:
                said = True
                logger.warning(
                    "database.unreachable waiting for the database: %s",
                    str(error).strip(),
                    extra={"event": "database.unreachable"},
                )
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
