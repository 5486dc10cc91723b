"""The setting `ALERTS`: which channel is told of which events of which functions."""

from __future__ import annotations

import difflib
import fnmatch
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_defer.alerts.events import DEFAULT, OF_ALL, Event
from django_defer.conf import conf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_defer.alerts.messages import Channel

CHANNELS: Final = {
    "slack": "django_defer.alerts.slack.SlackChannel",
    "email": "django_defer.alerts.email.EmailChannel",
    "webhook": "django_defer.alerts.webhook.WebhookChannel",
    "apprise": "django_defer.alerts.apprise.AppriseChannel",
    "log": "django_defer.alerts.log.LogChannel",
}
RATE: Final = 20  # messages a minute
_ROUTING: Final = frozenset({"channel", "name", "events", "functions", "rate"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One entry of `ALERTS`."""

    name: str
    path: str  # of the channel's class
    events: frozenset[Event] = DEFAULT
    functions: tuple[str, ...] = ("*",)
    rate: int = RATE
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # addresses are secrets

    def wants(self, event: Event, subject: str = "", names: object = None) -> bool:
        """Say whether it is told. `names` is the function's own `alert=`, None: it says nothing.

        What is about no function in particular is told whatever functions the entry names.
        """
        if event not in self.events or names is False:
            return False
        if event in OF_ALL:
            return True
        if isinstance(names, (list, tuple)):
            return self.name in names
        return any(fnmatch.fnmatchcase(subject, pattern) for pattern in self.functions)

    def open(self) -> Channel:
        """Return the channel itself. Raises ValueError or ImportError where it can't be."""
        kind = import_string(self.path)
        _check_options(kind, self.options)
        channel: Channel = kind(self.name, **self.options)
        return channel


def read_route(entry: Any) -> Route:
    """Read one entry. Raises ValueError with a sentence that says what to write instead."""
    if not isinstance(entry, Mapping):
        raise ValueError(
            f'an entry is a dict such as {{"channel": "slack", "url": …}}, '
            f"not of the type {type(entry).__name__}"
        )
    kind = entry.get("channel")
    if not isinstance(kind, str) or not (kind in CHANNELS or _is_path(kind)):
        known = ", ".join(f'"{name}"' for name in CHANNELS)
        found = "an address" if isinstance(kind, str) and "/" in kind else repr(kind)
        raise ValueError(f'"channel" is {found}: write {known} or the dotted path of a class')
    name = entry.get("name", kind)
    if not isinstance(name, str) or not 0 < len(name) <= 100:
        raise ValueError(f'"name" is {name!r}: write a text of 1 to 100 characters')
    rate = entry.get("rate", RATE)
    if not isinstance(rate, int) or isinstance(rate, bool) or rate < 1:
        raise ValueError(f'"rate" is {rate!r}: write how many messages a minute, from 1 up')
    return Route(
        name=name,
        path=CHANNELS.get(kind, kind),
        events=_read_events(entry.get("events", DEFAULT)),
        functions=_read_functions(entry.get("functions", ("*",))),
        rate=rate,
        options={key: value for key, value in entry.items() if key not in _ROUTING},
    )


def _is_path(text: str) -> bool:
    return "." in text and all(part.isidentifier() for part in text.split("."))


def _check_options(kind: Any, options: Mapping[str, Any]) -> None:
    """Refuse options that a channel's class doesn't take, and miss those that it needs."""
    if not isinstance(kind, type):
        raise ValueError(f'"channel" is {kind!r}, which is no class')
    others = list(inspect.signature(kind).parameters.values())[1:]  # the first is the name
    if any(each.kind == each.VAR_KEYWORD for each in others):
        return
    known = {each.name: each for each in others}
    if unknown := sorted(set(options) - set(known)):
        near = difflib.get_close_matches(unknown[0], known, n=1)
        advice = f'"{near[0]}"' if near else " or ".join(f'"{name}"' for name in known)
        raise ValueError(f'"{unknown[0]}" is no option of this channel: write {advice}')
    needed = [name for name, each in known.items() if each.default is each.empty]
    if missing := [name for name in needed if name not in options]:
        raise ValueError(f'"{missing[0]}" is missing')


def _read_events(events: Any) -> frozenset[Event]:
    if events == "all":
        return frozenset(Event)
    known = ", ".join(Event)
    if isinstance(events, str) or not isinstance(events, (list, tuple, set, frozenset)):
        raise ValueError(f'"events" is {events!r}: write "all" or a list of {known}')
    if unknown := [event for event in events if event not in set(Event)]:
        raise ValueError(f'"events" has {unknown[0]!r}: there are {known}')
    return frozenset(map(Event, events))


def _read_functions(functions: Any) -> tuple[str, ...]:
    is_list = isinstance(functions, (list, tuple))
    if not is_list or not all(isinstance(each, str) for each in functions):
        raise ValueError(f'"functions" is {functions!r}: write a list such as ["shop.*"]')
    return tuple(functions)


_routes: tuple[Route, ...] | None = None


def routes() -> tuple[Route, ...]:
    """Return the entries that can be read; `manage.py check` reports the others."""
    global _routes
    if _routes is None:
        found: dict[str, Route] = {}
        for entry in conf.alerts or ():
            try:
                route = read_route(entry)
            except (TypeError, ValueError):
                continue
            found.setdefault(route.name, route)
        _routes = tuple(found.values())
    return _routes


def wanted(events: Iterable[Event] = Event) -> frozenset[Event]:
    """Return which of these events any channel is told of."""
    return frozenset(event for event in events if any(event in route.events for route in routes()))


def _forget(*, setting: str | None = None, **kwargs: object) -> None:
    global _routes
    if setting in (None, "DEFER"):
        _routes = None


setting_changed.connect(_forget, dispatch_uid="django_defer.alerts")
