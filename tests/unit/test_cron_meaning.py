"""What an expression meant is kept, whatever a later parser makes of the same text."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from django_defer import cron_fields
from django_defer.cron import CronSchedule
from django_defer.exceptions import InvalidCronExpression
from tests.unit.test_cron_properties import ALWAYS, EXPRESSIONS, schedule_or_none

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MONDAY_AT_EIGHT = {
    "minutes": "0",
    "hours": "8",
    "days": "1-31",
    "nearest_workday": None,
    "months": "1-12",
    "weekdays": "1",
    "nth_weekdays": "",
    "day_or": False,
    "fixed": True,
}


def text_of(**changes: Any) -> str:
    """Return the meaning of `0 8 * * MON` with some values changed."""
    return json.dumps(MONDAY_AT_EIGHT | changes, separators=(",", ":"))


def minutes_of(schedule: CronSchedule, count: int) -> list[int]:
    found, moment = list[int](), NOW
    while len(found) < count:
        slot = schedule.next_after(moment)
        assert slot is not None
        moment = slot
        found.append(slot.minute)
    return found


def test_a_meaning_is_compact_json() -> None:
    assert CronSchedule("0 8 * * MON").meaning == text_of()
    assert json.loads(CronSchedule("0,30 8 L,3 * MON#1,5L").meaning) == MONDAY_AT_EIGHT | {
        "minutes": "0,30",
        "days": "3,l",
        "weekdays": "",
        "nth_weekdays": "1#1,5#l",
        "day_or": True,
    }


def test_the_longest_meaning_fits_its_column() -> None:
    counted = ",".join(f"{day}#{n}" for day in range(7) for n in range(1, 6))
    schedule = CronSchedule(f"1-59/2 1-23/2 1-31/2 1-11/2 {counted},1L")
    assert len(schedule.meaning) < 1000


def test_ways_to_write_the_same_have_one_meaning() -> None:
    assert CronSchedule("@daily").meaning == CronSchedule("00 0 ? JAN-DEC 0-6").meaning
    assert CronSchedule("0 * * * *").meaning != CronSchedule("0 0-23 * * *").meaning  # in autumn


def test_h_is_resolved_by_the_key() -> None:
    meanings = {CronSchedule("H * * * *", key=str(number)).meaning for number in range(20)}
    assert len(meanings) > 5
    one = CronSchedule("H * * * *", key="shop.compute")
    again = CronSchedule.from_meaning("H * * * *", "UTC", one.meaning, key="shop.compute")
    assert again == one
    assert again.key == "shop.compute"


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(
    EXPRESSIONS | st.sampled_from(["0 0 15W * *", "0 0 LW * *", "H H * * *", "0 22-2 * * *"]),
    st.sampled_from(ALWAYS),
    st.integers(0, 3_000_000_000),
)
def test_a_schedule_from_its_meaning_is_the_same(
    expression: str, zone: str, timestamp: int
) -> None:
    schedule = schedule_or_none(expression, zone)
    if schedule is None:
        return
    again = CronSchedule.from_meaning(expression, zone, schedule.meaning)
    instant = datetime.fromtimestamp(timestamp, UTC)
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert again.meaning == schedule.meaning
    assert again.describe() == schedule.describe()
    assert again.next_after(instant) == schedule.next_after(instant)
    assert again.previous_before(instant) == schedule.previous_before(instant)


@pytest.fixture
def another_croniter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `59/15` be read as croniter did before 7: 14, 29, 44 and 59."""
    expand = croniter.expand

    def read_otherwise(text: str, **options: Any) -> Any:
        return expand(text.replace("59/15", "14/15"), **options)

    monkeypatch.setattr(croniter, "expand", read_otherwise)
    for cached in (cron_fields.parse_fields, cron_fields._expand_group):
        cached.cache_clear()
    yield
    for cached in (cron_fields.parse_fields, cron_fields._expand_group):
        cached.cache_clear()


def test_another_reading_of_an_expression_shows(request: pytest.FixtureRequest) -> None:
    stored = CronSchedule("59/15 * * * *").meaning
    request.getfixturevalue("another_croniter")
    new = CronSchedule("59/15 * * * *")
    old = CronSchedule.from_meaning("59/15 * * * *", "UTC", stored)
    assert new.meaning != stored == old.meaning
    assert new != old
    assert minutes_of(old, 3) == [59, 59, 59]
    assert minutes_of(new, 5) == [14, 29, 44, 59, 14]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "8",
        "0 8 * * MON",
        text_of() + " ",
        text_of(more=1),
        text_of(minutes=""),
        text_of(hours=""),
        text_of(months=""),
        text_of(minutes="60"),
        text_of(minutes="59-0"),
        text_of(minutes="5,3"),
        text_of(minutes="5,x"),
        text_of(minutes=5),
        text_of(minutes=None),
        text_of(days="0"),
        text_of(days="l,3"),
        text_of(days="", weekdays=""),
        text_of(days="30", months="2", weekdays="0-6"),
        text_of(nearest_workday=32),
        text_of(nearest_workday=True),
        text_of(nth_weekdays="7#1"),
        text_of(nth_weekdays="1#6"),
        text_of(day_or=1),
        text_of(fixed="yes"),
        "[" * 100_000,
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the meaning of a cron expression"):
        CronSchedule.from_meaning("0 8 * * MON", "UTC", text)


def test_a_zone_that_is_gone_is_refused_with_a_meaning_too() -> None:
    with pytest.raises(InvalidCronExpression, match="is not a time zone"):
        CronSchedule.from_meaning("0 8 * * MON", "Mars/Olympus", text_of())


def test_no_value_is_lost_between_two_ranges() -> None:
    meaning = json.loads(CronSchedule("1,3,5-7,58-59 * * * *").meaning)
    assert meaning["minutes"] == "1,3,5-7,58-59"
