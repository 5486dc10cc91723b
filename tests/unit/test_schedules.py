"""Fixed intervals, and schedules with a start and an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_defer.cron import CronSchedule
from django_defer.schedules import Bounded, IntervalSchedule, first_anchor, slots_between

ANCHOR = datetime(2026, 5, 4, 8, 0, 7, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
TEN = IntervalSchedule(timedelta(seconds=10), ANCHOR)


def test_slots_are_the_anchor_and_whole_intervals_after_it() -> None:
    assert TEN.next_after(ANCHOR - timedelta(days=9)) == ANCHOR
    assert TEN.next_after(ANCHOR) == ANCHOR + timedelta(seconds=10)
    assert TEN.next_after(ANCHOR + timedelta(seconds=10) - MOMENT) == ANCHOR + timedelta(seconds=10)
    assert TEN.previous_before(ANCHOR) is None
    assert TEN.previous_before(ANCHOR + MOMENT) == ANCHOR
    assert TEN.previous_before(ANCHOR + timedelta(seconds=20)) == ANCHOR + timedelta(seconds=10)


@given(
    st.timedeltas(timedelta(seconds=1), timedelta(days=400)),
    st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_an_instant_lies_between_its_slots_and_nothing_drifts(
    interval: timedelta, instant: datetime
) -> None:
    schedule = IntervalSchedule(interval, ANCHOR)
    following = schedule.next_after(instant)
    assert following is not None
    assert instant < following
    assert (following - ANCHOR) % interval == timedelta(0)
    previous = schedule.previous_before(following)
    assert previous == (following - interval if following > ANCHOR else None)
    assert previous is None or previous <= instant


def test_an_interval_ends_with_the_calendar() -> None:
    assert (
        IntervalSchedule(timedelta(days=1), ANCHOR).next_after(
            datetime(9999, 12, 31, 12, tzinfo=UTC)
        )
        is None
    )


def test_an_interval_does_not_know_of_clock_changes() -> None:
    autumn = datetime(2026, 10, 24, 22, tzinfo=UTC)
    day = IntervalSchedule(timedelta(days=1), autumn)
    assert day.next_after(autumn) == autumn + timedelta(hours=24)


def test_an_anchor_is_a_whole_second() -> None:
    now = ANCHOR + timedelta(milliseconds=537)
    assert first_anchor(None, now) == ANCHOR
    assert first_anchor(ANCHOR - timedelta(days=1), now) == ANCHOR - timedelta(days=1)


@pytest.mark.parametrize(
    "schedule",
    [
        CronSchedule("* * * * *"),
        IntervalSchedule(timedelta(minutes=1), datetime(2020, 1, 1, tzinfo=UTC)),
    ],
    ids=["cron", "every"],
)
def test_bounds_let_the_start_in_and_the_end_out(schedule: CronSchedule) -> None:
    start, minute = datetime(2026, 5, 4, 8, tzinfo=UTC), timedelta(minutes=1)
    bounded = Bounded(schedule, start, start + 2 * minute)
    slots = [*slots_between(bounded, start - timedelta(days=30), start + timedelta(days=30))]
    assert slots == [start, start + minute]
    assert bounded.next_after(start + minute) is None
    assert bounded.previous_before(start) is None
    assert bounded.previous_before(start + MOMENT) == start
    assert bounded.previous_before(start + timedelta(days=9)) == start + minute
    assert Bounded(schedule, starts_at=start).previous_before(start + minute) == start
    assert Bounded(schedule, ends_at=start).next_after(start - minute) is None


def test_bounds_are_part_of_the_words() -> None:
    bounded = Bounded(TEN, ANCHOR, ANCHOR + timedelta(days=1))
    assert bounded.describe() == (
        "every 10s, from 2026-05-04 08:00 UTC, until 2026-05-05 08:00 UTC"
    )
