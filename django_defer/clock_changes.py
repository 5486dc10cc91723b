"""What the changes of a zone's clock do to a cron schedule, in the year that comes.

Two kinds of times are affected, as `cron` rules: those that the clock skips in spring, and those
that it shows twice in autumn. A schedule that measures elapsed time around the clock passes both
evenly, so there is nothing to say of it. An interval or UTC knows no clock changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from django_defer.cron import CronSchedule
from django_defer.cron_meaning import read_meaning
from django_defer.schedules import Bounded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.cron_fields import CronFields
    from django_defer.schedules import Schedule

LOOK_AHEAD: Final = timedelta(days=400)
STEP: Final = timedelta(days=1)  # no zone has ever changed its offset twice within days
SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockChange:
    """A change of the clock that concerns a schedule.

    `times` are the naive wall times that the schedule names and the clock skips (`is_gap`) or shows
    twice, `slots` the UTC instants at which these fire: those of a gap at its end or not at all,
    those that are repeated once or twice.
    """

    zone: ZoneInfo
    was: datetime  # what the clock shows as it changes, naive
    becomes: datetime
    times: list[datetime]
    slots: list[datetime]

    @property
    def is_gap(self) -> bool:
        """Whether the clock goes forward."""
        return self.becomes > self.was

    @property
    def is_repeated(self) -> bool:
        """Whether what the clock shows twice fires twice."""
        return not self.is_gap and len(self.slots) > len(self.times)


def clock_changes(schedule: Schedule, now: datetime) -> Iterator[ClockChange]:
    """Yield the changes after `now`, within LOOK_AHEAD, at which slots are moved or repeated."""
    cron = schedule.schedule if isinstance(schedule, Bounded) else schedule
    if not isinstance(cron, CronSchedule):
        return
    fields, zone = read_meaning(cron.meaning), ZoneInfo(cron.timezone)
    if not fields.fixed and len(fields.hours) == 24:
        return
    for at in _changes(zone, now, now + LOOK_AHEAD):
        change = _change(schedule, fields, zone, at) if _is_within(schedule, at) else None
        if change is not None:
            yield change


def _is_within(schedule: Schedule, at: datetime) -> bool:
    """Say whether the schedule has begun at `at` and has not ended."""
    if not isinstance(schedule, Bounded):
        return True
    begun = schedule.starts_at is None or schedule.starts_at <= at
    return begun and (schedule.ends_at is None or schedule.ends_at > at)


def _change(
    schedule: Schedule, fields: CronFields, zone: ZoneInfo, at: datetime
) -> ClockChange | None:
    before, after = _offset(zone, at - SECOND), _offset(zone, at)
    naive = at.replace(tzinfo=None)
    was, becomes = naive + before, naive + after
    times = list(_times(fields, min(was, becomes), max(was, becomes)))
    if was < becomes:  # they share the end of the gap, or do not occur
        slot = schedule.next_after(at - SECOND)
        is_at_end = slot is not None and slot < at + timedelta(minutes=1)
        slots = [slot] if fields.fixed and slot is not None and is_at_end else []
        known = slots if fields.fixed else times
    else:
        passes = (before,) if fields.fixed else (before, after)
        meant = sorted((time - offset).replace(tzinfo=UTC) for offset in passes for time in times)
        slots = [slot for slot in meant if schedule.next_after(slot - SECOND) == slot]
        known = slots
    if not (times and known):
        return None
    return ClockChange(zone=zone, was=was, becomes=becomes, times=times, slots=slots)


def _times(fields: CronFields, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the wall times from `start` on and before `end`."""
    time = fields.next_wall_time(start.replace(second=0))
    while time is not None and time < end:
        if time >= start:
            yield time
        time = fields.next_wall_time(time + timedelta(minutes=1))


def _changes(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the instants at which the offset of the zone changes."""
    here = start.astimezone(UTC).replace(microsecond=0)
    while here < end:
        low, high = here, here + STEP
        here = high
        offset = _offset(zone, low)
        if _offset(zone, high) == offset:
            continue
        while high - low > SECOND:
            middle = low + timedelta(seconds=(high - low) // SECOND // 2)
            low, high = (middle, high) if _offset(zone, middle) == offset else (low, middle)
        yield high


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta(0)
