"""Schedules in plain words: a table of sentences that were checked by hand, and random ones."""

from __future__ import annotations

import calendar
import locale
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings

from django_defer.cron import CronSchedule
from django_defer.cron_words import _library_words
from tests.unit.test_cron_properties import EXPRESSIONS, schedule_or_none

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 8 * * MON", "at 08:00 on Monday"),
        ("5 17 * * 7", "at 17:05 on Sunday"),
        ("0 8 * * *", "at 08:00 every day"),
        ("@daily", "at 00:00 every day"),
        ("@hourly", "every hour"),
        ("@yearly", "at 00:00 on day 1 of the month in January"),
        ("0 8 * * MON-FRI", "at 08:00 on Monday to Friday"),
        ("0 8 ? * MON", "at 08:00 on Monday"),
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("5 * * * *", "at 5 minutes past the hour"),
        ("5-5 * * * *", "at 5 minutes past the hour"),
        ("59/15 * * * *", "at 59 minutes past the hour"),
        ("*/40 * * * *", "at 0 and 40 minutes past the hour"),
        ("1-3,7 * * * *", "at 1 through 3 and 7 minutes past the hour"),
        ("*/5 * * * SUN", "every 5 minutes on Sunday"),
        ("0,30 8 * * *", "at 08:00 and 08:30 every day"),
        ("0 8,20 * * *", "at 08:00 and 20:00 every day"),
        ("0 */2 * * *", "every 2 hours"),
        ("30 22-2 * * *", "at 00:30, 01:30, 02:30, 22:30 and 23:30, every day"),
        ("*/15 8-17 * * 1-5", "every 15 minutes, between 08:00 and 17:59, on Monday to Friday"),
        ("* 8 * * *", "every minute, between 08:00 and 08:59"),
        (
            "*/5 8,10 * * *",
            "every 5 minutes, at 08:00 through 08:59 and 10:00 through 10:59",
        ),
        (
            "30 8-17 * * *",
            "at 30 minutes past the hour, between 08:00 and 17:59, every day",
        ),
        (
            "0 0-4,20-22 * * *",
            "at 00:00, 01:00, 02:00, 03:00, 04:00, 20:00, 21:00 and 22:00, every day",
        ),
        ("0 8 1 * *", "at 08:00 on day 1 of the month"),
        ("0 8 L * *", "at 08:00 on the last day of the month"),
        ("0 8 1,L * *", "at 08:00, on day 1 of the month or on the last day of the month"),
        ("0 8 15W * *", "at 08:00 on the weekday nearest day 15 of the month"),
        ("0 8 LW * *", "at 08:00 on the last weekday of the month"),
        ("0 8 * * FRI-MON", "at 08:00 on Monday and Friday to Sunday"),
        ("0 8 * * 5L", "at 08:00 on the last Friday of the month"),
        ("0 8 * * MON#1", "at 08:00 on the first Monday of the month"),
        ("0 8 * * MON,TUE#2", "at 08:00, on Monday or on the second Tuesday of the month"),
        ("0 8 13 * FRI", "at 08:00, on day 13 of the month or on Friday"),
        ("0 8 13 2 FRI", "at 08:00, on day 13 of the month or on Friday, in February"),
        ("0 8 1-7 * */7", "at 08:00, between day 1 and 7 of the month, but only on Sunday"),
        ("0 8 1-31 * MON", "at 08:00 every day"),
        ("0 8 * 5 *", "at 08:00 every day in May"),
        (
            "0 8 1 nov-feb *",
            "at 08:00, on day 1 of the month, in January, February, November and December",
        ),
    ],
)
def test_a_schedule_has_plain_words(expression: str, words: str) -> None:
    assert CronSchedule(expression).describe() == words


def test_h_is_said_as_it_was_resolved() -> None:
    schedule = CronSchedule("H H * * *", key="shop.compute")
    slot = schedule.next_after(NOW)
    assert slot is not None
    assert schedule.describe() == f"at {slot:%H:%M} every day"


def test_the_words_name_a_zone_that_is_not_utc() -> None:
    schedule = CronSchedule("0 8 * * MON", "Europe/Paris")
    assert schedule.describe() == "at 08:00 on Monday (Europe/Paris)"


def test_the_words_do_not_depend_on_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_asked(*args: object) -> None:
        raise AssertionError("the locale was asked for")

    monkeypatch.setattr(locale, "getlocale", not_asked)
    monkeypatch.setattr(calendar, "day_name", ["Tag"] * 7)
    monkeypatch.setattr(calendar, "month_name", ["Monat"] * 13)
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    _library_words.cache_clear()
    assert CronSchedule("*/5 13 * 5 MON").describe() == (
        "every 5 minutes, between 13:00 and 13:59, on Monday, in May"
    )


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(EXPRESSIONS)
def test_every_schedule_has_words(expression: str) -> None:
    schedule = schedule_or_none(expression, "UTC")
    if schedule is None:
        return
    words = schedule.describe()
    assert words
    assert words == words.strip()
    assert "*" not in words
    assert "  " not in words
    assert "None" not in words
