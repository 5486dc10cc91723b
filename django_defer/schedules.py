"""What a definition repeats by: a cron expression or a fixed interval, within a start and an end.

Every schedule answers the same three questions: the first slot after an instant, the last slot
before one (aware UTC datetimes, None when there is none), and what it is in plain words.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from django_defer.durations import format_duration, parse_duration
from django_defer.exceptions import InvalidDuration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django_defer.cron_warnings import CronWarning
    from django_defer.durations import DurationLike

SHORTEST_INTERVAL: Final = timedelta(seconds=1)
SLOTS_SHOWN: Final = 5  # next slots, wherever a person sees a schedule
MOMENT: Final = timedelta(microseconds=1)  # the smallest difference between two instants


class Schedule(Protocol):
    """When something is due."""

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot after `instant`."""

    def previous_before(self, instant: datetime) -> datetime | None:
        """Return the last slot before `instant`."""

    def describe(self) -> str:
        """Return it in plain words."""


@dataclass(frozen=True, slots=True)
class Every:
    """An interval as code says it; what it is counted from is in the database."""

    interval: timedelta

    def describe(self) -> str:
        """Return "every 10s"."""
        return f"every {format_duration(self.interval)}"

    def warnings(self, key: str = "") -> Sequence[CronWarning]:
        """Return nothing: an interval means what it looks like."""
        return ()


@dataclass(frozen=True, slots=True)
class IntervalSchedule:
    """Slots at anchor + n · interval, in elapsed time: no clock change and no restart moves them.

    The anchor itself is the first slot.
    """

    interval: timedelta
    anchor: datetime

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot after `instant`."""
        if instant < self.anchor:
            return self.anchor
        return self._slot((instant - self.anchor) // self.interval + 1)

    def previous_before(self, instant: datetime) -> datetime | None:
        """Return the last slot before `instant`, None if it is not after the anchor."""
        if instant <= self.anchor:
            return None
        return self._slot((instant - self.anchor - MOMENT) // self.interval)

    def describe(self) -> str:
        """Return "every 10s"."""
        return Every(self.interval).describe()

    def _slot(self, number: int) -> datetime | None:
        try:
            return self.anchor + number * self.interval
        except OverflowError:  # past the year 9999
            return None


@dataclass(frozen=True, slots=True)
class Bounded:
    """The slots of a schedule from `starts_at` on and before `ends_at`; None: without a limit."""

    schedule: Schedule
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot after `instant`."""
        if self.starts_at is not None:
            instant = max(instant, self.starts_at - MOMENT)
        slot = self.schedule.next_after(instant)
        over = slot is not None and self.ends_at is not None and slot >= self.ends_at
        return None if over else slot

    def previous_before(self, instant: datetime) -> datetime | None:
        """Return the last slot before `instant`."""
        if self.ends_at is not None:
            instant = min(instant, self.ends_at)
        slot = self.schedule.previous_before(instant)
        early = slot is not None and self.starts_at is not None and slot < self.starts_at
        return None if early else slot

    def describe(self) -> str:
        """Return it in plain words, with its limits."""
        words = self.schedule.describe()
        if self.starts_at is not None:
            words += f", from {self.starts_at:%Y-%m-%d %H:%M} UTC"
        if self.ends_at is not None:
            words += f", until {self.ends_at:%Y-%m-%d %H:%M} UTC"
        return words


def parse_interval(value: DurationLike) -> timedelta:
    """Return the interval of `defer.every`, a second at least; raise InvalidDuration."""
    interval = parse_duration(value, name="interval")
    if interval < SHORTEST_INTERVAL:
        raise InvalidDuration(f'interval={value!r} is too short; write "1s" or more.')
    return interval


def first_anchor(starts_at: datetime | None, now: datetime) -> datetime:
    """Return where a new interval counts from: its start, else this very second."""
    return (starts_at or now).astimezone(UTC).replace(microsecond=0)


def slots_between(schedule: Schedule, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the slots after `start` and before `end`."""
    slot = schedule.next_after(start)
    while slot is not None and slot < end:
        yield slot
        slot = schedule.next_after(slot)
