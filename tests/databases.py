"""The two databases of the suite, `default` and `other`, as Django's DATABASES.

Both are named after this process, so that several test runs on one machine don't meet.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

ALIASES = {"default": "DEFER_TEST_NAME", "other": "DEFER_TEST_OTHER_NAME"}

# What the README recommends for SQLite: readers don't block the writer, and a transaction takes the
# write lock when it begins instead of failing half-way.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    "timeout": 20,
}


def is_postgres() -> bool:
    """Say whether this run is one on PostgreSQL."""
    name = os.environ.get("DEFER_TEST_DATABASE", "sqlite")
    if name not in ("sqlite", "postgres"):
        raise ValueError(f"DEFER_TEST_DATABASE is 'sqlite' or 'postgres', not {name!r}.")
    return name == "postgres"


def databases_from_environment() -> dict[str, dict[str, Any]]:
    """Return DATABASES; a database that the environment names exists and is used as it is."""
    make = _postgres if is_postgres() else _sqlite
    return {alias: make(alias, os.environ.get(name)) for alias, name in ALIASES.items()}


def server_from_environment() -> dict[str, str]:
    """Return how to reach PostgreSQL, in Django's words, from libpq's environment variables."""
    return {
        "HOST": os.environ.get("PGHOST", ""),
        "PORT": os.environ.get("PGPORT", ""),
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
    }


def environment(**names: str) -> dict[str, str]:
    """Return os.environ for a process that shall use the databases that this one uses now.

    `environment(default="…")` names other databases than those of the current connections.
    """
    from django.db import connections

    current = {alias: str(connections[alias].settings_dict["NAME"]) for alias in ALIASES}
    current.update(names)
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        **{ALIASES[alias]: name for alias, name in current.items()},
    }


def _sqlite(alias: str, name: str | None) -> dict[str, Any]:
    # A file, also before the suite has made it: one in memory has neither WAL nor a second
    # connection, and Django's live server would share the only one between threads.
    path = Path(tempfile.gettempdir()) / f"defer-test-{os.getpid()}-{alias}.sqlite3"
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name or str(path),
        "OPTIONS": {} if os.environ.get("DEFER_TEST_SQLITE_BARE") else SQLITE_OPTIONS,
        "TEST": {"NAME": str(path)},
    }


def _postgres(alias: str, name: str | None) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name or "postgres",
        "TEST": {"NAME": f"defer_test_{os.getpid()}_{alias}"},
        **server_from_environment(),
    }
