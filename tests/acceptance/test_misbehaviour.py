"""Whatever a function does to its process or connection: its end is recorded, the next run goes.

Each test asks the same worker for another run afterwards, and that it is really committed.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from django_defer.models import Run
from tests.acceptance.harness import PATIENCE, outcomes, wait_for_end, wait_until
from tests.testapp import defer as functions
from tests.testapp.models import Effect
from tests.worker_processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_defer.models import Run
    from tests.acceptance.harness import Tree, Trees


@pytest.fixture
def tree(trees: Trees) -> Tree:
    """One worker, so that the next run is executed where the bad one was."""
    return trees("--workers", "1")


def check_that_the_worker_serves_on(tree: Tree, pid: int) -> None:
    """Fail unless this very process executes and commits further runs."""
    Effect.objects.all().delete()
    runs = [functions.leave_mark(f"after {number}") for number in range(3)]
    assert [run.get_result("30s") for run in runs] == [pid] * 3
    assert Effect.objects.filter(name__startswith="after").count() == 3
    assert not tree.said("database.unreachable")
    assert not tree.said("run.late")


def test_what_a_function_leaves_behind_is_removed(tree: Tree, subtests: pytest.Subtests) -> None:
    pid = tree.workers[0]
    calls: dict[str, Callable[[], Run]] = {
        "a closed connection": functions.close_connection,
        "an open block of atomic()": functions.leave_atomic_open,
        "an open block and a closed connection": lambda: functions.leave_atomic_open(close=True),
        "a transaction begun by hand": functions.begin_by_hand,
        "autocommit turned off": functions.turn_autocommit_off,
        "other signal handlers": functions.change_signal_handlers,
    }
    for name, call in calls.items():
        with subtests.test(name):
            run = wait_for_end(call())
            assert run.state == "succeeded", run.error
            assert not Effect.objects.filter(name="never committed").exists()
            check_that_the_worker_serves_on(tree, pid)


def test_a_function_that_raises_or_breaks_what_it_should_not_has_failed(
    tree: Tree, subtests: pytest.Subtests
) -> None:
    pid = tree.workers[0]
    calls: dict[str, Callable[[], Run]] = {
        "SystemExit": lambda: functions.exit_politely(3),
        "KeyboardInterrupt": functions.press_ctrl_c,
        "ProgrammingError|OperationalError": functions.break_transaction,
        "TransactionManagementError": functions.roll_back_silently,
        "TransactionManagementError: The function left": functions.leave_savepoint_open,
    }
    for error, call in calls.items():
        with subtests.test(error):
            run = wait_for_end(call())
            assert run.state == "failed"
            assert re.search(error, run.error), run.error
            assert not Effect.objects.filter(name="rolled back").exists()
            check_that_the_worker_serves_on(tree, pid)


def test_the_time_limit_works_after_a_function_that_changed_signal_handlers(tree: Tree) -> None:
    functions.change_signal_handlers().wait("30s")
    assert outcomes(wait_for_end(functions.too_long(30))) == ["timed_out"]
    assert tree.terminate() == 0


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: functions.exit_politely(3), "SystemExit: 3"),
        (functions.press_ctrl_c, "KeyboardInterrupt: "),
        (functions.break_transaction, "OperationalError|ProgrammingError"),
        (functions.roll_back_silently, "TransactionManagementError"),
    ],
    ids=["sys.exit", "ctrl-c", "broken-transaction", "rolled-back"],
)
def test_a_function_that_raises_what_it_should_not_has_failed(
    tree: Tree, call: Callable[[], Run], error: str
) -> None:
    pid = tree.workers[0]
    run = wait_for_end(call())
    assert run.state == "failed"
    assert any(part in run.error for part in error.split("|")), run.error
    assert not Effect.objects.exists()
    check_that_the_worker_serves_on(tree, pid)


def test_a_function_that_ends_its_process_is_lost_three_times_and_then_failed(tree: Tree) -> None:
    run = wait_for_end(functions.exit_at_once(3))
    assert run.state == "failed"
    assert run.error == "Lost: lost 3 times, last: its worker process exited with code 3"
    assert (run.attempt, run.losses, run.failures) == (3, 3, 0)
    assert [(each.outcome, each.exit_code) for each in run.attempts] == [("lost", 3)] * 3
    assert functions.process_id().get_result("30s") == tree.workers[0]


def test_a_function_that_forks_is_recorded_once(tree: Tree) -> None:
    pid = tree.workers[0]
    assert functions.fork_and_return().get_result("30s") == pid
    assert functions.fork_and_return_atomically().get_result("30s") == pid
    assert Effect.objects.filter(name="forked").count() == 1
    check_that_the_worker_serves_on(tree, pid)
    assert len(tree.children) == 2


def test_a_program_that_a_function_starts_can_be_stopped_with_sigterm(tree: Tree) -> None:
    assert functions.stop_a_program().get_result("30s") == -15


def test_a_run_whose_end_cannot_be_recorded_does_not_stay_running(tree: Tree, trees: Trees) -> None:
    trees.may_say.append("Traceback")
    run = wait_for_end(functions.break_the_executor())
    assert (run.state, run.losses) == ("failed", 3)
    assert tree.said("run.unrecorded") == 3
    assert functions.add(1).get_result("30s") == 2


# -- what happens after an atomic run's commit ---------------------------------------------------


def test_a_commit_hook_that_fails_is_told_and_takes_nothing_back(trees: Trees) -> None:
    tree = trees("--workers", "1")
    trees.may_say.append("Traceback")
    run = functions.commit_with_hook("fails")
    assert wait_for_end(run).state == "succeeded"
    tree.wait_for_log("run.hook_failed testapp.commit_with_hook")
    tree.wait_for_log("ValueError: after the commit")
    assert Effect.objects.filter(name="committed").count() == 1
    assert functions.add(1, 1).get_result(timeout=PATIENCE) == 2


def test_a_commit_hook_that_hangs_is_ended_with_its_worker(trees: Trees) -> None:
    tree = trees("--workers", "1", defer={"KILL_GRACE": "0.5s"})
    run = functions.commit_with_hook("hangs")
    tree.wait_for_log("worker.died")
    assert functions.add(1, 1).get_result(timeout=PATIENCE) == 2
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("succeeded", 1)
    assert Effect.objects.filter(name="committed").count() == 1


def test_a_run_that_a_commit_hook_enqueues_is_a_child_of_the_run(trees: Trees) -> None:
    trees("--workers", "1")
    run = functions.commit_with_hook("enqueues")
    child = wait_until(lambda: Run.objects.filter(label="from the hook").first())
    assert child.parent_id == run.pk


# -- processes of its own ------------------------------------------------------------------------


def test_a_process_that_a_function_forks_can_be_ended_with_sigterm(trees: Trees) -> None:
    trees("--workers", "1")
    run = functions.terminate_a_forked_process()
    assert run.get_result(timeout=PATIENCE) == -signal.SIGTERM


def test_what_comes_out_of_a_function_in_a_forked_child_is_nobodys_end(
    tree: Tree, subtests: pytest.Subtests
) -> None:
    """A child that raises, exits or returns ends there: it records nothing and takes no run."""
    pid = tree.workers[0]
    calls: dict[str, Callable[[], Run]] = {
        "it raises": functions.fork_and_raise,
        "it exits": functions.fork_and_exit,
        "it returns after the function has": lambda: functions.fork_and_linger(0.3),
        "it returns from an event loop": functions.fork_and_return_async,
        "it returns from a commit's hook": functions.fork_in_commit_hook,
    }
    for name, call in calls.items():
        with subtests.test(name):
            run = wait_for_end(call())
            assert (run.state, run.result) == ("succeeded", pid), run.error
            check_that_the_worker_serves_on(tree, pid)
            wait_until(lambda: processes_of_group(tree) == {tree.pid, *tree.children})
            assert outcomes(run) == ["succeeded"]
            assert tree.said(f"run.succeeded {run.function_id} run={run.pk}") == 1
            assert len(tree.children) == 2


def processes_of_group(tree: Tree) -> set[int]:
    """Return the supervisor, its children and theirs."""
    found = set()
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and is_alive(int(path.name)):
            try:
                if os.getpgid(int(path.name)) == tree.pid:
                    found.add(int(path.name))
            except ProcessLookupError:
                pass
    return found
