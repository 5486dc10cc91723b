"""Memory, disk and processor run out: what cannot be helped is said once, the rest goes on."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from django.db import DatabaseError, connection, transaction

from django_defer.models import Attempt, Cluster, Run
from tests.acceptance.harness import (
    LEASE_SECONDS,
    SHORT_LEASE,
    outcomes,
    wait_for_end,
    wait_for_state,
    wait_until,
    wait_until_all_ended,
)
from tests.testapp import defer as functions
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.acceptance.harness import Tree, Trees

MOST_MEGABYTES: Final = 150  # that a worker may grow by before it is killed here
WATCHED_SECONDS: Final = 5.0
TICKS: Final = os.sysconf("SC_CLK_TCK")


# -- memory --------------------------------------------------------------------------------------


def test_a_function_that_leaks_memory_is_killed_three_times_and_fails(trees: Trees) -> None:
    """The kernel's part is played here: it kills, without a word, whoever grows too large."""
    tree = trees("--workers", "2")
    run = functions.leak_memory(MOST_MEGABYTES * 3)
    for number in (1, 2, 3):
        wait_until(lambda: is_running(run, number), what=f"attempt {number}")  # noqa: B023
        pid = tree.pid_of(run)
        limit = resident_megabytes(pid) + MOST_MEGABYTES
        wait_until(lambda: resident_megabytes(pid) > limit, what="the leak")  # noqa: B023
        tree.kill(pid)
    wait_for_end(run)
    assert run.state == "failed"
    assert run.error_message == (
        "lost 3 times, last: its worker process was killed, possibly out of memory"
    )
    assert [(each.outcome, each.signal) for each in run.attempts] == [("lost", "SIGKILL")] * 3
    wait_until(lambda: len(tree.children) == 3, what="two workers and the pusher")
    both = [functions.leave_mark(name, 0.5) for name in ("one", "two")]
    assert {run.get_result("10s") for run in both} == {*tree.workers.values()}
    assert tree.said("worker.died") == 3


def is_running(run: Run, attempt: int) -> bool:
    """Whether this attempt has begun."""
    run.refresh_from_db()
    return (run.state, run.attempt) == ("running", attempt)


def resident_megabytes(pid: int) -> float:
    """Return how much memory the process has."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return 0.0


# -- connections ---------------------------------------------------------------------------------


@pytest.mark.postgres
def test_supervisor_and_pusher_hold_a_connection_and_each_worker_once_it_has_worked(
    trees: Trees,
) -> None:
    tree = trees("--workers", "2")
    wait_until(lambda: connections_of_others() == 2, what="the pusher's first look")
    both = [functions.leave_mark(name, 0.5) for name in ("one", "two")]
    assert {run.get_result("10s") for run in both} == {*tree.workers.values()}
    wait_until_all_ended()
    assert connections_of_others() == 4


def connections_of_others() -> int:
    """Return how many connections there are to the database of the runs, besides ours."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


# -- processor -----------------------------------------------------------------------------------


def test_functions_that_keep_the_processor_beyond_the_lease_are_not_lost(trees: Trees) -> None:
    """Nobody asks a worker whether it lives: a dead process is seen, a busy one let alone."""
    busy = trees("--workers", "2", defer=SHORT_LEASE)
    in_c, in_python = functions.hold_the_gil(LEASE_SECONDS * 1.5), functions.spin(LEASE_SECONDS + 1)
    for run in (in_c, in_python):
        wait_for_state(run, "running")
    other = trees("--workers", "1", defer=SHORT_LEASE)
    assert wait_for_end(functions.noop()).state == "succeeded"
    for run in (in_c, in_python):
        wait_for_end(run)
        assert (run.state, run.attempt, outcomes(run)) == ("succeeded", 1, ["succeeded"])
        assert str(run.cluster) == busy.cluster_ids[0]
    assert in_c.get_result() > LEASE_SECONDS  # so long nobody else in its process got a turn
    for tree in (busy, other):
        assert len(tree.cluster_ids) == 1
        assert not tree.said("cluster.reaped")
        assert not tree.said("worker.died")
    assert Cluster.objects.count() == 2


# -- disk ----------------------------------------------------------------------------------------


