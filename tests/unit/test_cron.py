"""CronSchedule by example: the dialect, clock changes, days, refusals and warnings."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib import metadata
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from packaging.requirements import Requirement

from django_defer.cron import CronSchedule
from django_defer.exceptions import DeferError, InvalidCronExpression

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(
    expression: str, count: int, after: str = "2026-01-01", timezone: str = "UTC", key: str = ""
) -> list[str]:
    """Return the next slots as wall-clock times, with the offset where the zone isn't UTC."""
    schedule = CronSchedule(expression, timezone, key=key)
    moment, found = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(timezone)), list[str]()
    while len(found) < count:
        slot = schedule.next_after(moment)
        assert slot is not None
        moment = slot
        found.append(slot.astimezone(ZoneInfo(timezone)).isoformat(" ", "minutes"))
    return [text.removesuffix("+00:00") for text in found]


def days(expression: str, count: int, after: str = "2026-01-01", key: str = "") -> list[str]:
    return [text[:10] for text in slots(expression, count, after, key=key)]


def hours_of(expression: str) -> list[int]:
    day = slots(f"0 {expression} * * *", 24, "2025-12-31T23:59")
    return sorted({int(text[11:13]) for text in day})


# -- searching -----------------------------------------------------------------------------------


def test_it_fires_at_the_next_matching_minute() -> None:
    assert slots("0 8 * * MON", 2) == ["2026-01-05 08:00", "2026-01-12 08:00"]


def test_the_next_slot_is_strictly_after_the_instant() -> None:
    schedule = CronSchedule("0 8 * * *")
    assert schedule.next_after(instant("2026-01-01T08:00")) == instant("2026-01-02T08:00")
    assert schedule.next_after(instant("2026-01-01T07:59:59.9")) == instant("2026-01-01T08:00")


def test_the_previous_slot_is_strictly_before_the_instant() -> None:
    schedule = CronSchedule("0 8 * * *")
    assert schedule.previous_before(instant("2026-01-01T08:00")) == instant("2025-12-31T08:00")
    assert schedule.previous_before(instant("2026-01-01T08:00:00.1")) == instant("2026-01-01T08:00")


def test_it_takes_any_zone_and_answers_in_utc() -> None:
    slot = CronSchedule("0 8 * * *").next_after(
        datetime(2026, 1, 1, 8, tzinfo=ZoneInfo("Asia/Tokyo"))
    )
    assert slot == instant("2026-01-01T08:00")
    assert slot.tzinfo is UTC


def test_it_refuses_a_naive_datetime() -> None:
    with pytest.raises(ValueError, match="pass an aware datetime"):
        CronSchedule("0 8 * * *").next_after(datetime(2026, 1, 1))  # noqa: DTZ001


def test_it_ends_with_the_calendar() -> None:
    schedule = CronSchedule("0 0 1 1 *")
    assert schedule.next_after(instant("9999-06-01")) is None
    assert (
        CronSchedule("* * * * *", "Asia/Tokyo").next_after(datetime.max.replace(tzinfo=UTC)) is None
    )
    assert schedule.previous_before(instant("0001-06-01")) is None
    assert schedule.previous_before(instant("9999-06-01")) == instant("9999-01-01")


