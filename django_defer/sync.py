"""Bring the rows in line with the code: functions and cron definitions.

Code owns what it registers; pauses and overrides are an operator's and are never touched. Safe
when two hosts do it at once: rows are inserted ON CONFLICT DO NOTHING and updated under a lock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connections, models, transaction

from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.cron import CronSchedule
from django_defer.durations import format_duration, parse_duration
from django_defer.exceptions import InvalidCronExpression
from django_defer.models import BackgroundFunction, Cluster, CronDefinition
from django_defer.registry import Function, registry


@dataclass(slots=True)
class SyncReport:
    """What a sync did, or would do. Each entry is a line for a person."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether rows and code agree."""
        return not (self.created or self.changed or self.orphaned or self.revived)


class _Undo(Exception):  # noqa: N818 - not an error: it rolls a dry run back
    pass


def sync(using: str | None = None, *, dry_run: bool = False) -> SyncReport:
    """Create, change, orphan and revive rows so that they say what the code says."""
    using = using or str(conf.database)
    report = SyncReport()
    now = database_now(using)
    try:
        with transaction.atomic(using=using):
            for function in sorted(registry, key=lambda each: str(each.key)):
                _sync_function(using, function, now, report)
                _sync_definition(using, function, now, report)
            _orphan(using, now, report)
            if dry_run:
                raise _Undo
    except _Undo:
        pass
    return report


def function_values(function: Function[Any, Any]) -> dict[str, Any]:
    """Return what code says about a function, as columns."""
    options = function.options
    return {
        "queue": options.queue or conf.default_queue,
        "options": {
            "priority": options.priority,
            "max_attempts": options.retry.max_attempts,
            "initial_interval": format_duration(options.retry.initial_interval),
            "max_interval": format_duration(options.retry.max_interval),
            "max_duration": format_duration(options.max_duration),
            "atomic": options.atomic,
            "rerun_if_lost": options.rerun_if_lost,
        },
        "module": function.module,
        "line": function.line,
    }


def definition_values(function: Function[Any, Any], schedule: CronSchedule) -> dict[str, Any]:
    """Return what code says about a scheduled function's definition, as columns."""
    options = function.options
    return {
        "kind": CronDefinition.Kind.CRON,
        "code_expression": schedule.expression,
        "code_timezone": schedule.timezone,
        "queue": options.queue or conf.default_queue,
        "priority": options.priority,
        "max_attempts": options.retry.max_attempts,
        "rerun_if_lost": options.rerun_if_lost,
    }


def _sync_function(
    using: str, function: Function[Any, Any], now: datetime, report: SyncReport
) -> None:
    values = function_values(function)
    rows = BackgroundFunction.objects.using(using)
    row = _get_or_insert(rows, {"key": function.key}, {**values, "synced_at": now})
    if row is None:
        report.created.append(f"function {function.key}")
        return
    changes = _changes(row, values)
    if row.orphaned_at is not None:
        report.revived.append(f"function {function.key}")
        rows.filter(pk=row.pk).update(orphaned_at=None, synced_at=now, **values)
    elif changes:
        # A moved line is no news, but the admin should point to the right one.
        if set(changes) - {"line"}:
            report.changed.append(f"function {function.key}: {_described(changes)}")
        rows.filter(pk=row.pk).update(synced_at=now, **values)


def _sync_definition(
    using: str, function: Function[Any, Any], now: datetime, report: SyncReport
) -> None:
    schedule = function.schedule
    rows = CronDefinition.objects.using(using)
    if schedule is None:
        return
    values = definition_values(function, schedule)
    first = {**values, "next_slot_at": schedule.next_after(now)}
    row = _get_or_insert(rows, {"function_id": function.key}, first)
    text = f"definition {function.key} ({schedule.expression} {schedule.timezone})"
    if row is None:
        report.created.append(text)
        return
    changes = _changes(row, values)
    revived = row.orphaned_at is not None
    if not changes and not revived:
        return
    before = (row.expression, row.timezone)
    for name, value in values.items():
        setattr(row, name, value)
    moved: dict[str, Any] = {}
    if revived or (row.expression, row.timezone) != before:
        # A changed expression takes effect from now and fires nothing by itself.
        moved = {"next_slot_at": next_slot(row, now), "version": models.F("version") + 1}
    rows.filter(pk=row.pk).update(orphaned_at=None, error="", **values, **moved)
    if revived:
        report.revived.append(text)
    else:
        report.changed.append(f"definition {function.key}: {_described(changes)}")


def next_slot(definition: CronDefinition, now: datetime) -> datetime | None:
    """Return the next slot after `now`; None while paused or when its schedule is broken."""
    if definition.is_paused or not definition.enabled:
        return None
    try:
        return definition.schedule.next_after(now)
    except InvalidCronExpression:
        return now  # the next tick marks it with its error


def _orphan(using: str, now: datetime, report: SyncReport) -> None:
    """Mark what neither this code nor a live cluster's code has (an old host in a deploy)."""
    lease = parse_duration(conf.lease, name='DEFER["LEASE"]')
    known = set(registry.keys())
    for cluster in Cluster.objects.using(using).live(now, lease):
        known.update(cluster.functions)
    rows = BackgroundFunction.objects.using(using).in_code()
    for key in rows.exclude(key__in=known).values_list("key", flat=True):
        report.orphaned.append(f"function {key}")
        rows.filter(key=key).update(orphaned_at=now)
    scheduled = {function.key for function in registry if function.schedule is not None}
    elsewhere = known - set(registry.keys())
    gone = CronDefinition.objects.using(using).filter(orphaned_at__isnull=True)
    for definition in gone.exclude(function__in=scheduled | elsewhere):
        report.orphaned.append(f"definition {definition.function_id}")
        gone.filter(pk=definition.pk).update(
            orphaned_at=now, next_slot_at=None, version=models.F("version") + 1
        )


def _get_or_insert(rows: Any, key: dict[str, Any], values: dict[str, Any]) -> Any | None:
    """Return the locked row, or None when it was inserted just now."""
    if not rows.filter(**key).exists():
        # ON CONFLICT DO NOTHING doesn't say whose row it is, so both hosts may report it.
        rows.bulk_create([rows.model(**key, **values)], ignore_conflicts=True)
        return None
    locked = rows.filter(**key)
    if connections[rows.db].features.has_select_for_update:
        locked = locked.select_for_update()
    return locked.get()


def _changes(row: models.Model, values: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    current = {name: getattr(row, name) for name in values}
    return {
        name: (current[name], value) for name, value in values.items() if current[name] != value
    }


def _described(changes: dict[str, tuple[Any, Any]]) -> str:
    parts: list[str] = []
    for name, (old, new) in changes.items():
        if isinstance(old, dict) and isinstance(new, dict):
            inner = {key: (old.get(key), new.get(key)) for key in {*old, *new}}
            parts.append(_described({k: v for k, v in sorted(inner.items()) if v[0] != v[1]}))
        else:
            parts.append(f"{name.removeprefix('code_')} {old!s} → {new!s}")
    return ", ".join(parts)


