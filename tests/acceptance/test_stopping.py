"""SIGTERM and Ctrl-C, to the supervisor or to everybody: finish what runs, give back the rest."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from django_defer.models import BackgroundFunction, Cluster, Run
from tests.acceptance.harness import (
    enqueue_unknown,
    outcomes,
    state_of,
    wait_for_end,
    wait_for_state,
    wait_until,
)
from tests.testapp import defer as functions
from tests.testapp.models import Effect
from tests.worker_processes import is_alive

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
    runs = [functions.leave_mark.using(label=f"{n}")(f"{n}", 0.05) for n in range(200)]
    wait_until(lambda: Run.objects.filter(state="succeeded").count() > 10)
    new = trees("--workers", "2")
    ours = Run.objects.filter(cluster__in=new.cluster_ids, state="succeeded")
    wait_until(ours.exists, what="a run of the new cluster")
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


# -- a deploy --------------------------------------------------------------------------------------


def test_a_rolling_deploy_under_load_runs_everything_once_where_its_code_is(trees: Trees) -> None:
    """Hosts are updated one after the other. Both versions have a function the other lacks."""
    old_code = {"DEFER_TEST_CODE": "old"}
    new_code = {"DEFER_TEST_CODE": "new"}
    quick = {"BEAT_INTERVAL": "0.5s"}
    old = [trees("--workers", "1", env=old_code, defer=quick) for _ in range(2)]
    load = enqueue_marks(40)
    early_old = [enqueue_unknown("testapp.only_in_old_code") for _ in range(3)]
    early_new = [enqueue_unknown("testapp.only_in_new_code") for _ in range(3)]

    wait_until(lambda: Run.objects.filter(state="succeeded").count() > 10, what="some runs")
    old[0].send_to_group(signal.SIGTERM)
    assert old[0].exit_code() == 0
    assert not Run.objects.filter(function="testapp.only_in_new_code", attempt__gt=0).exists()
    new = [trees("--workers", "1", env=new_code, defer=quick)]
    load += enqueue_marks(40)
    for run in (*early_old, *early_new):  # a version of either is there
        wait_for_end(run)
    while_both = enqueue_unknown("testapp.only_in_old_code")
    assert str(wait_for_end(while_both).cluster) == old[1].cluster_ids[0]

    slow = functions.sleep.using(priority=100)(1)
    wait_for_state(slow, "running")
    busy = functions.sleep.using(priority=100)(1)  # so that each cluster is at one of them
    wait_for_state(busy, "running")
    old[1].send_to_group(signal.SIGTERM)
    old[1].wait_for_log("cluster.stopping")
    too_late = [enqueue_unknown("testapp.only_in_old_code") for _ in range(3)]
    late_new = [enqueue_unknown("testapp.only_in_new_code") for _ in range(3)]
    assert old[1].exit_code() == 0
    new.append(trees("--workers", "1", env=new_code, defer=quick))
    load += enqueue_marks(20)

    for run in (*load, *early_old, *early_new, *late_new, while_both, slow, busy):
        wait_for_end(run)
        assert (run.state, run.attempt, run.error) == ("succeeded", 1, "")
    for run in (*early_old, *early_new, *late_new, while_both):
        assert Effect.objects.filter(name=str(run.pk)).count() == 1
    for run in load:
        assert Effect.objects.filter(name=run.label).count() == 1
    for run in too_late:  # nobody is left who could, and they are in nobody's way
        wait_for_state(run, "parked")
        assert (run.reason, run.attempt) == ("no_code", 0)
    both_old, both_new = ({tree.cluster_ids[0] for tree in pair} for pair in (old, new))
    assert clusters_of("testapp.only_in_old_code") <= both_old
    assert clusters_of("testapp.only_in_new_code") <= both_new
    assert {str(cluster.pk) for cluster in Cluster.objects.all()} == both_new
    lacking = BackgroundFunction.objects.filter(orphaned_at__isnull=False, key__contains="_code")
    wait_until(lambda: list(lacking.values_list("key", flat=True)) == ["testapp.only_in_old_code"])
    assert not any(tree.said("worker.died") or tree.said("cluster.reaped") for tree in old + new)


def enqueue_marks(count: int) -> list[Run]:
    """Enqueue runs, each of which leaves one effect called after its label."""
    names = [f"mark {uuid4()}" for _ in range(count)]
    return [functions.leave_mark.using(label=name)(name, 0.03) for name in names]


def clusters_of(function: str) -> set[str]:
    """Return the clusters that have executed this function."""
    runs = Run.objects.filter(function=function, state="succeeded")
    return {str(cluster) for cluster in runs.values_list("cluster", flat=True)}
