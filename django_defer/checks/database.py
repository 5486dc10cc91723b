"""defer.E003, W003 and W004: which database holds the runs, and how it is set up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, connections

from django_defer.conf import conf

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_SQLITE: Final = (3, 35, 0)  # the first with UPDATE … RETURNING
SQLITE_OPTIONS: Final = (
    '"OPTIONS": {"transaction_mode": "IMMEDIATE", '
    '"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;", "timeout": 20}'
)


def check_database(**kwargs: object) -> list[checks.CheckMessage]:
    """Look at the alias that DEFER["DATABASE"] names; an unknown one is E001's business."""
    alias = database_alias()
    if alias is None:
        return []
    return [*_unsupported(alias), *_other_alias(alias), *_sqlite_options(alias)]


def database_alias() -> str | None:
    """Return the alias that holds the runs, None if the settings don't name one."""
    if not isinstance(getattr(settings, "DEFER", {}), dict):
        return None
    alias = conf.database
    return alias if isinstance(alias, str) and alias in connections else None


def _unsupported(alias: str) -> Iterator[checks.CheckMessage]:
    connection: Any = connections[alias]
    problem = ""
    if connection.vendor == "sqlite":
        import sqlite3  # which a Python may lack, where another database is used

        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            oldest = ".".join(map(str, OLDEST_SQLITE))
            problem = f"SQLite {sqlite3.sqlite_version}, older than {oldest}"
    elif connection.vendor == "postgresql":
        from django.db.backends.postgresql.psycopg_any import is_psycopg3

        if not is_psycopg3:
            problem = "psycopg2; pip install psycopg"
    else:
        problem = str(connection.settings_dict["ENGINE"])
    if problem:
        yield checks.Error(
            f'The database "{alias}" cannot hold runs: it uses {problem}.',
            hint="Use SQLite 3.35 or PostgreSQL through psycopg 3, in the alias that "
            'DEFER["DATABASE"] names.',
            obj=_named(alias),
            id="defer.E003",
        )


def _other_alias(alias: str) -> Iterator[checks.CheckMessage]:
    if alias != DEFAULT_DB_ALIAS:
        yield checks.Warning(
            f'Runs are on the database "{alias}", not on "{DEFAULT_DB_ALIAS}": a run enqueued in a '
            f"transaction on another alias is inserted after its commit, so that a crash between "
            f"the two loses it; and atomic=True covers this alias only.",
            hint='Remove "DATABASE" from DEFER unless your own data is on that alias too.',
            obj='settings.DEFER["DATABASE"]',
            id="defer.W003",
        )


def _sqlite_options(alias: str) -> Iterator[checks.CheckMessage]:
    connection = connections[alias]
    if connection.vendor != "sqlite" or _is_in_memory(connection.settings_dict):
        return
    options = connection.settings_dict.get("OPTIONS") or {}
    missing = []
    if "journal_mode=wal" not in str(options.get("init_command")).lower().replace(" ", ""):
        missing.append("WAL, without which a writer keeps readers out")
    if str(options.get("transaction_mode")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        missing.append(
            'IMMEDIATE, without which a transaction fails at once with "database is locked"'
        )
    if missing:
        yield checks.Warning(
            f'The SQLite database "{alias}" lacks {"; and ".join(missing)}.',
            hint=f'Write in DATABASES["{alias}"]: {SQLITE_OPTIONS}.',
            obj=_named(alias),
            id="defer.W004",
        )


def _is_in_memory(database: dict[str, Any]) -> bool:
    name = str(database["NAME"])
    return ":memory:" in name or "mode=memory" in name


def _named(alias: str) -> str:
    return f'settings.DATABASES["{alias}"]'
