"""What a cron expression means, as a text: the values of its fields, whoever parsed them.

Stored beside an expression, it keeps the schedule that was agreed on if a later croniter reads the
same expression differently.
"""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

from django_defer.cron_fields import (
    DAY,
    FIELD_BOUNDS,
    HOUR,
    MINUTE,
    MONTH,
    WEEKDAY,
    CronFields,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from django_defer.cron_fields import Nth

_LAST = "l"
_NEVER_EMPTY = (MINUTE, HOUR, MONTH)
_ITEM = re.compile(r"([0-9]{1,2})(?:-([0-9]{1,2}))?")
_NTH = re.compile(r"([0-6])#([1-5l])")


def write_meaning(fields: CronFields) -> str:
    """Return the fields as compact JSON, their values as sorted lists with ranges."""
    last = [_LAST] if _LAST in fields.days else []
    values = {
        "minutes": _written(fields.minutes),
        "hours": _written(fields.hours),
        "days": ",".join(filter(None, [_written(fields.days - {_LAST}), *last])),
        "nearest_workday": fields.nearest_workday,
        "months": _written(fields.months),
        "weekdays": _written(fields.weekdays),
        "nth_weekdays": ",".join(sorted(f"{day}#{n}" for day, n in fields.nth_weekdays)),
        "day_or": fields.day_or,
        "fixed": fields.fixed,
    }
    return json.dumps(values, separators=(",", ":"))


def read_meaning(text: str) -> CronFields:
    """Return the fields that `write_meaning` wrote. Raise ValueError for any other text."""
    try:
        fields = _fields(json.loads(text))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        fields = None
    # Writing it again shows that no value is unknown, double, of another type or out of order.
    if fields is None or write_meaning(fields) != text or not fields.can_fire():
        raise ValueError(f"{text!r} is not the meaning of a cron expression.")
    return fields


def runs(values: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of consecutive numbers; `values` are sorted."""
    for _, group in groupby(enumerate(values), lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in group]
        yield numbers[0], numbers[-1]


def _fields(values: dict[str, Any]) -> CronFields:
    days, last, _ = values["days"].partition(_LAST)
    nearest = values["nearest_workday"]
    return CronFields(
        minutes=_read(values["minutes"], MINUTE),
        hours=_read(values["hours"], HOUR),
        days=frozenset({*_read(days, DAY), *last}),
        nearest_workday=None if nearest is None else _read(str(nearest), DAY)[0],
        months=_read(values["months"], MONTH),
        weekdays=frozenset(_read(values["weekdays"], WEEKDAY)),
        nth_weekdays=frozenset(_read_nth(values["nth_weekdays"])),
        day_or=bool(values["day_or"]),
        fixed=bool(values["fixed"]),
    )


def _written(values: Iterable[int | str]) -> str:
    numbers = sorted(value for value in values if isinstance(value, int))
    return ",".join(
        str(first) if first == last else f"{first}-{last}" for first, last in runs(numbers)
    )


def _read(text: str, index: int) -> tuple[int, ...]:
    bounds = [(int(first), int(last or first)) for first, last in _ITEM.findall(text)]
    values = tuple(value for first, last in bounds for value in range(first, last + 1))
    low, high = FIELD_BOUNDS[index]
    in_order = all(low <= value <= high for value in values) and values == (*sorted({*values}),)
    if not in_order or (not values and index in _NEVER_EMPTY):
        raise ValueError(f"{text!r} does not fit the field")
    return values


def _read_nth(text: str) -> Iterator[Nth]:
    for day, n in _NTH.findall(text):
        yield int(day), _LAST if n == _LAST else int(n)
