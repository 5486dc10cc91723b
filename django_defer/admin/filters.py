"""The filters of the lists. None of them counts, and none offers a value that needs a scan."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.contrib import admin
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_defer.admin.rendering import now, short_id
from django_defer.ids import first_uuid7_of
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.run_facts import RETRYING
from django_defer.states import State
from django_defer.wording import display_zone

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

SPANS: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
ERRORS_LOOKED_AT: Final = 1_000  # failed runs, the newest
CLOCKS_APART: Final = timedelta(days=1)  # more than an id's clock is off the database's


class StateFilter(admin.SimpleListFilter):
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


class FunctionFilter(admin.SimpleListFilter):
    """By function: those that have a row, and the one that is asked for."""

    title = _("function")
    parameter_name = "function"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the functions that were synced."""
        keys = set(BackgroundFunction.objects.values_list("key", flat=True))
        return [(key, key) for key in sorted(keys | _asked(self))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the runs of that function."""
        return queryset.filter(function=self.value()) if self.value() else queryset


class QueueFilter(admin.SimpleListFilter):
    """By queue: those that functions use, and the one that is asked for."""

    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the queues of the functions that were synced."""
        names = set(BackgroundFunction.objects.values_list("queue", flat=True).order_by())
        return [(name, name) for name in sorted(names | _asked(self))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep what is in that queue."""
        return queryset.filter(queue=self.value()) if self.value() else queryset


class OriginFilter(admin.SimpleListFilter):
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


class TroubleFilter(admin.SimpleListFilter):
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


class ErrorFilter(admin.SimpleListFilter):
    """By the class of the last error: those of the newest failed runs, and the one asked for."""

    title = _("error")
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer what failed last."""
        failed = Run.objects.failed_last()
        classes = set(failed.values_list("error_class", flat=True)[:ERRORS_LOOKED_AT]) - {""}
        return [(name, name) for name in sorted(classes | _asked(self))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the runs whose last error is of that class."""
        return queryset.filter(error_class=self.value()) if self.value() else queryset


class ParentFilter(admin.SimpleListFilter):
    """By the run that enqueued them; shown only where a link leads to it."""

    title = _("enqueued by")
    parameter_name = "parent"

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


class DefinitionFilter(admin.SimpleListFilter):
    """By the cron definition they belong to, whether by a slot or by "run now"."""

    title = _("cron definition")
    parameter_name = "definition"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer every definition."""
        rows = CronDefinition.objects.values_list("pk", "function_id").order_by("function_id")
        return [(str(pk), key) for pk, key in rows]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the runs of that definition."""
        value = self.value()
        if not value:
            return queryset
        return queryset.filter(definition=value) if value.isdecimal() else queryset.none()


class EnqueuedFilter(admin.SimpleListFilter):
    """By when they were enqueued. A run's id begins with its time, so its index finds them."""

    title = _("enqueued")
    parameter_name = "enqueued"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer a few spans that end now."""
        return [
            ("hour", _("past hour")),
            ("today", _("today")),
            ("day", _("past 24 hours")),
            ("week", _("past 7 days")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the runs of that span."""
        since = self._since()
        if since is None:
            return queryset
        return queryset.filter(pk__gte=first_uuid7_of(since - CLOCKS_APART), enqueued_at__gte=since)

    def _since(self) -> datetime | None:
        value = self.value()
        if value == "today":
            local = now().astimezone(display_zone())
            return local.replace(hour=0, minute=0, second=0, microsecond=0)
        return now() - SPANS[value] if value in SPANS else None


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


def _asked(choice: admin.SimpleListFilter) -> set[str]:
    return {value} if (value := choice.value()) else set()


def _uuid(value: str | None) -> UUID | None:
    try:
        return UUID(value or "")
    except ValueError:
        return None
