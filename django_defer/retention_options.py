"""The options that say how long ended runs are kept, in code, in the settings and in rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from django_defer.durations import format_duration, parse_duration
from django_defer.exceptions import InvalidOption

KEEP: Final = ("keep_succeeded", "keep_failed", "keep_last")


def read_option(name: str, value: Any) -> timedelta | int | None:
    """Return what one of KEEP was set to; None: for ever."""
    if name == "keep_last":
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InvalidOption(f"keep_last={value!r}: write a whole number of runs from 0 up.")
        return value
    return None if value is None else parse_duration(value, name=name)


def as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a function as its row has them."""
    return {
        name: format_duration(value) if isinstance(value, timedelta) else value
        for name, value in options.items()
    }
