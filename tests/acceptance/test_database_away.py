"""PostgreSQL crashes, or is away for longer than the lease: all is finished once it is back.

The server is one of these tests' own. This process reaches it through the alias `default`, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections

from django_defer.models import Cluster, CronDefinition, Run
from tests.acceptance.harness import (
    LEASE_SECONDS,
    SHORT_LEASE,
    Trees,
    claimed_in_chunks,
    outcomes,
    repeats_without_a_reason,
    wait_for_end,
    wait_for_state,
    wait_until,
    wait_until_all_ended,
)
from tests.postgres import PrivateServer
from tests.testapp import defer as functions
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    """A server that may be crashed, with a migrated database."""
    with PrivateServer() as server:
        server.create_database("defer")
        subprocess.run(
            [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
            env={
                **os.environ,
                **server.environment,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "DEFER_TEST_NAME": "defer",
            },
            check=True,
        )
        yield server


@pytest.fixture
def trees(
    server: PrivateServer, tmp_path: Path, django_db_blocker: pytest.FixtureRequest
) -> Iterator[Trees]:
    """Start `defer_worker`s on that server, and look at its tables from here."""
    connection = connections["default"]
    before = dict(connection.settings_dict)
    trees = Trees(tmp_path)
    trees.environment = server.environment
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        connection.close()
        connection.settings_dict.update(server.settings, NAME="defer")
        try:
            yield trees
        finally:
            trees.destroy()
            connection.close()
            call_command("flush", interactive=False, verbosity=0)
            connection.close()
            connection.settings_dict.clear()
            connection.settings_dict.update(before)
    trees.check_logs()


def test_a_crash_under_load_loses_nothing_and_connections_come_back(
    trees: Trees, server: PrivateServer
) -> None:
    tree = trees("--workers", "2")
    for number in range(150):
        kind = functions.leave_mark_atomically if number % 4 == 0 else functions.leave_mark
        kind.using(label=f"{number}")(f"{number}", 0.02)
    for crash in (1, 2):
        wait_for_finished(25 * crash)
        connections["default"].close()
        server.restart("immediate")
        tree.wait_for_log("database.back", times=crash)
    wait_until_all_ended()
    assert Run.objects.count_by_state() == {"succeeded": 150}
    assert repeats_without_a_reason() == []
    for name in Run.objects.filter(function="testapp.leave_mark_atomically").values_list(
        "label", flat=True
    ):
        assert Effect.objects.filter(name=name).count() == 1
    assert not Run.objects.filter(losses__gt=0).exists()
    # Each process that noticed said so once a crash: the supervisor, the pusher, two workers.
    assert tree.said("database.unreachable waiting for it") == 2
    assert tree.said("database.back") == 2
    assert tree.said("database.unreachable cannot claim") <= 2
    assert tree.said("database.unreachable waiting for the database") <= 4
    assert len(tree.cluster_ids) == 1
    if tree.said("run.hook_failed"):  # a crash met the very COMMIT of an atomic run, which counts
        trees.may_say.append("Traceback")


def test_a_crash_in_the_middle_of_chunks_takes_nothing_back_and_repeats_nothing(
    trees: Trees, server: PrivateServer, tmp_path: Path
) -> None:
    """Most of a chunk's commits do not wait for the disk, and the function writes to none."""
    notes = tmp_path / "notes"
    tree = trees("--workers", "2")
    functions.note.starmap((str(notes), str(number), 0.004) for number in range(600))
    for crash in (1, 2, 3):
        wait_for_finished(120 * crash)
        connections["default"].close()
        server.restart("immediate")
        tree.wait_for_log("database.back", times=crash)
    wait_until_all_ended()
    assert claimed_in_chunks() > 50
    assert Run.objects.count_by_state() == {"succeeded": 600}
    assert not Run.objects.exclude(attempt=1).exists()
    assert sorted(notes.read_text().split(), key=int) == [str(number) for number in range(600)]
    assert not tree.said("worker.died")


def test_crashes_between_two_schedulers_and_a_slot_a_second(
    trees: Trees, server: PrivateServer
) -> None:
    trees.environment = {**server.environment, "DEFER_TEST_EVERY": "every_second"}
    both = [trees("--workers", "1") for _ in range(2)]
    for crash in (1, 2, 3):
        time.sleep(1.1)  # crashes at different moments of a second
        connections["default"].close()
        server.restart("immediate")
        for tree in both:
            tree.wait_for_log("database.back", times=crash)
    wait_for_finished(Run.objects.count() + 2)
    definition = CronDefinition.objects.get(function="testapp.every_second")
    definition.pause()
    wait_until_all_ended()
    definition.refresh_from_db()
    slots = [run.slot for run in Run.objects.filter(definition=definition).order_by("slot")]
    assert slots[0] is not None
    assert slots == [slots[0] + timedelta(seconds=n) for n in range(len(slots))]
    assert slots[-1] == definition.last_slot_at
    assert len(slots) >= 5
    assert set(Run.objects.count_by_state()) <= {"succeeded", "failed"}  # in a crash, perhaps
    assert not any(tree.said("slot.duplicate") for tree in both)


