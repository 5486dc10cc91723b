"""The filters of the lists. None of them counts, and none offers a value that needs a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_defer.admin.reading import Reach
from django_defer.admin.rendering import short_id
from django_defer.models import Run
from django_defer.run_facts import RETRYING
from django_defer.states import UNFINISHED, State

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest


class RunFilter(admin.SimpleListFilter):
    """One of the filters of the list of runs; it knows how the runs that it keeps are found."""

    found = Reach.SCANNED

    @property
    def reach(self) -> Reach | None:
        """How they are found; None if the filter is not in use."""
        return self.found if self.value() else None


class StateFilter(RunFilter):
    """By the state that is shown: "retrying" is one, "scheduled" is what never failed."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer every state."""
        states = [(str(value), label) for value, label in State.choices]
        return [*states[:1], (RETRYING, _("retrying")), *states[1:]]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        """Keep the runs in that state."""
        value = self.value()
        if value == RETRYING:
            return queryset.retrying()
        if value == State.SCHEDULED:
            return queryset.filter(state=value, failures=0, losses=0)
        return queryset.in_state(value) if value else queryset

    @property
    def reach(self) -> Reach | None:
        """Failed runs have an index in order, those that wait or run have others."""
        value = self.value()
        if value == State.FAILED:
            return Reach.ORDERED
        return Reach.INDEXED if value in UNFINISHED or value == RETRYING else super().reach


class OriginFilter(RunFilter):
    """By where a run comes from."""

    title = _("origin")
    parameter_name = "origin"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer schedule, run, rerun and everything else."""
        return [
            ("slot", _("a slot of the schedule")),
            ("run", _("another run")),
            ("rerun", _("a rerun")),
            ("call", _("a call from elsewhere")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the runs of that origin."""
        filters: dict[str | None, dict[str, bool]] = {
            "slot": {"slot__isnull": False},
            "run": {"parent__isnull": False, "rerun_of__isnull": True},
            "rerun": {"rerun_of__isnull": False},
            "call": {"slot__isnull": True, "parent__isnull": True, "rerun_of__isnull": True},
        }
        return queryset.filter(**filters.get(self.value(), {}))


class TroubleFilter(RunFilter):
    """By what went wrong on the way, whatever became of the run."""

    title = _("trouble")
    parameter_name = "trouble"
    kinds: dict[str, tuple[Any, Q]] = {
        "attempts": (_("more than one attempt"), Q(attempt__gt=1)),
        "failures": (_("a failed attempt"), Q(failures__gt=0)),
        "losses": (_("a lost attempt"), Q(losses__gt=0)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer each kind."""
        return [(name, label) for name, (label, _condition) in self.kinds.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the runs that had it."""
        value = self.value()
        return queryset.filter(self.kinds[value][1]) if value in self.kinds else queryset


class ParentFilter(RunFilter):
    """By the run that enqueued them; shown only where a link leads to it."""

    title = _("enqueued by")
    parameter_name = "parent"
    found = Reach.INDEXED

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer the run that is asked for."""
        value = self.value()
        if not value:
            return []
        parent = _uuid(value)
        if parent is None:
            return [(value, _("no run"))]
        is_kept = Run.objects.filter(pk=parent).exists()
        text = _("run %s") if is_kept else _("run %s (pruned)")
        return [(value, text % short_id(parent))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the runs that this run enqueued."""
        if not self.value():
            return queryset
        parent = _uuid(self.value())
        return queryset.filter(parent=parent) if parent else queryset.none()


class StatusFilter(admin.SimpleListFilter):
    """Functions: active, paused, or no longer in the code."""

    title = _("status")
    parameter_name = "status"
    statuses: dict[str, tuple[Any, Q]] = {
        "active": (_("active"), Q(paused_at__isnull=True, orphaned_at__isnull=True)),
        "paused": (_("paused"), Q(paused_at__isnull=False)),
        "orphaned": (_("no longer in the code"), Q(orphaned_at__isnull=False)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer each status."""
        return [(name, label) for name, (label, _condition) in self.statuses.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows of that status."""
        value = self.value()
        return queryset.filter(self.statuses[value][1]) if value in self.statuses else queryset


class DefinitionStatusFilter(StatusFilter):
    """Definitions: the same, and what else keeps one from firing, or changes when it does."""

    statuses = {
        **StatusFilter.statuses,
        "active": (_("active"), StatusFilter.statuses["active"][1] & Q(enabled=True, error="")),
        "error": (_("error"), ~Q(error="")),
        "off": (_("switched off"), Q(enabled=False)),
        "overridden": (_("overridden"), ~Q(expression_override="", timezone_override="")),
    }


def _uuid(value: str | None) -> UUID | None:
    try:
        return UUID(value or "")
    except ValueError:
        return None
