"""Two who move one run at once: one of them wins, and the run knows only that one."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from django_defer import attempts, endings, transitions
from django_defer.attempt_facts import Failure, Success
from django_defer.clock import database_now
from django_defer.models import Attempt, Run
from django_defer.reap import reap
from django_defer.states import Outcome, State
from tests import runs
from tests.concurrency.race import race
from tests.runs import DATABASE, claim_of, fresh, new_cluster, new_run, start

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = runs.committing

ROUNDS = 10
GONE = Failure(outcome=Outcome.LOST, error_class="Lost", error_message="gone")


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_cancel_and_a_start_at_once(round_: int) -> None:
    run = new_run(state=State.CLAIMED)
    started, cancelled = race(
        lambda: attempts.start(DATABASE, claim_of(run), "0.1"),
        lambda: transitions.cancel_waiting(DATABASE, run.pk, "enough"),
    )
    assert bool(started) != cancelled
    assert fresh(run).state == (State.RUNNING if started else State.CANCELLED)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_finish_and_a_loss_at_once(round_: int) -> None:
    run = new_run(state=State.CLAIMED)
    started = start(run)
    run = fresh(run)
    finished, lost = race(
        lambda: attempts.succeed(DATABASE, Success(started, "1", 0.0)),
        lambda: endings.lose(DATABASE, run, GONE),
    )
    assert finished != bool(lost)
    assert fresh(run).state == (State.SUCCEEDED if finished else State.SCHEDULED)
    assert fresh(run).losses == bool(lost)
    assert Attempt.objects.count() == bool(lost)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_an_abort_and_a_start_at_once(round_: int) -> None:
    run = new_run(state=State.CLAIMED)
    _, asked = race(
        lambda: attempts.start(DATABASE, claim_of(run), "0.1"),
        lambda: transitions.request_abort(DATABASE, Run.objects.filter(pk=run.pk), "enough"),
    )
    after = fresh(run)
    assert after.state == State.RUNNING
    assert (after.abort_requested_at is not None) == bool(asked)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_an_abort_and_a_success_at_once(round_: int) -> None:
    run = new_run(state=State.CLAIMED)
    started = start(run)
    finished, asked = race(
        lambda: attempts.succeed(DATABASE, Success(started, "1", 0.0)),
        lambda: transitions.request_abort(DATABASE, Run.objects.filter(pk=run.pk), "enough"),
    )
    after = fresh(run)
    assert finished
    assert after.state == State.SUCCEEDED
    assert (after.abort_requested_at is not None) == bool(asked)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_an_abort_and_a_failure_at_once(round_: int) -> None:
    """Either the request comes first and the run is not tried again, or it comes too late."""
    run = new_run(state=State.CLAIMED)
    started = start(run)
    broken = Failure(outcome=Outcome.FAILED, error_class="ValueError", error_message="broken")
    state, asked = race(
        lambda: endings.fail(DATABASE, started, broken, timedelta(0)),
        lambda: transitions.request_abort(DATABASE, Run.objects.filter(pk=run.pk), "enough"),
    )
    after = fresh(run)
    assert after.state == state == (State.ABORTED if asked else State.SCHEDULED)
    assert (after.failures, after.abort_requested_at is None) == (
        (0, False) if asked else (1, True)
    )
    assert Attempt.objects.get().outcome == (Outcome.ABORTED if asked else Outcome.RETRIED)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_only_one_of_several_who_abort_a_run_has_asked_for_it(round_: int) -> None:
    run = new_run(state=State.RUNNING)
    asked = race(
        *[lambda: transitions.request_abort(DATABASE, Run.objects.filter(pk=run.pk), "enough")] * 4
    )
    assert sorted(asked) == [0, 0, 0, 1]


def in_turn(first: Callable[[], Any], second: Callable[[], Any]) -> list[Any]:
    """Let the second begin while the first holds its lock, and commit the first meanwhile."""
    locked, begun = threading.Event(), threading.Event()

    def hold() -> Any:
        with transaction.atomic(using=DATABASE):
            answer = first()
            locked.set()
            assert begun.wait(10)
            threading.Event().wait(0.1)  # until the other waits for the lock
            return answer

    def follow() -> Any:
        assert locked.wait(10)
        begun.set()
        return second()

    return race(hold, follow)


@pytest.mark.parametrize("cancel_first", [True, False])
def test_whoever_comes_second_sees_what_the_first_did(cancel_first: bool) -> None:
    run = new_run(state=State.CLAIMED)

    def begin() -> bool:
        return attempts.start(DATABASE, claim_of(run), "0.1") is not None

    def cancel() -> bool:
        return transitions.cancel_waiting(DATABASE, run.pk, "enough")

    actions = (cancel, begin) if cancel_first else (begin, cancel)
    assert in_turn(*actions) == [True, False]
    assert fresh(run).state == (State.CANCELLED if cancel_first else State.RUNNING)


@pytest.mark.parametrize("round_", range(3))
def test_several_reapers_take_back_once(round_: int) -> None:
    dead = [new_cluster(beat_at=runs.LONG_AGO) for _ in range(3)]
    held = [new_run(state=State.RUNNING, cluster=cluster.pk) for cluster in dead for _ in range(2)]
    now = database_now(DATABASE)
    answers = race(*[lambda: reap(DATABASE, now, timedelta(seconds=30))] * 4)
    assert sorted(cluster.pk for answer in answers for cluster in answer) == sorted(
        cluster.pk for cluster in dead
    )
    assert {(fresh(run).state, fresh(run).losses) for run in held} == {(State.SCHEDULED, 1)}
    assert Attempt.objects.count() == len(held)


def test_several_promote_each_run_once() -> None:
    now = database_now(DATABASE)
    for _ in range(20):
        new_run(state=State.SCHEDULED, run_after=now)
    answers = race(*[lambda: transitions.promote(DATABASE, now)] * 4)
    while moved := transitions.promote(DATABASE, now):
        answers.append(moved)
    assert sum(answers) == 20
    assert Run.objects.queued().count() == 20


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_release_and_a_start_at_once(round_: int) -> None:
    run = new_run(state=State.CLAIMED, attempt=1)
    started, released = race(
        lambda: attempts.start(DATABASE, claim_of(run), "0.1"),
        lambda: transitions.release(Run.objects.filter(pk=run.pk)),
    )
    assert bool(started) != bool(released)
    assert (fresh(run).state, fresh(run).attempt) == (
        (State.RUNNING, 1) if started else (State.QUEUED, 0)
    )
