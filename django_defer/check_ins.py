"""Check-ins of scheduled functions: what Sentry is told of a slot's run, and of its schedule.

One check-in a run: in progress from its first attempt on, also while it waits for a retry, until it
has succeeded, or failed for good. Its id is the run's, so that any process can end it.
"""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django_defer.conf import conf
from django_defer.cron import CronSchedule
from django_defer.cron_fields import ALIASES, FIELD_BOUNDS
from django_defer.cron_meaning import read_meaning, runs
from django_defer.durations import parse_duration
from django_defer.models import CronDefinition
from django_defer.registry import registry

if TYPE_CHECKING:
    from collections.abc import Collection

    from django_defer.registry import Function
    from django_defer.signals import RunEvent

STATUS: Final = {
    "run.started": "in_progress",
    "run.succeeded": "ok",
    "run.cancelled": "ok",  # the function said so itself
    "run.failed": "error",
    "run.aborted": "error",
    "run.discarded": "error",  # while it waited for a retry
}
LONGEST_SLUG: Final = 50
MINUTE: Final = timedelta(minutes=1)
_UNITS: Final = (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", MINUTE))
# What every cron reads alike: numbers, ranges, steps and lists of them.
_COMMON: Final = re.compile(r"(\*|\d+(-\d+)?)(/\d+)?")
_EVERY_DAY: Final = 31


def check_in(event: RunEvent) -> None:
    """Hand Sentry's SDK what this event of a slot's run means to its monitor, if anything."""
    from sentry_sdk.crons import capture_checkin

    function, status = registry.find(event.function), STATUS.get(event.name)
    if function is None or function.schedule is None or status is None or not event.attempt:
        return
    capture_checkin(
        monitor_slug=slug_for(function.key),
        check_in_id=event.run_id.hex,
        status=status,
        duration=event.seconds if event.attempt == 1 else None,
        monitor_config=_config_in_force(function) if status == "in_progress" else None,
    )


def slug_for(key: str) -> str:
    """Return the monitor's slug: "shop-weekly" for `shop.weekly`; no two keys share one."""
    slug = re.sub(r"[^a-z0-9_]+", "-", key.lower()).strip("-")
    if slug.replace("-", ".") == key and len(slug) <= LONGEST_SLUG:
        return slug
    mark = hashlib.sha256(key.encode()).hexdigest()[:8]
    return f"{slug[: LONGEST_SLUG - 9]}-{mark}"


def _config_in_force(function: Function[Any, Any]) -> Any:
    definitions = CronDefinition.objects.using(str(conf.database))
    definition = definitions.filter(function=function.key).first()
    return None if definition is None else config_of(definition, function.options.max_duration)


def config_of(definition: CronDefinition, max_duration: timedelta) -> dict[str, Any] | None:
    """Return the monitor's settings; None for a schedule that Sentry has no words for."""
    if definition.kind == CronDefinition.Kind.EVERY:
        schedule, zone = _interval(definition), "UTC"
    else:
        value = crontab(definition.expression, definition.timezone, str(definition.function_id))
        schedule = None if value is None else {"type": "crontab", "value": value}
        zone = definition.timezone
    if schedule is None:
        return None
    return {
        "schedule": schedule,
        "timezone": zone,
        "checkin_margin": _minutes(parse_duration(conf.slot_margin) + definition.jitter),
        "max_runtime": _minutes(max_duration),
    }


def crontab(expression: str, timezone: str, key: str) -> str | None:
    """Return the expression in the words that every cron has; None where these don't do."""
    text = ALIASES.get(expression.lower(), expression)
    if all(_is_common(each) for field in text.split() for each in field.split(",")):
        return text
    fields = read_meaning(CronSchedule(expression, timezone, key=key).meaning)
    if fields.nth_weekdays or fields.nearest_workday is not None or "l" in fields.days:
        return None
    days = [day for day in fields.days if isinstance(day, int)]
    if not fields.day_or and len(days) < _EVERY_DAY and len(fields.weekdays) < 7:
        return None  # both must match, which numbers alone can't say
    values = (fields.minutes, fields.hours, days, fields.months, fields.weekdays)
    bounds = zip(values, FIELD_BOUNDS, strict=True)
    return " ".join(_listed(sorted(field), low, high) for field, (low, high) in bounds)


def _is_common(item: str) -> bool:
    if not _COMMON.fullmatch(item):
        return False
    first, _, last = item.partition("/")[0].partition("-")
    is_step_of_one = "/" in item and first != "*" and not last
    return not is_step_of_one and (not last or int(first) < int(last))


def _listed(values: Collection[int], low: int, high: int) -> str:
    if len(values) == high - low + 1:
        return "*"
    return ",".join(
        str(first) if first == last else f"{first}-{last}" for first, last in runs(values)
    )


def _interval(definition: CronDefinition) -> dict[str, Any] | None:
    text = definition.expression_override
    interval = parse_duration(text) if text else definition.interval
    for unit, length in _UNITS:
        if interval and not interval % length:
            return {"type": "interval", "value": interval // length, "unit": unit}
    return None


def _minutes(span: timedelta) -> int:
    return max(1, -(-span // MINUTE))
