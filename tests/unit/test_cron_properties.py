"""CronSchedule against cronsim and against the rule itself, around the clock changes of all zones.

Two references: cronsim 2.x, iterated, and the rule applied minute by minute with cronsim's reading
of the fields. Where cronsim leaves its own rule on the way, the deviation has a name here and only
the second reference counts.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cronsim import CronSim
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from django_defer.cron import CronSchedule
from django_defer.exceptions import InvalidCronExpression

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
YEARS = (1997, 2006, 2011, 2018, 2025, 2026, 2031)
ALWAYS = (
    "Australia/Lord_Howe",
    "America/Santiago",
    "Asia/Beirut",
    "Africa/Cairo",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/St_Johns",
    "Europe/Paris",
    "America/New_York",
)

# Not generated, because cronsim reads it differently or not at all: wrap-around ranges (22-2),
# n/step as day-of-week (1/3 counts Sunday as 7 there), a step on a range of one value (5-5/2 is 5/2
# there, 5 here), W, H, ?, aliases and seconds.


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    real_span = st.tuples(st.integers(low, high - 1), st.integers(1, high - low)).map(
        lambda pair: f"{pair[0]}-{min(sum(pair), high)}"
    )
    step = st.integers(1, high)
    item = st.one_of(
        number.map(str),
        span,
        st.tuples(real_span, step).map(lambda pair: f"{pair[0]}/{pair[1]}"),
        st.tuples(st.just("*"), step).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    )
    items = st.lists(item, min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), number.map(str), items)


MINUTES = st.one_of(st.sampled_from(["0", "30", "*", "*/15", "*/20", "1,31"]), numbers(0, 59))
HOURS = st.one_of(st.sampled_from(["*", "*/2", "0-3", "0", "1", "2", "23"]), numbers(0, 23))
DAYS = st.one_of(st.just("*"), st.sampled_from(["L", "LW", "1,L", "*/2"]), numbers(1, 31))
MONTHS = st.one_of(st.just("*"), st.sampled_from(["MAR-MAY,oct", "*/2"]), numbers(1, 12))
WEEKDAYS = st.one_of(
    st.just("*"),
    st.sampled_from(["SUN", "mon-fri", "SUN#1", "0#5", "MON,WED#2", "7L", "5L,2", "7", "5-7"]),
    numbers(0, 7),
)
EXPRESSIONS = st.tuples(MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS).map(" ".join)


@functools.cache
def changes_of(zone: str) -> tuple[datetime, ...]:
    """Return when the zone's offset changes in the sampled years."""
    return tuple(change for year in YEARS for change in _changes_in(zoneinfo.ZoneInfo(zone), year))


def _changes_in(zone: zoneinfo.ZoneInfo, year: int) -> Iterator[datetime]:
    start = datetime(year, 1, 1, tzinfo=UTC)
    for before, after in itertools.pairwise(start + n * DAY for n in range(366)):
        if before.astimezone(zone).utcoffset() == after.astimezone(zone).utcoffset():
            continue
        while after - before > MINUTE:
            middle = before + (after - before) // MINUTE // 2 * MINUTE
            same = middle.astimezone(zone).utcoffset() == before.astimezone(zone).utcoffset()
            before, after = (middle, after) if same else (before, middle)
        yield after


@functools.cache
def zones_with_changes() -> tuple[str, ...]:
    # Links such as US/Eastern repeat their zone; "posix…" names depend on the machine.
    names = sorted(name for name in zoneinfo.available_timezones() if "/" in name)
    return tuple(name for name in names if changes_of(name))


@st.composite
def clock_changes(draw: st.DrawFn) -> tuple[str, datetime]:
    """Draw a zone and a change of its clock."""
    zone = draw(st.one_of(st.sampled_from(ALWAYS), st.sampled_from(zones_with_changes())))
    return zone, draw(st.sampled_from(changes_of(zone)))


def is_fixed(expression: str) -> bool:
    minute, hour = expression.split()[:2]
    return not (minute.startswith("*") or hour.startswith("*"))


