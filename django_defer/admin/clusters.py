"""Clusters and queues: who executes, and what is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Count
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.admin.acting import ActingAdmin, as_actions
from django_defer.admin.base import ReadingAdmin
from django_defer.admin.mirrors import pause_facts
from django_defer.admin.pages import Page, Section
from django_defer.admin.rendering import (
    Links,
    badge,
    code,
    now,
    quiet,
    show_instant,
    stack,
    stack_instant,
)
from django_defer.admin.verbs import PAUSE, RESUME
from django_defer.conf import conf
from django_defer.counting import count_each, up_to_limit
from django_defer.durations import parse_duration
from django_defer.models import Cluster, Queue, Run
from django_defer.wording import EMPTY, pause_in_words, relative

if TYPE_CHECKING:
    from datetime import datetime

    from django.http import HttpRequest


class ClusterAdmin(ReadingAdmin):
    """The `defer_worker` processes that are, or were until lately, alive."""

    list_display = ("host_and_pid", "status", "serves", "workers", "busy", "beat", "ticked")
    list_display_links = ("host_and_pid",)
    sortable_by = ()
    ordering = ("-beat_at",)

    def page(self, request: HttpRequest, row: Cluster) -> Page:
        """Return what the page of this cluster shows."""
        at = now()
        versions = [(name, str(value)) for name, value in row.versions.items()]
        return Page(
            title=str(row),
            badge=cluster_badge(row),
            sections=[
                Section(
                    title=_("Cluster"),
                    is_half=True,
                    facts=[
                        (_("Id"), code(row.pk)),
                        (_("Queues"), queues_of(row)),
                        (_("Workers"), row.workers),
                        (_("Runs the scheduler"), _("yes") if row.schedules else _("no")),
                        (_("Started"), show_instant(row.started_at, beside=at)),
                        (_("Last heartbeat"), show_instant(row.beat_at, beside=at)),
                        (_("Last scheduler tick"), show_instant(row.ticked_at, beside=at)),
                    ],
                ),
                Section(title=_("Versions"), facts=versions, is_half=True),
                Section(title=_("Functions its code has"), text=", ".join(map(str, row.functions))),
            ],
        )

    def prepare(self, rows: list[Any]) -> None:
        """Count what each cluster holds."""
        held = Run.objects.active().filter(cluster__in=[row.pk for row in rows])
        counts = dict(held.order_by().values_list("cluster").annotate(n=Count("pk")))
        for row in rows:
            row.shown_busy = counts.get(row.pk, 0)

    @admin.display(description=gettext_lazy("host and process"))
    def host_and_pid(self, row: Cluster) -> str:
        """Host and process id of the supervisor."""
        return str(row)

    @admin.display(description=gettext_lazy("status"))
    def status(self, row: Cluster) -> str:
        """Live or silent."""
        return cluster_badge(row)

    @admin.display(description=gettext_lazy("queues"))
    def serves(self, row: Cluster) -> str:
        """The queues it serves."""
        return queues_of(row)

    @admin.display(description=gettext_lazy("runs in hand"))
    def busy(self, row: Any) -> str:
        """How many runs it has claimed."""
        return str(row.shown_busy or EMPTY)

    @admin.display(description=gettext_lazy("last heartbeat"))
    def beat(self, row: Cluster) -> str:
        """When it was heard of."""
        return _seen(row.beat_at)

    @admin.display(description=gettext_lazy("last scheduler tick"))
    def ticked(self, row: Cluster) -> str:
        """When it last looked at the schedule."""
        return _seen(row.ticked_at) if row.schedules else EMPTY


def _seen(instant: datetime | None) -> str:
    if instant is None:
        return EMPTY
    return format_html("{}{}", stack_instant(instant), stack(quiet(relative(instant, now()))))


def cluster_badge(row: Cluster) -> str:
    """Return whether it was heard of within the lease."""
    lease = parse_duration(conf.lease, name='DEFER["LEASE"]')
    if row.beat_at > now() - lease:
        return badge("active", _("live"))
    return badge("failed", _("silent"))


def queues_of(row: Cluster) -> str:
    """Return the queues it serves, as text."""
    return ", ".join(map(str, row.queues)) or _("all")


class QueueAdmin(ActingAdmin):
    """The queues that somebody has paused at some time; others need no row."""

    verbs = (PAUSE, RESUME)
    actions = as_actions(verbs)
    list_display = ("name", "status", "queued", "pause")
    sortable_by = ("name",)
    ordering = ("name",)

    def page(self, request: HttpRequest, row: Queue) -> Page:
        """Return what the page of this queue shows."""
        links: Links = self.links
        runs = links.to_list(Run, _("Runs of this queue"), queue=row.name)
        return Page(
            title=row.name,
            badge=queue_badge(row),
            sentences=[s for s in [pause_in_words(row)] if s],
            sections=[
                Section(title=_("Queue"), facts=[(_("Name"), row.name)], text=runs),
                Section(title=_("Pause"), facts=pause_facts(row)),
            ],
        )

    def prepare(self, rows: list[Any]) -> None:
        """Count what is due in each queue, up to a limit."""
        counts = count_each("queue", [row.name for row in rows], "state = 'queued'")
        for row in rows:
            row.shown_queued = counts.get(row.name, 0)

    @admin.display(description=gettext_lazy("status"))
    def status(self, row: Queue) -> str:
        """Open or paused."""
        return queue_badge(row)

    @admin.display(description=gettext_lazy("due runs"))
    def queued(self, row: Any) -> str:
        """How many runs are due in it."""
        return up_to_limit(row.shown_queued) if row.shown_queued else EMPTY

    @admin.display(description=gettext_lazy("pause"))
    def pause(self, row: Queue) -> str:
        """Who paused it, when and why."""
        return pause_in_words(row) or EMPTY


def queue_badge(row: Queue) -> str:
    """Return whether it is paused."""
    return badge("paused", _("paused")) if row.is_paused else badge("active", _("open"))
