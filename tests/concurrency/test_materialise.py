"""Several schedulers at one slot: one run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from django_defer.materialise import materialise
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.pauses import pause, resume
from django_defer.scheduler import tick
from tests import runs
from tests.concurrency.race import race
from tests.runs import DATABASE, new_definition

pytestmark = runs.committing

MONDAY = datetime(2026, 5, 4, 8, tzinfo=UTC)


@pytest.mark.parametrize("round_", range(5))
def test_two_ticks_at_once_make_one_run_a_slot(round_: int) -> None:
    for number in range(5):
        new_definition(f"testapp.scheduled_{number}", next_slot_at=MONDAY)
    ticks = race(*[lambda: tick(DATABASE, MONDAY)] * 2)
    assert sum(ticked.fired for ticked in ticks) == 5
    assert Run.objects.count() == 5
    assert Run.objects.values("definition", "slot").distinct().count() == 5
    assert set(CronDefinition.objects.values_list("version", "next_slot_at")) == {
        (1, MONDAY + timedelta(days=7))
    }


@pytest.mark.postgres
def test_a_definition_that_another_tick_holds_is_passed_over_without_waiting() -> None:
    held = new_definition("testapp.held", next_slot_at=MONDAY)
    free = new_definition("testapp.free", next_slot_at=MONDAY)
    with transaction.atomic(using=DATABASE):
        CronDefinition.objects.select_for_update().get(pk=held.pk)
        ((run,),) = race(lambda: materialise(DATABASE, MONDAY))
    assert run.definition == free


def test_many_ticks_at_different_times_make_one_run_a_slot() -> None:
    new_definition(expression="* * * * *", next_slot_at=MONDAY)
    minutes = [MONDAY + timedelta(minutes=n) for n in range(4)]

    def tick_through() -> int:
        return sum(len(materialise(DATABASE, minute)) for minute in minutes)

    fired = race(*[tick_through] * 3)
    slots = list(Run.objects.values_list("slot", flat=True))
    assert len(slots) == len(set(slots)) == sum(fired)
    covered = sum(1 + missed for missed in Run.objects.values_list("missed_slots", flat=True))
    assert covered == len(minutes)


@pytest.mark.parametrize("round_", range(5))
def test_a_pause_and_a_tick_at_once(round_: int) -> None:
    definition = new_definition(next_slot_at=MONDAY)
    race(lambda: tick(DATABASE, MONDAY), lambda: pause(definition, actor="ann"))
    row = CronDefinition.objects.get()
    assert row.is_paused
    assert row.next_slot_at is None
    assert Run.objects.count() <= 1
    assert tick(DATABASE, MONDAY + timedelta(days=70)).fired == 0


@pytest.mark.parametrize("round_", range(5))
def test_two_resumes_and_a_tick_at_once(round_: int) -> None:
    definition = new_definition(next_slot_at=MONDAY)
    pause(definition)
    race(
        lambda: resume(CronDefinition.objects.get()),
        lambda: resume(CronDefinition.objects.get()),
        lambda: tick(DATABASE, MONDAY),
    )
    assert not Run.objects.exists()
    row = CronDefinition.objects.get()
    assert row.version == 2
    assert row.next_slot_at is not None
    assert row.next_slot_at > MONDAY
    assert BackgroundFunction.objects.count() == 1
