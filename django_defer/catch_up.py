"""Which of a definition's due slots are fired and which are skipped, without a database.

Usually one slot is due, and it is fired. After a downtime there are more, and the definition's
`catch_up` decides: "latest" fires one run for the newest, "none" only what is not late, "all" a
run for each. What falls outside of `catch_up_window` is one skipped row.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django_defer.schedules import MOMENT, slots_between

if TYPE_CHECKING:
    from django_defer.models import CronDefinition
    from django_defer.schedules import Schedule

MOST_MISSED: Final = 1000  # missed slots are counted up to here, and caught up at most
ON_TIME: Final = timedelta(minutes=1)  # "none" fires a slot that is no later than this
WINDOW_OF_ALL: Final = timedelta(days=1)  # how far back "all" goes without a catch_up_window
LOOK_AGAIN: Final = timedelta(hours=1)  # when a definition that cannot be read is tried again


@dataclass(frozen=True, slots=True)
class Slot:
    """A due slot: fired or skipped, and for how many earlier ones it stands."""

    at: datetime
    missed: int = 0
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """What is due of one definition (oldest first), and when it is due next."""

    slots: list[Slot]
    next_slot_at: datetime | None
    error: str = ""


def look_at(definition: CronDefinition, now: datetime) -> Due:
    """Say what is due at `now`.

    A definition that cannot be read (any more) fires nothing, is marked with its error, and is
    looked at again in an hour; then nothing that it should have fired is lost.
    """
    try:
        schedule = definition.schedule
        first = _first_unfired(definition, schedule, now)
        if first is None:
            return Due([], schedule.next_after(now))
        following = schedule.next_after(first)
        if following is None or following > now:  # as a rule
            return Due(_judged(definition, schedule, first, first, now), following)
        newest = schedule.previous_before(now + MOMENT) or first
        return Due(_judged(definition, schedule, first, newest, now), schedule.next_after(now))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others go on
        return Due([], now + LOOK_AGAIN, str(error) or type(error).__name__)


def _first_unfired(
    definition: CronDefinition, schedule: Schedule, now: datetime
) -> datetime | None:
    """Return the first slot up to `now` that was neither fired nor skipped.

    As a rule that is `next_slot_at`; after an error this was a time to look again and no slot.
    """
    assert definition.next_slot_at is not None
    since = definition.next_slot_at
    if definition.error:
        since = definition.unfired_slot_at or since
    first = schedule.next_after(since - MOMENT)
    return first if first is not None and first <= now else None


def _judged(
    definition: CronDefinition, schedule: Schedule, first: datetime, newest: datetime, now: datetime
) -> list[Slot]:
    """Apply the policy to the slots from `first` to `newest`."""
    policy, window = definition.catch_up, definition.catch_up_window
    if policy == definition.CatchUp.ALL:
        return _all(schedule, first, newest, now - (window or WINDOW_OF_ALL))
    missed = _count(schedule, first, newest)
    if policy == definition.CatchUp.LATEST:
        late = window is not None and newest < now - window
        return [Slot(newest, missed, skipped=late)]
    if newest < now - ON_TIME:
        return [Slot(newest, missed, skipped=True)]
    before = schedule.previous_before(newest) if missed else None
    skipped = [Slot(before, missed - 1, skipped=True)] if before is not None else []
    return [*skipped, Slot(newest)]


def _all(schedule: Schedule, first: datetime, newest: datetime, since: datetime) -> list[Slot]:
    """Fire each slot not before `since`, the newest MOST_MISSED at most; skip the rest as one."""
    start = max(first, since) - MOMENT
    kept = deque(slots_between(schedule, start, newest + MOMENT), maxlen=MOST_MISSED)
    if kept and kept[0] == first:
        return [Slot(at) for at in kept]
    last = schedule.previous_before(kept[0]) if kept else newest
    assert last is not None
    skipped = Slot(last, _count(schedule, first, last), skipped=True)
    return [skipped, *(Slot(at) for at in kept)]


def _count(schedule: Schedule, first: datetime, last: datetime) -> int:
    """Return how many slots lie from `first` on and before `last`."""
    if first == last:  # as a rule
        return 0
    slots = slots_between(schedule, first - MOMENT, last)
    return sum(1 for _ in itertools.islice(slots, MOST_MISSED))
