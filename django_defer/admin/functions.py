"""Background functions: the options code registers, where, and what waits and runs of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.db.models import Count
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.admin.acting import ActingAdmin, as_actions
from django_defer.admin.filters import QueueFilter, StatusFilter
from django_defer.admin.latest import (
    Latest,
    durations_in_words,
    latest_of,
    strip,
    success_in_words,
)
from django_defer.admin.mirrors import pause_facts, show_schedule, status_badge
from django_defer.admin.pages import Page, Section, Table
from django_defer.admin.rendering import (
    Links,
    code,
    now,
    quiet,
    short_id,
    show_instant,
    stack,
    state_badge,
)
from django_defer.admin.verbs import PAUSE, RESUME, RUN_NOW
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.states import ACTIVE, UNFINISHED
from django_defer.wording import EMPTY, orphaned_in_words, pause_in_words, relative, show_duration

if TYPE_CHECKING:
    from django.http import HttpRequest

LATEST_RUNS: Final = 10


class BackgroundFunctionAdmin(ActingAdmin):
    """What can be run in the background."""

    verbs = (RUN_NOW, PAUSE, RESUME)
    actions = as_actions(verbs)
    list_display = (
        "key",
        "status",
        "last_runs",
        "success_and_duration",
        "unfinished",
        "last_failure",
        "schedule",
    )
    list_per_page = 50
    list_display_links = ("key",)
    list_filter = (StatusFilter, QueueFilter)
    search_fields = ("key", "module")
    sortable_by = ("key",)
    ordering = ("key",)

    def page(self, request: HttpRequest, row: BackgroundFunction) -> Page:
        """Return what the page of this function shows."""
        return function_page(row, self.links)

    def prepare(self, rows: list[Any]) -> None:
        """Count what is unfinished, and fetch the latest runs and the definition of each."""
        keys = [row.key for row in rows]
        counts = count_unfinished(keys)
        latest = latest_of(keys)
        definitions = CronDefinition.objects.filter(function__in=keys)
        by_key = {definition.function_id: definition for definition in definitions}
        for row in rows:
            row.shown_counts = counts.get(row.key, (0, 0))
            row.shown_latest = latest.get(row.key, Latest())
            row.shown_definition = by_key.get(row.key)

    @admin.display(description=gettext_lazy("status"))
    def status(self, row: BackgroundFunction) -> str:
        """Active, paused, not in the code."""
        return status_badge(row)

    @admin.display(description=gettext_lazy("unfinished"))
    def unfinished(self, row: Any) -> str:
        """How many runs wait, and how many are claimed or running."""
        waiting, running = row.shown_counts
        words = [
            _("%(n)s waiting") % {"n": f"{waiting:,}"} if waiting else "",
            _("%(n)s running") % {"n": f"{running:,}"} if running else "",
        ]
        return stack(*words)

    @admin.display(description=gettext_lazy("last runs"))
    def last_runs(self, row: Any) -> str:
        """The runs that were enqueued last, as a strip of marks."""
        return strip(row.shown_latest, self.links, now())

    @admin.display(description=gettext_lazy("succeeded, and took"))
    def success_and_duration(self, row: Any) -> str:
        """How many of its last runs succeeded, and how long these took at the median."""
        typical = row.shown_latest.duration(50)
        took = quiet(show_duration(typical)) if typical else ""
        return stack(success_in_words(row.shown_latest).replace(" ", "\xa0"), took)

    @admin.display(description=gettext_lazy("last failure"))
    def last_failure(self, row: Any) -> str:
        """When one of its last runs failed, and with what."""
        run = row.shown_latest.last_failure
        if run is None or run.finished_at is None:
            return EMPTY
        when = self.links.to(Run, run.pk, relative(run.finished_at, now()))
        return stack(when, quiet(run.error_class.rpartition(".")[2]))

    @admin.display(description=gettext_lazy("schedule"))
    def schedule(self, row: Any) -> str:
        """Its cron definition."""
        definition = row.shown_definition
        if definition is None:
            return EMPTY
        return self.links.to(CronDefinition, definition.pk, show_schedule(definition))


def place_of(row: BackgroundFunction) -> str:
    """Return module and line as text."""
    return code(f"{row.module}:{row.line}") if row.module else EMPTY


def count_unfinished(keys: list[str]) -> dict[str, tuple[int, int]]:
    """Return how many runs of each function wait, and how many are active.

    A state at a time: each has a partial index, which a query for all of them would not use.
    """
    runs = Run.objects.filter(function__in=keys).order_by()
    first, *others = (
        runs.in_state(state).values_list("function", "state").annotate(n=Count("pk"))
        for state in UNFINISHED
    )
    rows = first.union(*others, all=True)
    counts: dict[str, tuple[int, int]] = {}
    for key, state, n in rows:
        waiting, active = counts.get(key, (0, 0))
        counts[key] = (waiting, active + n) if state in ACTIVE else (waiting + n, active)
    return counts


def function_page(row: BackgroundFunction, links: Links) -> Page:
    """Return the page of a function."""
    definition = CronDefinition.objects.filter(function=row.key).first()
    sentences = [orphaned_in_words(row), pause_in_words(row), _counts_in_words(row)]
    return Page(
        title=row.key,
        badge=status_badge(row),
        sentences=[sentence for sentence in sentences if sentence],
        sections=[
            Section(title=_("Function"), facts=_facts(row, definition, links), is_half=True),
            Section(title=_("Options"), facts=_options(row), is_half=True),
            Section(title=_("Pause"), facts=pause_facts(row)),
            Section(
                title=_("Latest runs"),
                table=_latest(row, links),
                text=links.to_list(Run, _("All runs of this function"), function=row.key),
            ),
        ],
    )


def _counts_in_words(row: BackgroundFunction) -> str:
    waiting, running = count_unfinished([row.key]).get(row.key, (0, 0))
    if not (waiting or running):
        return _("Nothing of it waits or runs.")
    return _("%(waiting)s waiting, %(running)s running.") % {
        "waiting": f"{waiting:,}",
        "running": f"{running:,}",
    }


def _facts(
    row: BackgroundFunction, definition: CronDefinition | None, links: Links
) -> list[tuple[Any, Any]]:
    latest = latest_of([row.key]).get(row.key, Latest())
    schedule = ""
    if definition is not None:
        schedule = links.to(CronDefinition, definition.pk, show_schedule(definition))
    return [
        (_("Key"), code(row.key)),
        (_("Cron definition"), schedule),
        (_("Queue"), row.queue),
        (_("Defined in"), place_of(row)),
        (_("Last runs"), strip(latest, links, now()) if latest.runs else ""),
        (_("Succeeded"), success_in_words(latest)),
        (_("Takes"), durations_in_words(latest)),
        (_("Synced"), show_instant(row.synced_at) if row.synced_at else ""),
    ]


def _options(row: BackgroundFunction) -> list[tuple[Any, Any]]:
    """Return the options as registered, under the names that code gives them."""
    words = {True: _("yes"), False: _("no")}
    return [
        (name, words[value] if isinstance(value, bool) else str(value))
        for name, value in row.options.items()
    ]


def _latest(row: BackgroundFunction, links: Links) -> Table:
    runs = Run.objects.filter(function=row.key).defer("args", "result", "metadata")
    at = now()
    return Table(
        headings=(_("Run"), _("Label"), _("State"), _("Enqueued"), _("Took")),
        rows=[
            [
                links.to(Run, run.pk, code(short_id(run.pk))),
                run.label or EMPTY,
                state_badge(run),
                show_instant(run.enqueued_at, beside=at),
                show_duration(run.duration),
            ]
            for run in runs.order_by("-id")[:LATEST_RUNS]
        ],
    )