@pytest.mark.parametrize(
    "timezone",
    [
        *("UTC", "Europe/Paris", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Cairo"),
        *("America/Santiago", "Asia/Beirut", "Africa/Casablanca"),
    ],
)
@pytest.mark.parametrize(
    "expression",
    [
        *("* * * * *", "0-59 0-23 * * *", "*/7 3 * * *", "0 8 1-7 * MON", "H H(2-4) * * *"),
        *("0 0 29 2 *", "0 0 29 2 */7", "0 0 * 2 MON#5", "*/7 3 31W 2 *", "0 0 LW 2 5L"),
    ],
)
def test_no_search_takes_long(expression: str, timezone: str) -> None:
    begin = time.perf_counter()
    for start in ("2011-12-29T10:00", "2011-12-31T10:00", "2092-03-01", "2026-01-01"):
        schedule = CronSchedule(expression, timezone)
        assert schedule.next_after(instant(start))
        assert schedule.previous_before(instant(start))
    assert time.perf_counter() - begin < 0.4  # 50 ms a search


def test_it_finds_what_happens_every_forty_years() -> None:
    assert days("0 0 * 2 MON#5", 3) == ["2044-02-29", "2072-02-29", "2112-02-29"]


# -- the dialect ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "hours"),
    [
        ("7", [7]),
        ("07", [7]),
        ("1,3", [1, 3]),
        ("1-3", [1, 2, 3]),
        ("*/8", [0, 8, 16]),
        ("1-9/4", [1, 5, 9]),
        ("20/2", [20, 22]),
        ("23/2", [23]),
        ("22-2", [0, 1, 2, 22, 23]),
        ("20-4/3", [2, 20, 23]),
        ("23-4/2", [1, 3, 23]),
        ("5-5", [5]),
        ("5-5/2", [5]),
        ("0-23", list(range(24))),
        ("1,*/12", [0, 1, 12]),
    ],
)
def test_it_reads_lists_ranges_and_steps(field: str, hours: list[int]) -> None:
    assert hours_of(field) == hours


def test_names_may_be_of_any_case() -> None:
    assert days("0 0 1 jan,Jul *", 2) == ["2026-07-01", "2027-01-01"]
    assert days("0 0 * * sat-SUN", 3) == ["2026-01-03", "2026-01-04", "2026-01-10"]
    assert days("0 0 1 nov-feb *", 3) == ["2026-02-01", "2026-11-01", "2026-12-01"]
    assert days("0 0 * * mon-mon", 2) == ["2026-01-05", "2026-01-12"]


@pytest.mark.parametrize("sunday", ["0", "7", "SUN", "7-7"])
def test_sunday_is_0_and_7(sunday: str) -> None:
    assert days(f"0 0 * * {sunday}", 2) == ["2026-01-04", "2026-01-11"]


def test_a_range_of_weekdays_may_end_on_7() -> None:
    assert days("0 0 * * 6-7", 3) == ["2026-01-03", "2026-01-04", "2026-01-10"]


def test_l_is_the_last_day_of_the_month() -> None:
    assert days("0 0 L * *", 2) == ["2026-01-31", "2026-02-28"]
    assert days("0 0 1,L * *", 3) == ["2026-01-31", "2026-02-01", "2026-02-28"]


@pytest.mark.parametrize("field", ["5L", "L5", "FRIL", "friL"])
def test_a_weekday_with_l_is_the_last_of_the_month(field: str) -> None:
    assert days(f"0 0 * * {field}", 2) == ["2026-01-30", "2026-02-27"]


def test_a_hash_sign_counts_weekdays_of_the_month() -> None:
    assert days("0 0 * * MON#1", 2) == ["2026-01-05", "2026-02-02"]
    assert days("0 0 * * 4#5", 2) == ["2026-01-29", "2026-04-30"]
    assert days("0 0 * * MON#1,3#2", 2) == ["2026-01-05", "2026-01-14"]


def test_plain_and_counted_weekdays_mix() -> None:
    assert days("0 0 * * MON#1,WED", 3) == ["2026-01-05", "2026-01-07", "2026-01-14"]


def test_w_is_the_nearest_workday_of_the_same_month() -> None:
    assert days("0 0 15W 8 *", 1) == ["2026-08-14"]  # the 15th is a Saturday
    assert days("0 0 1W 8 *", 1) == ["2026-08-03"]  # July isn't looked at
    assert days("0 0 W31 5 *", 1) == ["2026-05-29"]  # nor is June


def test_lw_is_the_last_workday_of_the_month() -> None:
    assert days("0 0 LW * *", 3) == ["2026-01-30", "2026-02-27", "2026-03-31"]


def test_a_question_mark_for_a_day_is_a_star() -> None:
    assert days("0 0 ? * MON", 2) == days("0 0 * * MON", 2)
    assert days("0 0 15 * ?", 2) == days("0 0 15 * *", 2)


