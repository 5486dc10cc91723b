"""What `f.using(…)` takes, how it composes, and what it refuses."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from django_defer.call_options import CallOptions
from django_defer.exceptions import InvalidDuration, InvalidOption

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def using(**options: Any) -> CallOptions:
    """Return the options of one `using()`."""
    return CallOptions().merge(options)


def test_nothing_given_means_as_the_function_says() -> None:
    assert using() == CallOptions()


def test_every_option_is_read() -> None:
    assert using(delay="1m30s", priority=-100, queue="mail", label="weekly") == CallOptions(
        delay=timedelta(seconds=90), priority=-100, queue="mail", label="weekly"
    )


@pytest.mark.parametrize("delay", [90, 90.0, timedelta(seconds=90), "90s", "1m 30s"])
def test_a_delay_is_any_duration(delay: Any) -> None:
    assert using(delay=delay).delay == timedelta(seconds=90)


def test_run_after_is_an_aware_datetime_in_any_zone() -> None:
    paris = NOON.astimezone(ZoneInfo("Europe/Paris"))
    assert using(run_after=paris).run_after == NOON


def test_run_after_as_a_timedelta_is_from_now_as_in_django() -> None:
    assert using(run_after=timedelta(minutes=5)) == using(delay="5m")


def test_djangos_name_for_the_queue_is_understood() -> None:
    assert using(queue_name="mail") == using(queue="mail")


# -- composing -------------------------------------------------------------------------------------


def test_the_later_one_wins() -> None:
    assert using(queue="mail", priority=1).merge({"priority": 2}) == using(queue="mail", priority=2)


def test_a_later_time_replaces_an_earlier_delay_and_the_other_way_round() -> None:
    assert using(delay="5m").merge({"run_after": NOON}) == using(run_after=NOON)
    assert using(run_after=NOON).merge({"delay": "5m"}) == using(delay="5m")


def test_a_delay_can_be_taken_back() -> None:
    assert using(delay="5m").merge({"delay": None}) == CallOptions()
    assert using(run_after=NOON).merge({"run_after": None}) == CallOptions()


def test_options_given_stay_as_they_were() -> None:
    first = using(queue="mail")
    first.merge({"queue": "other"})
    assert first.queue == "mail"


# -- refused ---------------------------------------------------------------------------------------


def test_an_unknown_option_is_refused_and_the_known_ones_listed() -> None:
    with pytest.raises(
        InvalidOption, match=r"delai=\. Known: delay, run_after, discard_after, priority"
    ):
        using(delai=5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"delay": 5, "run_after": NOON}, "delay= and run_after= contradict each other"),
        ({"queue": "mail", "queue_name": "mail"}, "are the same option: give one"),
        ({"run_after": NOON.replace(tzinfo=None)}, "has no time zone: write django.utils"),
        ({"run_after": "tomorrow"}, "write an aware datetime or a timedelta"),
        ({"run_after": 5}, "write an aware datetime or a timedelta"),
        ({"priority": 101}, "a whole number from -100 to 100"),
        ({"priority": -101}, "a whole number from -100 to 100"),
        ({"priority": 1.5}, "a whole number from -100 to 100"),
        ({"priority": True}, "a whole number from -100 to 100"),
        ({"priority": None}, "a whole number from -100 to 100"),
        ({"queue": ""}, "a name of 1 to 50 characters"),
        ({"queue": "q" * 51}, "a name of 1 to 50 characters"),
        ({"queue": None}, "a name of 1 to 50 characters"),
        ({"label": "x" * 201}, "a text of at most 200 characters"),
        ({"label": None}, "a text of at most 200 characters"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(says)):
        using(**options)


@pytest.mark.parametrize("delay", ["5 parsecs", -1, timedelta(seconds=-1), True])
def test_a_delay_that_is_no_duration_is_refused(delay: Any) -> None:
    with pytest.raises(InvalidDuration, match="delay="):
        using(delay=delay)
    if isinstance(delay, timedelta):
        with pytest.raises(InvalidDuration):
            using(run_after=delay)


@pytest.mark.parametrize("key", ["", "k" * 201, 17, b"order"])
def test_a_key_is_a_text(key: object) -> None:
    with pytest.raises(InvalidOption, match="write a text of 1 to 200 characters"):
        using(key=key)
    assert using(key="order-17").key == "order-17"
    assert using(key="order-17").merge({"key": None}).key is None
