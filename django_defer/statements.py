"""Execute the few statements of the hot path: prepared on PostgreSQL, without detours on SQLite.

Django's own cursors bind on the client and never prepare; on SQLite, what they do around a
statement takes as long as the statement. Ours are on the same connection, so they join its
transactions; errors are Django's all the same.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from django.db import connections

from django_defer.conf import conf
from django_defer.connections import IDLE
from django_defer.prepared import Prepared

# Seconds between two tries to get SQLite's write lock, before it is left to SQLite to wait.
PAUSES: Final = (0.00005, 0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0016, 0.0016)


def execute(
    using: str, sql: str, values: Mapping[str, Any], *, hot: bool = False
) -> list[tuple[Any, ...]]:
    """Execute a statement that returns rows, with %(name)s placeholders; return them.

    What is `hot` is executed in the quickest way there is, on a connection that does not listen. On
    SQLite that is not for connections whose statements a project wraps (`execute_wrappers`).
    """
    connection = connections[using]
    is_postgresql = connection.vendor == "postgresql"
    is_quick = is_postgresql or (hot and not connection.execute_wrappers)
    if not (is_quick and conf.prepare_statements):
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall())
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    with connection.wrap_database_errors:
        raw = connection.connection
        if not is_postgresql:
            return list(raw.execute(_named(sql), values))
        if hot and raw.autocommit and raw.pgconn.transaction_status == IDLE:
            return _prepared_of(raw).execute(sql, values)
        cursor = _cursor_of(raw)
        cursor.execute(sql, values, binary=True)
        return list(cursor.fetchall())


def execute_together(
    using: str, *statements: tuple[str, Mapping[str, Any]]
) -> list[list[tuple[Any, ...]]]:
    """Execute hot statements in one transaction of SQLite; return the rows of each."""
    connection: Any = connections[using]
    connection.ensure_connection()
    raw = connection.connection
    if raw.in_transaction:
        return [execute(using, sql, values, hot=True) for sql, values in statements]
    with connection.wrap_database_errors:
        _begin(connection)
        try:
            found = [execute(using, sql, values, hot=True) for sql, values in statements]
            raw.execute("COMMIT")
        except BaseException:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raise
    return found


def _begin(connection: Any) -> None:
    """Begin a transaction of SQLite; where another worker is in one, that takes microseconds.

    SQLite itself looks again after a millisecond, then two, five and so on: two workers that meet
    would mostly wait.
    """
    raw, begin = connection.connection, f"BEGIN {connection.transaction_mode or ''}"
    ((timeout,),) = raw.execute("PRAGMA busy_timeout")
    raw.execute("PRAGMA busy_timeout = 0")
    try:
        for pause in PAUSES:
            try:
                raw.execute(begin)
            except connection.Database.OperationalError:
                time.sleep(pause)
            else:
                return
    finally:
        raw.execute(f"PRAGMA busy_timeout = {timeout}")
    raw.execute(begin)


def prefer_indexes(using: str) -> None:
    """Let the statements of this PostgreSQL session go by an index, come what may.

    A prepared plan is kept. One made while the table was small would read and sort all of it each
    time when thousands of runs have come (seen of claims: 9 ms instead of 0.2 ms at 20,000). Before
    PostgreSQL 18, a way that is off and taken all the same counts as so costly that the plan is
    compiled, which takes longer than all that it does: not that either.

    Not where nothing is prepared: no plan is kept, and a pooler may give the session to others.
    """
    connection = connections[using]
    if connection.vendor != "postgresql" or not conf.prepare_statements:
        return
    connection.ensure_connection()
    raw: Any = connection.connection
    if getattr(raw, "django_defer_prefers_indexes", False):
        return
    with connection.cursor() as cursor:
        for way in ("enable_seqscan", "enable_bitmapscan", "enable_sort", "jit"):
            cursor.execute(f"SET {way} = off")
    raw.django_defer_prefers_indexes = not connection.in_atomic_block  # else it may be rolled back


@cache
def _named(sql: str) -> str:
    """Return the statement with the placeholders of SQLite itself."""
    return sql % {name: f":{name}" for name in re.findall(r"%\((\w+)\)s", sql)}


def _prepared_of(raw: Any) -> Prepared:
    try:
        found: Prepared = raw.django_defer_prepared
    except AttributeError:
        found = raw.django_defer_prepared = Prepared(raw)
    return found


def _cursor_of(raw: Any) -> Any:
    """Return the connection's one plain cursor: making one is a third of a statement's work."""
    try:
        return raw.django_defer_cursor
    except AttributeError:
        from psycopg import Cursor

        if raw.prepare_threshold is None:
            raw.prepare_threshold = 2
        raw.django_defer_cursor = cursor = Cursor(raw)
        return cursor
