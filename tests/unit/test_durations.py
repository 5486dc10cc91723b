"""Durations as people write them, and the sentences for what isn't one."""

from __future__ import annotations

import contextlib
import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_defer.durations import format_duration, parse_duration
from django_defer.exceptions import DeferError, InvalidDuration


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (300, 300),
        (0, 0),
        (0.25, 0.25),
        (timedelta(minutes=2), 120),
        ("5m", 300),
        ("90s", 90),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("1 day", 86400),
        ("2 weeks", 14 * 86400),
        ("10 minutes", 600),
        ("1 hour 30 mins 2 sec", 5402),
        (" 1 Day ", 86400),
        ("1w2d", 9 * 86400),
        ("0s", 0),
    ],
)
def test_it_reads_what_people_write(value: Any, seconds: float) -> None:
    assert parse_duration(value) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "5",
        "m",
        "5 parsecs",
        "5m!",
        "-5m",
        "+5m",
        "5m,3s",
        "5m 5m",
        "1e3s",
        "1.s",
        ".5h",
        "\u0665m",
        "inf s",
        -1,
        -0.5,
        timedelta(seconds=-1),
        math.nan,
        math.inf,
        -math.inf,
        True,
        False,
        None,
        [5],
        b"5m",
        3j,
        10**400,
        1e300,
        "9" * 400 + "w",
        "1000000000 d",
        f"{10**9} days {10**9} weeks",
    ],
)
def test_it_refuses_what_is_not_a_duration(value: Any) -> None:
    with pytest.raises(InvalidDuration, match=r"write seconds .300., a timedelta, or a string"):
        parse_duration(value)


def test_the_error_is_a_value_error_of_ours() -> None:
    assert issubclass(InvalidDuration, ValueError)
    assert issubclass(InvalidDuration, DeferError)


def test_the_error_says_what_to_write_instead() -> None:
    with pytest.raises(InvalidDuration) as caught:
        parse_duration("5 parsecs")
    assert str(caught.value) == (
        "'5 parsecs' is not a duration; write seconds (300), a timedelta, or a string such as "
        '"5m", "1h30m" or "1 day".'
    )


def test_the_error_names_the_option() -> None:
    with pytest.raises(InvalidDuration, match=r"^max_duration=-5 is negative; write seconds"):
        parse_duration(-5, name="max_duration")


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(minutes=5), "5m"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(seconds=0.5), "0.5s"),
        (timedelta(seconds=61.25), "1m1.25s"),
        (timedelta(days=15, seconds=1), "15d1s"),
        (timedelta(microseconds=1), "0.000001s"),
        (timedelta(minutes=-5), "-5m"),
    ],
)
def test_it_writes_the_shortest_spelling(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@settings(derandomize=True, deadline=None, database=None)
@given(st.timedeltas(timedelta(0), timedelta.max))
def test_what_it_writes_reads_back_the_same(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@settings(derandomize=True, deadline=None, database=None)
@given(st.text() | st.text(alphabet="0123456789. msdhwayinutek"))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidDuration):
        assert parse_duration(text) >= timedelta(0)