@pytest.mark.parametrize(
    ("alias", "expression"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        (" @Daily ", "0 0 * * *"),
    ],
)
def test_aliases_stand_for_expressions(alias: str, expression: str) -> None:
    assert slots(alias, 3, key="shop.compute") == slots(expression, 3)


# -- H ---------------------------------------------------------------------------------------------


def test_h_spreads_by_key_and_stays() -> None:
    minutes = {slots("H * * * *", 1, key=f"shop.function_{n}")[0] for n in range(50)}
    assert len(minutes) > 20
    assert slots("H H * * *", 2, key="shop.compute") == slots("H H * * *", 2, key="shop.compute")


def test_h_takes_a_range_and_a_step() -> None:
    for n in range(30):
        hour = int(slots("0 H(2-4) * * *", 1, key=str(n))[0][11:13])
        assert 2 <= hour <= 4
    minutes = [int(text[-2:]) for text in slots("H/15 * * * *", 4, key="shop.compute")]
    assert [later - earlier for earlier, later in pairwise(minutes)] == [15, 15, 15]


def test_h_picks_a_day_that_every_month_has() -> None:
    for n in range(100):
        assert [day[:7] for day in days("0 0 H * *", 3, key=str(n))][1:] in (
            ["2026-02", "2026-03"],
            ["2026-03", "2026-04"],  # after the 1st of January at midnight
        )


def test_schedules_with_h_differ_by_key() -> None:
    assert CronSchedule("H * * * *", key="a") != CronSchedule("H * * * *", key="b")
    assert CronSchedule("0 * * * *", key="a") == CronSchedule("0 * * * *", key="b")


# -- day of month and day of week ------------------------------------------------------------------


def test_either_day_field_is_enough_when_both_are_restricted() -> None:
    assert days("0 0 13 * FRI", 5) == [
        "2026-01-02",
        "2026-01-09",
        "2026-01-13",
        "2026-01-16",
        "2026-01-23",
    ]


def test_both_day_fields_must_match_when_one_begins_with_a_star() -> None:
    assert days("0 0 */2 * MON", 3) == ["2026-01-05", "2026-01-19", "2026-02-09"]
    assert days("0 0 1-7 * */7", 2) == ["2026-01-04", "2026-02-01"]
    assert days("0 0 *,1 * MON", 2) == ["2026-01-05", "2026-01-12"]


def test_a_full_range_is_not_a_star() -> None:
    assert days("0 0 1-31 * MON", 2) == ["2026-01-02", "2026-01-03"]


# -- clock changes ---------------------------------------------------------------------------------

PARIS = "Europe/Paris"  # 2026: 02:00 becomes 03:00 on 29 March, 03:00 becomes 02:00 on 25 October


def test_a_skipped_time_of_day_fires_when_the_gap_ends() -> None:
    assert slots("30 2 * * *", 3, "2026-03-28", PARIS) == [
        "2026-03-28 02:30+01:00",
        "2026-03-29 03:00+02:00",
        "2026-03-30 02:30+02:00",
    ]


def test_skipped_times_of_day_and_a_slot_at_the_end_of_the_gap_are_one_run() -> None:
    assert slots("0,20,40 2,3 * * *", 3, "2026-03-29", PARIS) == [
        "2026-03-29 03:00+02:00",
        "2026-03-29 03:20+02:00",
        "2026-03-29 03:40+02:00",
    ]


def test_it_fires_once_in_the_repeated_hour() -> None:
    assert slots("30 2 * * *", 2, "2026-10-25", PARIS) == [
        "2026-10-25 02:30+02:00",
        "2026-10-26 02:30+01:00",
    ]


def test_fixed_hours_pause_for_the_repeated_hour() -> None:
    assert slots("0 0-23 * * *", 3, "2026-10-25T01:30", PARIS) == [
        "2026-10-25 02:00+02:00",
        "2026-10-25 03:00+01:00",
        "2026-10-25 04:00+01:00",
    ]


