"""The slots of the next 24 hours: computing them is bounded, and says how far it got."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django_defer.models import CronDefinition

if TYPE_CHECKING:
    from datetime import tzinfo

HOUR: Final = timedelta(hours=1)
LENGTH: Final = timedelta(hours=24)
MOST_SLOTS: Final = 1_000  # that are computed
MOST_DEFINITIONS: Final = 1_000  # that are read, those that are due first
OFTEN: Final = 4  # slots of one definition in its first hour; more, and it is only named
LISTED: Final = 10  # slots
MOST_KEPT: Final = 10_000  # slots that are not computed again at the next refresh

_COLUMNS: Final = (  # what says when it fires
    "function",
    "kind",
    "code_expression",
    "code_timezone",
    "expression_override",
    "timezone_override",
    "interval",
    "anchor",
    "starts_at",
    "ends_at",
    "next_slot_at",
)
_computed: dict[tuple[object, ...], datetime | None] = {}


@dataclass(slots=True)
class Hour:
    """An hour, and how many slots of each function are in it."""

    begins_at: datetime
    keys: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """How many slots it has."""
        return self.keys.total()


@dataclass(slots=True)
class Timeline:
    """The hours; the next slots one by one; what fires so often that it is only named.

    `until` is how far slots were counted, None if to the end.
    """

    hours: list[Hour]
    slots: list[tuple[datetime, CronDefinition]]
    often: list[CronDefinition]
    until: datetime | None


def timeline(now: datetime, zone: tzinfo) -> Timeline:
    """Return the slots from `now` on; the hours begin with the one that is now in this zone."""
    local = now.astimezone(zone)
    first = now - timedelta(
        minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    found, often, until = _slots(now)
    hours = [Hour(first + HOUR * number) for number in range(LENGTH // HOUR + 1)]
    for slot, row in found:
        place = max(0, (slot - first) // HOUR)
        hours[place].keys[str(row.function_id)] += 1
    return Timeline(hours, found[:LISTED], often, until)


def _slots(
    now: datetime,
) -> tuple[list[tuple[datetime, CronDefinition]], list[CronDefinition], datetime | None]:
    end = now + LENGTH
    firing = CronDefinition.objects.firing().filter(error="", next_slot_at__lt=end)
    rows = list(firing.only(*_COLUMNS).order_by("next_slot_at", "pk")[: MOST_DEFINITIONS + 1])
    until = rows[MOST_DEFINITIONS].next_slot_at if len(rows) > MOST_DEFINITIONS else None
    rows = rows[:MOST_DEFINITIONS]
    heap = [(row.next_slot_at, place) for place, row in enumerate(rows) if row.next_slot_at]
    taken: Counter[int] = Counter()
    often: dict[int, CronDefinition] = {}
    found: list[tuple[datetime, int]] = []
    while heap:
        slot, place = heapq.heappop(heap)
        if until is not None and slot >= until:
            break
        if len(found) >= MOST_SLOTS:
            until = slot
            break
        row = rows[place]
        taken[place] += 1
        if taken[place] > OFTEN and row.next_slot_at and slot - row.next_slot_at < HOUR:
            often[place] = row
            continue
        found.append((slot, place))
        try:
            following = _following(row, max(slot, now))
        except ValueError:
            continue  # the next tick will mark it with its error
        if following is not None and following < end:
            heapq.heappush(heap, (following, place))
    kept = [(slot, rows[place]) for slot, place in found if place not in often]
    return kept, list(often.values()), until


def _following(row: CronDefinition, slot: datetime) -> datetime | None:
    """Return the slot after this one. Raises ValueError if the schedule can't be read."""
    about = (row.kind, row.expression, row.timezone, row.interval, row.anchor)
    key = (*about, row.starts_at, row.ends_at, slot)
    if key not in _computed:
        if len(_computed) >= MOST_KEPT:
            _computed.clear()
        _computed[key] = row.schedule.next_after(slot)
    return _computed[key]
