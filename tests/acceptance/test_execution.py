"""A call becomes a run, a worker executes it, and its end is in the database."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from django.db import connection, connections

from django_defer.models import Run
from tests.acceptance.harness import PATIENCE, outcomes, wait_for_end, wait_until
from tests.testapp import defer as functions
from tests.testapp.models import Customer, Effect
from tests.worker_processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.acceptance.harness import Trees


def test_sync_and_async_functions_are_executed_and_their_results_kept(trees: Trees) -> None:
    trees()
    ada = Customer.objects.create(name="Ada")
    assert functions.add(2, 3).get_result("30s") == 5
    assert functions.add_async(2, 3).get_result("30s") == 5
    assert functions.greet(ada).get_result("30s") == "Hello, Ada"
    assert Effect.objects.filter(name="add_async").count() == 1


def test_a_run_enqueued_while_all_is_idle_starts_at_once(trees: Trees) -> None:
    trees()
    functions.noop().wait("30s")
    waits = []
    for _ in range(5):
        run = functions.noop().wait("30s")
        assert run.started_at is not None
        waits.append((run.started_at - run.enqueued_at).total_seconds())
    assert sorted(waits)[2] < 0.5, waits  # far below the second that a poll would take


def test_a_failing_function_is_retried_until_it_succeeds(trees: Trees) -> None:
    trees()
    run = wait_for_end(functions.fail_until(3))
    assert (run.state, run.result, run.attempt, run.failures) == ("succeeded", 3, 3, 2)
    assert outcomes(run) == ["retried", "retried", "succeeded"]
    assert run.error == ""


def test_a_function_that_gives_up_ends_with_its_error_and_its_reason(trees: Trees) -> None:
    trees()
    run = wait_for_end(functions.fail())
    assert (run.state, run.error) == ("failed", "ValueError: no <b>luck</b>")
    (attempt,) = run.attempts
    assert attempt.outcome == "failed"
    assert "in fail" in attempt.traceback
    run = wait_for_end(functions.raise_unreadable())
    assert run.state == "failed"
    assert "NUL \\x00" in run.error_message
    run = wait_for_end(functions.cancel_itself())
    assert (run.state, run.reason) == ("cancelled", "not needed any more")
    assert outcomes(run) == ["cancelled"]


def test_a_function_can_ask_for_its_retry(trees: Trees) -> None:
    trees()
    run = wait_for_end(functions.ask_for_retry(0.5))
    assert run.state == "succeeded"
    first, second = run.attempts
    assert first.finished_at is not None
    assert second.started_at is not None
    assert 0.4 < (second.started_at - first.finished_at).total_seconds() < 5


def test_a_function_is_interrupted_at_its_time_limit(
    trees: Trees, subtests: pytest.Subtests
) -> None:
    tree = trees("--workers", "1")
    pid = tree.workers[0]
    calls: dict[str, Callable[[], Run]] = {
        "sync": lambda: functions.too_long(30),
        "async": lambda: functions.too_long_async(30),
        "atomic": lambda: functions.atomic_too_long(30),
    }
    if connection.vendor == "postgresql":  # a call into SQLite cannot be interrupted
        calls["query"] = lambda: functions.query_too_long(120)
        calls["query in a transaction"] = lambda: functions.query_too_long_atomically(120)
    for name, call in calls.items():
        with subtests.test(name):
            run = wait_for_end(call())
            assert run.state == "failed"
            assert run.error_class.endswith("TimeLimitExceeded")
            assert outcomes(run) == ["timed_out"]
            assert run.duration is not None
            assert 0.3 <= run.duration.total_seconds() < 3
            assert functions.process_id().get_result("30s") == pid  # the same process serves on
            assert not Effect.objects.exists()
            assert not tree.said("database.unreachable")
    wait_until(lambda: not is_query_running("pg_sleep"), 5, what="the end of the query")


def is_query_running(text: str) -> bool:
    """Whether PostgreSQL still executes such a query."""
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE state = 'active'"
            " AND pid <> pg_backend_pid() AND datname = current_database()"
            " AND strpos(query, %s) > 0)",
            [text],
        )
        return bool(cursor.fetchone()[0])


def test_a_function_that_ignores_its_time_limit_is_killed_after_the_grace(trees: Trees) -> None:
    tree = trees("--workers", "1")
    pid = tree.workers[0]
    run = wait_for_end(functions.swallow_time_limit(30))
    assert (run.state, run.error_class) == ("failed", "TimeLimitExceeded")
    (attempt,) = run.attempts
    assert (attempt.outcome, attempt.signal, attempt.exit_code) == ("timed_out", "SIGKILL", -9)
    assert (run.failures, run.losses) == (1, 0)
    assert not is_alive(pid)
    successor = functions.process_id().get_result("30s")
    assert successor != pid
    assert successor == tree.workers[0]


def test_the_time_limit_of_one_worker_leaves_the_others_alone(trees: Trees) -> None:
    trees("--workers", "2")
    long = functions.sleep(1.5)
    wait_until(lambda: Run.objects.filter(pk=long.pk, state="running").exists())
    wait_for_end(functions.swallow_time_limit(30))
    assert wait_for_end(long).state == "succeeded"
    assert outcomes(long) == ["succeeded"]


def test_good_runs_print_nothing_at_verbosity_zero(trees: Trees) -> None:
    tree = trees(ready=False, verbosity=0)
    functions.add(1).wait("30s")
    assert tree.terminate() == 0
    assert [line for line in tree.log.splitlines() if "defer.W" not in line] == _checks(tree.log)


def test_a_worker_that_has_done_its_share_is_replaced_without_a_loss(trees: Trees) -> None:
    tree = trees("--workers", "1", defer={"MAX_RUNS_PER_WORKER": 3})
    runs = [functions.process_id() for _ in range(7)]
    began = time.monotonic()
    pids = [run.get_result("30s") for run in runs]
    assert len(set(pids)) == 3
    assert time.monotonic() - began < 15
    assert Run.objects.filter(losses__gt=0).count() == 0
    assert not tree.said("worker.died")


def _checks(log: str) -> list[str]:
    """Return what `manage.py` itself says before a command: the warnings of the checks."""
    lines = [line for line in log.splitlines() if "defer.W" not in line]
    return [
        line
        for line in lines
        if not line or line.startswith(("System check", "WARNINGS", "\tHINT"))
    ]


@pytest.mark.postgres
def test_a_worker_keeps_its_connection_though_django_would_close_it(trees: Trees) -> None:
    assert connections["default"].settings_dict["CONN_MAX_AGE"] == 0
    trees("--workers", "1")
    backends = {functions.backend_id().get_result(timeout=PATIENCE) for _ in range(3)}
    assert len(backends) == 1


def test_a_retry_that_is_due_soon_does_not_wait_for_the_supervisors_next_look(
    trees: Trees,
) -> None:
    trees("--workers", "1")
    lags = []
    for _ in range(6):
        run = functions.fail_until(2)
        assert run.get_result(timeout=PATIENCE) == 2
        first, second = run.attempts
        lags.append((second.started_at - first.finished_at).total_seconds())
    # Its delay is 0.05 s, and a look happens once a second; one may be late on a busy machine.
    assert sorted(lags)[-2] < 0.4
