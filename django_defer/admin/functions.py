"""Background functions: the options code registers, where, and what waits and runs of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_defer.admin.acting import ActingAdmin, as_actions
from django_defer.admin.choice_filters import QueueFilter
from django_defer.admin.duration_chart import durations_section
from django_defer.admin.ended import Ended, ended_of
from django_defer.admin.filters import StatusFilter
from django_defer.admin.latest import Latest, latest_of, strip, success_in_words
from django_defer.admin.mirrors import pause_facts, show_schedule, status_badge
from django_defer.admin.pages import Page, Section, Table
from django_defer.admin.rendering import (
    Links,
    breakable,
    code,
    now,
    quiet,
    short_id,
    show_instant,
    stack,
    state_badge,
)
from django_defer.admin.unfinished import Unfinished, unfinished_of
from django_defer.admin.verbs import PAUSE, RESUME, RUN_NOW
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.states import State
from django_defer.wording import EMPTY, orphaned_in_words, pause_in_words, relative, show_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpRequest

LATEST_RUNS: Final = 10


class BackgroundFunctionAdmin(ActingAdmin):
    """What can be run in the background."""

    verbs = (RUN_NOW, PAUSE, RESUME)
    actions = as_actions(verbs)
    list_display = (
        "shown_key",
        "status_and_unfinished",
        "last_runs",
        "success_and_duration",
        "last_failure",
        "schedule",
    )
    list_per_page = 50
    list_display_links = ("shown_key",)
    list_filter = (StatusFilter, QueueFilter)
    search_fields = ("key", "module")
    sortable_by = ("shown_key",)
    ordering = ("key",)

    def page(self, request: HttpRequest, row: BackgroundFunction) -> Page:
        """Return what the page of this function shows."""
        return function_page(row, self.links)

    def prepare(self, rows: list[Any]) -> None:
        """Count what is unfinished, and fetch the latest runs and the definition of each."""
        keys = [row.key for row in rows]
        unfinished = unfinished_of(keys)
        latest = latest_of(keys)
        definitions = CronDefinition.objects.filter(function__in=keys)
        by_key = {definition.function_id: definition for definition in definitions}
        for row in rows:
            row.shown_unfinished = unfinished[row.key]
            row.shown_latest = latest.get(row.key, Latest())
            row.shown_definition = by_key.get(row.key)

    @admin.display(description=gettext_lazy("key"), ordering="key")
    def shown_key(self, row: Any) -> str:
        """Its key, which may be long."""
        return breakable(row.key)

    @admin.display(description=gettext_lazy("status"))
    def status_and_unfinished(self, row: Any) -> str:
        """Active, paused, not in the code; how many runs wait, and how many are in hand."""
        waiting, running = row.shown_unfinished.waiting, row.shown_unfinished.active
        return stack(
            status_badge(row),
            _("%(n)s waiting") % {"n": waiting} if waiting else "",
            _("%(n)s running") % {"n": running} if running else "",
        )

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
        return stack(when, quiet(breakable(run.error_class.rpartition(".")[2])))

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


def function_page(row: BackgroundFunction, links: Links) -> Page:
    """Return the page of a function."""
    definition = CronDefinition.objects.filter(function=row.key).first()
    unfinished = unfinished_of([row.key])[row.key]
    latest, found = latest_of([row.key]).get(row.key, Latest()), ended_of(row.key)
    facts = _facts(row, definition, links) + _now(row, unfinished, latest, found, links)
    sentences = [orphaned_in_words(row), pause_in_words(row), _counts_in_words(unfinished)]
    return Page(
        title=row.key,
        badge=status_badge(row),
        sentences=[sentence for sentence in sentences if sentence],
        sections=[
            Section(title=_("Function"), facts=facts, is_half=True),
            Section(title=_("Options"), facts=_options(row), is_half=True),
            Section(title=_("Pause"), facts=pause_facts(row)),
            durations_section(row, found, links),
            Section(
                title=_("Latest runs"),
                table=_table_of(latest.runs[:LATEST_RUNS], links),
                text=links.to_list(Run, _("All runs of this function"), function=row.key),
            ),
        ],
    )


def _counts_in_words(unfinished: Unfinished) -> str:
    waiting, running = unfinished.waiting, unfinished.active
    if not (waiting or running):
        return _("Nothing of it waits or runs.")
    return _("%(waiting)s waiting, %(running)s running.") % {
        "waiting": waiting or 0,
        "running": running or 0,
    }


def _facts(
    row: BackgroundFunction, definition: CronDefinition | None, links: Links
) -> list[tuple[Any, Any]]:
    """Return what the code says of it."""
    schedule = ""
    if definition is not None:
        schedule = links.to(CronDefinition, definition.pk, show_schedule(definition))
    return [
        (_("Key"), code(row.key)),
        (_("Formerly"), ", ".join(map(str, row.former_keys))),
        (_("Cron definition"), schedule),
        (_("Queue"), row.queue),
        (_("Defined in"), place_of(row)),
        (_("Synced"), show_instant(row.synced_at) if row.synced_at else ""),
    ]


def _now(
    row: BackgroundFunction, unfinished: Unfinished, latest: Latest, found: Ended, links: Links
) -> list[tuple[Any, Any]]:
    """Return how it is doing."""
    shown = {state: unfinished.show([state]) for state in State}
    left = (
        links.to_list(Run, f"{n} {state.label}", function=row.key, state=state)
        for state, n in shown.items()
        if n
    )
    return [
        (_("Not finished"), format_html_join(", ", "{}", ((each,) for each in left))),
        (_("Last runs"), strip(latest, links, now()) if latest.runs else ""),
        (_("Succeeded"), success_in_words(latest)),
        (_("Last failure"), _last_failure(Latest(found.runs), links)),
    ]


def _last_failure(latest: Latest, links: Links) -> str:
    """Return when it failed last and with what; or among how many it did not."""
    run = latest.last_failure
    if run is not None and run.finished_at is not None:
        when = links.to(Run, run.pk, relative(run.finished_at, now()))
        return format_html("{} {}", when, run.error_class)
    count = len(latest.runs)
    text = ngettext("None; one run has ended", "None of the latest %(n)s that ended", count)
    return text % {"n": count} if count else ""


def _options(row: BackgroundFunction) -> list[tuple[Any, Any]]:
    """Return the options as registered, under the names that code gives them."""
    return [(name, _option(value)) for name, value in row.options.items()]


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, dict):
        return ", ".join(f"{key}: {each}" for key, each in value.items())
    return str(value)


def _table_of(runs: Sequence[Run], links: Links) -> Table:
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
            for run in runs
        ],
    )
