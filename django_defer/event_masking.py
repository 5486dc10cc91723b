"""What of a run nobody is to see in an event that leaves for Sentry.

Local variables of our own frames are left out: they hold all arguments. Where an argument is
sensitive, its values are masked in every text of the event, and of local variables only the
function's own parameters stay: what else was computed may show the value in another form.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from django_defer.redaction import hider
from django_defer.registry import registry
from django_defer.sensitive import MASK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.attempt_facts import Started
    from django_defer.redaction import Hider
    from django_defer.registry import Function

_DEEPEST: Final = 30
# By these Sentry knows an event and its place in a trace: no values of ours.
_KEPT: Final = frozenset(
    {
        *("event_id", "timestamp", "start_timestamp", "type", "level", "platform", "sdk"),
        *("release", "environment", "modules", "trace", "trace_id", "span_id", "parent_span_id"),
    }
)
_DATA: Final = frozenset({"vars", "extra", "data", "user", "request"})


class Masker:
    """Masks the events of one attempt."""

    def __init__(self, started: Started) -> None:
        self.hide: Hider | None = hider(started.function, started.args)
        self.function: Function[Any, Any] | None = registry.find(started.function)
        sensitive = self.function.sensitive if self.function is not None else ()
        self.names = {name.lstrip("*") for name in sensitive}

    def __call__(self, event: Any, hint: Any) -> Any:
        """Return the event without what is hidden; None, so that it is dropped, if that fails."""
        try:
            for frame in _frames_of(event):
                self._strip(frame)
            if self.hide is None:
                return event
            return self._in_event(event, self.hide)
        except Exception:  # noqa: BLE001 - rather no event than one with a secret in it
            return None

    def _strip(self, frame: dict[str, Any]) -> None:
        found = frame.get("vars")
        if not isinstance(found, dict):
            return
        if str(frame.get("module", "")).partition(".")[0] == "django_defer":
            del frame["vars"]
        elif self.hide is not None:
            shown = self._parameters(frame)
            frame["vars"] = {name: value for name, value in found.items() if name in shown}

    def _parameters(self, frame: dict[str, Any]) -> set[str]:
        """Return the names of the function's parameters, if the frame is the function's own."""
        if self.function is None:
            return set()
        own = inspect.unwrap(self.function.function)
        if (frame.get("function"), frame.get("module")) != (own.__name__, own.__module__):
            return set()
        return set(inspect.signature(own).parameters)

    def _in_event(self, value: Any, hide: Hider) -> Any:
        """Mask texts. Numbers here are lines and times, but for what is in `_DATA`."""
        if isinstance(value, str):
            return hide(value)
        if isinstance(value, (list, tuple)):
            return [self._in_event(each, hide) for each in value]
        if isinstance(value, dict):
            return {key: self._under(key, each, hide) for key, each in value.items()}
        return value

    def _under(self, key: str, value: Any, hide: Hider) -> Any:
        if key in _KEPT:
            return value
        if key == "contexts" and isinstance(value, dict):
            kept = {name: each for name, each in value.items() if name in _KEPT}
            return self._in_data(value, hide) | kept
        return self._in_data(value, hide) if key in _DATA else self._in_event(value, hide)

    def _in_data(self, value: Any, hide: Hider, depth: int = 0) -> Any:
        """Mask what functions and projects put in: anything, also by its name."""
        if depth > _DEEPEST:
            return MASK
        if isinstance(value, str):
            return hide(value)
        if isinstance(value, dict):
            return {
                key: MASK if key in self.names else self._in_data(each, hide, depth + 1)
                for key, each in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self._in_data(each, hide, depth + 1) for each in value]
        text = repr(value)
        return value if hide(text) == text else MASK


def _frames_of(event: Any) -> Iterator[dict[str, Any]]:
    """Yield the frames of an event's errors and threads."""
    for part in ("exception", "threads"):
        for value in (event.get(part) or {}).get("values") or ():
            yield from (value.get("stacktrace") or {}).get("frames") or ()
