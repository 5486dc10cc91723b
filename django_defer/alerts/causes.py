"""What explains what: who is told of a cause is not told of each thing that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django_defer.alerts.events import Event
from django_defer.alerts.recording import names_of
from django_defer.alerts.routes import routes

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

_OF_FUNCTIONS: Final = frozenset({Event.DEFINITION_ERROR, Event.SLOT_MISSED})

NO_WORKERS: Final = (Event.NO_WORKERS, "")
SCHEDULER_STALLED: Final = (Event.SCHEDULER_STALLED, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that is so now; `causes`, each an event and its subject, may explain it."""

    event: Event
    subject: str = ""
    detail: str
    causes: tuple[tuple[Event, str], ...] = ()

    @property
    def key(self) -> tuple[Event, str]:
        """What tells its alert from others."""
        return self.event, self.subject


def is_news(condition: Condition, found: Collection[tuple[Event, str]]) -> bool:
    """Say whether somebody wants to be told of it who is told of none of its causes.

    `found` are the keys of all conditions that are so now.
    """
    names = names_of(condition.subject) if condition.event in _OF_FUNCTIONS else None
    causes = [cause for cause in condition.causes if cause in found]
    return any(
        route.wants(condition.event, condition.subject, names)
        and not any(route.wants(*cause) for cause in causes)
        for route in routes()
    )


def as_words(instant: datetime) -> str:
    """Return an instant as the texts of alerts have it; it is UTC."""
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
