"""A running run is ended by an operator, by a real worker's signal, and nothing else is."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from django_defer import AbortInProgress, RunNotCancellable
from django_defer.models import Run
from tests.acceptance.harness import (
    SHORT_LEASE,
    outcomes,
    wait_for_end,
    wait_for_state,
    wait_until_all_ended,
)
from tests.testapp import defer as functions
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from tests.acceptance.harness import Trees

SOON = 2.0  # seconds; a supervisor looks once a second


@pytest.mark.parametrize(
    "name",
    [
        "sleep_for_long",
        "sleep_for_long_async",
        # On SQLite its transaction keeps everybody from writing, also who wants to abort it.
        pytest.param("sleep_atomically", marks=pytest.mark.postgres),
    ],
)
def test_a_running_function_is_ended_and_its_worker_goes_on(trees: Trees, name: str) -> None:
    tree = trees("--workers", "2")
    beside = wait_for_state(functions.sleep(3.0), "running")
    run = wait_for_state(getattr(functions, name)(), "running")
    pid = tree.pid_of(run)
    run.cancel(force=True, actor="ann", reason="not this one")
    run = wait_for_end(run)
    assert (run.state, run.reason) == ("aborted", "not this one (aborted by ann)")
    assert run.error_class.endswith("RunAborted")
    assert run.finished_at is not None
    assert run.abort_requested_at is not None
    assert (run.finished_at - run.abort_requested_at).total_seconds() < SOON
    assert outcomes(run) == ["aborted"]
    assert Effect.objects.filter(name="cleaned up").count() == (0 if "atomic" in name else 1)
    assert wait_for_end(beside).state == "succeeded"
    assert pid in tree.workers.values()
    assert functions.process_id().get_result("30s") in tree.workers.values()


def test_one_that_goes_on_regardless_is_killed_and_its_worker_replaced(trees: Trees) -> None:
    tree = trees("--workers", "1", defer={"KILL_GRACE": "500ms"})
    pid = tree.workers[0]
    run = wait_for_state(functions.swallow_abort(60.0), "running")
    run.cancel(force=True)
    run = wait_for_end(run)
    assert (run.state, run.losses, run.failures) == ("aborted", 0, 0)
    assert run.error == "RunAborted: killed: it went on after it was to be aborted, and the grace"
    (attempt,) = run.attempts
    assert (attempt.outcome, attempt.signal, attempt.exit_code) == ("aborted", "SIGKILL", -9)
    assert functions.process_id().get_result("30s") != pid
    tree.wait_for_log("run.aborted")
    assert not tree.said("run.lost")
    trees.may_say.append("worker.died")


def test_one_that_returns_all_the_same_has_succeeded(trees: Trees) -> None:
    trees("--workers", "1")
    run = wait_for_state(functions.return_when_aborted(), "running")
    run.cancel(force=True)
    run = wait_for_end(run)
    assert (run.state, run.result) == ("succeeded", "as if nothing were wrong")


def test_one_that_fails_instead_is_not_tried_again(trees: Trees) -> None:
    tree = trees("--workers", "1")
    run = wait_for_state(functions.fail_when_aborted(), "running")
    run.cancel(force=True)
    run = wait_for_end(run)
    assert (run.state, outcomes(run)) == ("aborted", ["aborted"])
    assert run.error_class == "ConnectionError"
    tree.wait_for_log("run.aborted")
    assert not tree.said("run.retrying")


def test_it_is_asked_for_once_and_ends_only_what_runs(trees: Trees) -> None:
    trees("--workers", "1", defer={"KILL_GRACE": "60s"})
    run = wait_for_state(functions.swallow_abort(4.0), "running")
    with pytest.raises(RunNotCancellable, match=r"cancel\(force=True\) aborts it"):
        run.cancel()
    run.cancel(force=True)
    with pytest.raises(AbortInProgress, match="it is being aborted since"):
        run.cancel(force=True)
    waiting = functions.noop()
    waiting.cancel(force=True)
    assert waiting.state == "cancelled"
    run = wait_for_end(run)
    assert run.state == "succeeded"
    with pytest.raises(RunNotCancellable, match="is succeeded"):
        run.cancel(force=True)


def test_one_whose_worker_dies_meanwhile_is_aborted_and_not_run_again(trees: Trees) -> None:
    tree = trees("--workers", "1", defer={"KILL_GRACE": "60s"})
    run = wait_for_state(functions.swallow_abort(60.0), "running")
    pid = tree.pid_of(run)
    run.cancel(force=True)
    tree.kill(pid)
    run = wait_for_end(run)
    assert (run.state, outcomes(run)) == ("aborted", ["aborted"])
    trees.may_say.append("worker.died")


def test_one_whose_whole_cluster_dies_meanwhile_is_aborted_by_another(trees: Trees) -> None:
    dead = trees("--workers", "1", defer={"KILL_GRACE": "60s"})
    run = wait_for_state(functions.swallow_abort(60.0), "running")
    run.cancel(force=True)
    dead.destroy()
    trees("--workers", "1", defer=SHORT_LEASE)
    run = wait_for_end(run)
    assert (run.state, outcomes(run), run.losses) == ("aborted", ["aborted"], 0)


def test_it_is_ended_at_once_also_while_its_cluster_stops(trees: Trees) -> None:
    tree = trees("--workers", "1")
    run = wait_for_state(functions.sleep_for_long(), "running")
    tree.send(signal.SIGTERM)
    tree.wait_for_log("cluster.stopping")
    run.cancel(force=True)
    run = wait_for_end(run)
    assert (run.state, outcomes(run)) == ("aborted", ["aborted"])
    assert run.error_class.endswith("RunAborted")
    assert tree.exit_code() == 0


def test_signals_at_random_moments_end_nothing(trees: Trees) -> None:
    """No claim is to be aborted, so a signal at any point of our code or theirs does nothing."""
    tree = trees("--workers", "2")
    workers = dict(tree.workers)
    runs = [functions.leave_mark(f"mark {number}", 0.005) for number in range(200)]
    until = time.monotonic() + 3
    while time.monotonic() < until:
        for pid in workers.values():
            os.kill(pid, signal.SIGUSR1)
        time.sleep(0.001)
    wait_until_all_ended()
    ended = Run.objects.filter(pk__in=[run.pk for run in runs])
    assert set(ended.values_list("state", "attempt")) == {("succeeded", 1)}
    assert Effect.objects.filter(name__startswith="mark").count() == len(runs)
    assert tree.workers == workers
