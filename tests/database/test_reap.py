"""What dead workers and dead clusters held goes back, once, and live ones keep theirs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from django_defer.attempt_facts import Failure
from django_defer.clock import DatabaseNow, database_now
from django_defer.models import Attempt, Cluster, Run
from django_defer.reap import SHUT_DOWN, SILENT, failure_of_exit, reap, take_back
from django_defer.seats import WENT_ON
from django_defer.states import Outcome, State
from tests import runs
from tests.runs import (
    DATABASE,
    LONG_AGO,
    captured,
    claim_of,
    fresh,
    new_cluster,
    new_run,
    plan_of,
)

if TYPE_CHECKING:
    from tests.runs import Define

pytestmark = runs.in_transaction

LEASE = timedelta(seconds=30)


def reap_now() -> list[Cluster]:
    return reap(DATABASE, database_now(DATABASE), LEASE)


def dead_cluster() -> Cluster:
    return new_cluster(beat_at=DatabaseNow(-LEASE - timedelta(seconds=1)))


def held_by(cluster: Cluster, state: State, **columns: Any) -> Run:
    return new_run(state=state, cluster=cluster.pk, **columns)


def test_a_silent_cluster_loses_its_row_and_all_that_it_held() -> None:
    dead = dead_cluster()
    claimed = held_by(dead, State.CLAIMED, attempt=1)
    running = held_by(dead, State.RUNNING, attempt=1)
    assert reap_now() == [dead]
    assert not Cluster.objects.exists()
    assert (fresh(claimed).state, fresh(claimed).attempt) == (State.QUEUED, 0)
    assert (fresh(running).state, fresh(running).losses) == (State.SCHEDULED, 1)
    assert Attempt.objects.get().run == running
    assert Attempt.objects.get().error_message == SILENT.error_message


def test_a_cluster_that_was_heard_of_within_its_lease_keeps_everything() -> None:
    live = new_cluster(beat_at=DatabaseNow(-LEASE + timedelta(seconds=2)))
    run = held_by(live, State.RUNNING)
    assert reap_now() == []
    assert fresh(run).state == State.RUNNING
    assert Cluster.objects.get() == live


def test_what_has_ended_is_left_alone() -> None:
    dead = dead_cluster()
    run = held_by(dead, State.SUCCEEDED)
    reap_now()
    assert fresh(run).state == State.SUCCEEDED


def test_it_needs_no_code_of_the_function() -> None:
    run = held_by(dead_cluster(), State.RUNNING, function="testapp.of_another_version")
    reap_now()
    assert fresh(run).state == State.SCHEDULED


def test_a_second_reaper_finds_nothing() -> None:
    held_by(dead_cluster(), State.RUNNING)
    assert len(reap_now()) == 1
    assert reap_now() == []
    assert Run.objects.get().losses == 1


def test_a_claim_that_was_committed_after_its_cluster_was_reaped_is_given_back() -> None:
    run = new_run(state=State.CLAIMED, cluster=uuid4())
    lost = new_run(state=State.RUNNING, cluster=uuid4())
    kept = held_by(new_cluster(), State.RUNNING)
    reap_now()
    assert fresh(run).state == State.QUEUED
    assert fresh(lost).state == State.SCHEDULED
    assert fresh(kept).state == State.RUNNING


def test_an_idle_reaper_makes_two_queries() -> None:
    new_cluster()
    now = database_now(DATABASE)
    with captured() as queries:
        reap(DATABASE, now, LEASE)
    assert len(queries) == 2


# -- one worker ----------------------------------------------------------------------------------


def test_the_end_of_a_worker_takes_only_its_own() -> None:
    cluster = new_cluster()
    mine = [held_by(cluster, state, worker="0.1") for state in (State.CLAIMED, State.RUNNING)]
    other = held_by(cluster, State.RUNNING, worker="1.1")
    successor = held_by(cluster, State.CLAIMED, worker="0.2")
    elsewhere = held_by(new_cluster(), State.RUNNING, worker="0.1")
    assert take_back(DATABASE, cluster.pk, "0.1", failure_of_exit(-9)) == (1, 1)
    assert [fresh(run).state for run in mine] == [State.QUEUED, State.SCHEDULED]
    assert [fresh(run).state for run in (other, successor, elsewhere)] == [
        State.RUNNING,
        State.CLAIMED,
        State.RUNNING,
    ]


def test_what_our_own_shutdown_interrupts_is_not_counted() -> None:
    cluster = new_cluster()
    run = held_by(cluster, State.RUNNING, losses=2)
    take_back(DATABASE, cluster.pk, None, SHUT_DOWN, counted=False)
    assert (fresh(run).state, fresh(run).losses) == (State.SCHEDULED, 2)


def test_a_worker_killed_for_its_limit_fails_by_the_policy_of_its_function(define: Define) -> None:
    def slow() -> None:
        pass

    define(slow, retry=1)
    cluster, late = new_cluster(), Failure(outcome=Outcome.TIMED_OUT, error_class="TimeLimit")
    first = held_by(cluster, State.RUNNING, function="defined.slow", max_attempts=2)
    last = held_by(cluster, State.RUNNING, function="defined.slow", max_attempts=2, failures=1)
    unknown = held_by(cluster, State.RUNNING, function="testapp.of_another_version")
    assert take_back(DATABASE, cluster.pk, None, late) == (0, 3)
    assert (fresh(first).state, fresh(first).failures) == (State.SCHEDULED, 1)
    assert fresh(last).state == State.FAILED
    assert fresh(unknown).state == State.FAILED
    assert {attempt.outcome for attempt in Attempt.objects.all()} == {Outcome.TIMED_OUT}


@pytest.mark.parametrize(
    "failure",
    [SHUT_DOWN, SILENT, WENT_ON, failure_of_exit(-11)],
    ids=lambda each: each.error_message,
)
def test_what_was_to_be_aborted_is_aborted_and_nothing_is_counted(failure: Failure) -> None:
    cluster = new_cluster()
    run = held_by(
        cluster, State.RUNNING, abort_requested_at=LONG_AGO, losses=2, rerun_if_lost=False
    )
    assert take_back(DATABASE, cluster.pk, None, failure) == (0, 1)
    run = fresh(run)
    assert (run.state, run.losses, run.failures) == (State.ABORTED, 2, 0)
    assert run.error_message == failure.error_message
    (attempt,) = Attempt.objects.all()
    assert (attempt.outcome, attempt.exit_code, attempt.signal) == (
        Outcome.ABORTED,
        failure.exit_code,
        failure.signal,
    )


def test_a_worker_that_finished_in_the_meantime_has_lost_nothing() -> None:
    cluster = new_cluster()
    run = held_by(cluster, State.RUNNING)
    stale = claim_of(run)
    Run.objects.filter(pk=run.pk).update(state=State.SUCCEEDED)
    assert take_back(DATABASE, cluster.pk, "0.1", failure_of_exit(0)) == (0, 0)
    assert claim_of(fresh(run)) == stale


# -- in words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exit_code", "signal", "words"),
    [
        (-9, "SIGKILL", "killed, possibly out of memory"),
        (-11, "SIGSEGV", "killed by SIGSEGV"),
        (-40, "signal 40", "killed by signal 40"),
        (3, "", "exited with code 3"),
        (None, "", "exited with code None"),
    ],
)
def test_the_end_of_a_process_is_told_in_words(
    exit_code: int | None, signal: str, words: str
) -> None:
    failure = failure_of_exit(exit_code)
    assert words in failure.error_message
    assert (failure.exit_code, failure.signal) == (exit_code, signal)
    assert failure.outcome == Outcome.LOST


@pytest.mark.postgres
def test_what_a_cluster_holds_is_read_from_its_index() -> None:
    cluster = new_cluster()
    runs.fill(State.RUNNING, 300, cluster="gen_random_uuid()")
    runs.fill(State.SUCCEEDED, 30_000, cluster="gen_random_uuid()")
    held = Run.objects.held_by(cluster.pk, "0.1")
    assert "using defer_run_held" in held.explain()
    with captured() as queries:
        reap_now()
    of_nobody = [q["sql"] for q in queries.captured_queries if "NOT (" in q["sql"]]
    assert "defer_run_held" in plan_of(of_nobody[0])
