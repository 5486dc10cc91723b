"""The order of a supervisor's round: what is due first, and yet no beat is left out."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import OperationalError

from django_defer import database_duties as module
from django_defer import scheduler
from django_defer.board import Board, Doing
from django_defer.clock import DatabaseNow
from django_defer.database_duties import DatabaseDuties
from django_defer.membership import Membership
from django_defer.models import Cluster, Run
from django_defer.scheduler import Look, Ticked, look
from django_defer.states import State
from tests import runs
from tests.runs import DATABASE, fresh, new_cluster, new_definition, new_run

if TYPE_CHECKING:
    from typing import NoReturn
    from uuid import UUID

pytestmark = runs.in_transaction

SECOND = timedelta(seconds=1)
LATER = runs.LONG_AGO + timedelta(seconds=0.5)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the ticks and beats."""
    noted: list[str] = []
    tick, beat = scheduler.tick, Membership.beat

    def noting_tick(*args: object, **kwargs: object) -> Ticked:
        noted.append("tick")
        return tick(*args, **kwargs)  # type: ignore[arg-type]

    def noting_beat(self: Membership, *, ticked: bool) -> bool:
        noted.append("beat")
        return beat(self, ticked=ticked)

    monkeypatch.setattr(module, "tick", noting_tick)
    monkeypatch.setattr(Membership, "beat", noting_beat)
    return noted


@pytest.fixture
def duties() -> DatabaseDuties:
    member = Membership(
        using=DATABASE,
        queues=["default"],
        serves_all=True,
        keys=["testapp.weekly"],
        workers=1,
        schedules=True,
        lease=timedelta(seconds=30),
        kept=set(),
    )
    duties = DatabaseDuties(member, Board(1))
    assert duties.join()
    return duties


def beaten_ago(duties: DatabaseDuties, seconds: float) -> None:
    duties._last_beat = time.monotonic() - seconds


def test_what_is_due_does_not_wait_for_a_beat(duties: DatabaseDuties, order: list[str]) -> None:
    new_definition(next_slot_at=runs.LONG_AGO)
    beaten_ago(duties, 6)
    assert duties.perform()
    assert order == ["tick", "beat"]
    assert Run.objects.queued().count() == 1


