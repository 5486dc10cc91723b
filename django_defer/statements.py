"""Execute the few statements of the hot path: prepared on PostgreSQL, plain on SQLite.

Django's own cursors bind on the client and never prepare. Ours are a raw psycopg cursor on the
same connection, so they join its transactions; errors are Django's all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import connections

from django_defer.conf import conf
from django_defer.connections import IDLE
from django_defer.prepared import Prepared


def execute(
    using: str, sql: str, values: Mapping[str, Any], *, hot: bool = False
) -> list[tuple[Any, ...]]:
    """Execute a statement that ends in RETURNING, with %(name)s placeholders; return its rows.

    What is `hot` is executed in the quickest way there is, on a connection that does not listen.
    """
    connection = connections[using]
    if connection.vendor != "postgresql" or not conf.prepare_statements:
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall())
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    with connection.wrap_database_errors:
        raw = connection.connection
        if hot and raw.autocommit and raw.pgconn.transaction_status == IDLE:
            return _prepared_of(raw).execute(sql, values)
        cursor = _cursor_of(raw)
        cursor.execute(sql, values, binary=True)
        return list(cursor.fetchall())


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
