"""Bring the rows in line with the code: functions and cron definitions.

Code owns what it registers; pauses and overrides are an operator's and are never touched. Two hosts
may do it at once: one waits for the other, so that neither deadlocks nor reports the other's work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.db import connections, models, transaction

from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.definition_sync import described, sync_definition
from django_defer.durations import format_duration, parse_duration
from django_defer.models import BackgroundFunction, Cluster, CronDefinition
from django_defer.registry import Function, registry
from django_defer.renames import move_runs, rename
from django_defer.retention_options import as_json
from django_defer.sync_report import SyncReport
from django_defer.wakeup import announce

if TYPE_CHECKING:
    from datetime import datetime

LOCK: Final = 6_041_771_423_054_187_117  # PostgreSQL's advisory lock for one sync at a time


class _Undo(Exception):
    pass


def sync(using: str | None = None, *, dry_run: bool = False) -> SyncReport:
    """Create, change, rename, orphan and revive rows so that they say what the code says."""
    using = using or str(conf.database)
    report = SyncReport()
    try:
        with transaction.atomic(using=using):
            _one_at_a_time(using)
            now = database_now(using)
            if not registry.problems:  # else functions may be missing that only failed to import
                _orphan(using, now, report)
            report.renamed = rename(using, registry, now)
            _sync_rows(using, report)
            if dry_run:
                raise _Undo
    except _Undo:
        return report
    move_runs(using, registry)
    if report.upcoming:
        announce(using)
    return report


def _sync_rows(using: str, report: SyncReport) -> None:
    rows, definitions = BackgroundFunction.objects.using(using), CronDefinition.objects.using(using)
    owners = {row.pk: row for row in _locked(rows)}
    timed = {row.function_id: row for row in _locked(definitions)}
    now = database_now(
        using
    )  # not before the rows are held: a tick may have fired a slot meanwhile
    # Newer code, that still runs somewhere, calls these otherwise: see `renames`.
    heirs = {
        former: row.key
        for row in owners.values()
        if row.orphaned_at is None and row.key not in registry
        for former in row.former_keys
    }
    new_owners, new_timed = [], []
    for function in sorted(registry, key=lambda each: str(each.key)):
        if function.key in heirs:
            report.kept.add(heirs[function.key])
            continue
        owner = owners.get(function.key)
        new_owners.append(_sync_function(using, function, owner, now, report))
        if function.schedule is not None:
            row = timed.get(function.key)
            new_timed.append(sync_definition(using, function, row, owner, now, report))
    rows.bulk_create([row for row in new_owners if row], ignore_conflicts=True)
    definitions.bulk_create([row for row in new_timed if row], ignore_conflicts=True)


def function_values(function: Function[Any, Any]) -> dict[str, Any]:
    """Return what code says about a function, as columns."""
    options = function.options
    deadline = options.discard_after
    return {
        "queue": options.queue or conf.default_queue,
        "options": {
            "priority": options.priority,
            "max_attempts": options.retry.max_attempts,
            "initial_interval": format_duration(options.retry.initial_interval),
            "max_interval": format_duration(options.retry.max_interval),
            "max_duration": format_duration(options.max_duration),
            **({"discard_after": format_duration(deadline)} if deadline else {}),
            "atomic": options.atomic,
            "rerun_if_lost": options.rerun_if_lost,
            **as_json(options.keep),
            **({"metadata": dict(options.metadata)} if options.metadata else {}),
            **({} if options.alert is None else {"alert": options.alert}),
            **(
                {"alert_after": format_duration(options.alert_after)} if options.alert_after else {}
            ),
            **({"sensitive": list(function.sensitive)} if function.sensitive else {}),
        },
        "module": function.module,
        "line": function.line,
        "former_keys": list(function.former_keys),
    }


def _sync_function(
    using: str,
    function: Function[Any, Any],
    row: BackgroundFunction | None,
    now: datetime,
    report: SyncReport,
) -> BackgroundFunction | None:
    """Update the function's row; return a new one, to be inserted, where there is none yet."""
    values = function_values(function)
    if row is None:
        report.created.append(f"function {function.key}")
        return BackgroundFunction(key=function.key, synced_at=now, **values)
    rows = BackgroundFunction.objects.using(using).filter(pk=row.pk)
    changes = {n: (getattr(row, n), v) for n, v in values.items() if getattr(row, n) != v}
    if row.orphaned_at is not None:
        report.revived.append(f"function {function.key}")
        rows.update(orphaned_at=None, synced_at=now, **values)
    elif changes:
        # A moved line is no news, but the admin should point to the right one.
        if news := {name: pair for name, pair in changes.items() if name != "line"}:
            report.changed.append(f"function {function.key}: {described(news)}")
        rows.update(synced_at=now, **values)
    return None


def _orphan(using: str, now: datetime, report: SyncReport) -> None:
    """Mark what neither this code nor a live cluster's code has (an old host in a deploy)."""
    lease = parse_duration(conf.lease, name='DEFER["LEASE"]')
    own = set(registry.keys())
    elsewhere: set[str] = set()
    for cluster in Cluster.objects.using(using).live(now, lease):
        elsewhere.update(cluster.functions)
    elsewhere -= own
    rows = BackgroundFunction.objects.using(using).in_code()
    gone = [key for key in rows.values_list("key", flat=True) if key not in own]
    report.kept.update(key for key in gone if key in elsewhere)
    orphans = [key for key in gone if key not in elsewhere]
    report.orphaned += [f"function {key}" for key in orphans]
    rows.filter(key__in=orphans).update(orphaned_at=now)
    scheduled = {
        key
        for function in registry
        if function.schedule is not None
        for key in (function.key, *function.former_keys)
    }
    definitions = CronDefinition.objects.using(using).filter(orphaned_at__isnull=True)
    stopped = [
        key
        for key in definitions.values_list("function", flat=True)
        if key not in scheduled and key not in elsewhere
    ]
    report.orphaned += [f"definition {key}" for key in stopped]
    definitions.filter(function__in=stopped).update(
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


def _locked(rows: Any) -> Any:
    """Return all rows, held: an operator may be pausing or overriding one."""
    rows = rows.order_by("pk")
    return rows.select_for_update() if connections[rows.db].features.has_select_for_update else rows
