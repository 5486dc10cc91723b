"""Database connections in our own processes: kept, health-checked, never shared across a fork."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final, TypeVar

from django.db import InterfaceError, InternalError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from django_defer.conf import conf

logger = logging.getLogger(__name__)

T = TypeVar("T")

STATEMENT_TIMEOUT: Final = 5000  # milliseconds, for the supervisor's own statements
CHECK_AFTER: Final = 5.0  # seconds of idleness after which a connection is tested before use
BUSY_PAUSE: Final = 0.05  # seconds between two tries for SQLite's write lock
WORKER_BUSY_TIMEOUT: Final = 60.0  # seconds a function's own writes wait for SQLite's lock
CANCEL_TIMEOUT: Final = 2.0  # seconds to get through to PostgreSQL with a cancellation
# An InternalError is what a PostgreSQL that is a standby now (read-only) answers.
UNREACHABLE: Final = (OperationalError, InterfaceError, InternalError)
IDLE, ACTIVE = 0, 1  # libpq's PQTRANS_IDLE and PQTRANS_ACTIVE


def keep_connections(*, busy_timeout: float | None = None) -> None:
    """Let connections of this process live as long as it does.

    Django's default CONN_MAX_AGE = 0 would reconnect for every run, and its pool is for
    threads. `busy_timeout` (seconds) is how long SQLite may wait for its write lock. A
    transaction takes that lock when it begins: one that reads first and then writes could not
    wait for it any more, and would fail as "locked" (IMMEDIATE, unless the project decided).
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
        elif connection.vendor == "sqlite":
            options["transaction_mode"] = options.get("transaction_mode") or "IMMEDIATE"
            if busy_timeout is not None:
                options["timeout"] = busy_timeout


def limit_statements() -> None:
    """Let no statement of this process (not its children) hang for long on PostgreSQL.

    Where nothing is prepared there may be a pooler, and what is set there stays set for others.
    """
    supervisor = os.getpid()

    def limit(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
        is_ours = os.getpid() == supervisor and connection.vendor == "postgresql"
        if is_ours and conf.prepare_statements:
            with connection.cursor() as cursor:
                cursor.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT}")
                cursor.execute(f"SET lock_timeout = {STATEMENT_TIMEOUT}")

    connection_created.connect(limit, weak=False, dispatch_uid="django_defer.supervisor")


def is_busy(error: Exception, using: str) -> bool:
    """Say whether SQLite's one write lock was taken: usual, and over soon."""
    return connections[using].vendor == "sqlite" and "locked" in str(error)


def close_all() -> None:
    """Close every connection, as before each fork."""
    connections.close_all()


def drop(using: str) -> None:
    """Close a connection that may be broken; the next query opens another."""
    connection = connections[using]
    # Inside a transaction close() would only mark the connection, for the block's end to drop.
    connection.in_atomic_block = connection.closed_in_transaction = False
    try:
        connection.close()
    except Exception:  # noqa: BLE001 - a broken connection may fail to close in any way
        connection.connection = None
    connection.savepoint_ids = []
    connection.needs_rollback = False


def clean_up_after_user_code() -> None:
    """Undo what a function may have left: an open transaction, autocommit off, a broken link."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        is_broken = connection.errors_occurred and not connection.is_usable()
        if is_broken or _is_in_transaction(connection):
            drop(str(connection.alias))
        else:
            connection.errors_occurred = False


def cancel_queries() -> None:
    """Cancel what an interrupted function left under way: the server would go on with it."""
    for connection in connections.all(initialized_only=True):
        raw: Any = connection.connection
        if connection.vendor != "postgresql" or raw is None:
            continue
        if raw.pgconn.transaction_status == ACTIVE:
            try:
                raw.cancel_safe(timeout=CANCEL_TIMEOUT)
            except Exception as error:  # noqa: BLE001 - then the query ends by itself, some time
                logger.warning(
                    "query.not_cancelled %s", error, extra={"event": "query.not_cancelled"}
                )


def _is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Say whether a transaction is open, also one that was begun behind Django's back."""
    if connection.in_atomic_block or not connection.autocommit:
        return True
    raw: Any = connection.connection
    if connection.vendor == "postgresql":
        return bool(raw.pgconn.transaction_status != IDLE)
    return connection.vendor == "sqlite" and bool(raw.in_transaction)


def enter_atomic(stack: ExitStack, using: str) -> None:
    """Open a transaction that the stack ends, however long SQLite's write lock takes to get."""
    while True:
        try:
            stack.enter_context(transaction.atomic(using=using))
            return
        except OperationalError as error:
            if not is_busy(error, using):
                raise
            time.sleep(BUSY_PAUSE)


class Freshness:
    """Tests connections that have been idle for long, once, before they are used again."""

    def __init__(self) -> None:
        self._used = time.monotonic()

    def check(self) -> None:
        """Close the connections, of every alias, that were idle for CHECK_AFTER and are gone."""
        now = time.monotonic()
        if now - self._used > CHECK_AFTER:
            for connection in connections.all(initialized_only=True):
                if connection.connection is not None and not connection.is_usable():
                    drop(str(connection.alias))
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
            if is_busy(error, using):
                if give_up():
                    raise
                time.sleep(BUSY_PAUSE)
                continue
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
