"""kill -9 of each process: nothing is lost, nothing runs twice unexplained, nothing freezes."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

from django_defer.models import Cluster, Run
from tests.acceptance.harness import (
    LEASE_SECONDS,
    SHORT_LEASE,
    check_for_stranded_claims,
    outcomes,
    repeats_without_a_reason,
    state_of,
    wait_for_end,
    wait_for_state,
    wait_until,
    wait_until_all_ended,
)
from tests.testapp import defer as functions
from tests.testapp.models import Effect
from tests.worker_processes import is_alive

if TYPE_CHECKING:
    from tests.acceptance.harness import Trees


MOMENTS = random.Random()  # other moments each time, whatever the seed of the order is


# -- a worker ------------------------------------------------------------------------------------


def test_a_worker_killed_while_running_is_noticed_at_once_and_its_run_rerun_soon(
    trees: Trees,
) -> None:
    tree = trees("--workers", "2")
    run = functions.sleep(1.5)  # declared with retry=False
    wait_for_state(run, "running")
    pid = tree.pid_of(run)
    killed_at = tree.kill(pid)
    wait_until(lambda: state_of(run) != "running", what="the loss")
    noticed_in = time.monotonic() - killed_at
    wait_for_state(run, "running")
    restarted_in = time.monotonic() - killed_at
    (lost,) = run.attempts
    assert (lost.outcome, lost.exit_code, lost.signal) == ("lost", -9, "SIGKILL")
    assert lost.error_message == "its worker process was killed, possibly out of memory"
    assert noticed_in < 1
    assert restarted_in < 3
    assert wait_for_end(run).state == "succeeded"
    assert (run.attempt, run.losses, run.failures) == (2, 1, 0)
    assert len(tree.children) == 3


def test_a_lost_run_that_must_not_be_rerun_fails(trees: Trees) -> None:
    tree = trees("--workers", "1")
    run = functions.sleep_once(60)
    wait_for_state(run, "running")
    tree.kill(tree.pid_of(run))
    wait_for_end(run)
    assert run.state == "failed"
    assert run.error == "Lost: its worker process was killed, possibly out of memory"
    assert outcomes(run) == ["lost"]


def test_a_run_that_is_lost_three_times_fails(trees: Trees) -> None:
    trees("--workers", "2")
    run = wait_for_end(functions.kill_itself(99))
    assert run.state == "failed"
    assert run.error_message == (
        "lost 3 times, last: its worker process was killed, possibly out of memory"
    )
    assert outcomes(run) == ["lost"] * 3
    assert wait_for_end(functions.kill_itself(1)).result == "survived"


def test_the_death_of_one_worker_leaves_the_run_of_another_alone(trees: Trees) -> None:
    tree = trees("--workers", "2")
    survivor, victim = functions.sleep(2), functions.sleep(0.5)
    wait_for_state(survivor, "running")
    wait_for_state(victim, "running")
    tree.kill(tree.pid_of(victim))
    assert wait_for_end(survivor).state == "succeeded"
    assert wait_for_end(victim).state == "succeeded"
    assert (outcomes(survivor), outcomes(victim)) == (["succeeded"], ["lost", "succeeded"])


# -- the pusher ------------------------------------------------------------------------------


def test_a_pusher_killed_while_idle_is_replaced_and_work_goes_on(trees: Trees) -> None:
    tree = trees("--workers", "2")
    for _ in range(3):
        functions.noop().wait("30s")
        old = tree.pusher
        tree.kill(old)
        run = functions.noop().wait("30s")
        assert run.started_at is not None
        assert (run.started_at - run.enqueued_at).total_seconds() < 3
        assert tree.pusher != old
        assert not is_alive(old)


def test_a_pusher_killed_at_random_moments_under_load_strands_nothing(trees: Trees) -> None:
    tree = trees("--workers", "2")
    enqueue_load(120)
    for _ in range(6):
        time.sleep(MOMENTS.uniform(0.05, 0.4))
        wait_until(lambda: is_alive(tree.pusher), what="a new pusher")
        tree.kill(tree.pusher)
        check_for_stranded_claims()
    wait_until_all_ended()
    check_that_all_succeeded(120)
    assert not Run.objects.filter(losses__gt=0).exists()  # no worker was touched


def test_a_claim_that_reached_no_worker_is_given_back(trees: Trees) -> None:
    """As after the death of a pusher whose claim the database finished on its own."""
    tree = trees("--workers", "2")
    run = functions.noop.using(delay="1h")()
    row = Run.objects.filter(pk=run.pk)
    cluster = Cluster.objects.get()
    row.update(
        state="claimed",
        attempt=1,
        cluster=cluster.pk,
        worker="0.1",
        claim_id=run.pk,
        claimed_at=cluster.started_at,
    )
    assert wait_for_end(run, 5).state == "succeeded"
    assert (run.attempt, outcomes(run)) == (1, ["succeeded"])
    tree.wait_for_log("claim.stranded")


# -- the supervisor ----------------------------------------------------------------------------


def test_the_children_of_a_killed_supervisor_are_gone_within_two_seconds(trees: Trees) -> None:
    tree = trees("--workers", "2")
    run = functions.sleep(60)
    wait_for_state(run, "running")
    children = tree.children
    assert len(children) == 3
    killed_at = tree.kill(tree.pid)
    wait_until(lambda: not any(is_alive(pid) for pid in children), what="the children's end")
    assert time.monotonic() - killed_at < 2


def test_another_cluster_takes_over_from_a_killed_supervisor(trees: Trees) -> None:
    dying = trees("--workers", "1", defer=SHORT_LEASE)
    run = functions.slow_at_first(60)
    wait_for_state(run, "running")
    heir = trees("--workers", "1", defer=SHORT_LEASE)
    killed_at = dying.kill(dying.pid)
    wait_until(lambda: state_of(run) != "running", what="the loss")
    assert time.monotonic() - killed_at < LEASE_SECONDS + 2
    assert wait_for_end(run).state == "succeeded"
    lost, _ = run.attempts
    assert (lost.outcome, str(lost.cluster)) == ("lost", dying.cluster_ids[0])
    assert lost.error_message == "its cluster was not heard of for the whole lease"
    assert str(run.cluster) == heir.cluster_ids[0]
    assert [str(cluster.pk) for cluster in Cluster.objects.all()] == heir.cluster_ids


def test_a_whole_group_killed_under_load_is_taken_over(trees: Trees) -> None:
    dying = trees("--workers", "2", defer=SHORT_LEASE)
    heir = trees("--workers", "1", defer=SHORT_LEASE)
    enqueue_load(120)
    wait_until(lambda: Run.objects.filter(state="succeeded").count() > 20, what="some runs")
    dying.send_to_group(signal.SIGKILL)
    heir.wait_for_log("cluster.reaped", LEASE_SECONDS + 5)
    wait_until_all_ended()
    check_that_all_succeeded(120)
    assert [str(cluster.pk) for cluster in Cluster.objects.all()] == heir.cluster_ids


# -- what the tests above share ----------------------------------------------------------------


def enqueue_load(count: int) -> None:
    """Enqueue runs, each of which leaves one effect called after its label."""
    for number in range(count):
        name = f"load {number}"
        kind = functions.leave_mark_atomically if number % 4 == 0 else functions.leave_mark
        kind.using(label=name)(name, 0.02)


def check_that_all_succeeded(count: int) -> None:
    """Fail unless every run of the load has ended well, and once where nothing explains more."""
    assert Run.objects.filter(state="succeeded").exclude(label="").count() == count
    assert repeats_without_a_reason() == []
    atomic = Run.objects.filter(function="testapp.leave_mark_atomically")
    for name in atomic.values_list("label", flat=True):
        assert Effect.objects.filter(name=name).count() == 1
