"""Write events with the outcomes they are about, in the transaction that records these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django_defer.alerts.events import Event
from django_defer.alerts.routes import routes, wanted
from django_defer.models import AlertEvent
from django_defer.registry import registry
from django_defer.states import Outcome, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django_defer.outcomes import Ended

MOST_ERROR: Final = 500  # characters
_OF_OUTCOME: Final = {Outcome.LOST: Event.RUN_LOST, Outcome.TIMED_OUT: Event.RUN_TIMED_OUT}


def record(using: str, ended: Sequence[Ended]) -> None:
    """Write what any channel is to be told of; called with the outcome's transaction open."""
    told = wanted()
    rows = [
        AlertEvent(
            event=event, subject=each.function, run_id=each.run_id, error=each.error[:MOST_ERROR]
        )
        for each in ended
        if names_of(each.function) is not False
        for event in events_of(each)
        if event in told
    ]
    AlertEvent.objects.using(using).bulk_create(rows)


def is_success_wanted(function: str, seconds: float) -> bool:
    """Say whether somebody is to be told of a success that took so long."""
    is_told = _is_told(Event.RUN_SUCCEEDED, function)
    return is_told or (is_slow(function, seconds) and _is_told(Event.RUN_SLOW, function))


def events_of(ended: Ended) -> Iterator[Event]:
    """Yield what happened. A failure for good is that alone, whatever its last attempt was."""
    if ended.state == State.FAILED:
        yield Event.RUN_FAILED
        cause = _OF_OUTCOME.get(ended.outcome) if ended.outcome is not None else None
        if cause is not None and _is_for_others(cause, ended.function):
            yield cause
    elif ended.state == State.SCHEDULED and ended.outcome is not None:
        yield _OF_OUTCOME.get(ended.outcome, Event.RUN_RETRYING)
    elif ended.state == State.SUCCEEDED:
        if _is_told(Event.RUN_SUCCEEDED, ended.function):
            yield Event.RUN_SUCCEEDED
        if is_slow(ended.function, ended.seconds or 0.0):
            yield Event.RUN_SLOW
    elif ended.state == State.DISCARDED:
        yield Event.SLOT_MISSED if ended.has_slot else Event.RUN_DISCARDED
    elif ended.state == State.SKIPPED:
        yield Event.SLOT_MISSED


def _is_told(event: Event, function: str) -> bool:
    """Say whether anybody is told of this event of this function."""
    names = names_of(function)
    return any(route.wants(event, function, names) for route in routes())


def _is_for_others(event: Event, function: str) -> bool:
    """Say whether somebody is told of this event of it who is not told of failures for good."""
    names = names_of(function)
    return any(
        route.wants(event, function, names) and not route.wants(Event.RUN_FAILED, function, names)
        for route in routes()
    )


def is_slow(function: str, seconds: float) -> bool:
    """Say whether that is longer than the function's `alert_after`."""
    found = registry.find(function)
    limit = found.options.alert_after if found is not None else None
    return limit is not None and seconds > limit.total_seconds()


def names_of(function: str) -> object:
    """Return the function's own `alert=`: False, names of channels, or None: it says nothing."""
    found = registry.find(function)
    return found.options.alert if found is not None else None
