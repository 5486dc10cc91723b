"""The five fields of a cron expression, read once and stepped through in wall-clock time.

croniter reads a field; this module settles what it leaves open or gets wrong: `5-5` is the one
value 5 (not the whole field), a wrap-around range with a step keeps its stride, `5L` and `LW` are
understood, plain weekdays mix with `MON#1`, and a bare `H` never picks day 29, 30 or 31. Nothing
here knows a time zone.
"""

from __future__ import annotations

import calendar
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from django_defer.exceptions import InvalidCronExpression

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MINUTE, HOUR, DAY, MONTH, WEEKDAY = range(5)
FIELD_NAMES = ("minute", "hour", "day-of-month", "month", "day-of-week")
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FIELD_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))

_HINTS = ("0-59", "0-23", "1-31, L, LW or 15W", "1-12 or JAN-DEC", "0-7, SUN-SAT, MON#1 or 5L")
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_WEEKDAYS = "sun mon tue wed thu fri sat"
_NAMES = {MONTH: dict(enumerate(_MONTHS.split(), 1)), WEEKDAY: dict(enumerate(_WEEKDAYS.split()))}
_RANGE = re.compile(r"([0-9]{1,4})-([0-9]{1,4})(?:/([0-9]{1,4}))?")
_NEAREST_WORKDAY = re.compile(r"([0-9]{1,2})w|w([0-9]{1,2})")
_LAST_WEEKDAY = re.compile(r"([0-7])l")
_LAST = "l"

Nth = tuple[int, int | str]  # (weekday, 1..5 or "l")


