"""What about a cron schedule may not be meant, in sentences that say what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from django_defer.cron_fields import DAY, FIELD_BOUNDS, FIELD_NAMES, WEEKDAYS, split_fields

if TYPE_CHECKING:
    import zoneinfo
    from collections.abc import Iterator
    from datetime import date, datetime

_STEP = re.compile(r"(?:\*|h|[0-9]{1,2})/([0-9]{1,4})")


@dataclass(frozen=True, slots=True)
class CronWarning:
    """Something about a schedule that may not be meant; `code` is stable, `message` is not."""

    code: Literal["day_or_day", "uneven_step", "fixed_in_fold"]
    message: str


def uneven_steps(expression: str) -> Iterator[tuple[int, int, str]]:
    for index, text in enumerate(split_fields(expression)):
        low, high = FIELD_BOUNDS[index]
        for part in text.split(","):
            step = _STEP.fullmatch(part)
            if step and (high - low + 1) % int(step[1]):
                yield index, int(step[1]), part


def uneven_step(subject: str, index: int, step: int, part: str) -> CronWarning:
    low, high = FIELD_BOUNDS[index]
    size = high - low + 1
    even = ", ".join(str(divisor) for divisor in range(2, size) if size % divisor == 0)
    advice = "List the values that you mean."
    if even and index < DAY:  # months and weeks have no number of days that steps could divide
        advice = (
            f"Write a step that divides {size} ({even}), list the values that you mean, or use an "
            f'even interval with @defer.every("{step}{"mh"[index]}").'
        )
    return CronWarning(
        "uneven_step",
        f"{subject} has {part} in its {FIELD_NAMES[index]} field, which does not divide evenly: "
        f"it begins again with each round, so the last interval is shorter. {advice}",
    )


def day_or_day(subject: str, days: list[date]) -> CronWarning:
    dates = ", ".join(f"{WEEKDAYS[day.isoweekday()][:3]} {day}" for day in days)
    return CronWarning(
        "day_or_day",
        f"{subject} names days of the month and days of the week, so it runs on every day that "
        f"matches either: {dates}, … Write * in one of the two fields; the first Monday of a "
        f"month is MON#1, the last Friday 5L.",
    )


def fixed_in_fold(subject: str, zone: str) -> CronWarning:
    return CronWarning(
        "fixed_in_fold",
        f"{subject} names every hour as a time of day, and a time of day fires once: in {zone} it "
        f"pauses in the hour that is repeated when the clock goes back. Write * in the hour field "
        f"to run in that hour too.",
    )


def goes_back(zone: zoneinfo.ZoneInfo, now: datetime) -> bool:
    """Say whether the zone's clock is set back within about a year from `now`."""
    moments = (now + timedelta(days=10 * n) for n in range(38))
    offsets = [moment.astimezone(zone).utcoffset() or timedelta(0) for moment in moments]
    return any(later < earlier for earlier, later in pairwise(offsets))