def slots_by_rule(expression: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """Apply the rule to each minute after `start` and before `end`."""
    tz = zoneinfo.ZoneInfo(zone)
    fields = CronSim(expression, start.replace(tzinfo=None))

    def matches(wall: datetime) -> bool:
        return (
            wall.minute in fields.minutes
            and wall.hour in fields.hours
            and wall.month in fields.months
            and fields.match_day(wall.date())
        )

    def exists(wall: datetime) -> bool:
        return wall.replace(tzinfo=tz).astimezone(UTC).astimezone(tz).replace(tzinfo=None) == wall

    def minutes(first: datetime, last: datetime) -> Iterator[datetime]:
        return (first + n * MINUTE for n in range((last - first) // MINUTE + 1))

    slots = set()
    if is_fixed(expression):
        first, last = (moment.astimezone(tz).replace(tzinfo=None) for moment in (start, end))
        for wall in filter(matches, minutes(first - DAY, last + DAY)):
            while not exists(wall):
                wall += MINUTE
            slots.add(wall.replace(tzinfo=tz).astimezone(UTC))
    else:
        slots.update(i for i in minutes(start, end) if matches(i.astimezone(tz)))
    return sorted(slot for slot in slots if start < slot < end)


def slots_of(schedule: CronSchedule, start: datetime, end: datetime) -> list[datetime]:
    slots, slot = [], schedule.next_after(start)
    while slot is not None and slot < end:
        slots.append(slot)
        slot = schedule.next_after(slot)
    return slots


def reversed_slots_of(schedule: CronSchedule, start: datetime, end: datetime) -> list[datetime]:
    slots, slot = [], schedule.previous_before(end)
    while slot is not None and slot > start:
        slots.append(slot)
        slot = schedule.previous_before(slot)
    return slots[::-1]


def schedule_or_none(expression: str, zone: str) -> CronSchedule | None:
    """Return None for what never fires, which cronsim mostly finds out by searching 50 years."""
    try:
        return CronSchedule(expression, zone)
    except InvalidCronExpression as error:
        if "never fires" not in str(error):
            raise
        return None


def deviation_of_cronsim(expression: str, zone: str, change: datetime) -> str | None:
    """Name the known way in which cronsim, iterated, leaves its rule at this change."""
    if is_fixed(expression):
        return None
    tz = zoneinfo.ZoneInfo(zone)
    before = (change - MINUTE).astimezone(tz).replace(tzinfo=None) + MINUTE
    after = change.astimezone(tz).replace(tzinfo=None)
    if before.minute or after.minute:
        return "it steps by whole hours, over a change that isn't at one"
    low, high = sorted((before, after))
    if (low - timedelta(microseconds=1)).date() != (high - timedelta(microseconds=1)).date():
        return "it looks for days from a midnight that is skipped or repeated"
    return None


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(EXPRESSIONS, clock_changes(), st.integers(1, 180) | st.integers(1, 36 * 60))
@example("0 0-23 * * *", ("Africa/Casablanca", datetime(2025, 2, 23, 2, 0, tzinfo=UTC)), 600)
@example("30 2 * * *", ("Europe/Paris", datetime(2026, 3, 29, 1, 0, tzinfo=UTC)), 600)
@example("*/10 2 * * *", ("Europe/Paris", datetime(2026, 10, 25, 1, 0, tzinfo=UTC)), 600)
@example("0 0-23 * * *", ("Pacific/Apia", datetime(2011, 12, 30, 10, 0, tzinfo=UTC)), 600)
def test_it_agrees_with_cronsim_around_clock_changes(
    expression: str, zone_and_change: tuple[str, datetime], minutes_before: int
) -> None:
    zone, change = zone_and_change
    schedule = schedule_or_none(expression, zone)
    if schedule is None or deviation_of_cronsim(expression, zone, change):
        return
    # In the repeated hour itself cronsim's fixed schedules go back to the first pass.
    start = change - minutes_before * MINUTE
    expected: list[datetime] = []
    for slot in CronSim(expression, start.astimezone(zoneinfo.ZoneInfo(zone))):
        expected.append(slot.astimezone(UTC))
        if len(expected) > 3 and slot > change + 4 * HOUR:
            break
    found = [schedule.next_after(start)]
    while len(found) < len(expected) and found[-1]:
        found.append(schedule.next_after(found[-1]))
    assert found[: len(expected)] == expected


@settings(max_examples=80, derandomize=True, deadline=None, database=None)
@given(EXPRESSIONS, clock_changes())
@example("*/10 2 * * *", ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, 0, tzinfo=UTC)))
@example("*/30 0 * * *", ("Africa/Cairo", datetime(2026, 4, 23, 22, 0, tzinfo=UTC)))
@example("* 0 30-31 * *", ("Pacific/Apia", datetime(2011, 12, 30, 10, 0, tzinfo=UTC)))
def test_it_follows_the_rule_minute_by_minute_in_both_directions(
    expression: str, zone_and_change: tuple[str, datetime]
) -> None:
    zone, change = zone_and_change
    schedule = schedule_or_none(expression, zone)
    if schedule is None:
        return
    start, end = change - 30 * HOUR, change + 30 * HOUR
    expected = slots_by_rule(expression, zone, start, end)
    assert slots_of(schedule, start, end) == expected
    assert reversed_slots_of(schedule, change - 4 * HOUR, end) == [
        slot for slot in expected if slot > change - 4 * HOUR
    ]


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(EXPRESSIONS, clock_changes(), st.integers(-48 * 3600, 48 * 3600), st.integers(0, 999_999))
def test_an_instant_lies_between_its_previous_and_next_slot(
    expression: str, zone_and_change: tuple[str, datetime], seconds: int, microseconds: int
) -> None:
    zone, change = zone_and_change
    schedule = schedule_or_none(expression, zone)
    if schedule is None:
        return
    instant = change + timedelta(seconds=seconds, microseconds=microseconds)
    later = schedule.next_after(instant)
    earlier = schedule.previous_before(instant)
    assert later is not None
    assert earlier is not None
    assert earlier < instant < later
    assert earlier.tzinfo is later.tzinfo is UTC
    assert schedule.next_after(earlier) in (instant, later)
    assert schedule.previous_before(later) in (instant, earlier)
    assert schedule.previous_before(later + timedelta(microseconds=1)) == later


@settings(max_examples=80, derandomize=True, deadline=None, database=None)
@given(EXPRESSIONS, clock_changes())
def test_a_meaning_that_is_read_again_fires_at_the_same_times_and_has_the_same_words(
    expression: str, at: tuple[str, datetime]
) -> None:
    zone, change = at
    schedule = schedule_or_none(expression, zone)
    assume(schedule is not None)
    assert schedule is not None
    assert len(schedule.meaning) < 1000
    again = CronSchedule.from_meaning(expression, zone, schedule.meaning)
    start, end = change - timedelta(days=1), change + timedelta(days=1)
    assert slots_of(again, start, end) == slots_of(schedule, start, end)
    assert again.describe() == schedule.describe() != ""
    assert again == schedule


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(EXPRESSIONS, st.integers(0, 3_000_000_000))
def test_it_agrees_with_cronsim_in_utc(expression: str, timestamp: int) -> None:
    schedule = schedule_or_none(expression, "UTC")
    instant = datetime.fromtimestamp(timestamp, UTC)
    expected = next(CronSim(expression, instant), None) if schedule else None
    if schedule and expected:
        assert schedule.next_after(instant) == expected


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(
    st.one_of(
        st.text(),
        st.text(alphabet="0123456789*/-,#LWHR? @MONJAN()", max_size=30),
        st.lists(st.text(alphabet="0123456789*/-,#LWH?", min_size=1, max_size=6), min_size=5)
        .map(lambda parts: parts[:5])
        .map(" ".join),
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        schedule = CronSchedule(text, "Europe/Paris", key="shop.compute")
    except InvalidCronExpression:
        return
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert schedule.next_after(now) is not None
    assert schedule.describe()
    schedule.warnings(now=now)


@pytest.mark.parametrize(
    ("expression", "zone", "change"),
    [
        ("*/10 2 * * *", "Australia/Lord_Howe", datetime(2026, 4, 4, 15, 0, tzinfo=UTC)),
        ("* */2 * * *", "America/St_Johns", datetime(1997, 4, 6, 3, 31, tzinfo=UTC)),
        ("*/30 0 24 4 *", "Africa/Cairo", datetime(2026, 4, 23, 22, 0, tzinfo=UTC)),
    ],
)
def test_the_named_deviations_of_cronsim_exist(
    expression: str, zone: str, change: datetime
) -> None:
    assert deviation_of_cronsim(expression, zone, change)
    start = change - MINUTE
    simulated = next(CronSim(expression, start.astimezone(zoneinfo.ZoneInfo(zone))))
    assert simulated.astimezone(UTC) != CronSchedule(expression, zone).next_after(start)


@pytest.mark.parametrize("zone", ALWAYS)
def test_the_sampled_years_have_clock_changes(zone: str) -> None:
    assert changes_of(zone)


def test_each_named_deviation_of_cronsim_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/cron.md").read_text()
    names = re.findall(r'return "(.+)"', inspect.getsource(deviation_of_cronsim))
    assert len(names) == 2
    for name in names:
        assert f"- {name} (" in " ".join(page.split())
