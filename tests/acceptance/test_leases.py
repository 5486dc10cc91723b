"""A cluster that was silent for its whole lease is dead, whatever it believes itself."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from django_defer.models import Cluster, Run
from tests.acceptance.harness import (
    LEASE_SECONDS,
    SHORT_LEASE,
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


def test_a_supervisor_stopped_beyond_its_lease_drops_its_work_and_starts_anew(
    trees: Trees,
) -> None:
    stalled = trees("--workers", "2", defer=SHORT_LEASE)
    finishing = functions.slow_at_first(LEASE_SECONDS + 2.5, "finishing")
    endless = functions.slow_at_first(120)
    wait_for_state(finishing, "running")
    wait_for_state(endless, "running")
    other = trees("--workers", "2", defer=SHORT_LEASE)
    os.kill(stalled.pid, signal.SIGSTOP)  # its children go on
    stalled_at = time.monotonic()
    wait_until(lambda: outcomes(endless)[:1] == ["lost"], what="the loss")
    assert str(wait_for_end(endless).cluster) == other.cluster_ids[0]
    # The worker of the stalled cluster finishes late: that changes nothing, and it says so.
    stalled.wait_for_log(f"run.late testapp.slow_at_first run={finishing.pk} attempt=1")

    time.sleep(max(0.0, stalled_at + 2 * LEASE_SECONDS - time.monotonic()))
    os.kill(stalled.pid, signal.SIGCONT)
    stalled.wait_for_log("cluster.declared_dead")
    stalled.wait_for_log("cluster.started", times=2)
    wait_until(lambda: len(stalled.children) == 3, what="its new children")
    old, new = stalled.cluster_ids
    assert old != new
    assert {str(cluster.pk) for cluster in Cluster.objects.all()} == {new, *other.cluster_ids}

    wait_for_end(finishing)
    assert (finishing.state, finishing.attempt) == ("succeeded", 2)
    assert str(finishing.cluster) != old
    assert outcomes(finishing) == ["lost", "succeeded"]
    assert finishing.result == 2
    assert Effect.objects.filter(name="finishing").count() == 2  # the overlap
    assert other.terminate() == 0
    run = wait_for_end(functions.noop())
    assert str(run.cluster) == new


def test_a_stalled_supervisor_keeps_its_workers_from_starting_anything_new(trees: Trees) -> None:
    tree = trees("--workers", "1", defer=SHORT_LEASE)
    functions.noop().wait("30s")
    os.kill(tree.pid, signal.SIGSTOP)
    time.sleep(LEASE_SECONDS)  # nobody else is there who could take its work
    run = functions.noop()
    time.sleep(0.5)
    assert state_of(run) == "queued"
    os.kill(tree.pid, signal.SIGCONT)
    assert wait_for_end(run, 5).state == "succeeded"
    assert tree.said("cluster.started") == 1  # nobody declared it dead


def test_clusters_that_were_all_silent_at_once_do_not_reap_each_other(trees: Trees) -> None:
    """As after a pause of the machine that they share."""
    both = [trees("--workers", "1", defer=SHORT_LEASE) for _ in range(2)]
    runs = [functions.sleep(LEASE_SECONDS + 3) for _ in range(2)]
    for run in runs:
        wait_for_state(run, "running")
    time.sleep(LEASE_SECONDS + 0.5)  # long enough for each to trust its own beats
    for tree in both:
        os.kill(tree.pid, signal.SIGSTOP)
    time.sleep(LEASE_SECONDS + 0.5)
    for tree in both:
        os.kill(tree.pid, signal.SIGCONT)
        time.sleep(0.3)
    for run in runs:
        assert wait_for_end(run).state == "succeeded"
        assert outcomes(run) == ["succeeded"]
    assert not any(tree.said("cluster.reaped") for tree in both)
    assert Cluster.objects.count() == 2


def test_what_a_cluster_without_a_row_holds_is_taken_back(trees: Trees) -> None:
    claimed, running = functions.noop.using(delay="1h")(), functions.noop.using(delay="1h")()
    for run, state in ((claimed, "claimed"), (running, "running")):
        Run.objects.filter(pk=run.pk).update(
            state=state, attempt=1, cluster=uuid4(), worker="0.1", claim_id=uuid4()
        )
    trees("--workers", "1", defer=SHORT_LEASE)
    assert wait_for_end(claimed).attempt == 1
    assert wait_for_end(running).attempt == 2
    assert outcomes(claimed) == ["succeeded"]
    assert outcomes(running) == ["lost", "succeeded"]
