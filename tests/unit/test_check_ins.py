"""What a monitor in Sentry is told of a schedule, and what it is called."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from django_defer.check_ins import config_of, crontab, slug_for
from django_defer.cron import CronSchedule
from django_defer.models import CronDefinition

NOW = datetime(2026, 11, 25, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "slug"),
    [
        ("shop.weekly", "shop-weekly"),
        ("shop.send_weekly_mail", "shop-send_weekly_mail"),
        ("shop.sub.weekly", "shop-sub-weekly"),
    ],
)
def test_a_slug_is_the_key(key: str, slug: str) -> None:
    assert slug_for(key) == slug


@given(st.lists(st.from_regex(r"[A-Za-z_é\-]{1,40}\.[\w\-]{1,40}", fullmatch=True), unique=True))
def test_each_key_has_a_valid_slug_of_its_own(keys: list[str]) -> None:
    slugs = [slug_for(key) for key in keys]
    assert len(set(slugs)) == len(keys)
    for slug in slugs:
        assert re.fullmatch(r"(?![0-9]+$)[a-z0-9_\-]{1,50}", slug)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0 8 * * MON", "0 8 * * 1"),
        ("*/5 * * * *", "*/5 * * * *"),
        ("@daily", "0 0 * * *"),
        ("0 22-2 * * *", "0 0-2,22-23 * * *"),
        ("5/15 * * * *", "5,20,35,50 * * * *"),
        ("0 8 * JAN-MAR FRI-MON", "0 8 * 1-3 0-1,5-6"),
        ("0 0 1 * 1", "0 0 1 * 1"),
        ("0 0 L * *", None),
        ("0 0 15W * *", None),
        ("0 0 * * MON#1", None),
        ("0 0 */2 * MON", None),  # both must match
    ],
)
def test_an_expression_is_said_in_the_words_of_every_cron(
    expression: str, value: str | None
) -> None:
    assert crontab(expression, "UTC", "shop.weekly") == value


@pytest.mark.parametrize(
    "expression",
    ["H H * * *", "H/15 * * * *", "0 0 H * *", "0 22-2 * * FRI-MON", "0 8 1 * MON", "*/40 * * * *"],
)
def test_what_is_said_means_the_same_to_cronsim(expression: str) -> None:
    value = crontab(expression, "UTC", "shop.weekly")
    assert value is not None
    theirs, ours, slot = CronSim(value, NOW), CronSchedule(expression, key="shop.weekly"), NOW
    for _ in range(50):
        following = ours.next_after(slot)
        assert following is not None
        slot = following
        assert next(theirs) == slot


def definition(**columns: object) -> CronDefinition:
    return CronDefinition(function_id="shop.weekly", **columns)


@pytest.mark.parametrize(
    ("interval", "schedule"),
    [
        (timedelta(minutes=90), {"type": "interval", "value": 90, "unit": "minute"}),
        (timedelta(hours=6), {"type": "interval", "value": 6, "unit": "hour"}),
        (timedelta(days=2), {"type": "interval", "value": 2, "unit": "day"}),
    ],
)
def test_an_interval_of_whole_minutes_is_said(
    interval: timedelta, schedule: dict[str, object]
) -> None:
    config = config_of(definition(kind="every", interval=interval), timedelta(seconds=90))
    assert config == {
        "schedule": schedule,
        "timezone": "UTC",
        "checkin_margin": 10,
        "max_runtime": 2,
    }


def test_an_interval_that_sentry_has_no_unit_for_is_left_out() -> None:
    every = definition(kind="every", interval=timedelta(seconds=10))
    assert config_of(every, timedelta(minutes=1)) is None


def test_the_schedule_is_the_one_in_force_and_the_margin_has_room_for_the_jitter() -> None:
    config = config_of(
        definition(
            code_expression="0 8 * * MON",
            expression_override="0 9 * * MON",
            timezone_override="Asia/Tokyo",
            jitter=timedelta(minutes=5),
        ),
        timedelta(minutes=30),
    )
    assert config is not None
    assert config["schedule"] == {"type": "crontab", "value": "0 9 * * 1"}
    assert (config["timezone"], config["checkin_margin"]) == ("Asia/Tokyo", 15)
