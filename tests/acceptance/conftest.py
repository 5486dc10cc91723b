"""Fixtures of the acceptance tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import connections

from tests.acceptance.harness import Trees, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def trees(transactional_db: None, tmp_path: Path) -> Iterator[Trees]:
    """Start `defer_worker`s; they are ended, and their logs checked, after the test."""
    trees = Trees(tmp_path)
    try:
        yield trees
    finally:
        trees.destroy()
        _wait_for_backends()
    trees.check_logs()


def _wait_for_backends() -> None:
    """Wait until PostgreSQL has noticed that the processes are gone: tables are emptied next."""
    connection = connections["default"]
    if connection.vendor != "postgresql":
        return

    def others() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
            return int(cursor.fetchone()[0])

    wait_until(lambda: not others(), what="the end of all other connections")
