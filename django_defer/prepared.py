"""The two or three statements that each run needs, executed on PostgreSQL by libpq itself.

A cursor of psycopg prepares them just as well, but what it does around each takes longer than the
statement: a tenth of all that a run costs. Here they are prepared once a connection, and psycopg
reads and writes the values. Nobody is told of notifications: not for a connection that listens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

BINARY: Final = 1  # the format in which results come
_PLACEHOLDER: Final = re.compile(r"%\((\w+)\)s")


class Prepared:
    """The prepared statements of one connection."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._statements: dict[str, _Statement] = {}

    def execute(self, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Execute a statement with %(name)s placeholders, outside of a transaction."""
        from psycopg.errors import InvalidSqlStatementName

        try:
            return self._statement(sql).execute(values)
        except InvalidSqlStatementName:  # somebody did DEALLOCATE ALL, as psycopg at a rollback
            self._statements.clear()
            return self._statement(sql).execute(values)

    def _statement(self, sql: str) -> _Statement:
        if sql not in self._statements:
            name = f"django_defer_{id(self)}_{len(self._statements)}"
            self._statements[sql] = _Statement(self._raw, name.encode(), sql)
        return self._statements[sql]


class _Statement:
    """One prepared statement."""

    def __init__(self, raw: Any, name: bytes, sql: str) -> None:
        from psycopg.adapt import PyFormat, Transformer
        from psycopg.pq import ExecStatus

        self._good = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
        query, self._parameters = _numbered(sql)
        self._pgconn, self._name = raw.pgconn, name
        self._values = Transformer(raw)
        # As text, whose type the server infers: a small number in binary would be a smallint.
        self._formats = [PyFormat.TEXT] * len(self._parameters)
        self._checked(self._pgconn.prepare(name, query))

    def execute(self, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Execute it and return its rows."""
        mine = [values[name] for name in self._parameters]
        given = self._values.dump_sequence(mine, self._formats)
        formats = self._values.formats
        result = self._checked(self._pgconn.exec_prepared(self._name, given, formats, BINARY))
        self._values.set_pgresult(result)
        return self._values.load_rows(0, result.ntuples, tuple)

    def _checked(self, result: Any) -> Any:
        """Return the result, or raise what psycopg would."""
        if result.status in self._good:
            return result
        from psycopg.errors import OperationalError, error_from_result
        from psycopg.pq import DiagnosticField

        if result.error_field(DiagnosticField.SQLSTATE) is None:  # the server did not say this
            raise OperationalError(self._pgconn.get_error_message())
        raise error_from_result(result)


@cache
def _numbered(sql: str) -> tuple[bytes, tuple[str, ...]]:
    """Return the statement with $1, $2…, and the names that these stand for."""
    names = list(dict.fromkeys(_PLACEHOLDER.findall(sql)))
    numbered = _PLACEHOLDER.sub(lambda match: f"${names.index(match[1]) + 1}", sql)
    return numbered.encode(), tuple(names)
