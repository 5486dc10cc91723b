"""The options of one enqueue: what `f.using(…)` accepts, checked where they are written."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from django.utils import timezone

from django_defer.clock import LONGEST_OFFSET
from django_defer.durations import parse_duration
from django_defer.exceptions import InvalidOption
from django_defer.metadata import merged as merge_metadata
from django_defer.metadata import read_changes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django_defer.metadata import Changes

KNOWN = ("delay", "run_after", "discard_after", "priority", "queue", "label", "key", "metadata")


class CallOptions(NamedTuple):
    """Options for one enqueue; None means: as the function says.

    `delay`, and a `discard_after` that is a span, are counted from the enqueue. `metadata` is added
    to the function's; a value None removes a key.
    """

    delay: timedelta | None = None
    run_after: datetime | None = None
    discard_after: timedelta | datetime | None = None
    priority: int | None = None
    queue: str | None = None
    label: str = ""
    key: str | None = None
    metadata: Changes | None = None

    def __hash__(self) -> int:
        return hash(self[:-1])  # without metadata: a dict has none

    def merge(self, options: Mapping[str, Any]) -> CallOptions:
        """Return these with `options` on top. `queue_name` is accepted for `queue`."""
        given = dict(options)
        if "queue_name" in given:
            if "queue" in given:
                raise InvalidOption("queue= and queue_name= are the same option: give one.")
            given["queue"] = given.pop("queue_name")
        if given.get("delay") is not None and given.get("run_after") is not None:
            raise InvalidOption("delay= and run_after= contradict each other: give one.")
        merged = self
        for name, value in given.items():
            if name not in KNOWN:
                raise InvalidOption(f"Unknown option {name}=. Known: {', '.join(KNOWN)}.")
            merged = merged._replace(**_PARSERS[name](value))
        if self.metadata and merged.metadata:
            merged = merged._replace(metadata={**self.metadata, **merged.metadata})
        merge_metadata({}, merged.metadata)  # are they too many?
        return merged


def _delay(value: Any) -> dict[str, Any]:
    if value is None:
        return {"delay": None}
    return {"delay": parse_duration(value, name="delay"), "run_after": None}


def _run_after(value: Any) -> dict[str, Any]:
    if value is None:
        return {"run_after": None}
    if isinstance(value, timedelta):  # Django's own meaning of a timedelta here: from now
        return _delay(value)
    if not isinstance(value, datetime):
        raise InvalidOption(f"run_after={value!r}: write an aware datetime or a timedelta.")
    return {"run_after": _aware("run_after", value), "delay": None}


def _discard_after(value: Any) -> dict[str, Any]:
    if isinstance(value, datetime):
        return {"discard_after": _aware("discard_after", value)}
    if value is None:
        return {"discard_after": None}
    span = parse_duration(value, name="discard_after")
    if not span:
        raise InvalidOption("discard_after must be more than nothing: nothing could begin by then.")
    if span > LONGEST_OFFSET:
        raise InvalidOption("discard_after is over a hundred years: leave it out.")
    return {"discard_after": span}


def _aware(name: str, value: datetime) -> datetime:
    if timezone.is_naive(value):
        raise InvalidOption(
            f"{name}={value!r} has no time zone: write django.utils.timezone.make_aware(…)."
        )
    return value


def _priority(value: Any) -> dict[str, Any]:
    if isinstance(value, bool) or not isinstance(value, int) or not -100 <= value <= 100:
        raise InvalidOption(f"priority={value!r}: write a whole number from -100 to 100.")
    return {"priority": value}


def _queue(value: Any) -> dict[str, Any]:
    if not isinstance(value, str) or not 0 < len(value) <= 50:
        raise InvalidOption(f"queue={value!r}: write a name of 1 to 50 characters.")
    return {"queue": value}


def _label(value: Any) -> dict[str, Any]:
    if not isinstance(value, str) or len(value) > 200:
        raise InvalidOption(f"label={value!r}: write a text of at most 200 characters.")
    return {"label": value}


def _key(value: Any) -> dict[str, Any]:
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 200):
        raise InvalidOption(f"key={value!r}: write a text of 1 to 200 characters.")
    return {"key": value}


def _metadata(value: Any) -> dict[str, Any]:
    return {"metadata": None if value is None else read_changes(value)}


_PARSERS = {
    "delay": _delay,
    "run_after": _run_after,
    "discard_after": _discard_after,
    "priority": _priority,
    "queue": _queue,
    "label": _label,
    "key": _key,
    "metadata": _metadata,
}
