"""What `defer_status --json` prints: the numbers of `reports` under keys that stay as they are.

Instants are ISO 8601 in UTC, durations seconds. docs/reference/commands.md lists the keys.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django_defer.status_text import troubles

if TYPE_CHECKING:
    from django_defer.models.functions import Pausable
    from django_defer.reports import (
        ClusterReport,
        DefinitionReport,
        FailureReport,
        QueueReport,
        SchedulerReport,
        Status,
    )


def as_json(status: Status) -> dict[str, Any]:
    """Return the status as plain data."""
    now, trouble = status.now, list(troubles(status))
    return {
        "now": _iso(now),
        "ok": not trouble,
        "trouble": trouble,
        "clusters": [_cluster(cluster, now) for cluster in status.clusters],
        "scheduler": _scheduler(status.scheduler),
        "queues": [_queue(queue, now) for queue in status.queues],
        "failures": _failures(status.failures),
        "definitions": [_definition(definition) for definition in status.definitions],
        "definitions_total": status.definitions_total,
    }


def _cluster(cluster: ClusterReport, now: datetime) -> dict[str, Any]:
    row = cluster.row
    return {
        "id": str(row.pk),
        "host": row.host,
        "pid": row.pid,
        "is_live": cluster.is_live,
        "workers": row.workers,
        "queues": row.queues,
        "schedules": row.schedules,
        "started_at": _iso(row.started_at),
        "beat_at": _iso(row.beat_at),
        "beat_age": _seconds(row.beat_at, now),
        "ticked_at": _iso(row.ticked_at),
    }


def _scheduler(scheduler: SchedulerReport) -> dict[str, Any]:
    now = scheduler.now
    return {
        "is_stalled": scheduler.is_stalled,
        "ticked_at": _iso(scheduler.ticked_at),
        "tick_age": _seconds(scheduler.ticked_at, now),
        "next_slot_at": _iso(scheduler.next_slot_at),
        "next_slot_of": scheduler.next_slot_of or None,
        "next_run_at": _iso(scheduler.next_run_at),
    }


def _queue(queue: QueueReport, now: datetime) -> dict[str, Any]:
    return {
        "name": queue.name,
        "waiting": queue.waiting,
        "is_capped": queue.is_capped,
        "oldest_due_at": _iso(queue.oldest_due_at),
        "oldest_wait": _seconds(queue.oldest_due_at, now),
        "running": queue.running,
        "is_served": queue.is_served,
        "paused": _pause(queue.pause),
    }


def _failures(failures: FailureReport) -> dict[str, Any]:
    run = failures.latest
    return {
        "since": _iso(failures.since),
        "count": failures.count,
        "is_capped": failures.is_capped,
        "latest": run
        and {
            "run": str(run.pk),
            "function": str(run.function_id),
            "finished_at": _iso(run.finished_at),
            "error": run.error,
        },
    }


def _definition(report: DefinitionReport) -> dict[str, Any]:
    row = report.row
    return {
        "key": str(row.function_id),
        "expression": row.expression,
        "timezone": row.timezone,
        "code_expression": row.code_expression,
        "code_timezone": row.code_timezone,
        "overridden": {"by": row.overridden_by, "at": _iso(row.overridden_at)}
        if row.is_overridden
        else None,
        "words": report.words,
        "fires": report.fires,
        "is_overdue": report.is_overdue,
        "error": report.error,
        "enabled": row.enabled,
        "paused": _pause(row),
        "orphaned_at": _iso(row.orphaned_at),
        "last_slot_at": _iso(row.last_slot_at),
        "next_slot_at": _iso(row.next_slot_at),
        "next_slots": [_iso(slot) for slot in report.slots],
    }


def _pause(row: Pausable | None) -> dict[str, Any] | None:
    if row is None or not row.is_paused:
        return None
    return {
        "by": row.paused_by,
        "at": _iso(row.paused_at),
        "why": row.pause_reason,
        "until": _iso(row.paused_until),
    }


def _iso(instant: datetime | None) -> str | None:
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _seconds(instant: datetime | None, now: datetime) -> float | None:
    return None if instant is None else round((now - instant).total_seconds(), 3)
