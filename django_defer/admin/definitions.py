"""The list of cron definitions: when each is due, what came of its last slot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.forms import Script
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.admin.acting import ActingAdmin, as_actions
from django_defer.admin.definition_page import definition_page
from django_defer.admin.filters import DefinitionStatusFilter
from django_defer.admin.mirrors import show_schedule, status_badge
from django_defer.admin.rendering import now, quiet, stack, stack_instant, state_badge
from django_defer.admin.verbs import CLEAR_OVERRIDE, OVERRIDE, PAUSE, RESUME, RUN_NOW
from django_defer.definition_explanations import schedule_in_words
from django_defer.models import CronDefinition, Run
from django_defer.wording import EMPTY, relative

if TYPE_CHECKING:
    from django.http import HttpRequest

    from django_defer.admin.pages import Page


class CronDefinitionAdmin(ActingAdmin):
    """When scheduled functions run."""

    verbs = (RUN_NOW, PAUSE, RESUME, OVERRIDE, CLEAR_OVERRIDE)
    actions = as_actions((RUN_NOW, PAUSE, RESUME))
    list_display = ("key", "status", "schedule", "next_slot", "last_slot", "last_run_link")
    list_display_links = ("key",)
    list_filter = (DefinitionStatusFilter,)
    search_fields = ("function__pk", "code_expression", "expression_override")
    sortable_by = ("key", "next_slot", "last_slot")
    ordering = ("function_id",)

    class Media:
        js = [Script("django_defer/preview.js", defer=True)]

    def page(self, request: HttpRequest, row: CronDefinition) -> Page:
        """Return what the page of this definition shows."""
        return definition_page(row, self.links)

    def prepare(self, rows: list[Any]) -> None:
        """Fetch the last runs of these definitions."""
        found = Run.objects.defer("args", "result", "metadata").in_bulk(
            [row.last_run_id for row in rows if row.last_run_id]
        )
        for row in rows:
            row.shown_last_run = found.get(row.last_run_id)

    @admin.display(description=gettext_lazy("function"), ordering="function_id")
    def key(self, row: CronDefinition) -> str:
        """The function's key."""
        return str(row.function_id)

    @admin.display(description=gettext_lazy("status"))
    def status(self, row: CronDefinition) -> str:
        """Active, paused, in error, switched off, not in the code; and whether it is overridden."""
        return stack(status_badge(row), quiet(_("overridden")) if row.is_overridden else "")

    @admin.display(description=gettext_lazy("schedule"))
    def schedule(self, row: CronDefinition) -> str:
        """The expression and zone in force, and in words."""
        words = schedule_in_words(row)
        more = stack(quiet(words)) if words != row.expression else ""
        return format_html("{}{}", show_schedule(row), more)

    @admin.display(description=gettext_lazy("next slot"), ordering="next_slot_at")
    def next_slot(self, row: CronDefinition) -> str:
        """When it is due next."""
        if row.next_slot_at is None or row.error:
            return EMPTY
        soon = quiet(relative(row.next_slot_at, now()))
        return format_html("{}{}", stack_instant(row.next_slot_at), stack(soon))

    @admin.display(description=gettext_lazy("last slot"), ordering="last_slot_at")
    def last_slot(self, row: CronDefinition) -> str:
        """When it was due last."""
        return stack_instant(row.last_slot_at)

    @admin.display(description=gettext_lazy("its run"))
    def last_run_link(self, row: Any) -> str:
        """The run of the last slot."""
        run = row.shown_last_run
        if run is not None:
            return self.links.to(Run, run.pk, state_badge(run))
        return quiet(_("pruned")) if row.last_run_id else EMPTY
