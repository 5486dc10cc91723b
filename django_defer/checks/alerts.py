"""The setting `ALERTS`: entries that tell nobody (E007, E008), and what is missing (W010, W011)."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core import checks

from django_defer.registry import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.alerts.routes import Route

# What people keep in environment variables.
FROM_ENVIRONMENT: Final = ("url", "urls", "to", "secret")
DOCS: Final = "docs/how-to/alerts.md shows an entry for each channel."


def check_alerts(**kwargs: object) -> list[checks.CheckMessage]:
    """Report what keeps somebody from being told. No message quotes an address."""
    given = getattr(settings, "DEFER", {})
    entries = given.get("ALERTS", ()) if isinstance(given, dict) else ()
    if not isinstance(entries, (list, tuple)) or not entries:
        return []  # E001 has said it, or nobody is to be told
    from django_defer.alerts.routes import read_route

    found: list[checks.CheckMessage] = []
    read: dict[str, Route] = {}
    for number, entry in enumerate(entries):
        place = f'settings.DEFER["ALERTS"][{number}]'
        try:
            route = read_route(entry)
        except (TypeError, ValueError) as error:
            found.append(_unusable(place, str(error)))
            continue
        if route.name in read:
            found.append(_unusable(place, f'"name" is {route.name!r} as it is in an entry before'))
        read.setdefault(route.name, route)
        found += _unset(place, route) or _unopened(place, route)
    if len(read) == len(entries):  # else a name may be that of an entry with a mistake
        found += _unknown_names(read)
    if not given.get("SITE_URL"):
        found.append(_no_links())
    return found


def _unset(place: str, route: Route) -> list[checks.CheckMessage]:
    return [
        checks.Warning(
            f'{place}: "{option}" of the channel {route.name!r} is empty; the environment variable '
            f"that it is in may be unset. Nobody is told by this channel.",
            hint="Set the variable, or leave the entry out where nobody is to be told.",
            obj=place,
            id="defer.W011",
        )
        for option in FROM_ENVIRONMENT
        if option in route.options and _is_empty(route.options[option])
    ]


def _is_empty(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return not all(value)
    return value is None or value == ""


def _unopened(place: str, route: Route) -> Iterator[checks.CheckMessage]:
    try:
        route.open()
    except (ImportError, TypeError, ValueError) as error:
        yield _unusable(place, str(error))
    except Exception as error:  # noqa: BLE001 - a project's own class may raise anything
        yield _unusable(place, f"{type(error).__name__}: {error}")


def _unknown_names(read: dict[str, Route]) -> Iterator[checks.CheckMessage]:
    for function in registry:
        names = function.options.alert
        for name in names if isinstance(names, tuple) else ():
            if name not in read:
                near = difflib.get_close_matches(name, read, n=1)
                known = near or list(read)
                yield checks.Error(
                    f"{function.key}: alert={name!r} is the name of no entry of ALERTS.",
                    hint=f"Write {' or '.join(repr(each) for each in known)}.",
                    obj=f"{function.file}:{function.line}",
                    id="defer.E008",
                )


def _unusable(place: str, problem: str) -> checks.CheckMessage:
    return checks.Error(f"{place}: {problem}.", hint=DOCS, obj=place, id="defer.E007")


def _no_links() -> checks.CheckMessage:
    return checks.Warning(
        "settings.DEFER has ALERTS and no SITE_URL: messages have no links to the admin.",
        hint='Write "SITE_URL": "https://example.com", with the address of your own site.',
        obj='settings.DEFER["SITE_URL"]',
        id="defer.W010",
    )
