"""The cards of the dashboard about this moment: clusters, queues, failures, what does not fire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Count, Q
from django.db.models.functions import Left
from django.utils.html import format_html
from django.utils.translation import gettext as _

from django_defer.admin.clusters import cluster_badge, queues_of
from django_defer.admin.mirrors import show_schedule, status_badge
from django_defer.admin.rendering import badge, quiet, show_instant, stack
from django_defer.models import BackgroundFunction, Cluster, CronDefinition, Queue, Run
from django_defer.reports import MOST_FAILURES
from django_defer.states import State
from django_defer.status_text import one_line
from django_defer.wording import EMPTY, orphaned_in_words, pause_in_words, relative

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet

    from django_defer.admin.viewers import Viewer
    from django_defer.reports import DefinitionReport, Status

MOST_CLUSTERS: Final = 20
MOST_QUEUES: Final = 20
MOST_FAILED: Final = 5
MOST_PAUSED: Final = 5
LONGEST_ERROR: Final = 300  # characters


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table, and what tells it from the others when the page is refreshed."""

    key: Any
    cells: Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A part of the page. `name` is never data."""

    name: str
    title: Any
    headings: Sequence[Any] = ()
    rows: Sequence[Row] = ()
    empty: Any = ""  # said when there are no rows
    text: Any = ""
    more: Any = ""  # a link
    chart: Any = None
    table: Card | None = None  # the numbers behind the chart
    is_half: bool = False


def number(text: Any) -> str:
    """Return a number, or the heading of some, set to the right."""
    return format_html('<span class="defer-number">{}</span>', text)


def clusters_card(status: Status, viewer: Viewer) -> Card:
    """Say who works, and when the scheduler last looked."""
    ids = [cluster.row.pk for cluster in status.clusters[:MOST_CLUSTERS]]
    held = Run.objects.active().filter(cluster__in=ids).order_by().values_list("cluster")
    busy = dict(held.annotate(n=Count("worker", distinct=True)))
    rows = []
    for cluster in status.clusters[:MOST_CLUSTERS]:
        row, hands = cluster.row, min(busy.get(cluster.row.pk, 0), cluster.row.workers)
        idle = row.workers - hands if cluster.is_live else EMPTY
        name = stack(viewer.to(Cluster, row.pk, row), quiet(queues_of(row)))
        beat = format_html("{} {}", cluster_badge(row), quiet(relative(row.beat_at, status.now)))
        since = quiet(relative(row.started_at, status.now))
        rows.append(Row(row.pk, [name, beat, number(hands), number(idle), number(since)]))
    return Card(
        name="clusters",
        title=_("Clusters"),
        headings=(
            _("Host, process and queues"),
            _("Last heartbeat"),
            number(_("Busy")),
            number(_("Idle")),
            number(_("Started")),
        ),
        rows=rows,
        empty=_("No worker is running."),
        text=_scheduler_in_words(status),
        more=viewer.to_list(Cluster, _("All clusters")) if viewer.may_view(Cluster) else "",
        is_half=True,
    )


def _scheduler_in_words(status: Status) -> str:
    scheduler = status.scheduler
    if scheduler.is_stalled:
        state = badge("failed", _("behind") if scheduler.ticks else _("stalled"))
    elif scheduler.ticked_at is None:
        return _("Scheduler: no tick by a live worker (“defer_scheduler” records none).")
    else:
        state = badge("active", _("on time"))
    if scheduler.ticked_at is None:
        return format_html(_("Scheduler: {}"), state)
    ago = quiet(relative(scheduler.ticked_at, status.now))
    return format_html(_("Scheduler: {} last tick {}"), state, ago)


def queues_card(status: Status, viewer: Viewer) -> Card:
    """Say what waits where, how long, and what is paused."""
    rows = []
    for queue in status.queues[:MOST_QUEUES]:
        waiting = f"{queue.waiting:,}{'+' if queue.is_capped else ''}"
        if queue.waiting:
            waiting = viewer.to_list(Run, waiting, queue=queue.name, state=State.QUEUED)
        running = f"{queue.running:,}"
        oldest: Any = EMPTY
        if queue.oldest_due_at is not None:
            oldest = show_instant_ago(queue.oldest_due_at, status.now)
        if queue.pause is not None:
            name = viewer.to(Queue, queue.pause.pk, queue.name)
            note = stack(badge("paused", _("paused")), quiet(pause_in_words(queue.pause)))
        elif queue.is_served:
            name, note = queue.name, badge("active", _("open"))
        else:
            kind = "failed" if queue in status.unserved else "unknown"
            name, note = queue.name, badge(kind, _("no worker"))
        cells = [name, note, number(waiting), number(oldest), number(running)]
        rows.append(Row(queue.name, cells))
    return Card(
        name="queues",
        title=_("Queues"),
        headings=(
            _("Queue"),
            _("Status"),
            number(_("Waiting")),
            number(_("Oldest")),
            number(_("Running")),
        ),
        rows=rows,
        empty=_("Nothing waits, nothing runs, and no queue is paused."),
        more=viewer.to_list(Run, _("All runs that wait"), state=State.QUEUED)
        if viewer.may_view(Run)
        else "",
        is_half=True,
    )


def show_instant_ago(instant: datetime, now: datetime) -> str:
    """Return "5 min ago", with the instant itself to point at."""
    return format_html(
        '<time class="defer-time" datetime="{}" title="{}">{}</time>',
        instant.isoformat(),
        instant.strftime("%Y-%m-%d %H:%M:%S UTC"),
        relative(instant, now),
    )


def failed_card(now: datetime, viewer: Viewer) -> Card:
    """List the runs that failed last, among the newest of those that failed."""
    newest = Run.objects.failed_last().values("pk")[:MOST_FAILURES]
    last: QuerySet[Any] = (
        Run.objects.filter(pk__in=newest, finished_at__isnull=False)
        .order_by("-finished_at", "-id")
        .annotate(shown_error=Left("error_message", LONGEST_ERROR))
        .only("id", "function", "label", "error_class", "finished_at", "attempt")
    )
    rows = []
    for run in last[:MOST_FAILED]:
        said = one_line(f"{run.error_class}: {run.shown_error}".strip(": "))
        rows.append(
            Row(
                run.pk,
                [viewer.to_run(run), said or EMPTY, show_instant_ago(run.finished_at, now)],
            )
        )
    return Card(
        name="failed",
        title=_("Failed last"),
        headings=(_("Run"), _("Error"), _("When")),
        rows=rows,
        empty=_("No run has failed."),
        more=viewer.to_list(Run, _("All failed runs"), state=State.FAILED),
    )


def definitions_card(status: Status, viewer: Viewer) -> Card:
    """List the definitions that don't fire as they should, and the functions that are paused."""
    rows = []
    if viewer.is_shown(CronDefinition):
        for report in status.definitions:
            why = list(_why(report))
            if why:
                row = report.row
                kind = badge("failed", _("overdue")) if report.is_overdue else status_badge(row)
                name = viewer.to(CronDefinition, row.pk, row.function_id)
                cells = [stack(name, quiet(show_schedule(row))), kind, stack(*why)]
                rows.append(Row(f"definition {row.pk}", cells))
    if viewer.is_shown(BackgroundFunction):
        paused = BackgroundFunction.objects.paused().filter(Q(orphaned_at__isnull=True))
        for function in paused.order_by("-paused_at", "key")[:MOST_PAUSED]:
            name = viewer.to(BackgroundFunction, function.pk, function.key)
            cells = [stack(name, quiet(_("function"))), status_badge(function)]
            rows.append(Row(f"function {function.pk}", [*cells, pause_in_words(function)]))
    return Card(
        name="definitions",
        title=_("Not firing as they should"),
        headings=(_("Definition"), _("Status"), _("Why")),
        rows=rows,
        empty=_("Every definition fires, and no function is paused."),
        more=viewer.to_list(CronDefinition, _("All cron definitions"))
        if viewer.may_view(CronDefinition)
        else "",
    )


def _why(report: DefinitionReport) -> list[str]:
    row = report.row
    why = [report.error and one_line(report.error), orphaned_in_words(row), pause_in_words(row)]
    if report.is_overdue and row.next_slot_at is not None:
        slot = show_instant(row.next_slot_at, beside=report.now)
        why.append(format_html(_("The slot of {} has not fired."), slot))
    return [each for each in why if each]
