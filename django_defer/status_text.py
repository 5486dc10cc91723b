"""What `defer_status` prints: the numbers of `reports` in plain words, for a person in a hurry.

Times are UTC; text that comes from rows is cut to one printable line.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from django.core.management.color import no_style

from django_defer.troubles import Kind, troubles_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.core.management.color import Style

    from django_defer.models.functions import Pausable
    from django_defer.reports import ClusterReport, DefinitionReport, QueueReport, Status

NO_WORKER: Final = "No worker is running: start one with `manage.py defer_worker`."
LONGEST_LINE: Final = 160  # characters of a text from a row


def troubles(status: Status) -> Iterator[str]:
    """Yield a sentence for each thing that makes `defer_status` exit with 1."""
    for trouble in troubles_of(status):
        if trouble.queue is not None:
            name = trouble.queue.name
            yield (
                f'Runs wait in queue "{name}" and no worker serves it: start one with '
                f"`manage.py defer_worker --queue {name}`."
            )
        elif (report := trouble.definition) is not None:
            yield f"{report.row.function_id} cannot fire: {one_line(report.error).rstrip('.')}."
        else:
            yield NO_WORKER if trouble.kind is Kind.NO_WORKERS else _stalled(status)


def lines(status: Status, style: Style | None = None) -> Iterator[str]:
    """Yield the status, section by section."""
    style = style or no_style()
    sections = {
        "Clusters": _clusters(status, style),
        "Scheduler": _scheduler(status, style),
        "Queues": _queues(status, style),
        "Failures": _failures(status),
        "Cron definitions": _definitions(status, style),
    }
    yield f"At {status.now:%Y-%m-%d %H:%M:%S} UTC"
    for title, section in sections.items():
        yield ""
        yield style.MIGRATE_HEADING(title)
        for line in section:
            yield f"  {line}"


def roughly(delta: timedelta) -> str:
    """Return "45 s", "3 min", "5 h" or "4 d"."""
    seconds = max(0, int(delta.total_seconds()))
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / 86400)} d"


def one_line(text: str) -> str:
    """Return text from a row on one line, without what a terminal would obey."""
    line = "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines, their columns one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _clusters(status: Status, style: Style) -> Iterator[str]:
    def row(cluster: ClusterReport) -> list[str]:
        beat = f"beat {roughly(status.now - cluster.row.beat_at)} ago"
        return [
            str(cluster.row),
            f"{cluster.row.workers} worker{'' if cluster.row.workers == 1 else 's'}",
            f"queues {', '.join(map(str, cluster.row.queues)) or 'all'}",
            f"since {_instant(cluster.row.started_at)}",
            beat if cluster.is_live else f"DEAD, last {beat}, not reaped yet",
        ]

    text = aligned([row(cluster) for cluster in status.clusters])
    for cluster, line in zip(status.clusters, text, strict=True):
        yield line if cluster.is_live else style.WARNING(line)
    if not status.has_workers:
        yield style.ERROR(NO_WORKER) if status.needs_workers else NO_WORKER


def _scheduler(status: Status, style: Style) -> Iterator[str]:
    scheduler = status.scheduler
    if scheduler.is_stalled:
        yield style.ERROR(_stalled(status))
    if scheduler.ticked_at is not None:
        yield f"last tick {roughly(status.now - scheduler.ticked_at)} ago"
    elif not scheduler.is_stalled:
        yield "no tick by a live worker (a `defer_scheduler` records none), nothing overdue"


def _stalled(status: Status) -> str:
    scheduler, parts = status.scheduler, []
    if since := scheduler.overdue_slot_at:
        ago = roughly(status.now - since)
        parts.append(f"{scheduler.next_slot_of} since {_instant(since)}, {ago} ago")
    if since := scheduler.overdue_run_at:
        parts.append(f"a delayed run since {_instant(since)}, {roughly(status.now - since)} ago")
    due = "; ".join(parts)
    if scheduler.ticks:
        return f"scheduler_stalled: a worker ticks, but what is due is not done ({due})."
    return (
        f"scheduler_stalled: nobody does what is due ({due}): start `manage.py defer_worker`, or "
        f"`manage.py defer_scheduler` beside workers with --no-scheduler."
    )


def _queues(status: Status, style: Style) -> Iterator[str]:
    def row(queue: QueueReport) -> list[str]:
        waiting = f"{queue.waiting:,}{'+' if queue.is_capped else ''} waiting"
        if queue.oldest_due_at is not None:
            least = "at least " if queue.is_capped else ""
            waiting += f", oldest {least}{roughly(status.now - queue.oldest_due_at)}"
        notes = [_paused(queue.pause, status.now)] if queue.pause else []
        if not (queue.is_served or queue.pause) and status.has_workers:
            notes.append("no worker serves it")
        return [queue.name, waiting, f"{queue.running} running", "; ".join(notes)]

    text = aligned([row(queue) for queue in status.queues])
    for queue, line in zip(status.queues, text, strict=True):
        yield style.WARNING(line) if queue in status.unserved or queue.pause else line
    if not text:
        yield "nothing waits, nothing runs"


def _failures(status: Status) -> Iterator[str]:
    failures = status.failures
    if failures.latest is None:
        yield "failed in the last day: 0"
        return
    count = f"{failures.count:,}{'+' if failures.is_capped else ''}"
    run = failures.latest
    when = f"{run.finished_at:%H:%M} UTC" if run.finished_at else ""
    error = one_line(run.error or run.reason)
    yield f"failed in the last day: {count} (latest {run.function_id} {when} {error})"


def _definitions(status: Status, style: Style) -> Iterator[str]:
    for report in status.definitions:
        yield from _definition(report, status.now, style)
    hidden = status.definitions_total - len(status.definitions)
    if hidden > 0:
        yield f"… and {hidden} more: --all shows them"
    if not status.definitions:
        yield "none"


def _definition(report: DefinitionReport, now: datetime, style: Style) -> Iterator[str]:
    row = report.row
    words = report.words.removesuffix(f" ({row.timezone})")  # the zone is there already
    facts = [str(row.function_id), one_line(row.expression), one_line(row.timezone)]
    yield "  ".join([*facts, words] if words and words != row.expression else facts)
    if report.error:
        yield f"    {style.ERROR(f'error: {one_line(report.error)}')}"
    for reason in reasons(report, now):
        yield f"    {style.WARNING(reason)}"
    if row.is_overridden:
        whom = _by_whom(row.overridden_by, row.overridden_at, now)
        yield f"    overridden {whom}; the code says {_in_code(report)}"
    if report.slots:
        label = "next" if report.fires else "would fire"
        yield f"    {label}  {slots_in_words(report.slots, row.timezone, dates=True)}"
        if row.timezone != "UTC":
            yield f"    {' ' * len(label)}  {slots_in_words(report.slots, 'UTC')}"
    elif not report.error:
        yield "    no slot any more"


def reasons(report: DefinitionReport, now: datetime) -> Iterator[str]:
    """Yield why a definition does not fire, or is late."""
    row = report.row
    if row.orphaned_at is not None:
        yield f"not in the code any more since {_instant(row.orphaned_at)}"
    if row.is_paused:
        yield _paused(row, now)
    if not row.enabled:
        yield "switched off in the code (enabled=False)"
    if report.is_overdue and row.next_slot_at is not None:
        yield (
            f"overdue: the slot of {_instant(row.next_slot_at)} has not fired, "
            f"{roughly(now - row.next_slot_at)} ago"
        )


def slots_in_words(slots: Sequence[datetime], zone: str, *, dates: bool = False) -> str:
    """Return "Mon 08:00, 09:00, Tue 08:00 Europe/Paris", the days with their dates if told to."""
    day, parts = "", []
    for slot in slots:
        local = slot.astimezone(ZoneInfo(zone))
        shown = f"{local:%a %Y-%m-%d}" if dates else f"{local:%a}"
        time = f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"
        parts.append(time if f"{local:%Y-%m-%d}" == day else f"{shown} {time}")
        day = f"{local:%Y-%m-%d}"
    return f"{', '.join(parts)} {zone}"


def _in_code(report: DefinitionReport) -> str:
    row = report.row
    if row.kind == row.Kind.EVERY:
        return f"every {row.code_expression}"
    return f"{row.code_expression} {row.code_timezone}"


def _paused(row: Pausable, now: datetime) -> str:
    text = f"paused {_by_whom(row.paused_by, row.paused_at, now)}"
    if row.pause_reason:
        text += f": {one_line(row.pause_reason)}"
    return f"{text}, until {_instant(row.paused_until)}" if row.paused_until else text


def _by_whom(actor: str, at: datetime | None, now: datetime) -> str:
    who = f"by {one_line(actor)}" if actor else "by somebody"
    return who if at is None else f"{who} {roughly(now - at)} ago"


def _instant(instant: datetime) -> str:
    time = "%H:%M:%S" if instant.second else "%H:%M"
    return f"{instant.astimezone(UTC):%Y-%m-%d {time}} UTC"
