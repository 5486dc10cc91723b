"""The two statements between two runs on SQLite: both or neither, and soon, whoever else writes."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db import IntegrityError, OperationalError, connections, transaction

from django_defer.models import Queue
from django_defer.statements import execute_together
from tests import runs
from tests.runs import DATABASE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [runs.committing, pytest.mark.sqlite]

INSERT = """
INSERT INTO django_defer_queue (name, paused_by, pause_reason) VALUES (%(name)s, '', '')
RETURNING name
"""


def together(*names: str) -> list[list[tuple[str]]]:
    return execute_together(DATABASE, *((INSERT, {"name": name}) for name in names))


def there_are() -> set[str]:
    return set(Queue.objects.values_list("name", flat=True))


def patience() -> int:
    """Return how many milliseconds SQLite waits for its lock on this connection."""
    with connections[DATABASE].cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        return int(cursor.fetchone()[0])


@contextmanager
def another_writer() -> Iterator[threading.Event]:
    """Hold the write lock in another thread, until the event is set or the block ends."""
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic(using=DATABASE):
                holding.set()
                done.wait(30)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert holding.wait(10)
        yield done
    finally:
        done.set()
        thread.join()


def test_what_each_returns_comes_back_and_is_committed() -> None:
    assert together("a", "b") == [[("a",)], [("b",)]]
    assert not connections[DATABASE].connection.in_transaction
    assert there_are() == {"a", "b"}


def test_if_one_fails_neither_is_written() -> None:
    together("a")
    with pytest.raises(IntegrityError):
        together("b", "a")
    assert not connections[DATABASE].connection.in_transaction
    assert there_are() == {"a"}


def test_within_a_transaction_they_are_part_of_it() -> None:
    with transaction.atomic():
        together("a", "b")
        transaction.set_rollback(True)
    assert there_are() == set()


def test_who_holds_the_lock_for_a_moment_is_waited_for() -> None:
    usual = patience()
    with another_writer() as done:
        threading.Timer(0.02, done.set).start()
        together("a", "b")
    assert there_are() == {"a", "b"}
    assert patience() == usual > 0


def test_who_holds_it_for_long_is_waited_for_as_long_as_the_connection_says() -> None:
    with connections[DATABASE].cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 30")
    try:
        with another_writer(), pytest.raises(OperationalError, match="locked"):
            together("a", "b")
        assert patience() == 30
        assert not connections[DATABASE].connection.in_transaction
    finally:
        connections[DATABASE].close()
    assert there_are() == set()


def test_what_wraps_the_statements_of_a_connection_sees_them() -> None:
    seen: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql.split()[0])
        return execute(sql, params, many, context)

    with connections[DATABASE].execute_wrapper(note):
        together("a", "b")
    assert seen == ["INSERT", "INSERT"]
    assert there_are() == {"a", "b"}
