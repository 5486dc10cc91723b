"""Every clock change of every zone, in the sampled years: the rule, and the order of slots.

The random tests draw from these; here none is left out. Zones whose clocks change alike are
looked at once.
"""

from __future__ import annotations

import functools
import itertools
import zoneinfo
from datetime import datetime, timedelta

import pytest

from django_defer.cron import CronSchedule
from tests.unit.test_cron_properties import (
    ALWAYS,
    HOUR,
    MINUTE,
    YEARS,
    changes_of,
    reversed_slots_of,
    slots_by_rule,
    slots_of,
)

EXPRESSIONS = ("30 2 * * *", "0 0-23 * * *", "0 0 * * *", "*/20 * * * *", "15 0-3 * * */2")
STARTS = (-2 * HOUR, -MINUTE, timedelta(0), timedelta(seconds=1), 45 * MINUTE, 2 * HOUR)


@functools.cache
def zones() -> tuple[str, ...]:
    # "posix/…" and "right/…" repeat the others, "localtime" is a setting of the machine.
    return tuple(
        name
        for name in sorted(zoneinfo.available_timezones())
        if not name.startswith(("posix", "right", "localtime")) and changes_of(name)
    )


def changes_in(year: int) -> dict[tuple[datetime, timedelta, timedelta], str]:
    """Return a zone for each kind of change: when, and the offsets before and after."""
    found: dict[tuple[datetime, timedelta, timedelta], str] = {}
    for zone in zones():
        for change in changes_of(zone):
            if change.year == year:
                before, after = (
                    (change + distance).astimezone(zoneinfo.ZoneInfo(zone)).utcoffset()
                    for distance in (-MINUTE, MINUTE)
                )
                assert before is not None
                assert after is not None
                found.setdefault((change, before, after), zone)
    return found


def test_all_zones_with_changes_are_looked_at() -> None:
    assert set(ALWAYS) <= set(zones())
    assert len(zones()) > 250
    covered = {(change, zone) for year in YEARS for (change, *_), zone in changes_in(year).items()}
    assert len(covered) > 100


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_change_follows_the_rule_and_slots_are_in_order(expression: str, year: int) -> None:
    for (change, *_), zone in changes_in(year).items():
        schedule = CronSchedule(expression, zone)
        start, end = change - 3 * HOUR, change + 3 * HOUR
        found = slots_of(schedule, start, end)
        assert found == slots_by_rule(expression, zone, start, end), f"{zone} at {change}"
        assert all(earlier < later for earlier, later in itertools.pairwise(found))
        assert reversed_slots_of(schedule, start, end) == found
        for distance in STARTS:
            instant = change + distance
            later = schedule.next_after(instant)
            assert later is not None
            earlier = schedule.previous_before(later)
            assert earlier is not None
            assert earlier <= instant < later, f"{zone} from {instant}"
