"""A look at what is due next, and the tick that does it."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_defer import materialise, scheduler, transitions
from django_defer.clock import DatabaseNow, database_now
from django_defer.models import Run
from django_defer.scheduler import (
    LONGEST_SLEEP,
    SHORTEST_SLEEP,
    Look,
    Ticked,
    look,
    run_scheduler,
    tick,
    tick_if_due,
)
from django_defer.states import State
from tests import runs
from tests.runs import DATABASE, captured, new_definition, new_run

pytestmark = runs.in_transaction

NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


# -- look ------------------------------------------------------------------------------------------


def test_a_look_is_one_query() -> None:
    with captured() as queries:
        look(DATABASE)
    assert len(queries) == 1


def test_a_look_tells_the_time_of_the_database() -> None:
    before = database_now(DATABASE)
    seen = look(DATABASE)
    assert before <= seen.now <= database_now(DATABASE)
    assert seen.now.tzinfo is UTC
    assert (seen.next_run, seen.next_slot) == (None, None)


def test_a_look_finds_the_earliest_of_each() -> None:
    run = new_run(state=State.SCHEDULED, run_after=NOW)
    new_run(state=State.SCHEDULED, run_after=NOW + seconds(1))
    new_run(state=State.QUEUED, run_after=runs.LONG_AGO)
    new_definition("testapp.late", next_slot_at=NOW + seconds(3))
    new_definition("testapp.early", next_slot_at=NOW + seconds(2))
    seen = look(DATABASE)
    assert seen.next_run == run.run_after
    assert seen.next_slot == NOW + seconds(2)


@pytest.mark.parametrize(
    "columns",
    [{"paused_at": NOW}, {"orphaned_at": NOW}, {"enabled": False}, {"next_slot_at": None}],
    ids=str,
)
def test_what_does_not_fire_keeps_nobody_awake(columns: dict[str, Any]) -> None:
    new_definition(**{"next_slot_at": runs.LONG_AGO, **columns})
    assert look(DATABASE).next_slot is None


@pytest.mark.parametrize(
    ("next_run", "next_slot", "wait"),
    [
        (None, None, LONGEST_SLEEP),
        (NOW + seconds(0.25), None, 0.25),
        (NOW + seconds(0.5), NOW + seconds(0.25), 0.25),
        (NOW + seconds(60), NOW + seconds(60), LONGEST_SLEEP),
        (NOW, None, 0),
        (None, NOW - seconds(5), 0),
    ],
)
def test_it_sleeps_until_the_next_moment_and_a_second_at_most(
    next_run: datetime | None, next_slot: datetime | None, wait: float
) -> None:
    assert Look(NOW, next_run, next_slot).seconds_until_next() == wait


def test_whoever_fires_no_slots_does_not_wake_for_them() -> None:
    assert Look(NOW, None, NOW).seconds_until_next(slots=False) == LONGEST_SLEEP


# -- tick ------------------------------------------------------------------------------------------


def test_a_tick_promotes_runs_and_fires_slots_at_the_time_it_is_told() -> None:
    due = new_run(state=State.SCHEDULED, run_after=NOW)
    later = new_run(state=State.SCHEDULED, run_after=NOW + timedelta(microseconds=1))
    new_definition(next_slot_at=NOW)
    assert tick(DATABASE, NOW) == Ticked(promoted=1, fired=1)
    assert runs.fresh(due).state == State.QUEUED
    assert runs.fresh(later).state == State.SCHEDULED
    assert tick(DATABASE, NOW) == Ticked()


def test_a_tick_may_leave_slots_to_others() -> None:
    new_run(state=State.SCHEDULED, run_after=NOW)
    new_definition(next_slot_at=NOW)
    assert tick(DATABASE, NOW, slots=False) == Ticked(promoted=1, fired=0)


def test_a_tick_promotes_all_that_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (transitions, scheduler):
        monkeypatch.setattr(module, "BATCH", 2)
    for _ in range(5):
        new_run(state=State.SCHEDULED, run_after=NOW)
    assert tick(DATABASE, NOW).promoted == 5


def test_a_tick_that_takes_long_leaves_the_rest_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (transitions, scheduler, materialise):
        monkeypatch.setattr(module, "BATCH", 1)
    monkeypatch.setattr(scheduler, "LONGEST_ROUND", 0)
    for number in range(2):
        new_run(state=State.SCHEDULED, run_after=NOW)
        new_definition(f"testapp.scheduled_{number}", next_slot_at=NOW)
    assert tick(DATABASE, NOW) == Ticked(1, 1)
    assert tick(DATABASE, NOW) == Ticked(1, 1)
    assert tick(DATABASE, NOW) == Ticked()


def test_each_slot_that_fires_is_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "django_defer")
    new_definition(next_slot_at=NOW)
    tick(DATABASE, NOW)
    run = Run.objects.get()
    (record,) = [r for r in caplog.records if r.name == "django_defer.scheduler"]
    assert record.getMessage().startswith("slot.fired testapp.weekly slot=2026-05-04 08:00:00")
    assert record.__dict__["event"] == "slot.fired"
    assert record.__dict__["run_id"] == str(run.pk)


# -- the loop --------------------------------------------------------------------------------------


def test_an_idle_round_is_one_query() -> None:
    with captured() as queries:
        assert tick_if_due(DATABASE) == LONGEST_SLEEP
    assert len(queries) == 1


def test_a_round_does_what_is_due_by_the_clock_of_the_database() -> None:
    new_run(state=State.SCHEDULED, run_after=DatabaseNow())
    tick_if_due(DATABASE)
    assert Run.objects.queued().count() == 1


def test_a_round_does_not_spin_on_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    new_run(state=State.SCHEDULED, run_after=runs.LONG_AGO)
    monkeypatch.setattr(scheduler, "promote", lambda using, now: 0)
    assert tick_if_due(DATABASE) == SHORTEST_SLEEP


def test_the_loop_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, False, True])
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    new_run(state=State.SCHEDULED, run_after=runs.LONG_AGO)
    run_scheduler(DATABASE, lambda: next(answers))
    assert Run.objects.queued().count() == 1
    assert slept == [LONGEST_SLEEP] * 2