def test_from_the_second_pass_a_time_of_day_is_over() -> None:
    second_pass = datetime(2026, 10, 25, 2, 15, tzinfo=ZoneInfo(PARIS), fold=1)
    schedule = CronSchedule("30 2 * * *", PARIS)
    assert schedule.next_after(second_pass) == instant("2026-10-26T01:30")
    assert schedule.previous_before(second_pass) == instant("2026-10-25T00:30")


def test_a_star_measures_elapsed_time_over_the_gap() -> None:
    assert slots("*/30 * * * *", 3, "2026-03-29T01:15", PARIS) == [
        "2026-03-29 01:30+01:00",
        "2026-03-29 03:00+02:00",
        "2026-03-29 03:30+02:00",
    ]
    assert slots("*/30 2 * * *", 1, "2026-03-29", PARIS) == ["2026-03-30 02:00+02:00"]


def test_a_star_measures_elapsed_time_over_the_repeated_hour() -> None:
    assert slots("*/30 2 * * *", 5, "2026-10-25", PARIS) == [
        "2026-10-25 02:00+02:00",
        "2026-10-25 02:30+02:00",
        "2026-10-25 02:00+01:00",
        "2026-10-25 02:30+01:00",
        "2026-10-26 02:00+01:00",
    ]


def test_h_is_no_star() -> None:
    fixed = slots("H H(1-3) * * *", 40, "2026-10-01", PARIS, key="a")
    assert len({text[:10] for text in fixed}) == 40
    elapsed = slots("H * * * *", 30, "2026-10-25", PARIS, key="a")
    assert len([text for text in elapsed if text.startswith("2026-10-25 02")]) == 2


def test_an_alias_is_expanded_before_its_stars_are_looked_at() -> None:
    assert [text[11:16] for text in slots("@hourly", 4, "2026-10-25T01:30", PARIS)] == [
        "02:00",
        "02:00",
        "03:00",
        "04:00",
    ]


def test_a_skipped_midnight_does_not_occur_with_a_star() -> None:
    # Cairo: 00:00 became 01:00 on 24 April 2026.
    assert slots("*/30 0 24-25 4 *", 2, "2026-04-23", "Africa/Cairo") == [
        "2026-04-25 00:00+03:00",
        "2026-04-25 00:30+03:00",
    ]


def test_a_skipped_midnight_as_a_time_of_day_fires_at_the_end_of_the_gap() -> None:
    assert slots("0 0 24 4 *", 1, "2026-04-01", "Africa/Cairo") == ["2026-04-24 01:00+03:00"]


def test_a_change_of_half_an_hour_loses_no_slot() -> None:
    # Lord Howe: 02:00 became 01:30 on 5 April 2026.
    assert slots("*/30 1-2 * * *", 4, "2026-04-05", "Australia/Lord_Howe") == [
        "2026-04-05 01:00+11:00",
        "2026-04-05 01:30+11:00",
        "2026-04-05 01:30+10:30",
        "2026-04-05 02:00+10:30",
    ]
    assert slots("*/10 2 * * *", 1, "2026-04-05", "Australia/Lord_Howe") == [
        "2026-04-05 02:00+10:30"
    ]


def test_a_skipped_day_fires_once_when_it_would_have_ended() -> None:
    # Apia had no 30 December 2011.
    assert slots("0 8,20 * * *", 5, "2011-12-29", "Pacific/Apia") == [
        "2011-12-29 08:00-10:00",
        "2011-12-29 20:00-10:00",
        "2011-12-31 00:00+14:00",
        "2011-12-31 08:00+14:00",
        "2011-12-31 20:00+14:00",
    ]
    assert slots("* 8 30 12 *", 1, "2011-12-01", "Pacific/Apia") == ["2012-12-30 08:00+14:00"]


