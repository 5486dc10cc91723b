"""A cron schedule in plain words, from what its fields mean rather than from their text.

cron-descriptor words a pattern over the day, and days of the month. It gets rewritten fields only,
of a form that it reads as they are meant: it knows no H and no LW, words two restricted day fields
always as either-or, and drops minutes beside lists of hours. Names of days and months are ours,
since it takes them from the locale of the process.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from django_defer.cron_fields import WEEKDAYS
from django_defer.cron_meaning import runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from django_defer.cron_fields import CronFields

_MONTHS = (
    "",
    *["January", "February", "March", "April", "May", "June", "July", "August", "September"],
)
_MONTHS += ("October", "November", "December")
_COUNTED = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", "l": "last"}
_MOST_TIMES = 6  # so many times of day are listed rather than put as a pattern


def describe(fields: CronFields) -> str:
    """Return a phrase such as "at 08:00 on Monday" or "every 5 minutes"."""
    times, days = _times(fields.minutes, fields.hours), _days(fields)
    if not days and times.startswith("at ") and len(fields.hours) < 24:
        days = "every day"
    parts = [part for part in (times, days, _months(fields.months)) if part]
    intricate = any(", " in part or " or " in part for part in parts)
    return (", " if intricate else " ").join(parts)


def _times(minutes: Sequence[int], hours: Sequence[int]) -> str:
    hour_text = _pattern(hours, 24)
    single = len(minutes) == 1
    if len(minutes) * len(hours) <= _MOST_TIMES or (single and "," in hour_text):
        times = [f"{hour:02}:{minute:02}" for hour in hours for minute in minutes]
        return f"at {_listed(times)}"
    if not single and len(hours) < 24:
        hour_text = ",".join(f"{first}-{last}" for first, last in runs(hours))
    text = f"{_pattern(minutes, 60)} {hour_text} * * *"
    return _library_words(text, "TIMEOFDAY").removesuffix(", every hour")


def _days(fields: CronFields) -> str:
    """Return when in a month, "" for every day."""
    of_month, of_week = _days_of_month(fields), _days_of_week(fields)
    if of_month and of_week:
        return f"{of_month} or {of_week}" if fields.day_or else f"{of_month}, but only {of_week}"
    return "" if fields.day_or else of_month or of_week


def _days_of_month(fields: CronFields) -> str:
    if fields.nearest_workday is not None:
        text = "LW" if fields.nearest_workday == 31 else f"{fields.nearest_workday}W"
        return _library_words(f"0 0 {text} * *", "DAYOFMONTH")
    numbers = sorted(day for day in fields.days if isinstance(day, int))
    if len(numbers) == 31:
        return ""
    texts = [",".join(_ranges(numbers))] if numbers else []
    texts += ["L"] if "l" in fields.days else []
    return " or ".join(_library_words(f"0 0 {text} * *", "DAYOFMONTH") for text in texts)


def _days_of_week(fields: CronFields) -> str:
    if len(fields.weekdays) == 7:
        return ""
    plain = _named(sorted(day or 7 for day in fields.weekdays), WEEKDAYS)
    counted = [
        f"on the {_COUNTED[n]} {WEEKDAYS[day]} of the month"
        for day, n in sorted(fields.nth_weekdays, key=str)
    ]
    return " or ".join([*([f"on {plain}"] if plain else []), *counted])


def _months(months: Sequence[int]) -> str:
    return "" if len(months) == 12 else f"in {_named(months, _MONTHS)}"


@lru_cache(maxsize=1024)
def _library_words(expression: str, part: str) -> str:
    # Imported when something is described: a web process may never do so.
    from cron_descriptor import DescriptionTypeEnum, ExpressionDescriptor, Options

    # Everything that it would take from the environment is given.
    options = Options(locale_code="en_US", use_24hour_time_format=True)
    descriptor = ExpressionDescriptor(expression, options)
    words: str = descriptor.get_description(DescriptionTypeEnum[part]).removeprefix(", ")
    return words[:1].lower() + words[1:]


def _pattern(values: Sequence[int], size: int) -> str:
    """Return a field of `size` values as `*`, as a step that divides it, or as a list."""
    for step in range(1, size // 2 + 1):
        if size % step == 0 and tuple(values) == tuple(range(0, size, step)):
            return f"*/{step}" if step > 1 else "*"
    return ",".join(_ranges(values))


def _ranges(values: Iterable[int]) -> list[str]:
    """Return the values as texts, three or more in a row as a range."""
    texts: list[str] = []
    for first, last in runs(values):
        if last - first < 2:
            texts += map(str, range(first, last + 1))
        else:
            texts.append(f"{first}-{last}")
    return texts


def _named(values: Iterable[int], names: Sequence[str]) -> str:
    return _listed(
        [" to ".join(names[int(number)] for number in text.split("-")) for text in _ranges(values)]
    )


def _listed(texts: list[str]) -> str:
    *others, last = texts or [""]
    return f"{', '.join(others)} and {last}" if others else last
