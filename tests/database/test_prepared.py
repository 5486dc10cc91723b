"""The quickest way to execute a statement does what a cursor does, or raises what that raises."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from django.db import DataError, IntegrityError, OperationalError, connections, transaction

from django_defer.prepared import Prepared, _numbered
from django_defer.statements import execute
from tests import runs
from tests.runs import DATABASE, defer_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [runs.committing, pytest.mark.postgres]

ECHO = (
    "SELECT %(text)s::text, %(uuid)s::uuid, %(at)s::timestamptz, %(json)s::jsonb, %(n)s::int, "
    "%(none)s::text, %(text)s::text"
)
VALUES: dict[str, Any] = {
    "text": 'é "%s" \\ \U0001f600',
    "uuid": uuid4(),
    "at": datetime(2026, 12, 1, 9, 30, 0, 123456, tzinfo=UTC),
    "json": json.dumps({"args": [1, None, "é"], "kwargs": {"a%b": {"$": 1.5}}}),
    "n": 7,
    "none": None,
    "unused": "x",
}


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was executed in the quickest way."""
    sent: list[str] = []
    original = Prepared.execute

    def noting(self: Prepared, sql: str, values: Any) -> Any:
        sent.append(sql)
        return original(self, sql, values)

    monkeypatch.setattr(Prepared, "execute", noting)
    yield sent
    connections[DATABASE].close()


def hot(sql: str, **values: Any) -> list[tuple[Any, ...]]:
    return execute(DATABASE, sql, values, hot=True)


def test_values_go_and_come_as_with_a_cursor(prepared: list[str]) -> None:
    ((text, uuid, at, data, number, none, again),) = hot(ECHO, **VALUES)
    assert prepared == [ECHO]
    assert (text, again) == (VALUES["text"], VALUES["text"])
    assert (uuid, type(uuid)) == (VALUES["uuid"], UUID)
    assert at == VALUES["at"]
    assert (json.loads(data) if isinstance(data, str) else data) == json.loads(VALUES["json"])
    assert (number, none) == (7, None)
    assert hot(ECHO, **VALUES) == execute(DATABASE, ECHO, VALUES)


def test_it_is_prepared_once() -> None:
    for n in range(5):
        assert hot("SELECT %(n)s::int AS one_of_five", n=n) == [(n,)]
    with connections[DATABASE].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%one_of_five%%'"
        )
        assert cursor.fetchone() == (1,)


def test_it_is_prepared_again_after_somebody_forgot_all() -> None:
    assert hot("SELECT %(n)s::int", n=1) == [(1,)]
    with connections[DATABASE].cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    assert hot("SELECT %(n)s::int", n=2) == [(2,)]


def test_it_is_prepared_again_on_a_new_connection() -> None:
    assert hot("SELECT %(n)s::int", n=1) == [(1,)]
    connections[DATABASE].close()
    assert hot("SELECT %(n)s::int", n=2) == [(2,)]


def test_inside_of_a_transaction_a_cursor_does_it(prepared: list[str]) -> None:
    with transaction.atomic(using=DATABASE):
        assert hot("SELECT %(n)s::int", n=1) == [(1,)]
    assert prepared == []


def test_errors_are_those_of_django() -> None:
    with pytest.raises(DataError):
        hot("SELECT 1 / %(n)s::int", n=0)
    run = runs.new_run()
    copy = "INSERT INTO django_defer_run SELECT * FROM django_defer_run WHERE id = %(id)s"
    with pytest.raises(IntegrityError):
        hot(copy + " RETURNING id", id=run.pk)
    assert hot("SELECT %(n)s::int", n=3) == [(3,)]


def test_a_connection_that_was_cut_raises_what_is_tried_again() -> None:
    assert hot("SELECT %(n)s::int", n=1) == [(1,)]
    raw = connections[DATABASE].connection
    other = connections[DATABASE].copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [raw.info.backend_pid])
    other.close()
    with pytest.raises(OperationalError):
        hot("SELECT %(n)s::int", n=2)
    connections[DATABASE].close()
    assert hot("SELECT %(n)s::int", n=3) == [(3,)]


def test_a_connection_that_broke_without_a_word_raises_what_is_tried_again() -> None:
    assert hot("SELECT %(n)s::int", n=1) == [(1,)]
    line = socket.socket(fileno=os.dup(connections[DATABASE].connection.pgconn.socket))
    line.shutdown(socket.SHUT_RDWR)
    line.close()
    with pytest.raises(OperationalError):
        hot("SELECT %(n)s::int", n=2)
    connections[DATABASE].close()
    assert hot("SELECT %(n)s::int", n=3) == [(3,)]


def test_without_prepared_statements_none_is(prepared: list[str]) -> None:
    with defer_settings(PREPARE_STATEMENTS=False):
        assert hot("SELECT %(n)s::int", n=1) == [(1,)]
    assert prepared == []


def test_a_name_that_is_used_twice_is_one_parameter() -> None:
    assert _numbered("a %(x)s b %(y)s c %(x)s") == (b"a $1 b $2 c $1", ("x", "y"))
