"""Bring the rows in line with the code: functions and cron definitions.

Code owns what it registers; pauses and overrides are an operator's and are never touched. Two hosts
may do it at once: one waits for the other, so that neither deadlocks nor reports the other's work.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from django.db import connections, models, transaction

from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.durations import format_duration, parse_duration
from django_defer.exceptions import InvalidCronExpression
from django_defer.models import BackgroundFunction, Cluster, CronDefinition
from django_defer.registry import Function, registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from django_defer.cron import CronSchedule

LOCK: Final = 6_041_771_423_054_187_117  # PostgreSQL's advisory lock for one sync at a time
SLOTS_SHOWN: Final = 3


@dataclass(slots=True)
class SyncReport:
    """What a sync did, or would do. Each entry is a line for a person.

    `upcoming` has, by key, the zone and the next slots of definitions that are new or changed.
    """

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)
    upcoming: dict[str, tuple[str, list[datetime]]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether rows and code agree."""
        return not (self.created or self.changed or self.orphaned or self.revived)

    def lines(self) -> Iterator[str]:
        """Yield it all for a person, the next slots at the end."""
        for verb in ("created", "changed", "orphaned", "revived"):
            for entry in getattr(self, verb):
                yield f"{verb:8} {entry}"
        for key, (zone, slots) in sorted(self.upcoming.items()):
            for slot in slots:
                local = slot.astimezone(ZoneInfo(zone))
                utc = "" if zone == "UTC" else f" ({slot:%a %H:%M} UTC)"
                yield f"next     {key}: {local:%a %Y-%m-%d %H:%M} {zone}{utc}"
            if not slots:
                yield f"next     {key}: never, while it is paused or cannot be read"


class _Undo(Exception):
    pass


def sync(using: str | None = None, *, dry_run: bool = False) -> SyncReport:
    """Create, change, orphan and revive rows so that they say what the code says."""
    using = using or str(conf.database)
    report = SyncReport()
    try:
        with transaction.atomic(using=using):
            _one_at_a_time(using)
            now = database_now(using)
            for function in sorted(registry, key=lambda each: str(each.key)):
                _sync_function(using, function, now, report)
                _sync_definition(using, function, now, report)
            if not registry.problems:  # else functions may be missing that only failed to import
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
        changes.pop("line", None)
        if changes:
            report.changed.append(f"function {function.key}: {_described(changes)}")
        rows.filter(pk=row.pk).update(synced_at=now, **values)


def _sync_definition(
    using: str, function: Function[Any, Any], now: datetime, report: SyncReport
) -> None:
    schedule = function.schedule
    if schedule is None:
        return
    rows = CronDefinition.objects.using(using)
    values = definition_values(function, schedule)
    first = {**values, "next_slot_at": schedule.next_after(now)}
    row = _get_or_insert(rows, {"function_id": function.key}, first)
    text = f"definition {function.key} ({schedule.expression} {schedule.timezone})"
    if row is None:
        report.created.append(text)
        _show_next(CronDefinition(function_id=function.key, **first), now, report)
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
    if moved:
        row.next_slot_at = moved["next_slot_at"]
        _show_next(row, now, report)
    if revived:
        report.revived.append(text)
    else:
        report.changed.append(f"definition {function.key}: {_described(changes)}")


def _show_next(definition: CronDefinition, now: datetime, report: SyncReport) -> None:
    slots: list[datetime] = []
    if definition.next_slot_at is not None:
        with suppress(InvalidCronExpression):
            slots = definition.next_slots(SLOTS_SHOWN, now)
    report.upcoming[str(definition.function_id)] = (definition.timezone, slots)


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


def _one_at_a_time(using: str) -> None:
    """Let another sync finish first.

    On SQLite a transaction that begins by reading could not wait for the write lock later.
    """
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    else:
        BackgroundFunction.objects.using(using).filter(key="").update(line=0)


def _get_or_insert(rows: Any, key: dict[str, Any], values: dict[str, Any]) -> Any | None:
    """Return the locked row, or None when it was inserted just now."""
    found = rows.filter(**key)
    if connections[rows.db].features.has_select_for_update:
        found = found.select_for_update()  # an operator may be pausing or overriding it
    row = found.first()
    if row is None:
        rows.bulk_create([rows.model(**key, **values)], ignore_conflicts=True)
    return row


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
