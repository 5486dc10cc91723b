"""Runs: the list with its filters, and the verbs reschedule, cancel, abort and rerun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.utils.html import format_html
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from django_defer.admin import filters
from django_defer.admin.acting import ActingAdmin, as_actions
from django_defer.admin.choice_filters import (
    DefinitionFilter,
    ErrorFilter,
    FunctionFilter,
    QueueFilter,
)
from django_defer.admin.reading import Reach
from django_defer.admin.rendering import (
    code,
    now,
    pruned,
    quiet,
    short_id,
    stack,
    stack_instant,
    state_badge,
)
from django_defer.admin.run_list import CURSORS, RunChangeList
from django_defer.admin.run_page import run_page
from django_defer.admin.search import MOST_SEARCHED, MOST_WITHIN, search_runs
from django_defer.admin.time_filter import EnqueuedFilter
from django_defer.admin.verbs import ABORT, CANCEL, RERUN, RESCHEDULE
from django_defer.models import BackgroundFunction, Run
from django_defer.run_facts import attempts_in_words
from django_defer.states import WAITING, State
from django_defer.wording import show_duration

if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList
    from django.db.models import QuerySet
    from django.http import HttpRequest

    from django_defer.admin.pages import Page
    from django_defer.querysets import RunQuerySet


class RunAdmin(ActingAdmin):
    """What runs, ran and will run."""

    verbs = (RESCHEDULE, CANCEL, ABORT, RERUN)
    actions = as_actions(verbs)
    list_display = (
        "run_id",
        "what",
        "state_and_attempts",
        "enqueued",
        "started",
        "waited_and_took",
        "queue_and_parent",
    )
    list_display_links = ("run_id",)
    list_filter = (
        filters.StateFilter,
        EnqueuedFilter,
        filters.TroubleFilter,
        ErrorFilter,
        FunctionFilter,
        DefinitionFilter,
        filters.ParentFilter,
        filters.OriginFilter,
        QueueFilter,
    )
    search_fields = ("pk",)  # makes the box appear; `get_search_results` does the work
    search_help_text = format_lazy(
        _(
            "An id, its beginning (6 digits or more) or its last 8 digits; a pair of metadata as "
            "key:value; or a part of the function, the label, the text of an error or its class "
            "(in the newest {n} runs, or in the newest {within} of the function and time chosen)."
        ),
        n=f"{MOST_SEARCHED:,}",
        within=f"{MOST_WITHIN:,}",
    )
    ordering = ("-id",)
    sortable_by = ()
    list_per_page = 50
    not_filters = (*ActingAdmin.not_filters, *CURSORS)
    may_be_gone = _("Finished runs are pruned after a while.")

    def page(self, request: HttpRequest, row: Run) -> Page:
        """Return what the page of this run shows."""
        return run_page(row, self.links, may_see_data=may_see_data(request))

    def prepare(self, rows: list[Any]) -> None:
        """Look up which parents are still there."""
        parents = {row.parent_id for row in rows if row.parent_id}
        kept = set(Run.objects.filter(pk__in=parents).values_list("pk", flat=True))
        for row in rows:
            row.shown_parent_is_kept = row.parent_id in kept

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Leave large columns out of the list."""
        return RunChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by id or text, within bounds."""
        runs = cast("RunQuerySet", queryset)
        return search_runs(runs, search_term, lambda: self._in_order(request)), False

    def _in_order(self, request: HttpRequest) -> RunQuerySet:
        """Return what the filters keep whose index has the order of the list."""
        runs = cast("RunQuerySet", self.get_queryset(request))
        params = dict(request.GET.lists())
        for each in self.get_list_filter(request):
            if isinstance(each, type) and issubclass(each, filters.RunFilter):
                spec = each(request, params, Run, self)
                if spec.reach is Reach.ORDERED:
                    runs = cast("RunQuerySet", spec.queryset(request, runs))
        return runs

    @admin.display(description=_("run"))
    def run_id(self, run: Run) -> str:
        """The end of its id."""
        return code(short_id(run.pk))

    @admin.display(description=_("function and label"))
    def what(self, run: Run) -> str:
        """Its function, which may have no row (any more), and its label."""
        function = self.links.to(BackgroundFunction, run.function_id, run.function_id)
        label = format_html('<span class="defer-label">{}</span>', run.label) if run.label else ""
        return stack(function, label)

    @admin.display(description=_("state"))
    def state_and_attempts(self, run: Run) -> str:
        """Its state as a badge, and how many attempts were made of how many."""
        attempts = attempts_in_words(run)
        return stack(state_badge(run), quiet(attempts) if attempts else "")

    @admin.display(description=_("enqueued"))
    def enqueued(self, run: Run) -> str:
        """When it was enqueued."""
        return stack_instant(run.enqueued_at)

    @admin.display(description=_("started"))
    def started(self, run: Run) -> str:
        """When it last started, or when it is due."""
        if run.state == State.SCHEDULED:
            return format_html("{} {}", quiet(_("due")), stack_instant(run.run_after))
        return stack_instant(run.started_at)

    @admin.display(description=_("wait and duration"))
    def waited_and_took(self, run: Run) -> str:
        """How long it waited for a worker and how long the attempt took; so far, if not over."""
        at = now()
        waited, took = run.wait_time, run.duration
        if run.state in WAITING:
            waited, took = None, None
        if run.state == State.QUEUED:
            waited = at - (run.queued_at or run.enqueued_at)
        if run.state == State.RUNNING and run.started_at:
            took = at - run.started_at
        return stack(quiet(show_duration(waited)), show_duration(took))

    @admin.display(description=_("queue and parent"))
    def queue_and_parent(self, run: Any) -> str:
        """Its queue, and the run that enqueued it."""
        if run.parent_id is None:
            return str(run.queue)
        if not run.shown_parent_is_kept:
            return stack(run.queue, pruned(run.parent_id))
        return stack(run.queue, self.links.to(Run, run.parent_id, code(short_id(run.parent_id))))


def may_see_data(request: HttpRequest) -> bool:
    """Say whether this person may see arguments and results."""
    return bool(request.user.has_perm("django_defer.view_run_data"))