def wait_for_finished(count: int) -> None:
    """Return once so many runs have ended."""
    wait_until(lambda: Run.objects.finished().count() >= count, what=f"the end of {count} runs")


def test_clusters_wait_for_a_database_that_is_away_beyond_the_lease_and_spare_each_other(
    trees: Trees, server: PrivateServer
) -> None:
    both = [trees("--workers", "1", defer=SHORT_LEASE) for _ in range(2)]
    runs = [functions.sleep(LEASE_SECONDS + 4) for _ in both]
    for run in runs:
        wait_for_state(run, "running")
    time.sleep(LEASE_SECONDS + 0.5)  # so that each trusts its own beats by now
    connections["default"].close()
    server.stop("fast")
    with pytest.raises(OperationalError):  # enqueueing fails as any query does
        functions.noop()
    time.sleep(2 * LEASE_SECONDS)
    connections["default"].close()
    server.start()
    for tree in both:
        tree.wait_for_log("database.back")
    for run in runs:
        assert wait_for_end(run).state == "succeeded"
        assert outcomes(run) == ["succeeded"]
    assert wait_for_end(functions.noop()).state == "succeeded"
    assert Cluster.objects.count() == 2
    for tree in both:
        assert tree.said("database.unreachable waiting for it") == 1
        assert tree.said("database.unreachable cannot claim") == 1
        assert not tree.said("cluster.reaped")
        assert len(tree.cluster_ids) == 1


def test_a_stop_while_the_database_is_away_ends(trees: Trees, server: PrivateServer) -> None:
    tree = trees("--workers", "1", defer={"SHUTDOWN_GRACE": "1s"})
    run = functions.sleep(0.5)
    wait_for_state(run, "running")
    connections["default"].close()
    server.stop("fast")
    try:
        tree.wait_for_log("database.unreachable waiting for it")
        assert tree.terminate() == 0
    finally:
        server.start()
    assert tree.said("database.unreachable waiting for it") == 1
    assert not tree.said("database.back")
    # Its row and its run are left for the others, who take them back when its lease is over.
    assert Cluster.objects.count() == 1
    trees("--workers", "1", defer=SHORT_LEASE)
    assert wait_for_end(run).state == "succeeded"
    assert outcomes(run) == ["lost", "succeeded"]


def test_a_cluster_that_cannot_begin_anew_waits_and_can_be_stopped(trees: Trees) -> None:
    tree = trees("--workers", "1", defer={"BEAT_INTERVAL": "0.2s"})
    with nobody_can_join():
        Cluster.objects.all().delete()  # so that it finds itself declared dead
        tree.wait_for_log("cluster.declared_dead")
        tree.wait_for_log("database.unreachable waiting for it")
        assert not tree.children
        assert tree.terminate() == 0


def test_a_cluster_begins_anew_as_soon_as_the_database_lets_it(trees: Trees) -> None:
    tree = trees("--workers", "1", defer={"BEAT_INTERVAL": "0.2s"})
    with nobody_can_join():
        Cluster.objects.all().delete()
        tree.wait_for_log("database.unreachable waiting for it")
    tree.wait_for_log("cluster.started", times=2)
    assert wait_for_end(functions.noop()).state == "succeeded"


@contextmanager
def nobody_can_join() -> Iterator[None]:
    """Let the database refuse new clusters, as if it could not be reached."""
    table = Cluster._meta.db_table
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = 'cannot_connect_now'; END $$"
        )
        cursor.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON {table} EXECUTE FUNCTION refuse()")
        try:
            yield
        finally:
            cursor.execute("DROP FUNCTION refuse CASCADE")


def test_an_atomic_function_that_the_database_crashes_under_has_one_effect(
    trees: Trees, server: PrivateServer
) -> None:
    tree = trees("--workers", "2")
    atomic = functions.leave_mark_atomically("atomic", 1.5)
    wait_for_state(atomic, "running")
    wait_until(somebody_is_in_a_transaction, what="the transaction")
    connections["default"].close()
    server.restart("immediate")
    tree.wait_for_log("database.back")
    assert wait_for_end(atomic).state == "succeeded"
    assert outcomes(atomic) == ["retried", "succeeded"]
    assert Effect.objects.filter(name="atomic").count() == 1
    assert (atomic.losses, atomic.failures) == (0, 1)
    assert len(tree.cluster_ids) == 1
    assert not tree.said("worker.died")


def somebody_is_in_a_transaction() -> bool:
    """Whether a connection waits in the middle of a transaction."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND state = 'idle in transaction'"
        )
        return bool(cursor.fetchone()[0])
