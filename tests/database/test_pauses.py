"""Pausing and resuming schedules: what fires next, and what is remembered of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_defer import InvalidOption
from django_defer.clock import database_now
from django_defer.materialise import materialise
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.pauses import EARLIER_PAUSES, pause, pause_queue, resume, resume_overdue
from django_defer.states import State
from tests import runs
from tests.runs import DATABASE, new_definition

pytestmark = runs.in_transaction

LONG_AGO = datetime(2020, 1, 6, 8, tzinfo=UTC)  # a Monday
WEEK = timedelta(days=7)


def weekly(**columns: Any) -> CronDefinition:
    return new_definition(next_slot_at=LONG_AGO, **columns)


def owner() -> BackgroundFunction:
    return BackgroundFunction.objects.get(key="testapp.weekly")


def fired() -> list[Run]:
    return materialise(DATABASE, database_now(DATABASE))


def test_resuming_fires_nothing_by_itself() -> None:
    definition = weekly()
    definition.pause(reason="holidays", actor="ada")
    assert (definition.next_slot_at, definition.unfired_slot_at) == (None, LONG_AGO)
    assert fired() == []
    before = database_now(DATABASE)
    definition.resume(actor="bob")
    assert definition.next_slot_at == definition.schedule.next_after(before)
    assert definition.unfired_slot_at is None
    assert fired() == []


def test_resuming_with_catch_up_treats_the_pause_as_a_downtime() -> None:
    definition = weekly()
    definition.pause()
    definition.resume(catch_up=True)
    assert definition.next_slot_at == LONG_AGO
    (run,) = fired()
    assert run.slot is not None
    assert database_now(DATABASE) - run.slot < WEEK
    assert run.missed_slots == (run.slot - LONG_AGO) // WEEK


def test_catch_up_follows_the_policy_of_the_definition() -> None:
    definition = weekly(catch_up="none")
    definition.pause()
    definition.resume(catch_up=True)
    (run,) = fired()
    assert run.state == State.SKIPPED


def test_without_a_slot_in_the_pause_there_is_nothing_to_catch_up() -> None:
    upcoming = database_now(DATABASE) + timedelta(days=400)
    definition = new_definition(expression="0 0 1 1 *", next_slot_at=upcoming)
    definition.pause()
    definition.resume(catch_up=True)
    assert definition.next_slot_at == definition.schedule.next_after(database_now(DATABASE))
    assert fired() == []


def test_a_pause_that_is_over_is_remembered_as_a_span() -> None:
    definition = weekly()
    definition.pause(reason="holidays", actor="ada")
    paused_at = definition.paused_at
    assert paused_at is not None
    definition.resume(actor="bob")
    (span,) = definition.pauses
    assert (span["by"], span["reason"], span["ended_by"]) == ("ada", "holidays", "bob")
    assert datetime.fromisoformat(span["from"]) == paused_at
    assert paused_at <= datetime.fromisoformat(span["to"]) <= database_now(DATABASE)
    assert not definition.is_paused
    for number in range(EARLIER_PAUSES + 3):
        definition.pause(reason=str(number))
        definition.resume()
    assert [span["reason"] for span in definition.pauses] == [
        str(number) for number in range(EARLIER_PAUSES + 2, 2, -1)
    ]


def test_what_an_operator_paused_twice_still_catches_up_from_the_first() -> None:
    definition = weekly()
    definition.pause(actor="ada")
    definition.pause(actor="bob", reason="longer")
    assert (definition.paused_by, definition.unfired_slot_at) == ("bob", LONG_AGO)


def test_pausing_a_scheduled_function_pauses_its_definition_and_resuming_resumes_it() -> None:
    definition = weekly()
    pause(owner(), actor="ada", reason="outage")
    definition.refresh_from_db()
    assert (definition.is_paused, definition.paused_by) == (True, "ada")
    assert (definition.pause_reason, definition.next_slot_at) == ("outage", None)
    assert fired() == []
    resume(owner(), actor="bob")
    definition.refresh_from_db()
    assert not definition.is_paused
    assert definition.next_slot_at is not None
    assert definition.pauses[0]["ended_by"] == "bob"
    assert fired() == []


def test_resuming_a_function_can_catch_up_its_slots() -> None:
    weekly()
    pause(owner())
    resume(owner(), catch_up=True)
    assert len(fired()) == 1


def test_resuming_a_function_leaves_a_definition_that_was_paused_by_itself() -> None:
    definition = weekly()
    definition.pause(actor="ada")
    pause(owner(), actor="bob")
    resume(owner())
    definition.refresh_from_db()
    assert (definition.is_paused, definition.paused_by) == (True, "ada")


def test_a_pause_of_a_function_that_ends_by_itself_ends_that_of_its_definition() -> None:
    definition = weekly()
    now = database_now(DATABASE)
    pause(owner(), until=now)
    resume_overdue(DATABASE, now)
    definition.refresh_from_db()
    assert not definition.is_paused
    assert not owner().is_paused
    assert fired() == []


def test_slots_fire_into_a_paused_queue_and_wait_there() -> None:
    weekly(queue="mail")
    pause_queue("mail")
    (run,) = fired()
    assert (run.queue, run.state) == ("mail", State.QUEUED)


@pytest.mark.parametrize("columns", [{"enabled": False}, {"orphaned_at": LONG_AGO}], ids=str)
def test_what_does_not_fire_anyway_does_not_begin_to_when_resumed(columns: dict[str, Any]) -> None:
    definition = weekly()
    definition.pause()
    CronDefinition.objects.update(**columns)
    definition.resume(catch_up=True)
    assert definition.next_slot_at is None


def test_until_needs_a_time_zone() -> None:
    with pytest.raises(InvalidOption, match="has no time zone"):
        weekly().pause(until=datetime(2026, 12, 1))  # noqa: DTZ001


def test_a_definition_that_is_paused_while_it_cannot_be_read_forgets_no_slot() -> None:
    definition = new_definition(expression="61 * * * *", next_slot_at=LONG_AGO)
    materialise(DATABASE, LONG_AGO)
    definition.refresh_from_db()
    definition.pause()
    assert definition.unfired_slot_at == LONG_AGO
