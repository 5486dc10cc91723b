"""SIGTERM and Ctrl-C, to the supervisor or to everybody: finish what runs, give back the rest."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from django_defer.models import Cluster, Run
from tests.acceptance.harness import (
    is_alive,
    outcomes,
    state_of,
    wait_for_end,
    wait_for_state,
    wait_until,
)
from tests.testapp import defer as functions
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from tests.acceptance.harness import Trees


@pytest.mark.parametrize(
    ("number", "to_group"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)],
    ids=["sigterm", "sigterm-to-all", "ctrl-c"],
)
def test_a_stop_lets_running_functions_finish_and_gives_back_the_rest(
    trees: Trees, number: signal.Signals, to_group: bool
) -> None:
    tree = trees("--workers", "2")
    running = functions.sleep(1.5)
    wait_for_state(running, "running")
    # A worker that is stopped looks idle, so it is given a run that it never starts.
    idle = next(pid for pid in tree.workers.values() if pid != tree.pid_of(running))
    os.kill(idle, signal.SIGSTOP)
    claimed, queued = functions.noop("claimed"), functions.noop("queued")
    wait_until(lambda: {state_of(claimed), state_of(queued)} == {"claimed", "queued"})
    children = tree.children

    tree.send_to_group(number) if to_group else tree.send(number)
    for run in (claimed, queued):
        wait_for_state(run, "queued", timeout=5)
        assert (run.attempt, run.claim_id, run.cluster, run.worker) == (0, None, None, "")
    os.kill(idle, signal.SIGCONT)
    assert tree.exit_code() == 0

    assert state_of(running) == "succeeded"
    assert outcomes(running) == ["succeeded"]
    assert {state_of(claimed), state_of(queued)} == {"queued"}
    assert not Cluster.objects.exists()
    assert not any(is_alive(pid) for pid in children)
    assert not tree.said("Lost")


def test_a_second_signal_stops_at_once_and_requeues_what_ran_without_counting_it(
    trees: Trees,
) -> None:
    tree = trees("--workers", "1")
    run = functions.sleep(60)
    wait_for_state(run, "running")
    tree.send_to_group(signal.SIGINT)
    tree.wait_for_log("cluster.stopping")
    began = time.monotonic()
    tree.send_to_group(signal.SIGINT)
    assert tree.exit_code(5) == 0
    assert time.monotonic() - began < 3
    assert state_of(run) == "scheduled"
    assert (run.losses, run.failures) == (0, 0)
    (attempt,) = run.attempts
    assert attempt.outcome == "lost"
    assert attempt.error_message == "it was still running when its worker was told to stop"
    assert not Cluster.objects.exists()


def test_what_outlasts_the_grace_is_requeued_without_counting_it(trees: Trees) -> None:
    tree = trees("--workers", "1", defer={"SHUTDOWN_GRACE": "0.5s"})
    run = functions.slow_at_first(60)
    wait_for_state(run, "running")
    assert tree.terminate() == 0
    assert (state_of(run), run.losses) == ("scheduled", 0)
    trees("--workers", "1")
    assert run.get_result("30s") == 2


def test_a_stop_while_idle_takes_no_time(trees: Trees) -> None:
    tree = trees("--workers", "2")
    began = time.monotonic()
    assert tree.terminate() == 0
    assert time.monotonic() - began < 3
    assert "cluster.stopped" in tree.log


def test_a_rolling_restart_under_load_loses_nothing_and_runs_nothing_twice(trees: Trees) -> None:
    old = trees("--workers", "2")
    runs = [functions.leave_mark.using(label=f"{n}")(f"{n}", 0.05) for n in range(60)]
    wait_until(lambda: Run.objects.filter(state="succeeded").count() > 10)
    new = trees("--workers", "2")
    assert old.terminate() == 0
    for run in runs:
        run.wait("30s")
        assert (run.state, run.attempt) == ("succeeded", 1)
    assert {str(run.cluster) for run in runs} == {*old.cluster_ids, *new.cluster_ids}


def test_a_stop_gives_back_nothing_that_runs_also_if_a_database_crash_took_its_start_back(
    trees: Trees,
) -> None:
    """After a crash of the database, the row of a run that runs may say "claimed" again."""
    tree = trees("--workers", "1")
    run = functions.sleep(3, "slept")
    wait_until(lambda: Effect.objects.filter(name="slept").exists())
    Run.objects.filter(pk=run.pk).update(state="claimed", started_at=None)
    successor = trees("--workers", "1")
    tree.send(signal.SIGTERM)
    assert tree.exit_code() == 0
    wait_for_end(run)
    assert (run.state, run.attempt) == ("succeeded", 1)
    details = list(Effect.objects.order_by("pk").values_list("detail", flat=True))
    assert len(details) == 2
    assert not successor.said("run.started")


def test_a_pusher_that_dies_takes_nothing_away_from_a_worker_that_is_at_it(trees: Trees) -> None:
    tree = trees("--workers", "1")
    run = functions.sleep(2, "slept")
    wait_until(lambda: Effect.objects.filter(name="slept").exists())
    Run.objects.filter(pk=run.pk).update(state="claimed", started_at=None)
    tree.kill(tree.pusher)
    wait_for_end(run)
    assert (run.state, run.attempt) == ("succeeded", 1)
    assert Effect.objects.count() == 2
