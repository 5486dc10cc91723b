"""An operator's expression and zone: in force at once, kept by syncs, cleared again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_defer import InvalidCronExpression, InvalidDuration, InvalidOption
from django_defer.clock import database_now
from django_defer.models import CronDefinition, Run
from django_defer.operations import run_now
from tests import runs
from tests.runs import DATABASE, new_definition

pytestmark = runs.in_transaction


def definition(**columns: Any) -> CronDefinition:
    now = database_now(DATABASE).replace(microsecond=0)
    values = {"next_slot_at": now + timedelta(minutes=1), **columns}
    return new_definition(expression="0 8 * * MON", **values)


def interval(**columns: Any) -> CronDefinition:
    anchor = database_now(DATABASE).replace(microsecond=0) - timedelta(seconds=1)
    values = {"kind": "every", "interval": timedelta(seconds=10), "anchor": anchor, **columns}
    return new_definition(expression="10s", next_slot_at=anchor + timedelta(seconds=10), **values)


def test_an_override_is_in_force_from_the_next_slot_after_now_and_says_who_set_it() -> None:
    row = definition()
    version, before = row.version, database_now(DATABASE)
    row.override(expression="15 4 * * *", timezone="Asia/Tokyo", actor="ada")
    assert (row.expression, row.timezone) == ("15 4 * * *", "Asia/Tokyo")
    assert (row.code_expression, row.code_timezone) == ("0 8 * * MON", "UTC")
    assert (row.overridden_by, row.is_overridden) == ("ada", True)
    assert row.overridden_at is not None
    assert row.overridden_at >= before
    assert row.next_slot_at == row.schedule.next_after(before)
    assert row.version == version + 1
    assert not Run.objects.exists()


def test_each_half_may_be_overridden_alone() -> None:
    row = definition()
    row.override(timezone="Asia/Tokyo")
    assert (row.expression, row.timezone) == ("0 8 * * MON", "Asia/Tokyo")
    row.override(expression="0 9 * * *")
    assert (row.expression, row.timezone) == ("0 9 * * *", "UTC")


def test_clearing_puts_the_codes_schedule_in_force_again() -> None:
    row = definition()
    row.override(expression="15 4 * * *", actor="ada")
    before = database_now(DATABASE)
    row.clear_override(actor="bob")
    assert (row.expression, row.is_overridden) == ("0 8 * * MON", False)
    assert (row.overridden_by, row.overridden_at) == ("", None)
    assert row.next_slot_at == row.schedule.next_after(before)
    assert row.meaning == row.read_meaning()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"expression": "61 * * * *"}, InvalidCronExpression),
        ({"timezone": "Mars/Olympus"}, InvalidCronExpression),
        ({"expression": "0 0 30 2 *"}, InvalidCronExpression),
        ({}, InvalidOption),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused_and_changes_nothing(
    options: dict[str, str], error: type[Exception]
) -> None:
    row = definition()
    before = CronDefinition.objects.values().get()
    with pytest.raises(error):
        row.override(**options)
    assert CronDefinition.objects.values().get() == before


def test_an_interval_is_overridden_by_another_one() -> None:
    row = interval()
    row.override(expression="1m", actor="ada")
    assert row.expression == "every 1m"
    assert row.next_slot_at == row.anchor + timedelta(minutes=1)
    with pytest.raises(InvalidDuration):
        row.override(expression="0 8 * * *")
    with pytest.raises(InvalidOption, match="knows no time zone"):
        row.override(timezone="Asia/Tokyo")


def test_what_was_due_before_is_fired_first() -> None:
    slot = database_now(DATABASE) - timedelta(seconds=30)
    row = new_definition(expression="* * * * *", next_slot_at=slot.replace(second=0, microsecond=0))
    row.override(expression="0 3 * * *")
    run = Run.objects.get()
    assert (run.definition, row.last_run) == (row, run)


def test_an_override_of_a_paused_definition_leaves_it_paused() -> None:
    row = definition()
    row.pause(actor="ada")
    row.override(expression="* * * * *")
    assert (row.is_paused, row.next_slot_at) == (True, None)
    assert row.unfired_slot_at == row.schedule.next_after(row.overridden_at)
    row.resume()
    assert row.next_slot_at is not None


def test_an_override_mends_what_cannot_be_read() -> None:
    row = new_definition(expression="61 * * * *", next_slot_at=database_now(DATABASE))
    CronDefinition.objects.update(error="cannot be read")
    row.override(expression="0 8 * * *")
    assert row.error == ""


def test_there_are_twins_for_async_code() -> None:
    row = definition()
    async_to_sync(row.aoverride)(expression="0 9 * * *")
    assert row.expression == "0 9 * * *"
    async_to_sync(row.aclear_override)()
    assert row.expression == "0 8 * * MON"


def test_run_now_never_shifts_the_schedule() -> None:
    row = definition()
    before = CronDefinition.objects.values().get()
    run = run_now("testapp.weekly", actor="ada")
    assert (run.definition, run.slot) == (row, None)
    assert CronDefinition.objects.values().get() == before
