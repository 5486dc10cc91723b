"""defer.E001: a key of `DEFER` that means nothing, or whose value cannot be read."""

from __future__ import annotations

import difflib
import logging
import re
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core import checks

from django_defer.conf import DEFAULTS, MOST_CLAIMS, unknown_keys
from django_defer.durations import parse_duration
from django_defer.exceptions import InvalidDuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Reader = Callable[[Any], str | None]

SECRET: Final = ("ALERTS", "METRICS_TOKEN")  # hold what nobody is shown
DURATION: Final = 'seconds (5), a timedelta, or a text such as "5s" or "1m30s"'


def check_settings(**kwargs: object) -> list[checks.CheckMessage]:
    """Report what cannot be meant."""
    given = getattr(settings, "DEFER", {})
    if not isinstance(given, dict):
        return [_error("settings.DEFER", f"is {given!r}, not a dict", 'DEFER = {"WORKERS": 2}')]
    return [*_unknown(), *_unreadable(given), *_contradictions(given), *_uninstalled(given)]


def _unknown() -> Iterator[checks.CheckMessage]:
    for name in unknown_keys():
        near = difflib.get_close_matches(str(name).upper(), DEFAULTS, n=1)
        advice = f'"{near[0]}"' if near else f"one of {', '.join(DEFAULTS)}"
        yield _error("settings.DEFER", f"has no key {name!r}", advice)


def _unreadable(given: dict[str, Any]) -> Iterator[checks.CheckMessage]:
    for name, read in READERS.items():
        if name in given and (advice := read(given[name])):
            found = type(given[name]) if name in SECRET else repr(given[name])
            yield _error(_named(name), f"is {found}, which cannot be read", advice)


def _contradictions(given: dict[str, Any]) -> Iterator[checks.CheckMessage]:
    values = {**DEFAULTS, **given}
    beat, lease = _read(values["BEAT_INTERVAL"]), _read(values["LEASE"])
    if beat and lease and lease < 2 * beat + timedelta(seconds=2):
        yield _error(
            _named("LEASE"),
            "is less than twice BEAT_INTERVAL and two seconds: live clusters would be taken for "
            "dead, or dead ones never be noticed",
            "a longer LEASE or a shorter BEAT_INTERVAL",
        )


def _uninstalled(given: dict[str, Any]) -> Iterator[checks.CheckMessage]:
    if given.get("METRICS_TOKEN") and find_spec("prometheus_client") is None:
        yield checks.Warning(
            f"{_named('METRICS_TOKEN')} is set, but prometheus_client is not installed: the "
            f"metrics view answers 501.",
            hint='pip install "django-defer[prometheus]"',
            obj=_named("METRICS_TOKEN"),
            id="defer.W012",
        )


def _error(obj: str, problem: str, advice: str) -> checks.CheckMessage:
    return checks.Error(f"{obj} {problem}.", hint=f"Write {advice}.", obj=obj, id="defer.E001")


def _named(name: str) -> str:
    return f'settings.DEFER["{name}"]'


def _read(value: Any) -> timedelta | None:
    try:
        return parse_duration(value)
    except InvalidDuration:
        return None


def _duration(value: Any) -> str | None:
    return DURATION if _read(value) is None else None


def _positive_duration(value: Any) -> str | None:
    return None if _read(value) else f"more than nothing: {DURATION}"


def _duration_or_none(value: Any) -> str | None:
    good = value is None or _read(value) is not None
    return None if good else f'{DURATION} such as "7 days", or None for ever'


def _count(value: Any) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if good else "a whole number from 0 up"


def _whole(value: Any) -> str | None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return None if good else "a whole number from 1 up"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "True or False"


def _level(value: Any) -> str | None:
    levels = logging.getLevelNamesMapping()
    good = value is None or (isinstance(value, str) and value in levels)
    return None if good else f"one of {', '.join(map(repr, levels))}, or None for no lines"


def _queue(value: Any) -> str | None:
    good = isinstance(value, str) and 0 < len(value) <= 50
    return None if good else "a name of 1 to 50 characters"


def _queues(value: Any) -> str | None:
    good = isinstance(value, (list, tuple)) and len(value) > 0 and not any(map(_queue, value))
    if good or value is None:
        return None
    return 'a list of names, such as ["mail"], or None for every queue'


def _list(value: Any) -> str | None:
    return (
        None if isinstance(value, (list, tuple)) else 'a list of dicts: [{"channel": "slack", …}]'
    )


def _address(value: Any) -> str | None:
    good = isinstance(value, str) and value.startswith(("https://", "http://"))
    return None if good or value is None else 'an address such as "https://example.com", or None'


def _token(value: Any) -> str | None:
    good = isinstance(value, str) and re.fullmatch(r"[!-~]{16,}", value)
    if good or value is None:
        return None
    return "16 or more letters, digits or signs without spaces, or None for no token"


def _chunk_size(value: Any) -> str | None:
    good = type(value) is int and 1 <= value <= MOST_CLAIMS
    return None if good else f"a whole number from 1 to {MOST_CLAIMS}"


def _database(value: Any) -> str | None:
    if isinstance(value, str) and value in settings.DATABASES:
        return None
    return f"an alias of DATABASES: {', '.join(map(repr, settings.DATABASES))}"


READERS: Final[dict[str, Reader]] = {
    "DATABASE": _database,
    "DEFAULT_QUEUE": _queue,
    "WORKERS": _whole,
    "QUEUES": _queues,
    "MAX_ARGS_BYTES": _whole,
    "MAX_RESULT_BYTES": _whole,
    "SHUTDOWN_GRACE": _duration,
    "KILL_GRACE": _duration,
    "LISTEN": _flag,
    "POLL_INTERVAL": _positive_duration,
    "BEAT_INTERVAL": _positive_duration,
    "LEASE": _positive_duration,
    "PREPARE_STATEMENTS": _flag,
    "MAX_RUNS_PER_WORKER": _whole,
    "CHUNK_SIZE": _chunk_size,
    "KEEP_SUCCEEDED": _duration_or_none,
    "KEEP_FAILED": _duration_or_none,
    "KEEP_LAST": _count,
    "LOG_LEVEL": _level,
    "LOG_PRINTS": _flag,
    "ALERTS": _list,
    "SITE_URL": _address,
    "QUEUE_STALLED_AFTER": _positive_duration,
    "SLOT_MARGIN": _positive_duration,
    "METRICS_TOKEN": _token,
    "SENTRY": _flag,
}
