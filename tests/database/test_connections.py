"""What a supervisor sets in its sessions, and where it sets nothing."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from django.db.backends.signals import connection_created

from django_defer.connections import limit_statements
from tests import runs
from tests.runs import defer_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [runs.in_transaction, pytest.mark.postgres]


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """Be a supervisor for the length of a test."""
    limit_statements()
    yield
    connection_created.disconnect(dispatch_uid="django_defer.supervisor")


def timeouts() -> list[str]:
    """Return the time-outs of a new connection."""
    with closing(runs.database().copy()) as connection, connection.cursor() as cursor:
        found = []
        for name in ("statement_timeout", "lock_timeout"):
            cursor.execute(f"SHOW {name}")
            found += cursor.fetchone()
    return found


def test_no_statement_of_a_supervisor_hangs_for_long() -> None:
    assert timeouts() == ["5s", "5s"]


def test_no_limit_is_left_in_a_session_that_a_pooler_may_give_to_others() -> None:
    with defer_settings(PREPARE_STATEMENTS=False):
        assert "5s" not in timeouts()
