"""Cron schedules: which instants an expression means in a time zone, across clock changes.

The rule is Debian cron's, as cronsim 2.x states it. If neither the minute nor the hour field begins
with `*`, a schedule names times of day: each fires once, at the end of the gap if spring skips it,
the first time if autumn repeats it. Otherwise it measures elapsed time: what is skipped does not
occur, what is repeated occurs twice. Day-of-month and day-of-week must both match if either begins
with `*`, else one is enough. Slots never depend on where a search starts; in cronsim some do.
"""

from __future__ import annotations

import difflib
import zoneinfo
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from django_defer.cron_fields import CronFields, parse_fields, uses_hash
from django_defer.cron_meaning import read_meaning, write_meaning
from django_defer.cron_warnings import (
    CronWarning,
    day_or_day,
    fixed_in_fold,
    goes_back,
    uneven_step,
    uneven_steps,
)
from django_defer.cron_words import describe
from django_defer.exceptions import InvalidCronExpression

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECOND, _MINUTE = timedelta(seconds=1), timedelta(minutes=1)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
# Zone arithmetic overflows near year 1, so searches backwards end before.
_EARLIEST = datetime(2, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """A cron expression in a time zone: `CronSchedule("0 8 * * MON", "Europe/Paris")`.

    `key` seeds `H`, which spreads functions over the minutes, hours or days; without an `H` it is
    forgotten, so that schedules are equal when expression, time zone and meaning are.
    """

    expression: str
    timezone: str = "UTC"
    key: str = field(default="", kw_only=True, repr=False)
    _fields: CronFields = field(init=False, repr=False)
    _zone: zoneinfo.ZoneInfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = self.key if uses_hash(self.expression) else ""
        self._set(key, parse_fields(self.expression, key))

    @classmethod
    def from_meaning(
        cls, expression: str, timezone: str, meaning: str, *, key: str = ""
    ) -> CronSchedule:
        """Return a schedule whose fields are what `meaning` says, not what croniter reads.

        Raise ValueError if the meaning cannot be read.
        """
        schedule = object.__new__(cls)
        object.__setattr__(schedule, "expression", expression)
        object.__setattr__(schedule, "timezone", timezone)
        schedule._set(key if uses_hash(expression) else "", read_meaning(meaning))
        return schedule

    @property
    def meaning(self) -> str:
        """The fields as croniter read them and as `from_meaning` reads them again; `H` resolved.

        An expression whose meaning differs from one that was stored fires at other times.
        """
        return write_meaning(self._fields)

    def _set(self, key: str, fields: CronFields) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "_fields", fields)
        object.__setattr__(self, "_zone", _zone(self.timezone))
        object.__setattr__(self, "expression", " ".join(self.expression.split()))

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot after `instant` in UTC, None if the calendar ends before it."""
        instant = _whole_second(instant)
        try:
            return self._next_fixed(instant) if self._fields.fixed else self._next_elapsed(instant)
        except OverflowError:  # past the year 9999
            return None

    def previous_before(self, instant: datetime) -> datetime | None:
        """Return the last slot before `instant` in UTC, None if there is none since year 2.

        It is found by bisection over `next_after`, so the two can't disagree. cronsim's reverse
        iteration does: after a gap or a repeated hour it can return other slots than forwards.
        """
        floor = _whole_second(instant)
        end = floor if floor == instant else floor + _SECOND
        span, found = _HOUR, None
        while found is None:
            start = max(_EARLIEST, end - span) if end - _EARLIEST > span else _EARLIEST
            found = self._next_between(start, end)
            if found is None and start == _EARLIEST:
                return None
            span *= 2
        return self._last_between(found, end)

    def describe(self) -> str:
        """Return it in plain words: "at 08:00 on Monday (Europe/Paris)"."""
        words = describe(self._fields)
        return words if self.timezone == "UTC" else f"{words} ({self.timezone})"

    def warnings(self, key: str = "", *, now: datetime | None = None) -> list[CronWarning]:
        """Return what may surprise about this schedule; `key` names the function in messages.

        Dates and clock changes are looked for from `now`, by default the present.
        """
        now = now or datetime.now(UTC)
        subject = f"{key}: {self.expression!r}" if key else repr(self.expression)
        found = [uneven_step(subject, *step) for step in uneven_steps(self.expression)]
        if self._fields.day_or:
            found.append(day_or_day(subject, list(islice(self._dates_from(self._wall(now)), 3))))
        if self._fields.fixed and len(self._fields.hours) == 24 and goes_back(self._zone, now):
            found.append(fixed_in_fold(subject, self.timezone))
        return found

    def _dates_from(self, wall: datetime) -> Iterator[date]:
        while nominal := self._fields.next_wall_time(wall):
            yield nominal.date()
            wall = nominal.replace(hour=0, minute=0) + _DAY

    def _next_fixed(self, instant: datetime) -> datetime | None:
        """Each wall-clock time in turn, at its first pass or at the end of the gap it is in."""
        wall = self._wall(instant).replace(second=0) + _MINUTE
        while nominal := self._fields.next_wall_time(wall):
            slot = nominal.replace(tzinfo=self._zone).astimezone(UTC)
            skipped = self._wall(slot) != nominal
            if skipped:
                slot = self._end_of_gap(nominal)
            if slot > instant:
                return slot
            # All wall-clock times of a gap share its end: go there at once.
            wall = (self._wall(slot) if skipped else nominal) + _MINUTE
        return None

    def _next_elapsed(self, instant: datetime) -> datetime | None:
        """Follow the clock from one change of the offset to the next, at most a day at a time.

        Within such a stretch wall time and UTC differ by a constant; no zone has ever changed
        its offset twice within days.
        """
        here, wall = instant, self._wall(instant).replace(second=0) + _MINUTE
        while nominal := self._fields.next_wall_time(wall):
            offset = self._offset(here)
            slot = nominal.replace(tzinfo=UTC) - offset
            stop = min(slot, here + _DAY)
            if self._offset(stop) != offset:
                here = self._change_between(here, stop)
                if slot < here:
                    return slot
                wall = _ceil_minute(self._wall(here))
            elif stop == slot:
                return slot
            else:
                # Nothing matches on the way, whatever the clock does, until a day or two before.
                here = max(stop, slot - 2 * _DAY)
                wall = _ceil_minute(self._wall(here))
        return None

    def _end_of_gap(self, nominal: datetime) -> datetime:
        """Return the first whole minute that exists after the skipped time `nominal`."""
        after = nominal.replace(tzinfo=self._zone, fold=0).astimezone(UTC)
        before = nominal.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        end = self._change_between(before, after)
        wall = self._wall(end)
        return end + (_ceil_minute(wall) - wall)

    def _change_between(self, before: datetime, after: datetime) -> datetime:
        """Return the second at which the offset of `before` ends."""
        offset = self._offset(before)
        while after - before > _SECOND:
            middle = _middle(before, after)
            before, after = (middle, after) if self._offset(middle) == offset else (before, middle)
        return after

    def _wall(self, instant: datetime) -> datetime:
        return instant.astimezone(self._zone).replace(tzinfo=None, fold=0)

    def _offset(self, instant: datetime) -> timedelta:
        return self._wall(instant) - instant.replace(tzinfo=None)

    def _next_between(self, start: datetime, end: datetime) -> datetime | None:
        """Return the first slot that is after `start` and before `end`."""
        slot = self.next_after(start)
        return slot if slot is not None and slot < end else None

    def _last_between(self, slot: datetime, end: datetime) -> datetime:
        """Return the last slot before `end`, given one."""
        while end - slot > _SECOND:
            middle = _middle(slot, end)
            later = self._next_between(middle - _SECOND, end)
            slot, end = (later, end) if later else (slot, middle)
        return slot


def _middle(low: datetime, high: datetime) -> datetime:
    return low + timedelta(seconds=(high - low) // _SECOND // 2)


def _ceil_minute(wall: datetime) -> datetime:
    return wall if wall.second == 0 else wall.replace(second=0) + _MINUTE


def _whole_second(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(f"{instant!r} has no time zone; pass an aware datetime.")
    return instant.astimezone(UTC).replace(microsecond=0)


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise InvalidCronExpression(
            f"{name!r} is not a time zone; {_suggestion(str(name))}"
        ) from None


def _suggestion(name: str) -> str:
    known = {zone.lower(): zone for zone in zoneinfo.available_timezones()}
    near = difflib.get_close_matches(name.lower(), known, n=1)
    if near:
        return f"did you mean {known[near[0]]!r}?"
    return "write a name of the IANA database, such as 'Europe/Paris' or 'UTC'."
