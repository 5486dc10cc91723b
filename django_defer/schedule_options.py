"""The options of a schedule: what `@defer.cron` and `@defer.every` accept beside `@defer`'s."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from django_defer.durations import parse_duration
from django_defer.exceptions import InvalidOption

CatchUp = Literal["latest", "none", "all"]
Overlap = Literal["allow", "skip", "queue", "replace"]

CHOICES: Final = {
    "catch_up": ("latest", "none", "all"),
    "overlap": ("allow", "skip", "queue", "replace"),
}
NAMES: Final = frozenset(
    {
        *CHOICES,
        *("catch_up_window", "supersede", "jitter", "enabled", "starts_at", "ends_at", "ping_url"),
    }
)


class ScheduleOptions(NamedTuple):
    """What code says about a schedule. Durations are timedeltas, instants aware UTC datetimes.

    `enabled` may be a function without parameters; each sync asks it.
    """

    catch_up: CatchUp = "latest"
    catch_up_window: timedelta | None = None
    overlap: Overlap = "allow"
    supersede: bool = False
    jitter: timedelta = timedelta(0)
    enabled: bool | Callable[[], bool] = True
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    ping_url: str | None = None

    def is_enabled(self, key: str) -> bool:
        """Return whether the schedule fires in this environment; InvalidOption if it can't say."""
        if isinstance(self.enabled, bool):
            return self.enabled
        try:
            answer = self.enabled()
        except Exception as error:
            raise InvalidOption(
                f"{key}: the function given as enabled= raised {type(error).__name__}: {error}. "
                f"Let it return True or False."
            ) from error
        if not isinstance(answer, bool):
            raise InvalidOption(
                f"{key}: the function given as enabled= returned {answer!r}; let it return True "
                f"or False (a coroutine function can't be used)."
            )
        return answer


def parse_schedule_options(key: str, options: Mapping[str, Any]) -> ScheduleOptions:
    """Check the options of one scheduled function; raise InvalidOption or InvalidDuration."""
    parsed = ScheduleOptions()
    for name, value in options.items():
        parsed = parsed._replace(**{name: _read(key, name, value)})
    if parsed.catch_up_window is not None and parsed.catch_up == "none":
        raise InvalidOption(
            f'{key}: catch_up="none" catches up nothing, so catch_up_window= has no meaning; '
            f"leave one of them out."
        )
    if parsed.starts_at and parsed.ends_at and parsed.ends_at <= parsed.starts_at:
        raise InvalidOption(
            f"{key}: ends_at {parsed.ends_at} is not after starts_at {parsed.starts_at}; "
            f"no slot lies between them."
        )
    return parsed


def _read(key: str, name: str, value: Any) -> Any:
    if name in CHOICES:
        return _choice(key, name, value)
    if name == "supersede":
        return _boolean(key, name, value)
    if name == "enabled":
        return value if callable(value) else _boolean(key, name, value)
    if name == "jitter":
        return parse_duration(value, name=name)
    if value is None:
        return None
    if name == "ping_url":
        return _ping_url(key, value)
    if name == "catch_up_window":
        return parse_duration(value, name=name)
    return _instant(key, name, value)


def _choice(key: str, name: str, value: Any) -> str:
    if value not in CHOICES[name]:
        known = ", ".join(f'"{choice}"' for choice in CHOICES[name])
        raise InvalidOption(f"{key}: {name}={value!r}; write one of {known}.")
    return str(value)


def _boolean(key: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        also = " or a function that returns one of them" if name == "enabled" else ""
        raise InvalidOption(f"{key}: {name}={value!r}; write True or False{also}.")
    return value


def _ping_url(key: str, value: Any) -> str:
    """Return the address; no error quotes it, since whoever knows it can ping."""
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        parts, good = urlsplit(""), False
    if not good or not value.isascii() or not value.isprintable() or " " in value:
        raise InvalidOption(
            f"{key}: ping_url= is no address; write one such as "
            f'"https://hc-ping.com/your-uuid", or None for none.'
        )
    if "@" in parts.netloc or parts.fragment:
        raise InvalidOption(
            f"{key}: ping_url= has a user name or a # in it; write the address without."
        )
    return str(value)


def _instant(key: str, name: str, value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidOption(
            f"{key}: {name}={value!r} is no moment in time; write an aware datetime, such as "
            f"datetime(2026, 12, 1, tzinfo=UTC)."
        )
    return value.astimezone(UTC)
