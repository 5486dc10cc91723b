"""What the changes of a clock do to schedules, held against the slots themselves."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from django_defer.clock_changes import LOOK_AHEAD, ClockChange, clock_changes
from django_defer.cron import CronSchedule
from django_defer.schedules import Bounded, IntervalSchedule, Schedule, slots_between

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
SPRING = datetime(2027, 3, 28, 1, tzinfo=UTC)  # in Paris the clock goes from 02:00 to 03:00
AUTUMN = datetime(2027, 10, 31, 1, tzinfo=UTC)  # and from 03:00 to 02:00


def changes(expression: str, zone: str = "Europe/Paris") -> list[ClockChange]:
    return list(clock_changes(CronSchedule(expression, zone), NOW))


def times(change: ClockChange) -> list[str]:
    return [f"{time:%m-%d %H:%M}" for time in change.times]


def test_a_time_of_day_in_the_gap_fires_at_its_end_and_a_repeated_one_once() -> None:
    spring, autumn = changes("30 2 * * *")
    assert (spring.is_gap, times(spring), spring.slots) == (True, ["03-28 02:30"], [SPRING])
    first = datetime(2027, 10, 31, 0, 30, tzinfo=UTC)
    assert (autumn.is_gap, times(autumn), autumn.slots) == (False, ["10-31 02:30"], [first])
    assert not autumn.is_repeated


def test_elapsed_time_leaves_out_the_gap_and_repeats_the_hour() -> None:
    spring, autumn = changes("*/30 2 * * *")
    assert (times(spring), spring.slots) == (["03-28 02:00", "03-28 02:30"], [])
    assert times(autumn) == ["10-31 02:00", "10-31 02:30"]
    assert len(autumn.slots) == 4
    assert autumn.is_repeated


@pytest.mark.parametrize("expression", ["*/5 * * * *", "17 * * * *", "* * * * *", "0 8 * * *"])
def test_what_passes_a_change_evenly_or_is_far_from_it_has_none(expression: str) -> None:
    assert changes(expression) == []


def test_every_hour_as_times_of_day_meets_both() -> None:
    spring, autumn = changes("0 0-23 * * *")
    assert (times(spring), spring.slots) == (["03-28 02:00"], [SPRING])
    assert (times(autumn), len(autumn.slots)) == (["10-31 02:00"], 1)


@pytest.mark.parametrize("expression", ["30 2 * * MON", "30 2 1 * *", "30 3 * * *"])
def test_another_day_or_hour_is_not_concerned(expression: str) -> None:
    assert changes(expression) == []


def test_a_zone_that_goes_by_half_an_hour_moves_half_an_hour() -> None:
    autumn, spring = changes("15,45 1,2 * * *", "Australia/Lord_Howe")
    assert (autumn.is_gap, times(autumn)) == (False, ["04-04 01:45"])
    assert (spring.is_gap, times(spring)) == (True, ["10-03 02:15"])
    assert spring.slots == [datetime(2027, 10, 2, 15, 30, tzinfo=UTC)]


@pytest.mark.parametrize(
    "schedule",
    [
        CronSchedule("30 2 * * *"),
        CronSchedule("30 2 * * *", "Asia/Tokyo"),
        IntervalSchedule(timedelta(minutes=30), NOW),
        Bounded(IntervalSchedule(timedelta(minutes=30), NOW), NOW),
    ],
)
def test_utc_an_interval_and_a_zone_that_never_changes_have_none(schedule: Schedule) -> None:
    assert list(clock_changes(schedule, NOW)) == []


def test_a_change_before_the_start_or_after_the_end_is_none() -> None:
    for expression in ("30 2 * * *", "*/30 2 * * *"):
        cron = CronSchedule(expression, "Europe/Paris")
        later = Bounded(cron, starts_at=SPRING + timedelta(days=1))
        assert [change.is_gap for change in clock_changes(later, NOW)] == [False]
        sooner = Bounded(cron, ends_at=AUTUMN - timedelta(days=1))
        assert [change.is_gap for change in clock_changes(sooner, NOW)] == [True]


@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "0,59 0-23 * * *", "*/20 1-3 * * *", "30 2 31 10 *"]
)
@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Africa/Casablanca"])
def test_the_slots_named_are_slots_and_none_of_a_change_is_missed(
    expression: str, zone: str
) -> None:
    schedule = CronSchedule(expression, zone)
    slots = set(slots_between(schedule, NOW, NOW + LOOK_AHEAD))
    found = list(clock_changes(schedule, NOW))
    for change in found:
        assert set(change.slots) <= slots
    walls = Counter(slot.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for slot in slots)
    twice = {wall for wall, n in walls.items() if n > 1}
    assert twice == {time for each in found if each.is_repeated for time in each.times}