def test_utc_has_no_clock_changes() -> None:
    assert slots("30 1-3 * * *", 3, "2026-03-29") == [
        "2026-03-29 01:30",
        "2026-03-29 02:30",
        "2026-03-29 03:30",
    ]


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("", "'' is not a cron expression; write a string of five fields"),
        ("   ", "is not a cron expression; write a string of five fields"),
        (None, "None is not a cron expression; write a string of five fields"),
        (b"0 8 * * *", "is not a cron expression; write a string of five fields"),
        ("0 8 * *", "has 4 fields; write five, minute hour day-of-month month day-of-week"),
        ("hourly", "has 1 field; write five"),
        ("0 0 8 * * MON", "has 6 fields, .* leave the extra ones out"),
        ("*/10 * * * * *", r'write @defer\.every\("10s"\) for an interval in seconds'),
        ("0 0 8 * * MON 2026", "has 7 fields"),
        ("R * * * *", "has R, .* write H"),
        ("0 R(1-5) * * *", "has R, .* write H"),
        ("R/5 * * * *", "has R, .* write H"),
        ("@reboot", "'@reboot' names no time; run `manage.py defer_run KEY`"),
        ("@fortnightly", "'@fortnightly' is not a known alias; write five fields, .* @hourly"),
        ("\u0660 \u0668 * * *", "not ASCII; write it with plain digits"),
        ("0\u00a08 * * *", "not ASCII; write it with plain digits"),
        ("0 0 30 2 *", "never fires: .* L for the last day of a month"),
        ("0 0 31 2,4,6,9,11 *", "never fires"),
        ("0 0 30 2 */2", "never fires"),
        ("0 0 */31 2 MON#5", "never fires"),
        ("60 * * * *", "'60' does not fit the minute field; write 0-59"),
        ("* 24 * * *", "'24' does not fit the hour field; write 0-23"),
        ("* * 0 * *", "'0' does not fit the day-of-month field; write 1-31, L, LW or 15W"),
        ("* * * 13 *", "'13' does not fit the month field; write 1-12 or JAN-DEC"),
        ("* * * * 8", "'8' does not fit the day-of-week field; write 0-7"),
        ("* * * MON *", "'mon' does not fit the month field"),
        ("* * * * L", "'l' does not fit the day-of-week field; write .* 5L"),
        ("* * * * MON#6", "does not fit the day-of-week field"),
        ("* * 1W,15 * *", "does not fit the day-of-month field"),
        ("*/0 * * * *", "does not fit the minute field"),
        ("5-5/0 * * * *", "does not fit the minute field"),
        ("? 8 * * *", "does not fit the minute field"),
        ("1,,2 * * * *", "does not fit the minute field"),
        ("-5 * * * *", "does not fit the minute field"),
        ("9" * 5000 + " * * * *", "does not fit the minute field"),
    ],
)
def test_it_refuses_and_says_what_to_write(expression: Any, sentence: str) -> None:
    with pytest.raises(InvalidCronExpression, match=sentence):
        CronSchedule(expression)


def test_what_seems_to_never_fire_but_may_is_accepted() -> None:
    assert days("0 0 30 2 MON", 1) == ["2026-02-02"]  # either day field is enough
    assert days("0 0 31 2,3 *", 1) == ["2026-03-31"]
    assert days("0 0 31W 2 *", 1) == ["2026-02-27"]


def test_an_unknown_time_zone_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidCronExpression) as caught:
        CronSchedule("0 8 * * *", "Europe/Pariss")
    assert str(caught.value) == ("'Europe/Pariss' is not a time zone; did you mean 'Europe/Paris'?")


@pytest.mark.parametrize("name", ["", "europe/pariss", "../etc/passwd", "Europe", "é\0", None, 5])
def test_any_other_name_is_no_time_zone(name: Any) -> None:
    with pytest.raises(InvalidCronExpression, match="is not a time zone; "):
        CronSchedule("0 8 * * *", name)


def test_the_error_is_a_value_error_of_ours() -> None:
    assert issubclass(InvalidCronExpression, ValueError)
    assert issubclass(InvalidCronExpression, DeferError)


# -- the value -------------------------------------------------------------------------------------


