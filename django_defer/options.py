"""The options of `@defer`, and the key of the function they are about, checked at decoration."""

from __future__ import annotations

from typing import Any, Final

from django.core.exceptions import AppRegistryNotReady

from django_defer.call_options import CallOptions
from django_defer.clock import LONGEST_OFFSET
from django_defer.durations import parse_duration
from django_defer.exceptions import ImproperlyDeferred, InvalidOption
from django_defer.metadata import read_pairs
from django_defer.registry import Options, app_label_of
from django_defer.retention_options import KEEP, read_option
from django_defer.retries import RetryPolicy
from django_defer.schedule_options import NAMES as SCHEDULE_OPTIONS
from django_defer.sensitive import read_names

LONGEST_KEY: Final = 200  # the column's length
KNOWN: Final = (
    *("queue", "priority", "retry", "max_duration", "discard_after", "atomic", "rerun_if_lost"),
    *("metadata", "sensitive", "alert", "alert_after"),
    *KEEP,
)
SPANS: Final = ("max_duration", "discard_after", "alert_after")  # durations of more than nothing


def key_for(function: Any, name: Any, *, option: str = "name") -> str:
    """Return the key: `app_label.function_name`, or what `name=` says."""
    if name is None:
        name = function.__name__
    elif not isinstance(name, str) or not all(name.split(".")):
        raise InvalidOption(f'{option}={name!r}: write a text such as "compute" or "shop.compute".')
    try:
        key = name if "." in name else f"{app_label_of(function.__module__)}.{name}"
    except AppRegistryNotReady:
        raise ImproperlyDeferred(
            f"{function.__module__} was imported before Django's apps were loaded: don't import "
            f"it from an app's __init__.py or apps.py, put it in AppConfig.ready()."
        ) from None
    if len(key) > LONGEST_KEY:
        raise InvalidOption(f"{key}: a key has at most {LONGEST_KEY} characters; give name=.")
    return key


def former_keys_for(function: Any, renamed_from: Any) -> tuple[str, ...]:
    """Return the keys that the function had before: `renamed_from=`, a text or a list of texts."""
    names = [renamed_from] if isinstance(renamed_from, str) else renamed_from
    if not isinstance(names, (list, tuple)):
        raise InvalidOption(
            f"renamed_from={renamed_from!r}: write the former key, such as "
            f'"shop.old_name", or a list of former keys.'
        )
    return tuple(key_for(function, name, option="renamed_from") for name in names)


def parse_options(
    key: str, options: dict[str, Any], *, more: frozenset[str] = frozenset()
) -> Options:
    """Turn the decorator's keywords into Options; refuse what is unknown.

    `more` are the names that this decorator knows besides.
    """
    _refuse_unknown(key, options, more)
    call = CallOptions().merge({k: v for k, v in options.items() if k in ("queue", "priority")})
    parsed = Options(queue=call.queue, priority=call.priority or 0)
    if "retry" in options:
        parsed = parsed._replace(retry=RetryPolicy.from_option(options["retry"]))
    for name in SPANS:
        if name in options:
            span = parse_duration(options[name], name=name)
            if not span:
                raise InvalidOption(f"{key}: {name} must be more than nothing.")
            if span > LONGEST_OFFSET:
                raise InvalidOption(f"{key}: {name} is over a hundred years; leave it out.")
            spans: dict[str, Any] = {name: span}
            parsed = parsed._replace(**spans)
    keep = [name for name in KEEP if name in options]
    parsed = parsed._replace(keep={name: read_option(name, options[name]) for name in keep})
    for name in ("atomic", "rerun_if_lost"):
        if name in options:
            if not isinstance(options[name], bool):
                raise InvalidOption(f"{key}: {name}= takes True or False, not {options[name]!r}.")
            parsed = parsed._replace(**{name: options[name]})
    return parsed._replace(**_parse_what_is_shown(key, options))


def _parse_what_is_shown(key: str, options: dict[str, Any]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    if "metadata" in options:
        parsed["metadata"] = read_pairs(options["metadata"], where=f"{key}: ")
    if "sensitive" in options:
        parsed["sensitive"] = read_names(key, options["sensitive"])
    if "alert" in options:
        parsed["alert"] = _read_alert(key, options["alert"])
    return parsed


def _read_alert(key: str, alert: Any) -> tuple[str, ...] | bool | None:
    names = (alert,) if isinstance(alert, str) else alert
    if names is None or names is False:
        return names
    if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) and n for n in names):
        raise InvalidOption(
            f"{key}: alert={alert!r}: write the name of a channel of the setting ALERTS, a list "
            f"of names, or False for none."
        )
    return tuple(names)


def _refuse_unknown(key: str, options: dict[str, Any], more: frozenset[str]) -> None:
    for name in options:
        if name in SCHEDULE_OPTIONS | {"timezone"}:
            raise InvalidOption(
                f"{key}: {name}= is about a schedule; it belongs to @defer.cron or @defer.every."
            )
        if name not in KNOWN:
            known = ", ".join(sorted({"name", "renamed_from", *KNOWN, *more}))
            raise InvalidOption(f"{key}: unknown option {name}=. Known: {known}.")
