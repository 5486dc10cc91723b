"""The filter by when runs were enqueued: a few spans that end now, or from and until what is typed.

A run's id begins with the time it was made at, so the primary key finds the runs of a time. The
clock of the id is that of the host that enqueued the run; `enqueued_at`, which is shown, is the
database's.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.admin.filters import RunFilter
from django_defer.admin.reading import Reach
from django_defer.admin.rendering import now
from django_defer.ids import first_uuid7_of
from django_defer.wording import display_zone, zone_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.contrib.admin.views.main import ChangeList
    from django.db.models import QuerySet
    from django.http import HttpRequest

SPANS: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}
CLOCKS_APART: Final = timedelta(hours=1)  # more than an id's clock is off the database's
YEARS: Final = range(1971, 9000)  # around these there are ids on both sides
FROM: Final = "from"
UNTIL: Final = "until"


class MomentField(forms.DateTimeField):
    """An instant in the zone that is shown."""

    def __init__(self, label: Any) -> None:
        attrs = {"type": "datetime-local", "step": "1", "max": "8999-12-31T23:59:59"}
        super().__init__(label=label, required=False, widget=forms.DateTimeInput(attrs=attrs))

    def clean(self, value: Any) -> datetime | None:
        """Refuse years that no run is of."""
        instant: datetime | None = super().clean(value)
        if instant is None:
            return None
        if instant.year not in YEARS:
            raise ValidationError(_("Enter a year from 1971 to 8999."))
        return instant if instant.tzinfo else instant.replace(tzinfo=display_zone())


class TimeForm(forms.Form):
    """From when until when."""

    def __init__(self, data: dict[str, str]) -> None:
        super().__init__(data, auto_id="enqueued-%s")
        self.fields = {
            FROM: MomentField(gettext_lazy("From")),
            UNTIL: MomentField(gettext_lazy("Until")),
        }

    def clean(self) -> dict[str, Any]:
        """Refuse a time that ends before it begins."""
        since, until = self.cleaned_data.get(FROM), self.cleaned_data.get(UNTIL)
        if since and until and until <= since:
            self.add_error(UNTIL, _("This is not after “From”."))
        return self.cleaned_data


class EnqueuedFilter(RunFilter):
    """By when they were enqueued. What is typed goes before the span that is chosen."""

    title = gettext_lazy("enqueued")
    parameter_name = "enqueued"
    found = Reach.ORDERED
    template = "admin/django_defer/time_filter.html"

    def __init__(
        self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any
    ) -> None:
        typed = {name: params.pop(name, [""])[-1].strip() for name in (FROM, UNTIL)}
        super().__init__(request, params, model, model_admin)
        self.form = TimeForm(typed)
        self.is_typed = any(typed.values())
        self.zone = zone_name()

    @classmethod
    def parameters(cls) -> list[str]:
        """Return the names that an address may hold."""
        return [str(cls.parameter_name), FROM, UNTIL]

    def expected_parameters(self) -> list[str | None]:
        """Return them, as Django asks for them."""
        return [*self.parameters()]

    @property
    def reach(self) -> Reach | None:
        """The primary key finds them."""
        return self.found if any(self.bounds) else None

    @property
    def problems(self) -> list[str]:
        """What is wrong with what was typed."""
        errors = self.form.errors.items()
        return [f"{self.form[name].label}: {text}" for name, texts in errors for text in texts]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer a few spans that end now."""
        return [
            ("hour", _("past hour")),
            ("today", _("today")),
            ("day", _("past 24 hours")),
            ("week", _("past 7 days")),
        ]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Return links; following one empties the fields."""
        self.kept = [
            (name, value)
            for name, values in changelist.filter_params.items()
            if name not in self.parameters()
            for value in values
        ]
        asked = "" if self.is_typed else self.value() or ""
        for value, label in [("", _("All")), *self.lookup_choices]:
            yield {
                "selected": value == asked and not self.is_typed,
                "query_string": changelist.get_query_string(
                    {str(self.parameter_name): value or None, FROM: None, UNTIL: None}
                ),
                "display": label,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the runs of that time; none, if it cannot be understood."""
        since, until = self.bounds
        if since is not None:
            queryset = queryset.filter(enqueued_at__gte=since)
        if until is not None:
            queryset = queryset.filter(enqueued_at__lt=until)
        return self.by_id_alone(request, queryset)

    def by_id_alone(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the runs whose ids are near that time.

        A planner that is told the same thing twice expects far too few.
        """
        if not self.form.is_valid():
            return queryset.none()
        since, until = self.bounds
        if since is not None:
            queryset = queryset.filter(pk__gte=first_uuid7_of(since - CLOCKS_APART))
        if until is not None:
            queryset = queryset.filter(pk__lt=first_uuid7_of(until + CLOCKS_APART))
        return queryset

    @cached_property
    def bounds(self) -> tuple[datetime | None, datetime | None]:
        """From when, and before when."""
        if self.is_typed:
            typed = self.form.cleaned_data if self.form.is_valid() else {}
            return typed.get(FROM), typed.get(UNTIL)
        value = self.value()
        if value == "today":
            local = now().astimezone(display_zone())
            return local.replace(hour=0, minute=0, second=0, microsecond=0), None
        return (now() - SPANS[value] if value in SPANS else None), None