def test_a_schedule_is_a_value() -> None:
    schedule = CronSchedule("0  8 * * MON ", "Europe/Paris")
    assert repr(schedule) == "CronSchedule(expression='0 8 * * MON', timezone='Europe/Paris')"
    assert schedule == CronSchedule("0 8 * * MON", "Europe/Paris")
    assert hash(schedule) == hash(CronSchedule("0 8 * * MON", "Europe/Paris"))
    assert schedule != CronSchedule("0 8 * * MON", "Europe/Rome")
    assert pickle.loads(pickle.dumps(schedule)) == copy.deepcopy(schedule) == schedule
    assert copy.deepcopy(schedule).next_after(NOW) == schedule.next_after(NOW)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.timezone = "UTC"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 8 * * MON", "at 08:00 on Monday"),
        ("5 17 * * 7", "at 17:05 on Sunday"),
        ("0 8 * * *", "at 08:00 every day"),
        ("@daily", "at 00:00 every day"),
        ("0 8 * * MON-FRI", "at 08:00 on Monday to Friday"),
        ("0 8 1 * *", "at 08:00 on day 1 of the month"),
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("0 * * * *", "every hour"),
        ("5 * * * *", "at 5 minutes past the hour"),
        ("*/5 * * * SUN", "every 5 minutes on Sunday"),
        ("*/40 * * * *", "at 0 and 40 minutes past the hour"),
        ("0 0-23 * * *", "every hour"),
        ("* 8 * * *", "every minute, between 08:00 and 08:59"),
        ("*/10 8-9 * * MON", "every 10 minutes, between 08:00 and 09:59, on Monday"),
        ("10,20,50 3 * * *", "at 03:10, 03:20 and 03:50, every day"),
        ("0 22-2 * * *", "at 00:00, 01:00, 02:00, 22:00 and 23:00, every day"),
        ("0 8 13 * FRI", "at 08:00, on day 13 of the month or on Friday"),
        (
            "0 8 13 * */2",
            "at 08:00, on day 13 of the month, but only on Tuesday, Thursday, Saturday and Sunday",
        ),
        ("0 8 * 5 *", "at 08:00 every day in May"),
        ("0 8 * */3 *", "at 08:00, every day, in January, April, July and October"),
        ("0 8 * * MON#1", "at 08:00 on the first Monday of the month"),
        ("0 8 * * 5L", "at 08:00 on the last Friday of the month"),
        ("0 8 * * MON,TUE#2", "at 08:00, on Monday or on the second Tuesday of the month"),
        ("0 8 * * FRI-MON", "at 08:00 on Monday and Friday to Sunday"),
        ("0 8 L * *", "at 08:00 on the last day of the month"),
        ("0 8 LW * *", "at 08:00 on the last weekday of the month"),
        ("0 8 15W * *", "at 08:00 on the weekday nearest day 15 of the month"),
        ("0 0 29 2 *", "at 00:00 on day 29 of the month in February"),
    ],
)
def test_schedules_have_plain_words(expression: str, words: str) -> None:
    assert CronSchedule(expression).describe() == words


def test_a_spread_schedule_is_described_as_what_it_became() -> None:
    schedule = CronSchedule("H 3 * * *", key="shop.compute")
    slot = schedule.next_after(instant("2026-01-01 00:00"))
    assert slot is not None
    assert schedule.describe() == f"at {slot:%H:%M} every day"


def test_the_words_do_not_depend_on_the_locale_of_the_process() -> None:
    code = (
        "import locale; locale.getlocale = lambda *a: ('de_DE', 'UTF-8')\n"
        "from django_defer.cron import CronSchedule\n"
        "print(CronSchedule('5 9-17 * * MON').describe())"
    )
    environment = {**os.environ, "LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "at 5 minutes past the hour, between 09:00 and 17:59, on Monday\n"


# -- the meaning -----------------------------------------------------------------------------------


def test_the_meaning_of_an_expression_that_is_read_differently_differs() -> None:
    now = CronSchedule("59/15 * * * *", "Europe/Paris")
    before = CronSchedule.from_meaning(
        "59/15 * * * *", "Europe/Paris", CronSchedule("14,29,44,59 * * * *").meaning
    )
    assert before.expression == now.expression
    assert before.meaning != now.meaning
    assert before != now
    start = instant("2026-01-01 00:00")
    assert before.next_after(start) == instant("2026-01-01 00:14")
    assert now.next_after(start) == instant("2026-01-01 00:59")


def test_the_meaning_of_a_spread_schedule_is_what_it_became() -> None:
    one, other = (CronSchedule("H * * * *", key=key).meaning for key in ("shop.a", "shop.b"))
    assert one != other
    assert CronSchedule.from_meaning("H * * * *", "UTC", one, key="shop.a").meaning == one


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"minutes":"61"}',
        CronSchedule("0 8 * * *").meaning + " ",
        CronSchedule("0 8 * * *").meaning.replace('"8"', '"8,8"'),
        CronSchedule("0 8 * * *").meaning.replace('"8"', '""'),
    ],
)
def test_a_meaning_that_nobody_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the meaning of a cron expression"):
        CronSchedule.from_meaning("0 8 * * *", "UTC", text)


