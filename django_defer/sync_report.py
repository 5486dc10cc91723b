"""What a sync did, or would do, for a person to read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A schedule in words, and its next slots in its zone: as they are, and as they were before.

    Without slots, `why` says why there are none.
    """

    words: str
    zone: str
    slots: list[datetime]
    before: list[datetime] = field(default_factory=list)
    zone_before: str = ""
    why: str = ""


@dataclass(slots=True)
class SyncReport:
    """What a sync did, or would do. Each entry is a line for a person.

    `upcoming` has, by key, the next slots of definitions that are new or changed; `problems` what
    is wrong with single definitions; `kept` the keys that only other live clusters' code has.
    """

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    upcoming: dict[str, Upcoming] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        """Whether rows and code agree."""
        changes = (self.created, self.changed, self.renamed, self.orphaned, self.revived)
        return not any(changes)

    def lines(self) -> Iterator[str]:
        """Yield it all for a person, the next slots at the end."""
        for verb in ("created", "changed", "renamed", "orphaned", "revived"):
            for entry in getattr(self, verb):
                yield f"{verb:8} {entry}"
        for problem in self.problems:
            yield f"problem  {problem}"
        for key, upcoming in sorted(self.upcoming.items()):
            for slot in upcoming.before:
                yield f"before   {key}: {slot_in_words(slot, upcoming.zone_before)}"
            if upcoming.words:
                yield f"means    {key}: {upcoming.words}"
            for slot in upcoming.slots:
                yield f"next     {key}: {slot_in_words(slot, upcoming.zone)}"
            if not upcoming.slots:
                yield f"next     {key}: {upcoming.why}"


def slot_in_words(slot: datetime, zone: str) -> str:
    """Return "Mon 2026-11-30 08:00 Europe/Paris (Mon 07:00 UTC)", seconds only if it has any."""
    time = "%H:%M:%S" if slot.second else "%H:%M"
    local = slot.astimezone(ZoneInfo(zone))
    utc = "" if zone == "UTC" else f" ({slot.astimezone(UTC):%a {time}} UTC)"
    return f"{local:%a %Y-%m-%d {time}} {zone}{utc}"