@dataclass(frozen=True, slots=True)
class CronFields:
    """What each field allows. Weekdays count from 0, Sunday; `day_or` is cron's either-or rule.

    `fixed` says that neither minute nor hour begins with a star: such a schedule names times of
    day, the others measure elapsed time.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int | str]
    nearest_workday: int | None
    months: tuple[int, ...]
    weekdays: frozenset[int]
    nth_weekdays: frozenset[Nth]
    day_or: bool
    fixed: bool
    # A month's matching days depend on its length and first weekday only: 28 kinds of month.
    _days_by_kind: dict[tuple[int, int], tuple[int, ...]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def next_wall_time(self, start: datetime) -> datetime | None:
        """Return the first matching naive time at or after `start`, a naive whole minute."""
        minute = self._minute_of_day_from(start.hour * 60 + start.minute)
        today = start.replace(hour=0, minute=0)
        for year, month in _months_from(start.year, start.month, self.months):
            for day in self.days_of(year, month):
                midnight = today.replace(year=year, month=month, day=day)
                if midnight > today:
                    return midnight.replace(hour=self.hours[0], minute=self.minutes[0])
                if midnight == today and minute is not None:
                    return midnight + timedelta(minutes=minute)
        return None

    def days_of(self, year: int, month: int) -> tuple[int, ...]:
        """Return the matching days of one month, in order."""
        first_weekday, length = calendar.monthrange(year, month)
        return self._days_of_kind(length, (first_weekday + 1) % 7)

    def can_fire(self) -> bool:
        """Say whether any month that the calendar can produce has a matching day."""
        lengths = {
            n for month in self.months for n in ((28, 29) if month == 2 else _LENGTHS[month])
        }
        return any(self._days_of_kind(n, first) for n in lengths for first in range(7))

    def _minute_of_day_from(self, minute_of_day: int) -> int | None:
        hour, minute = divmod(minute_of_day, 60)
        at = bisect_left(self.minutes, minute)
        if hour in self.hours and at < len(self.minutes):
            return hour * 60 + self.minutes[at]
        later = bisect_right(self.hours, hour)
        return self.hours[later] * 60 + self.minutes[0] if later < len(self.hours) else None

    def _days_of_kind(self, length: int, first_weekday: int) -> tuple[int, ...]:
        kind = length, first_weekday
        if kind not in self._days_by_kind:
            by_day = {day for day in range(1, length + 1) if self._day_matches(day, *kind)}
            by_weekday = {day for day in range(1, length + 1) if self._weekday_matches(day, *kind)}
            both = by_day | by_weekday if self.day_or else by_day & by_weekday
            self._days_by_kind[kind] = tuple(sorted(both))
        return self._days_by_kind[kind]

    def _day_matches(self, day: int, length: int, first_weekday: int) -> bool:
        if self.nearest_workday is not None:
            return day == _nearest_workday(self.nearest_workday, length, first_weekday)
        return day in self.days or (day == length and _LAST in self.days)

    def _weekday_matches(self, day: int, length: int, first_weekday: int) -> bool:
        weekday = (first_weekday + day - 1) % 7
        if weekday in self.weekdays or (weekday, (day + 6) // 7) in self.nth_weekdays:
            return True
        return day + 7 > length and (weekday, _LAST) in self.nth_weekdays


@lru_cache(maxsize=4096)
def parse_fields(expression: str, key: str) -> CronFields:
    """Read five fields (see `split_fields`); `key` seeds `H`. Raise InvalidCronExpression."""
    texts = split_fields(expression)
    expanded = [_expand(expression, index, text, key) for index, text in enumerate(texts)]
    nearest = _NEAREST_WORKDAY.fullmatch(_rewritten(DAY, texts[DAY]))
    fields = CronFields(
        minutes=_ordered(expanded[MINUTE]),
        hours=_ordered(expanded[HOUR]),
        days=frozenset(value for value in expanded[DAY] if not isinstance(value, tuple)),
        nearest_workday=int(nearest[1] or nearest[2]) if nearest else None,
        months=_ordered(expanded[MONTH]),
        weekdays=frozenset(_ordered(expanded[WEEKDAY])),
        nth_weekdays=frozenset(value for value in expanded[WEEKDAY] if isinstance(value, tuple)),
        day_or=not (texts[DAY].startswith("*") or texts[WEEKDAY].startswith("*")),
        fixed=not (texts[MINUTE].startswith("*") or texts[HOUR].startswith("*")),
    )
    if not fields.can_fire():
        raise InvalidCronExpression(
            f"{expression!r} never fires: no month that it names has such a day; write a day that "
            f"exists, or L for the last day of a month."
        )
    return fields


def split_fields(expression: object) -> list[str]:
    """Return the five lower-case fields, an alias expanded and a day field's `?` read as `*`."""
    if not isinstance(expression, str) or not expression.strip():
        raise InvalidCronExpression(
            f"{expression!r} is not a cron expression; write a string of five fields, minute hour "
            f'day-of-month month day-of-week, such as "0 8 * * MON".'
        )
    if not expression.isascii():
        raise InvalidCronExpression(
            f"{expression!r} has characters that look like others but are not ASCII; write it "
            f'with plain digits, letters and spaces, such as "0 8 * * MON".'
        )
    if expression.strip().startswith("@"):
        expression = _alias(expression.strip().lower())
    texts = expression.lower().split()
    if len(texts) != 5:
        raise InvalidCronExpression(_wrong_count(expression, len(texts)))
    if any(re.match(r"r\b", text) for text in texts):
        raise InvalidCronExpression(
            f"{expression!r} has R, a time that changes at random with each start; write H, which "
            f"spreads functions by their key and stays."
        )
    return [
        "*" if text == "?" and index in (DAY, WEEKDAY) else text for index, text in enumerate(texts)
    ]


def uses_hash(expression: str) -> bool:
    """Say whether a valid expression has an `H`, so that its slots depend on a key."""
    return re.search(r"\bh\b", " ".join(split_fields(expression))) is not None


def _alias(name: str) -> str:
    if name in ALIASES:
        return ALIASES[name]
    if name == "@reboot":
        raise InvalidCronExpression(
            "'@reboot' names no time; run `manage.py defer_run KEY` where the host starts instead."
        )
    raise InvalidCronExpression(
        f'{name!r} is not a known alias; write five fields, such as "0 8 * * MON", or one of '
        f"{', '.join(ALIASES)}."
    )


