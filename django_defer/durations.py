"""Durations as people write them: seconds, a timedelta or a string such as "1h30m".

`parse_duration` is the only reader, so that every option and setting accepts the same spellings
and refuses the same mistakes with the same sentence. A duration is never negative.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import TypeAlias

from django_defer.exceptions import InvalidDuration

DurationLike: TypeAlias = float | int | timedelta | str

_MILLISECONDS, _SECONDS, _MINUTES = "milliseconds", "seconds", "minutes"
_HOURS, _DAYS, _WEEKS = "hours", "days", "weeks"
_UNITS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), _MILLISECONDS),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), _SECONDS),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), _MINUTES),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), _HOURS),
    **dict.fromkeys(("d", "day", "days"), _DAYS),
    **dict.fromkeys(("w", "week", "weeks"), _WEEKS),
}
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\s*")

_INSTEAD = 'write seconds (300), a timedelta, or a string such as "5m", "1h30m" or "1 day"'


def parse_duration(value: DurationLike, *, name: str = "duration") -> timedelta:
    """Return `value` as a timedelta; numbers are seconds. Raise InvalidDuration otherwise.

    `name` is the option being read, for the error: `max_duration='5 parsecs' is not a duration`.
    """
    try:
        duration = _read(value)
    except OverflowError:
        # The value isn't shown: it may have thousands of digits.
        raise InvalidDuration(f"The {name} is longer than Python can count; {_INSTEAD}.") from None
    if duration is None or duration < timedelta(0):
        shown = repr(value) if name == "duration" else f"{name}={value!r}"
        problem = "is not a duration" if duration is None else "is negative"
        raise InvalidDuration(f"{shown} {problem}; {_INSTEAD}.")
    return duration


def format_duration(duration: timedelta) -> str:
    """Return the shortest spelling that `parse_duration` reads back: "1h30m", "5m", "0.5s"."""
    if duration < timedelta(0):
        return "-" + format_duration(-duration)
    hours, rest = divmod(duration.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    fraction = f".{duration.microseconds:06}".rstrip("0").rstrip(".")
    parts = [(duration.days, "d"), (hours, "h"), (minutes, "m")]
    text = "".join(f"{number}{unit}" for number, unit in parts if number)
    return text + (f"{seconds}{fraction}s" if seconds or fraction or not text else "")


def _read(value: object) -> timedelta | None:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return _read_text(value.lower())
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return None
    return None if math.isinf(value) else timedelta(seconds=value)


def _read_text(text: str) -> timedelta | None:
    total, seen, position = timedelta(0), set[str](), 0
    while position < len(text):
        part = _PART.match(text, position)
        unit = _UNITS.get(part[2]) if part else None
        # A unit written twice ("5m 5m") is more likely a slip than a sum.
        if part is None or unit is None or unit in seen:
            return None
        total += timedelta(**{unit: float(part[1])})
        seen.add(unit)
        position = part.end()
    return total if seen else None
