"""From slots to runs: one a slot, in its own time, whatever else is wrong."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_defer import materialise as module
from django_defer.catch_up import LOOK_AGAIN, MOST_MISSED
from django_defer.cron import CronSchedule
from django_defer.materialise import materialise
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.payloads import decode_call
from django_defer.states import State
from tests import runs
from tests.runs import DATABASE, captured, committing, new_definition, new_run, statements

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = runs.in_transaction

MONDAY = datetime(2026, 5, 4, 8, tzinfo=UTC)
WEEK = timedelta(days=7)
MOMENT = timedelta(microseconds=1)


def weekly(next_slot_at: datetime = MONDAY, **columns: Any) -> CronDefinition:
    return new_definition(next_slot_at=next_slot_at, **columns)


def broken(key: str = "testapp.broken", **columns: Any) -> CronDefinition:
    values = {"expression": "61 * * * *", "next_slot_at": MONDAY, **columns}
    return new_definition(key, **values)


def again(definition: CronDefinition) -> CronDefinition:
    return CronDefinition.objects.get(pk=definition.pk)


# -- the slot and its run ------------------------------------------------------------------------


def test_a_due_slot_becomes_one_run_and_the_definition_moves_on() -> None:
    definition = weekly()
    (run,) = materialise(DATABASE, MONDAY)
    assert run == Run.objects.get()
    assert (run.definition, run.slot, run.missed_slots) == (definition, MONDAY, 0)
    assert (run.function_id, run.state) == ("testapp.weekly", State.QUEUED)
    assert (run.run_after, run.enqueued_by) == (MONDAY, "schedule")
    assert decode_call(run.args) == ([], {})
    moved = again(definition)
    assert moved.next_slot_at == MONDAY + WEEK
    assert (moved.last_slot_at, moved.last_run) == (MONDAY, run)
    assert (moved.version, moved.error) == (definition.version + 1, "")


def test_a_slot_fires_at_its_very_moment_and_not_before() -> None:
    weekly()
    assert materialise(DATABASE, MONDAY - MOMENT) == []
    assert len(materialise(DATABASE, MONDAY)) == 1


def test_a_slot_fires_once() -> None:
    weekly()
    materialise(DATABASE, MONDAY)
    assert materialise(DATABASE, MONDAY) == []
    assert materialise(DATABASE, MONDAY + WEEK - MOMENT) == []
    assert len(materialise(DATABASE, MONDAY + WEEK)) == 1
    assert Run.objects.count() == 2


def test_a_run_inherits_what_the_definition_says() -> None:
    weekly(queue="mail", priority=9, max_attempts=3, rerun_if_lost=False)
    (run,) = materialise(DATABASE, MONDAY)
    assert (run.queue, run.priority, run.max_attempts, run.rerun_if_lost) == ("mail", 9, 3, False)


def test_it_needs_no_code_of_the_function() -> None:
    new_definition("testapp.of_another_version", next_slot_at=MONDAY)
    assert len(materialise(DATABASE, MONDAY)) == 1


def test_what_an_operator_has_set_is_in_force() -> None:
    definition = weekly(expression_override="0 9 * * *", timezone_override="Europe/Paris")
    materialise(DATABASE, MONDAY)
    assert again(definition).next_slot_at == MONDAY + timedelta(hours=23)  # 09:00 there


def test_a_definition_that_never_fires_again_stops() -> None:
    last = datetime(9999, 12, 31, tzinfo=UTC)
    definition = new_definition(expression="0 0 31 12 *", next_slot_at=last)
    assert len(materialise(DATABASE, last)) == 1
    assert again(definition).next_slot_at is None
    assert materialise(DATABASE, last) == []


@pytest.mark.parametrize(
    "columns",
    [{"paused_at": runs.LONG_AGO}, {"orphaned_at": runs.LONG_AGO}, {"enabled": False}],
    ids=str,
)
def test_what_is_paused_orphaned_or_switched_off_does_not_fire(columns: dict[str, Any]) -> None:
    weekly(**columns)
    assert materialise(DATABASE, MONDAY) == []


# -- missed slots ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("late", "slot", "missed"),
    [
        (timedelta(0), MONDAY, 0),
        (WEEK - MOMENT, MONDAY, 0),
        (WEEK, MONDAY + WEEK, 1),
        (3 * WEEK + timedelta(days=2), MONDAY + 3 * WEEK, 3),
    ],
)
def test_the_latest_slot_fires_and_says_for_how_many_it_stands(
    late: timedelta, slot: datetime, missed: int
) -> None:
    definition = weekly()
    (run,) = materialise(DATABASE, MONDAY + late)
    assert (run.slot, run.missed_slots) == (slot, missed)
    assert again(definition).next_slot_at == slot + WEEK


def test_missed_slots_are_counted_up_to_a_thousand() -> None:
    new_definition(expression="* * * * *", next_slot_at=MONDAY)
    (run,) = materialise(DATABASE, MONDAY + timedelta(days=30))
    assert run.missed_slots == MOST_MISSED
    assert run.slot == MONDAY + timedelta(days=30)


def test_across_a_change_of_the_clocks_nothing_counts_as_missed() -> None:
    autumn = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)  # 01:30 in New York, the first time
    definition = new_definition(
        expression="30 1 * * *", code_timezone="America/New_York", next_slot_at=autumn
    )
    assert len(materialise(DATABASE, autumn)) == 1
    assert materialise(DATABASE, autumn + timedelta(hours=1)) == []
    (run,) = materialise(DATABASE, autumn + timedelta(hours=25))
    assert (run.slot, run.missed_slots) == (autumn + timedelta(hours=25), 0)
    assert again(definition).next_slot_at == autumn + timedelta(hours=49)


def test_a_next_slot_that_is_none_of_the_schedule_fires_nothing() -> None:
    definition = weekly(MONDAY + timedelta(hours=1))
    assert materialise(DATABASE, MONDAY + timedelta(hours=2)) == []
    assert again(definition).next_slot_at == MONDAY + WEEK


# -- one that is broken ----------------------------------------------------------------------------


def test_a_broken_definition_is_marked_alone_and_the_others_fire(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad, good = broken(), weekly()
    (run,) = materialise(DATABASE, MONDAY)
    assert run.definition == good
    marked = again(bad)
    assert "61" in marked.error
    assert marked.next_slot_at == MONDAY + LOOK_AGAIN
    assert marked.last_slot_at is None
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.__dict__["event"] == "definition.error"
    assert record.__dict__["function"] == "testapp.broken"


@pytest.mark.parametrize("error", [KeyError("zone"), OverflowError(), RecursionError("deep")])
def test_whatever_is_wrong_with_one_stops_no_other(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_after = CronSchedule.next_after

    def fail_for_noon(self: CronSchedule, instant: datetime) -> datetime | None:
        if self.expression == "0 12 * * *":
            raise error
        return next_after(self, instant)

    monkeypatch.setattr(CronSchedule, "next_after", fail_for_noon)
    bad = new_definition("testapp.noon", "0 12 * * *", MONDAY)
    weekly()
    assert len(materialise(DATABASE, MONDAY)) == 1
    assert again(bad).error


def test_a_broken_definition_is_looked_at_again_and_not_before() -> None:
    definition = broken()
    materialise(DATABASE, MONDAY)
    materialise(DATABASE, MONDAY + LOOK_AGAIN - MOMENT)
    assert again(definition).version == 1
    materialise(DATABASE, MONDAY + LOOK_AGAIN)
    assert again(definition).version == 2


def mend(definition: CronDefinition) -> None:
    CronDefinition.objects.filter(pk=definition.pk).update(code_expression="0 8 * * MON")


def test_a_definition_that_can_be_read_again_fires_the_slot_that_was_missed() -> None:
    definition = broken()
    materialise(DATABASE, MONDAY)
    mend(definition)
    (run,) = materialise(DATABASE, MONDAY + LOOK_AGAIN)
    assert run.slot == MONDAY  # a slot of the schedule, not the time it was looked at again
    assert run.missed_slots == 0
    assert again(definition).error == ""
    assert again(definition).next_slot_at == MONDAY + WEEK


def test_a_definition_that_can_be_read_again_counts_from_the_first_slot_that_did_not_fire() -> None:
    definition = broken(last_slot_at=MONDAY - 2 * WEEK)
    for hours in range(0, 24 * 8, 24):
        materialise(DATABASE, MONDAY + timedelta(hours=hours))
    mend(definition)
    (run,) = materialise(DATABASE, MONDAY + 2 * WEEK)
    assert (run.slot, run.missed_slots) == (MONDAY + 2 * WEEK, 2)
    assert again(definition).unfired_slot_at is None


def test_a_definition_that_can_be_read_again_does_not_repeat_a_slot() -> None:
    definition = broken(next_slot_at=MONDAY + timedelta(hours=1))
    materialise(DATABASE, MONDAY + timedelta(hours=1))
    mend(definition)
    assert materialise(DATABASE, MONDAY + timedelta(hours=1) + LOOK_AGAIN) == []
    assert again(definition).next_slot_at == MONDAY + WEEK
    assert again(definition).error == ""


# -- conditions and alarms -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"version": 5}, {"next_slot_at": MONDAY + WEEK}, {"next_slot_at": None}],
    ids=str,
)
def test_a_definition_that_was_changed_since_it_was_read_is_left_alone(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = weekly()
    stale = [again(definition)]
    CronDefinition.objects.filter(pk=definition.pk).update(**change)
    monkeypatch.setattr(module, "_due", lambda using, now: stale)
    assert materialise(DATABASE, MONDAY) == []
    assert not Run.objects.exists()
    changed = CronDefinition.objects.values(*change).get()
    assert changed == change


def test_a_slot_that_has_a_run_already_is_an_alarm_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    definition = weekly()
    first = new_run("testapp.weekly", definition=definition, slot=MONDAY)
    other = new_definition("testapp.other", next_slot_at=MONDAY)
    (run,) = materialise(DATABASE, MONDAY)
    assert run.definition == other
    assert Run.objects.get(definition=definition) == first
    assert again(definition).next_slot_at == MONDAY + WEEK
    assert again(definition).last_run == first
    assert [r.__dict__["event"] for r in caplog.records] == ["slot.duplicate"]


# -- in batches ------------------------------------------------------------------------------------


def many(count: int, name: str = "scheduled") -> None:
    keys = [f"testapp.{name}_{number}" for number in range(count)]
    BackgroundFunction.objects.bulk_create(BackgroundFunction(key=key) for key in keys)
    CronDefinition.objects.bulk_create(
        CronDefinition(function_id=key, code_expression="0 8 * * MON", next_slot_at=MONDAY)
        for key in keys
    )


def test_more_definitions_cost_no_more_queries() -> None:
    many(3, "few")
    with captured() as few:
        assert len(materialise(DATABASE, MONDAY)) == 3
    CronDefinition.objects.all().delete()
    many(50)
    with captured() as queries:
        assert len(materialise(DATABASE, MONDAY)) == 50
    inserts = [text for text in statements(queries) if text.startswith("INSERT")]
    assert len(inserts) <= (1 if runs.is_postgres() else 2)  # SQLite takes so many values at once
    assert len(queries) - len(inserts) == len(few) - 1
    read_back = 0 if runs.is_postgres() else 1
    assert len(few) == 3 + read_back + 2  # due, advance, insert; and the test's own savepoint


def test_definitions_are_fired_in_batches_until_none_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    many(5)
    assert len(materialise(DATABASE, MONDAY)) == 5
    assert Run.objects.values("definition", "slot").distinct().count() == 5


@committing
@pytest.mark.parametrize("step", ["_insert", "_advance"])
def test_a_failure_half_way_leaves_nothing_half_done(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = weekly()
    real: Callable[..., Any] = getattr(module, step)

    def fail_afterwards(*args: Any) -> None:
        real(*args)
        raise KeyError

    monkeypatch.setattr(module, step, fail_afterwards)
    with pytest.raises(KeyError):
        materialise(DATABASE, MONDAY)
    assert not Run.objects.exists()
    unchanged = again(definition)
    assert (unchanged.next_slot_at, unchanged.version) == (MONDAY, definition.version)
    monkeypatch.setattr(module, step, real)
    assert len(materialise(DATABASE, MONDAY)) == 1