def _wrong_count(expression: str, count: int) -> str:
    if count in (6, 7):
        return (
            f"{expression!r} has {count} fields, and cron here has five, without seconds or years: "
            f'leave the extra ones out, or write @defer.every("10s") for an interval in seconds.'
        )
    return (
        f"{expression!r} has {count} field{'s' if count > 1 else ''}; write five, minute hour "
        f'day-of-month month day-of-week, such as "0 8 * * MON".'
    )


def _expand(expression: str, index: int, text: str, key: str) -> set[int | str | Nth]:
    """Return the values of one field: numbers, "l" (last day), pairs such as (1, 2) for MON#2."""
    from croniter import CroniterError  # by those alone who have a cron expression to read

    rewritten = _rewritten(index, text)
    groups, seed = [rewritten], key if "h" in rewritten else ""  # without H, all keys share
    if index == WEEKDAY and "," in rewritten:
        # croniter refuses to mix plain weekdays with MON#1 or L5, or forgets the plain ones.
        parts = rewritten.split(",")
        special = [part for part in parts if "#" in part or part.startswith(_LAST)]
        plain = [part for part in parts if part not in special]
        groups = [",".join(group) for group in (plain, special) if group]
    try:
        return {value for group in groups for value in _expand_group(index, group, seed)}
    except CroniterError:
        raise InvalidCronExpression(
            f"{expression!r} is not a cron expression: {text!r} does not fit the "
            f"{FIELD_NAMES[index]} field; write {_HINTS[index]}, a list (1,3), a range (1-5) or "
            f"a step (*/5)."
        ) from None


@lru_cache(maxsize=4096)
def _expand_group(index: int, text: str, key: str) -> frozenset[int | str | Nth]:
    from croniter import croniter

    fields = ["*"] * 5
    fields[index] = text
    expanded, nth_weekdays = croniter.expand(" ".join(fields), hash_id=key.encode())
    if nth_weekdays:
        return frozenset((weekday, n) for weekday, nths in nth_weekdays.items() for n in nths)
    if "*" in expanded[index]:
        low, high = FIELD_BOUNDS[index]
        return frozenset(range(low, high + 1))
    return frozenset(expanded[index])


def _rewritten(index: int, text: str) -> str:
    if index == DAY and text == "lw":
        return "31w"  # the workday nearest to the 31st, or to the end of a shorter month
    if index == DAY and text == "h":
        return "h(1-28)"  # a day that every month has
    for number, name in _NAMES.get(index, {}).items():
        text = re.sub(rf"\b{name}(?=l?\b)", str(number), text)
    return ",".join(_rewritten_part(index, part) for part in text.split(","))


def _rewritten_part(index: int, part: str) -> str:
    last = _LAST_WEEKDAY.fullmatch(part)
    if index == WEEKDAY and last:
        return f"l{last[1]}"
    bounds = _RANGE.fullmatch(part)
    if not bounds:
        return part
    low, high, step = int(bounds[1]), int(bounds[2]), int(bounds[3] or 1)
    if low == high and step:
        return str(low)
    least, most = FIELD_BOUNDS[index]
    if not (step and least <= high < low <= most):
        return part
    span = most - least + 1
    return ",".join(
        str((low - least + n) % span + least) for n in range(0, high - low + span + 1, step)
    )


def _ordered(values: Iterable[int | str | Nth]) -> tuple[int, ...]:
    return tuple(sorted(value for value in values if isinstance(value, int)))


def _nearest_workday(day: int, length: int, first_weekday: int) -> int:
    """Return the Monday-to-Friday nearest to `day` that is in the same month."""
    day = min(day, length)
    weekday = (first_weekday + day - 1) % 7
    if weekday == 6:  # Saturday
        return day - 1 if day > 1 else day + 2
    if weekday == 0:  # Sunday
        return day + 1 if day < length else day - 2
    return day


_LENGTHS = {month: (calendar.monthrange(2001, month)[1],) for month in range(1, 13)}


def _months_from(year: int, month: int, months: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield (year, month) for 400 years: then the calendar repeats, weekdays included."""
    for later in range(min(401, 10_000 - year)):
        for candidate in months:
            if later or candidate >= month:
                yield year + later, candidate
