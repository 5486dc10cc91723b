"""Instants: one field type that stores them and one expression that reads the database's clock.

An instant is an aware UTC datetime in Python whatever USE_TZ says, a timestamptz on PostgreSQL
and UTC text with six decimals on SQLite, so that text order is time order.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn
from zoneinfo import ZoneInfo

from django.db import connections, models
from django.db.models.expressions import Expression

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

SQLITE_FORMAT = "%Y-%m-%d %H:%M:%S.%f"
SQL_NOW: Final = {  # for a statement with parameters, if only an empty list of them
    "postgresql": "clock_timestamp()",
    "sqlite": "(strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now') || '000')",  # it knows milliseconds
}
LONGEST_OFFSET = timedelta(days=36_525)  # no database, and no Python, counts years for ever


def as_text(instant: datetime) -> str:
    """Return the instant as SQLite stores it."""
    return instant.astimezone(UTC).strftime(SQLITE_FORMAT)


def as_instant(value: datetime | str, connection: BaseDatabaseWrapper) -> datetime:
    """Return what a cursor of `connection` gave as an aware UTC datetime."""
    if isinstance(value, str):
        return datetime.strptime(value, SQLITE_FORMAT).replace(tzinfo=UTC)
    if connection.vendor == "sqlite":
        return value.replace(tzinfo=UTC)  # the text was UTC, whatever zone was attached
    if value.tzinfo is None:  # USE_TZ=False chops the zone of the session, but keeps fold
        value = value.replace(tzinfo=ZoneInfo(connection.timezone_name))
    return value.astimezone(UTC)


class InstantField(models.DateTimeField):  # type: ignore[type-arg]
    """An aware UTC datetime; a naive one is refused."""

    def get_prep_value(self, value: Any) -> Any:
        """Turn a datetime or text into an aware UTC datetime, without guessing a zone."""
        if value is None or hasattr(value, "resolve_expression"):
            return value
        if isinstance(value, str):
            value = self.to_python(value)
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise ValueError(
                f"{self.name} needs an aware datetime, not {value!r}: an instant without a zone "
                f"is ambiguous. Write datetime(…, tzinfo=UTC)."
            )
        return value.astimezone(UTC)

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        """Hand PostgreSQL an aware datetime and SQLite our text."""
        if not prepared:
            value = self.get_prep_value(value)
        if connection.vendor == "sqlite" and isinstance(value, datetime):
            return as_text(value)
        return value

    def from_db_value(
        self, value: datetime | None, expression: object, connection: BaseDatabaseWrapper
    ) -> datetime | None:
        """Give back an aware UTC datetime, undoing what the backend's converter assumed."""
        return None if value is None else as_instant(value, connection)


class DatabaseNow(Expression):
    """The database's clock, right now (not at the start of the transaction), plus an offset.

    An offset of more than a hundred years counts as a hundred.
    """

    allowed_default = True

    def __init__(self, offset: timedelta | None = None) -> None:
        super().__init__(output_field=InstantField())
        self.offset = offset and min(offset, LONGEST_OFFSET)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.offset!r})"

    def deconstruct(self) -> tuple[str, tuple[object, ...], dict[str, object]]:
        """Let migrations write it as a database default."""
        return f"{__name__}.{type(self).__qualname__}", (), {}

    def as_sqlite(
        self, compiler: object, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, list[Any]]:
        """Read SQLite's clock."""
        if not self.offset:
            return SQL_NOW["sqlite"], []
        seconds = f"{self.offset.total_seconds():+.3f} seconds"
        return SQL_NOW["sqlite"].replace("'now'", "'now', %s"), [seconds]

    def as_postgresql(
        self, compiler: object, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, list[Any]]:
        """Read PostgreSQL's clock: clock_timestamp() moves on inside a transaction."""
        if not self.offset:
            return SQL_NOW["postgresql"], []
        return f"({SQL_NOW['postgresql']} + %s)", [self.offset]

    def as_sql(self, compiler: object, connection: BaseDatabaseWrapper) -> NoReturn:
        """Refuse other databases; `manage.py check` says so first."""
        raise NotImplementedError(f"django-defer does not support {connection.vendor}.")


def database_now(using: str) -> datetime:
    """Return what the clock of the database `using` says, as an aware UTC datetime."""
    connection = connections[using]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"SELECT {SQL_NOW['sqlite']}", [])
            return as_instant(cursor.fetchone()[0], connection)
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        return datetime.fromtimestamp(float(cursor.fetchone()[0]), tz=UTC)