def test_a_tick_that_fails_each_time_does_not_end_the_lease(
    duties: DatabaseDuties, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> NoReturn:
        order.append("tick")
        raise OperationalError("canceling statement due to statement timeout")

    monkeypatch.setattr(module, "tick", fail)
    monkeypatch.setattr(module, "drop", lambda using: None)  # the test's own transaction
    new_run(state=State.SCHEDULED, run_after=DatabaseNow(-timedelta(seconds=1)))
    beaten_ago(duties, 6)
    duties.perform()
    assert order == ["tick"]
    beaten_ago(duties, 11)
    duties.perform()
    assert order == ["tick", "beat", "tick"]


def test_a_round_without_anything_due_or_to_beat_looks_once(
    duties: DatabaseDuties, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def noting_look(using: str, cluster: UUID) -> Look:
        looks.append(using)
        return Look(runs.LONG_AGO, None, LATER)

    monkeypatch.setattr(module, "look", noting_look)
    assert not duties.perform()
    assert (len(looks), order) == (1, [])


def test_it_sleeps_until_the_slot_however_long_the_round_took(
    duties: DatabaseDuties, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "look", lambda using, cluster: Look(runs.LONG_AGO, None, LATER))
    duties.perform()
    at_first = duties.seconds_until_next()
    time.sleep(0.02)
    assert at_first <= 0.5
    assert duties.seconds_until_next() <= at_first - 0.02


def test_news_rings_the_pusher_at_once(duties: DatabaseDuties) -> None:
    rung: list[int] = []
    duties.board.pusher_bell.ring = lambda: rung.append(1)  # type: ignore[method-assign]
    duties.perform()
    assert rung == []
    new_definition(next_slot_at=runs.LONG_AGO)
    duties.perform()
    assert rung == [1]


def test_a_cluster_that_is_silent_for_the_lease_is_reaped_at_once_not_at_the_next_beat(
    duties: DatabaseDuties, order: list[str]
) -> None:
    member = duties.membership
    member._steady_since, member._last_look = runs.LONG_AGO, look(DATABASE).now
    gone = runs.new_cluster(beat_at=DatabaseNow(timedelta(seconds=0.3) - member.lease))
    held = new_run(state=State.RUNNING, cluster=gone.pk)
    silent = runs.new_cluster(beat_at=DatabaseNow(timedelta(seconds=10) - member.lease))
    beaten_ago(duties, 6)
    duties.perform()
    assert order == ["beat"]
    assert runs.fresh(held).losses == 0
    until = time.monotonic() + 4
    while Cluster.objects.filter(pk=gone.pk).exists() and time.monotonic() < until:
        duties.perform()
        time.sleep(0.01)
    assert order == ["beat"]
    assert runs.fresh(held).losses == 1
    assert not Cluster.objects.filter(pk=gone.pk).exists()
    assert Cluster.objects.filter(pk=silent.pk).exists()


@pytest.mark.parametrize("what", ["run", "deadline"])
def test_what_somebody_else_holds_is_waited_for_without_spinning(
    duties: DatabaseDuties, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """As in an open transaction that has cancelled it: SKIP LOCKED passes over it."""
    due = new_run(state=State.SCHEDULED, run_after=DatabaseNow(-timedelta(seconds=1)))
    if what == "deadline":
        Run.objects.filter(pk=due.pk).update(
            run_after=DatabaseNow(timedelta(hours=1)), discard_after=runs.LONG_AGO
        )
    monkeypatch.setattr(module, "tick", lambda *args, **kwargs: Ticked())
    beaten_ago(duties, 1)
    duties.perform()
    assert 0.03 < duties.seconds_until_next() <= scheduler.SHORTEST_SLEEP


@pytest.mark.postgres
def test_whether_anything_is_left_is_read_from_indexes(duties: DatabaseDuties) -> None:
    runs.fill(State.SUCCEEDED, 20_000)
    with runs.captured() as queries:
        assert not duties.membership.has_work()
    plans = [runs.plan_of(query["sql"]) for query in queries.captured_queries]
    assert len(plans) == 3
    for plan, index in zip(plans, ("scheduled", "due", "held"), strict=True):
        assert f"using defer_run_{index}" in plan
        assert "Seq Scan on django_defer_run" not in plan


def test_others_are_watched_from_the_join_on(duties: DatabaseDuties) -> None:
    joined = look(DATABASE).now
    runs.new_cluster(beat_at=DatabaseNow(-timedelta(days=1)))
    member = duties.membership
    reaped = [member.reap(joined + timedelta(seconds=after)) for after in (14, 28, 29.5, 30.1)]
    assert reaped[:3] == [0, 0, 0]
    assert reaped[3] >= 1


# -- claims that no worker is at -------------------------------------------------------------------


def test_a_claim_that_no_worker_is_at_is_given_back_after_a_moment(duties: DatabaseDuties) -> None:
    mine, theirs = (
        new_run(state=State.CLAIMED, cluster=cluster, claimed_at=DatabaseNow(-SECOND))
        for cluster in (duties.membership.id, new_cluster().pk)
    )
    duties._round()
    assert fresh(mine).state == State.CLAIMED  # its worker may be about to start it
    Run.objects.update(claimed_at=DatabaseNow(-3 * SECOND))
    duties._round()
    assert (fresh(mine).state, fresh(theirs).state) == (State.QUEUED, State.CLAIMED)


def test_an_old_claim_that_a_worker_is_at_is_left_to_it(duties: DatabaseDuties) -> None:
    run = new_run(
        state=State.CLAIMED, cluster=duties.membership.id, claimed_at=DatabaseNow(-3 * SECOND)
    )
    duties.board.write(0, generation=1, doing=Doing.BUSY, done=1, claim_id=run.claim_id)
    duties._round()
    assert fresh(run).state == State.CLAIMED