def test_the_installed_croniter_is_in_the_range_that_is_declared_and_tested() -> None:
    lines = metadata.requires("django-defer") or []
    (line,) = [line for line in lines if line.startswith("croniter")]
    assert Requirement(line).specifier.contains(metadata.version("croniter"))
    assert "<8" in line


def test_the_words_name_a_zone_that_is_not_utc() -> None:
    schedule = CronSchedule("0 8 * * MON", "Europe/Paris")
    assert schedule.describe() == "at 08:00 on Monday (Europe/Paris)"


# -- warnings --------------------------------------------------------------------------------------


def codes(expression: str, timezone: str = "UTC") -> list[str]:
    return [warning.code for warning in CronSchedule(expression, timezone).warnings(now=NOW)]


def test_two_restricted_day_fields_are_warned_about_with_real_dates() -> None:
    (warning,) = CronSchedule("0 8 13 * FRI").warnings("shop.mail", now=NOW)
    assert warning.code == "day_or_day"
    assert warning.message.startswith("shop.mail: '0 8 13 * FRI' names days of the month and")
    assert "Fri 2026-01-02, Fri 2026-01-09, Tue 2026-01-13" in warning.message
    assert codes("0 8 */2 * FRI") == ["uneven_step"]


@pytest.mark.parametrize(
    ("expression", "instead"),
    [
        ("*/40 * * * *", "a step that divides 60 (2, 3, 4, 5, 6, 10, 12, 15, 20, 30)"),
        ("5/40 * * * *", "a step that divides 60"),
        ("H/40 * * * *", "a step that divides 60"),
        ("0 */5 * * *", "a step that divides 24"),
        ("0 0 */2 * *", "List the values that you mean"),
        ("0 0 1 */5 *", "List the values that you mean"),
        ("0 0 * * */2", "List the values that you mean"),
    ],
)
def test_a_step_that_does_not_divide_its_field_is_warned_about(
    expression: str, instead: str
) -> None:
    (warning,) = CronSchedule(expression).warnings(now=NOW)
    assert warning.code == "uneven_step"
    assert instead in warning.message


@pytest.mark.parametrize(
    "expression", ["*/15 * * * *", "0 */6 * * *", "1-30/7 * * * *", "0 0 1 */3 *", "0 8 * * MON"]
)
def test_ordinary_schedules_are_not_warned_about(expression: str) -> None:
    assert codes(expression, "Europe/Paris") == []


def test_fixed_hours_are_warned_about_where_the_clock_goes_back() -> None:
    assert codes("0 0-23 * * *", "Europe/Paris") == ["fixed_in_fold"]
    assert codes("0 0-23 * * *", "Africa/Casablanca") == ["fixed_in_fold"]
    assert codes("0 0-23 * * *", "Asia/Tokyo") == []
    assert codes("0 0-23 * * *") == []
    assert codes("0 * * * *", "Europe/Paris") == []


def test_warnings_are_about_the_present_by_default() -> None:
    (warning,) = CronSchedule("0 8 13 * FRI").warnings()
    year = (datetime.now(UTC) + timedelta(days=1)).year
    assert str(year) in warning.message or str(year + 1) in warning.message
