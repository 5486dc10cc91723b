"""Filters by one of what may be thousands: a few are offered as links, a box finds the others.

None of them counts, and none offers a value that needs a scan. The box is a form of its own: it
narrows down what is offered (`?find_function=mail`), and leaves the list as it is.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from django.utils.translation import gettext_lazy as _

from django_defer.admin.filters import RunFilter
from django_defer.admin.reading import Reach
from django_defer.models import BackgroundFunction, CronDefinition, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.contrib.admin.views.main import ChangeList
    from django.db.models import QuerySet
    from django.http import HttpRequest

MOST_OFFERED: Final = 20
ERRORS_LOOKED_AT: Final = 1_000  # failed runs, the newest


class ChoiceFilter(RunFilter):
    """Offers MOST_OFFERED values, those with the text of its box in them, and the one asked for."""

    template = "admin/django_defer/choice_filter.html"

    def __init__(
        self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any
    ) -> None:
        self.find_name = self.parameters()[1]
        self.sought = str(params.pop(self.find_name, [""])[-1]).strip()
        self.has_more = False
        super().__init__(request, params, model, model_admin)

    @classmethod
    def parameters(cls) -> list[str]:
        """Return the names that an address may hold."""
        return [str(cls.parameter_name), f"find_{cls.parameter_name}"]

    def expected_parameters(self) -> list[str | None]:
        """Return them, as Django asks for them."""
        return [*self.parameters()]

    def offers(self, text: str) -> list[tuple[str, str]]:
        """Return a few values with this text in them, and their labels."""
        raise NotImplementedError

    def label_of(self, value: str) -> str:
        """Return the label of a value that is asked for, and may not exist."""
        return value

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer a few, the one that is asked for among them."""
        found = self.offers(self.sought)
        self.has_more = len(found) > MOST_OFFERED
        found = found[:MOST_OFFERED]
        value = self.value()
        if value and value not in dict(found):
            found.insert(0, (value, self.label_of(value)))
        return found

    def has_output(self) -> bool:
        """Say whether there is something to choose."""
        return super().has_output() or self.has_box

    @property
    def has_box(self) -> bool:
        """Whether there is more than is offered."""
        return self.has_more or bool(self.sought)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Return links; following one empties the box."""
        self.kept = [
            (name, value)
            for name, values in changelist.filter_params.items()
            if name != self.find_name
            for value in values
        ]
        for value, label in [("", _("All")), *self.lookup_choices]:
            yield {
                "selected": (self.value() or "") == value,
                "query_string": changelist.get_query_string(
                    {str(self.parameter_name): value or None, self.find_name: None}
                ),
                "display": label,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the runs with that value in the column of the same name."""
        value = self.value()
        return queryset.filter(**{str(self.parameter_name): value}) if value else queryset


class FunctionFilter(ChoiceFilter):
    """By function: those that have a row, and the one that is asked for."""

    title = _("function")
    parameter_name = "function"
    found = Reach.ORDERED

    def offers(self, text: str) -> list[tuple[str, str]]:
        """Offer the functions that were synced."""
        rows = BackgroundFunction.objects.filter(key__icontains=text).order_by("key")
        return [(key, key) for key in rows.values_list("key", flat=True)[: MOST_OFFERED + 1]]


class DefinitionFilter(ChoiceFilter):
    """By the cron definition they belong to, whether by a slot or by "run now"."""

    title = _("cron definition")
    parameter_name = "definition"
    found = Reach.ORDERED

    def offers(self, text: str) -> list[tuple[str, str]]:
        """Offer definitions by the name of their function."""
        rows = CronDefinition.objects.filter(function__pk__icontains=text).order_by("function_id")
        found = rows.values_list("pk", "function_id")[: MOST_OFFERED + 1]
        return [(str(pk), key) for pk, key in found]

    @cached_property
    def function(self) -> str | None:
        """The function of the definition."""
        value = self.value() or ""
        if not value.isdecimal():
            return None
        rows = CronDefinition.objects.filter(pk=value)
        return rows.values_list("function_id", flat=True).first()

    def label_of(self, value: str) -> str:
        """Return the name of its function."""
        return self.function or value

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the runs of that definition."""
        value = self.value()
        if not value:
            return queryset
        if not value.isdecimal():
            return queryset.none()
        return queryset.filter(definition=value)


class QueueFilter(ChoiceFilter):
    """By queue: those that functions use, and the one that is asked for."""

    title = _("queue")
    parameter_name = "queue"

    def offers(self, text: str) -> list[tuple[str, str]]:
        """Offer the queues of the functions that were synced."""
        rows = BackgroundFunction.objects.filter(queue__icontains=text).order_by("queue")
        names = rows.values_list("queue", flat=True).distinct()
        return [(name, name) for name in names[: MOST_OFFERED + 1]]


class ErrorFilter(ChoiceFilter):
    """By the class of the last error: those of the newest failed runs, and the one asked for."""

    title = _("error")
    parameter_name = "error"

    def offers(self, text: str) -> list[tuple[str, str]]:
        """Offer what failed last, the most frequent first."""
        failed = Run.objects.failed_last().values_list("error_class", flat=True)
        classes = Counter(failed[:ERRORS_LOOKED_AT])
        names = [name for name, _n in classes.most_common() if name]
        return [(name, name) for name in names if text.lower() in name.lower()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the runs whose last error is of that class."""
        return queryset.filter(error_class=self.value()) if self.value() else queryset
