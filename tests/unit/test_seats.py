"""A seat: when its worker is signalled, when it is killed, and what that makes of its run."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from django_defer.board import Board, Doing
from django_defer.seats import Seat
from django_defer.states import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

GRACE = 10.0  # seconds


class Process:
    """A worker process that counts how often it was killed."""

    def __init__(self) -> None:
        self.kills = 0
        self.exitcode = -signal.SIGKILL

    def kill(self) -> None:
        self.kills += 1

    def join(self) -> None:
        pass


class Clock:
    """What `time.monotonic()` says."""

    def __init__(self) -> None:
        self.now = time.monotonic()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(1)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Collect the signals sent."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


@pytest.fixture
def seat(board: Board) -> Iterator[Seat]:
    seat = Seat(0, generation=1, process=Process())
    yield seat
    seat.mailbox.close()


def show(board: Board, claim: UUID, *, generation: int = 1, until: float = 1e9) -> None:
    """Be a worker that is inside a function whose time is up at `until`; 0: that is not."""
    board.write(0, generation=generation, doing=Doing.BUSY, done=1, claim_id=claim, deadline=until)


def test_a_worker_is_told_once_to_end_its_claim_and_killed_after_the_grace(
    seat: Seat, board: Board, clock: Clock, signals: list[tuple[int, int]]
) -> None:
    claim = uuid4()
    show(board, claim)
    for _ in range(3):
        seat.abort(board, {claim}, GRACE)
    assert signals == [(os.getpid(), signal.SIGUSR1)]
    assert board.claim_to_abort(0) == claim
    clock.now += GRACE - 0.1
    seat.abort(board, {claim}, GRACE)
    assert seat.process.kills == 0
    clock.now += 0.2
    for _ in range(3):
        seat.abort(board, {claim}, GRACE)
    assert seat.process.kills == 1
    failure = seat.bury(board)
    assert (failure.outcome, failure.exit_code, failure.signal) == (Outcome.ABORTED, -9, "SIGKILL")
    assert "killed: it went on after it was to be aborted" in failure.error_message


def test_a_worker_at_another_claim_is_left_alone(
    seat: Seat, board: Board, clock: Clock, signals: list[tuple[int, int]]
) -> None:
    claim, next_claim = uuid4(), uuid4()
    show(board, claim)
    seat.abort(board, {uuid4()}, GRACE)
    seat.abort(board, set(), GRACE)
    assert signals == []
    seat.abort(board, {claim}, GRACE)
    show(board, next_claim)  # it has ended meanwhile, and what was read before is old
    clock.now += 2 * GRACE
    seat.abort(board, {claim}, GRACE)
    assert (len(signals), seat.process.kills) == (1, 0)


def test_a_worker_that_is_not_inside_the_function_is_neither_told_nor_killed(
    seat: Seat, board: Board, clock: Clock, signals: list[tuple[int, int]]
) -> None:
    claim = uuid4()
    show(board, claim, until=0)  # it starts
    seat.abort(board, {claim}, GRACE)
    assert signals == []
    show(board, claim)
    seat.abort(board, {claim}, GRACE)
    show(board, claim, until=0)  # it writes its end, and the database is away
    clock.now += 2 * GRACE
    seat.abort(board, {claim}, GRACE)
    assert (len(signals), seat.process.kills) == (1, 0)


def test_a_predecessors_cell_is_no_reason_to_signal(
    seat: Seat, board: Board, signals: list[tuple[int, int]]
) -> None:
    claim = uuid4()
    show(board, claim, generation=0)
    seat.abort(board, {claim}, GRACE)
    assert signals == []


def test_who_overran_its_limit_is_killed_for_that_though_it_is_to_be_aborted_later(
    seat: Seat, board: Board, clock: Clock, signals: list[tuple[int, int]]
) -> None:
    claim = uuid4()
    show(board, claim, until=clock.now)
    clock.now += GRACE / 2
    seat.enforce_limit(board, GRACE)
    assert seat.process.kills == 0
    seat.abort(board, {claim}, GRACE)
    clock.now += GRACE
    seat.enforce_limit(board, GRACE)
    seat.abort(board, {claim}, GRACE)
    assert seat.process.kills == 1
    assert seat.bury(board).outcome == Outcome.TIMED_OUT


def test_who_is_killed_by_others_while_it_is_aborted_is_lost(
    seat: Seat, board: Board, signals: list[tuple[int, int]]
) -> None:
    claim = uuid4()
    show(board, claim)
    seat.abort(board, {claim}, GRACE)
    assert seat.bury(board).outcome == Outcome.LOST


def test_what_it_was_killed_for_does_not_hold_for_the_claim_it_took_meanwhile(
    seat: Seat, board: Board, clock: Clock
) -> None:
    show(board, uuid4(), until=clock.now)
    clock.now += 2 * GRACE
    seat.enforce_limit(board, GRACE)
    show(board, uuid4())
    assert seat.bury(board).outcome == Outcome.LOST
