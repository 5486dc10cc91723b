"""What the supervisor learns from the database about runs that are to be aborted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from django_defer.board import Board, Doing
from django_defer.clock import DatabaseNow
from django_defer.database_duties import DatabaseDuties
from django_defer.membership import Membership
from django_defer.models import Run
from django_defer.states import State
from tests import runs
from tests.runs import DATABASE, captured, new_run, plan_of, statements

pytestmark = runs.in_transaction


@pytest.fixture
def board() -> Board:
    return Board(2)


@pytest.fixture
def duties(board: Board) -> DatabaseDuties:
    member = Membership(
        using=DATABASE,
        queues=["default"],
        serves_all=True,
        keys=[],
        workers=2,
        schedules=False,
        lease=timedelta(seconds=30),
        kept=set(),
    )
    return DatabaseDuties(member, board, drain=False)


def be_busy(board: Board) -> None:
    """Be a worker that is at some claim."""
    board.write(0, generation=1, doing=Doing.BUSY, done=1, claim_id=uuid4())


def running(duties: DatabaseDuties, **columns: Any) -> Run:
    values: dict[str, Any] = {
        "cluster": duties.membership.id,
        "abort_requested_at": DatabaseNow(),
    }
    return new_run(state=State.RUNNING, **values | columns)


def test_it_finds_the_claims_of_its_own_that_are_to_be_aborted(
    duties: DatabaseDuties, board: Board
) -> None:
    wanted = running(duties)
    running(duties, abort_requested_at=None)
    running(duties, cluster=uuid4())
    new_run(state=State.SUCCEEDED, cluster=duties.membership.id, abort_requested_at=DatabaseNow())
    be_busy(board)
    with captured() as queries:
        duties._find_aborts()
    assert duties.to_abort == {wanted.claim_id}
    assert len(queries) == 1


def test_while_no_worker_is_at_anything_it_does_not_ask(
    duties: DatabaseDuties, board: Board
) -> None:
    be_busy(board)
    running(duties)
    duties._find_aborts()
    assert duties.to_abort
    board.write(0, generation=1, doing=Doing.IDLE, done=1)
    with captured() as queries:
        duties._find_aborts()
    assert (len(queries), duties.to_abort) == (0, frozenset())


def test_it_goes_on_to_ask_while_it_stops(duties: DatabaseDuties, board: Board) -> None:
    wanted = running(duties)
    be_busy(board)
    duties.perform_while_stopping()
    assert duties.to_abort == {wanted.claim_id}


@pytest.mark.postgres
def test_it_asks_by_the_index_of_what_to_abort(duties: DatabaseDuties, board: Board) -> None:
    runs.fill(State.RUNNING, cluster="gen_random_uuid()")
    runs.fill(State.SUCCEEDED)
    be_busy(board)
    with captured() as queries:
        duties._find_aborts()
    (sql,) = statements(queries)
    assert "defer_run_aborts" in plan_of(sql)
