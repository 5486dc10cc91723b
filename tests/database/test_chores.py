"""A beat asks once what there is to do, does it, and an idle one asks for nothing more."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from django_defer.board import Board
from django_defer.chores import find_chores
from django_defer.clock import DatabaseNow, database_now
from django_defer.database_duties import DatabaseDuties
from django_defer.membership import Membership
from django_defer.models import BackgroundFunction, Cluster, Queue, Run
from django_defer.states import Reason, State
from tests import runs
from tests.runs import (
    DATABASE,
    NOOP,
    captured,
    defer_settings,
    fresh,
    new_cluster,
    new_definition,
    new_run,
    plan_of,
    statements,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = runs.in_transaction

MINUTE = timedelta(minutes=1)
ENDED = {"paused_at": DatabaseNow(-MINUTE), "paused_until": DatabaseNow(-timedelta(seconds=1))}
LASTING = {"paused_at": DatabaseNow(-MINUTE), "paused_until": DatabaseNow(MINUTE)}


@pytest.fixture
def duties() -> DatabaseDuties:
    member = Membership(
        using=DATABASE,
        queues=["default"],
        serves_all=True,
        keys=[NOOP],
        workers=1,
        schedules=True,
        lease=timedelta(seconds=30),
    )
    duties = DatabaseDuties(member, Board(1))
    assert duties.join()
    return duties


def beat(duties: DatabaseDuties) -> None:
    duties._last_beat = time.monotonic() - 6
    assert duties._beat()


def be_steady(duties: DatabaseDuties) -> None:
    """Have beaten without a gap for a whole lease."""
    member, now = duties.membership, database_now(DATABASE)
    member._steady_since, member._last_look = now - member.lease, now


def function(**columns: Any) -> None:
    BackgroundFunction.objects.create(key=NOOP, **columns)


def queue(**columns: Any) -> None:
    Queue.objects.create(name="default", **columns)


def flags() -> list[str]:
    """Return the names of what there is any of."""
    found = find_chores(DATABASE)
    return [name for name in found.__slots__ if name.startswith("has_") and getattr(found, name)]


# -- what it says ----------------------------------------------------------------------------------


def test_there_is_nothing_to_do_in_a_database_of_what_has_ended() -> None:
    new_cluster()
    new_definition()
    for state in (State.SUCCEEDED, State.FAILED, State.SKIPPED, State.SCHEDULED):
        new_run(state=state)
    assert flags() == []


@pytest.mark.parametrize("make", [new_definition, function, queue])
def test_a_pause_is_overdue_once_its_end_has_come(make: Callable[..., object]) -> None:
    make(**ENDED)
    assert flags() == ["has_overdue_pauses"]


@pytest.mark.parametrize("make", [new_definition, function, queue])
def test_a_pause_that_lasts_is_no_chore(make: Callable[..., object]) -> None:
    make(**LASTING)
    assert flags() == []


@pytest.mark.parametrize("reason", [Reason.NO_CODE, Reason.FUNCTION_PAUSED, Reason.OVERLAP])
def test_whatever_is_parked_may_have_to_come_back(reason: Reason) -> None:
    new_run(state=State.PARKED, reason=reason)
    assert flags() == ["has_parked"]


def test_what_is_queued_may_have_to_be_parked() -> None:
    new_run()
    assert flags() == ["has_queued"]


@pytest.mark.parametrize("state", [State.CLAIMED, State.RUNNING])
def test_it_tells_what_nobody_holds_from_what_a_cluster_holds(state: State) -> None:
    new_run(state=state, cluster=new_cluster().pk)
    assert flags() == []
    new_run(state=state, cluster=uuid4())
    assert flags() == ["has_held_by_nobody"]


def test_the_oldest_beat_is_that_of_the_most_silent_cluster() -> None:
    assert find_chores(DATABASE).oldest_beat is None
    new_cluster()
    silent = new_cluster(beat_at=DatabaseNow(-MINUTE))
    silent.refresh_from_db()
    found = find_chores(DATABASE)
    assert found.oldest_beat == silent.beat_at
    assert found.now - silent.beat_at >= MINUTE


# -- what is done of it ----------------------------------------------------------------------------


def test_an_idle_beat_renews_the_lease_and_asks_once(duties: DatabaseDuties) -> None:
    new_run(state=State.SUCCEEDED)
    new_definition()
    be_steady(duties)
    with captured() as queries:
        beat(duties)
    update, ask = statements(queries)
    assert update.startswith("UPDATE")
    assert "paused_until" in ask


def test_an_idle_round_looks_and_no_more(duties: DatabaseDuties) -> None:
    with captured() as queries:
        duties._round()
    assert len(statements(queries, besides=("SET enable_",))) == 1


@pytest.mark.postgres
@pytest.mark.parametrize(("prepares", "value"), [(True, "off"), (False, "on")])
def test_plans_that_are_kept_go_by_indexes_and_are_not_compiled(
    duties: DatabaseDuties, prepares: bool, value: str
) -> None:
    with defer_settings(PREPARE_STATEMENTS=prepares):
        duties._round()
    with runs.database().cursor() as cursor:
        for name in ("enable_seqscan", "enable_bitmapscan", "enable_sort", "jit"):
            cursor.execute(f"SHOW {name}")
            assert cursor.fetchone() == (value,), name


def test_a_beat_does_each_of_them(duties: DatabaseDuties) -> None:
    queue(**ENDED)
    parked = new_run(state=State.PARKED, reason=Reason.NO_CODE)
    unknown = new_run("testapp.of_another_version")
    elsewhere = new_run(queue="mail")
    beat(duties)
    assert not Queue.objects.get(name="default").is_paused
    assert fresh(parked).state == State.QUEUED
    assert fresh(unknown).reason == Reason.NO_CODE
    assert fresh(elsewhere).state == State.QUEUED
    assert Cluster.objects.get(pk=duties.membership.id).queues == ["default", "mail"]
    assert duties._news


def test_a_beat_takes_back_what_the_dead_and_what_nobody_holds(duties: DatabaseDuties) -> None:
    dead = new_cluster(beat_at=DatabaseNow(-MINUTE))
    held = [new_run(state=State.RUNNING, cluster=cluster) for cluster in (dead.pk, uuid4())]
    beat(duties)
    assert [fresh(run).losses for run in held] == [0, 0]  # our own beats are not steady yet
    be_steady(duties)
    beat(duties)
    assert [fresh(run).losses for run in held] == [1, 1]
    assert not Cluster.objects.filter(pk=dead.pk).exists()


def test_a_join_does_them_too() -> None:
    parked = new_run(state=State.PARKED, reason=Reason.NO_CODE)
    member = Membership(
        using=DATABASE,
        queues=["default"],
        serves_all=False,
        keys=[NOOP],
        workers=1,
        schedules=True,
        lease=timedelta(seconds=30),
    )
    assert DatabaseDuties(member, Board(1)).join()
    assert fresh(parked).state == State.QUEUED


@pytest.mark.postgres
def test_it_reads_no_run_that_has_ended(duties: DatabaseDuties) -> None:
    runs.fill(State.SUCCEEDED, 20_000)
    with captured() as queries:
        find_chores(DATABASE)
    (sql,) = statements(queries)
    plan = plan_of(sql)
    assert f"Seq Scan on {Run._meta.db_table}" not in plan
    assert {"defer_run_due", "defer_run_parked", "defer_run_held"} <= {
        word for word in plan.split() if word.startswith("defer_run_")
    }