@contextmanager
def full_disk() -> Iterator[str]:
    """Let the database have no room for anything more; gives what it then says.

    On SQLite, whose processes may use few pages here, each change needs more than these. On
    PostgreSQL the error that a client sees when the server's disk is full.
    """
    tables = (Run, Attempt, Cluster, Effect)
    changes = [(model._meta.db_table, verb) for model in tables for verb in ("INSERT", "UPDATE")]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("CREATE TABLE room (taken BLOB)")
            for table, verb in changes:
                cursor.execute(
                    f"CREATE TRIGGER full_{table}_{verb} BEFORE {verb} ON {table} BEGIN "
                    "INSERT INTO room VALUES (zeroblob(4096 * 5000)); DELETE FROM room; END"
                )
        else:
            cursor.execute(
                "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE "
                "'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
            )
            for table, verb in changes:
                cursor.execute(
                    f"CREATE TRIGGER full_disk_{verb} BEFORE {verb} ON {table} "
                    "FOR EACH STATEMENT EXECUTE FUNCTION no_room()"
                )
        try:
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA max_page_count = 1")  # as many as there are
                cursor.fetchall()  # else this statement, and with it a transaction, stays open
                yield "database or disk is full"
            else:
                yield "No space left on device"
        finally:
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA max_page_count = 1000000")
                for table, verb in changes:
                    cursor.execute(f"DROP TRIGGER full_{table}_{verb}")
                cursor.execute("DROP TABLE room")
            else:
                cursor.execute("DROP FUNCTION no_room CASCADE")


@contextmanager
def read_only() -> Iterator[str]:
    """Let the database refuse every change, as a standby does; gives what it then says."""
    if connection.vendor == "sqlite":
        switch = Path(os.environ["DEFER_TEST_READ_ONLY"])
        switch.touch()
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = 1")
            try:
                yield "attempt to write a readonly database"
            finally:
                cursor.execute("PRAGMA query_only = 0")
                switch.unlink()
        return
    name = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        cursor.execute("SET default_transaction_read_only = on")
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        try:
            yield "read-only transaction"
        finally:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


@pytest.mark.parametrize("trouble", [full_disk, read_only])
def test_a_database_that_takes_nothing_is_waited_for_without_haste_or_noise(
    trees: Trees,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Callable[[], AbstractContextManager[str]],
) -> None:
    monkeypatch.setenv("DEFER_TEST_READ_ONLY", str(tmp_path / "read-only"))
    monkeypatch.setenv("DEFER_TEST_PAGES", "4000")
    tree = trees("--workers", "3", defer={"BEAT_INTERVAL": "1s"})
    # Of the workers, one is to have a result then, one a failure, and one nothing to do.
    slow, failing = functions.sleep(2), functions.leave_mark("failing", 2)
    for run in (slow, failing):
        wait_for_state(run, "running")
    os.kill(tree.pusher, signal.SIGSTOP)
    with transaction.atomic():
        for number in range(20):
            kind = functions.leave_mark_atomically if number % 4 == 0 else functions.leave_mark
            kind.using(label=f"{number}")(f"{number}")
    with trouble() as error:
        os.kill(tree.pusher, signal.SIGCONT)
        with pytest.raises(DatabaseError, match=error):
            functions.noop()
        tree.wait_for_log(
            "database.unreachable", times=4
        )  # the supervisor, the pusher, two workers
        lines, used = tree.log.count("\n"), processor_seconds(tree)
        time.sleep(WATCHED_SECONDS)
        assert tree.log.count("\n") - lines < 10
        assert processor_seconds(tree) - used < WATCHED_SECONDS / 4
        assert not Run.objects.finished().exists()
        complaints = [line for line in tree.log.splitlines() if "database.unreachable" in line]
        assert len(complaints) == 4
        assert any(error in line for line in complaints), complaints
    wait_until_all_ended()
    tree.wait_for_log("database.back")
    assert tree.said("database.back") == 1
    assert Run.objects.count_by_state() == {"succeeded": 22}
    assert outcomes(slow) == ["succeeded"]
    assert outcomes(failing) == ["retried", "succeeded"]
    assert Effect.objects.filter(name="failing").count() == 1
    for run in Run.objects.exclude(label=""):
        assert (outcomes(run), Effect.objects.filter(name=run.label).count()) == (["succeeded"], 1)
    assert len(tree.cluster_ids) == 1
    assert not tree.said("worker.died")
    assert wait_for_end(functions.noop()).state == "succeeded"


def processor_seconds(tree: Tree) -> float:
    """Return how long the supervisor and its children have computed so far."""
    ticks = 0
    for pid in [tree.pid, *tree.children]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime
    return ticks / TICKS
