"""After a downtime: which slots are run, which are skipped, and what the rows say."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_defer.catch_up import MOST_MISSED, ON_TIME, look_at
from django_defer.materialise import materialise
from django_defer.models import CronDefinition, Run
from django_defer.states import Reason, State
from tests import runs
from tests.runs import DATABASE, new_definition

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = runs.in_transaction

EIGHT = datetime(2026, 5, 4, 8, tzinfo=UTC)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


def hourly(**columns: Any) -> CronDefinition:
    return new_definition(expression="0 * * * *", next_slot_at=EIGHT, **columns)


def rows() -> Iterator[tuple[str, int, int]]:
    """Yield what became of each slot: how, hours after eight, for how many others it stands."""
    for run in Run.objects.order_by("slot"):
        hours = (run.slot - EIGHT) // HOUR
        if run.state == State.SKIPPED:
            assert run.reason == Reason.MISSED
            assert run.finished_at is not None
            yield "skipped", hours, run.missed_slots
        else:
            assert (run.state, run.reason) == (State.QUEUED, "")
            yield "run", hours, run.missed_slots


@pytest.mark.parametrize(
    ("policy", "window", "late", "became"),
    [
        # One slot, on time: whatever the policy.
        ("latest", None, 0 * HOUR, [("run", 0, 0)]),
        ("none", None, 0 * HOUR, [("run", 0, 0)]),
        ("all", None, 0 * HOUR, [("run", 0, 0)]),
        # One slot, late.
        ("latest", None, HOUR / 2, [("run", 0, 0)]),
        ("latest", HOUR / 2, HOUR / 2, [("run", 0, 0)]),
        ("latest", HOUR / 3, HOUR / 2, [("skipped", 0, 0)]),
        ("none", None, ON_TIME, [("run", 0, 0)]),
        ("none", None, ON_TIME + SECOND, [("skipped", 0, 0)]),
        ("all", HOUR / 3, HOUR / 2, [("skipped", 0, 0)]),
        # Three slots.
        ("latest", None, 2 * HOUR, [("run", 2, 2)]),
        ("latest", HOUR, 2.5 * HOUR, [("run", 2, 2)]),
        ("latest", HOUR / 3, 2.5 * HOUR, [("skipped", 2, 2)]),
        ("none", None, 2 * HOUR, [("skipped", 1, 1), ("run", 2, 0)]),
        ("none", None, 2.5 * HOUR, [("skipped", 2, 2)]),
        ("all", None, 2 * HOUR, [("run", 0, 0), ("run", 1, 0), ("run", 2, 0)]),
        ("all", HOUR, 2 * HOUR, [("skipped", 0, 0), ("run", 1, 0), ("run", 2, 0)]),
        ("all", HOUR / 2, 2.25 * HOUR, [("skipped", 1, 1), ("run", 2, 0)]),
        ("all", HOUR / 5, 2.25 * HOUR, [("skipped", 2, 2)]),
        # "all" goes back for a day without a window.
        (
            "all",
            None,
            30 * HOUR,
            [("skipped", 5, 5), *(("run", number, 0) for number in range(6, 31))],
        ),
    ],
)  # fmt: skip
def test_what_becomes_of_missed_slots(
    policy: str, window: timedelta | None, late: timedelta, became: list[tuple[str, int, int]]
) -> None:
    definition = hourly(catch_up=policy, catch_up_window=window)
    made = materialise(DATABASE, EIGHT + late)
    assert list(rows()) == became
    assert len(made) == len(became)
    definition.refresh_from_db()
    newest = Run.objects.order_by("slot").last()
    assert (definition.last_run, definition.last_slot_at) == (newest, newest and newest.slot)
    assert definition.next_slot_at == EIGHT + (late // HOUR + 1) * HOUR
    assert materialise(DATABASE, EIGHT + late) == []


def every_second(**columns: Any) -> CronDefinition:
    values = {"kind": "every", "interval": SECOND, "anchor": EIGHT, "next_slot_at": EIGHT}
    return new_definition(expression="1s", **{**values, **columns})


def test_a_weekend_of_a_definition_of_every_second_is_one_row() -> None:
    every_second()
    monday = EIGHT + timedelta(days=2)
    (run,) = materialise(DATABASE, monday)
    assert (run.slot, run.missed_slots) == (monday, MOST_MISSED)
    assert Run.objects.count() == 1


def test_a_weekend_is_looked_at_without_counting_every_second_of_it() -> None:
    definition = every_second()
    looks = 0
    real = type(definition.schedule).next_after

    def counted(self: Any, instant: datetime) -> datetime | None:
        nonlocal looks
        looks += 1
        return real(self, instant)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(definition.schedule), "next_after", counted)
        look_at(definition, EIGHT + timedelta(days=2))
    assert looks <= MOST_MISSED + 10


def test_everything_of_a_weekend_is_capped() -> None:
    every_second(catch_up="all", catch_up_window=timedelta(days=3))
    monday = EIGHT + timedelta(days=2)
    made = materialise(DATABASE, monday)
    assert len(made) == 1 + MOST_MISSED
    assert [run.slot for run in made][-1] == monday
    assert (made[0].state, made[0].missed_slots) == (State.SKIPPED, MOST_MISSED)
    assert made[1].slot == monday - (MOST_MISSED - 1) * SECOND


def test_a_tick_that_takes_long_leaves_the_rest_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(5):
        new_definition(f"testapp.f{number}", expression="0 * * * *", next_slot_at=EIGHT)
    moments = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    made = [len(materialise(DATABASE, EIGHT, seconds=2)) for _ in range(4)]
    assert sum(made) == 5
    assert made[0] < 5


def test_jitter_delays_the_run_and_leaves_the_slot_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    definition = hourly(jitter=timedelta(minutes=10))
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)
    (run,) = materialise(DATABASE, EIGHT)
    assert (run.slot, run.run_after) == (EIGHT, EIGHT + timedelta(minutes=5))
    assert run.state == State.SCHEDULED
    definition.refresh_from_db()
    assert definition.next_slot_at == EIGHT + HOUR


def test_jitter_that_is_over_already_delays_nothing() -> None:
    hourly(jitter=timedelta(minutes=10))
    (run,) = materialise(DATABASE, EIGHT + timedelta(minutes=11))
    assert run.state == State.QUEUED


def test_a_schedule_that_has_ended_fires_its_last_slot_and_no_more() -> None:
    definition = hourly(ends_at=EIGHT + 2 * HOUR)
    (run,) = materialise(DATABASE, EIGHT + 9 * HOUR)
    assert (run.slot, run.missed_slots) == (EIGHT + HOUR, 1)
    definition.refresh_from_db()
    assert definition.next_slot_at is None


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(seconds=-1)])
def test_a_clock_that_jumps_back_repeats_nothing_and_one_that_jumps_ahead_misses_nothing(
    jump: timedelta,
) -> None:
    hourly(catch_up="all", catch_up_window=timedelta(days=1000))
    moments = [EIGHT, EIGHT + 3 * HOUR, EIGHT + 3 * HOUR + jump, EIGHT + 2 * HOUR, EIGHT + 5 * HOUR]
    for now in moments:
        materialise(DATABASE, now)
    slots = [run.slot for run in Run.objects.order_by("slot")]
    assert slots == [EIGHT + number * HOUR for number in range(6)]
