"""Alert channels: whom the setting ALERTS names, and how each of them was doing.

A channel has a page before it has sent anything. Its options, such as addresses and passwords, are
on no page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.contrib import admin, messages
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.admin.acting import ActingAdmin
from django_defer.admin.alert_verbs import SEND_TEST
from django_defer.admin.alert_words import (
    NOTHING_IS_SET,
    channel_badge,
    route_of,
    title_in_words,
    without_secrets,
)
from django_defer.admin.base import ReadingChangeList
from django_defer.admin.pages import Page, Section, Table
from django_defer.admin.rendering import (
    Links,
    code,
    now,
    quiet,
    show_instant,
    stack,
)
from django_defer.alerts.events import DEFAULT, Event
from django_defer.alerts.routes import routes
from django_defer.alerts.slots import WATCH
from django_defer.models import Alert, AlertChannel, AlertDelivery
from django_defer.wording import EMPTY, relative

if TYPE_CHECKING:
    from datetime import datetime

    from django.contrib.admin.views.main import ChangeList
    from django.http import HttpRequest

    from django_defer.alerts.routes import Route

LATEST: Final = 10  # deliveries that a page shows


class ChannelList(ReadingChangeList):
    """The channels of the settings in their order, then those that were there once."""

    def get_results(self, request: HttpRequest) -> None:
        """Put the channels that have no row beside those that have one."""
        super().get_results(request)
        known = {row.name: row for row in self.result_list if row.name != WATCH}
        listed = [known.pop(r.name, None) or AlertChannel(name=r.name) for r in routes()]
        self.result_list = [*listed, *known.values()]
        self.result_count = self.full_result_count = len(self.result_list)


class AlertChannelAdmin(ActingAdmin):
    """Who is told."""

    verbs = (SEND_TEST,)
    actions = None
    list_display = ("name", "status", "events", "functions", "rate", "last_delivery", "error")
    list_display_links = ("name",)
    sortable_by = ()
    ordering = ("name",)
    list_per_page = 1000

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """List what the settings name."""
        return ChannelList

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Say so if there is nobody to tell."""
        if not routes() and request.method == "GET":
            self.message_user(request, NOTHING_IS_SET, messages.WARNING)
        return super().changelist_view(request, extra_context)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> AlertChannel | None:
        """Return the row, or an unsaved one if the settings have such a channel."""
        row: AlertChannel | None = super().get_object(request, object_id, from_field)
        if row is None and route_of(object_id) is not None:
            return AlertChannel(name=object_id)
        return row

    def page(self, request: HttpRequest, row: AlertChannel) -> Page:
        """Return what the page of this channel shows."""
        return channel_page(row, self.links)

    @admin.display(description=gettext_lazy("status"))
    def status(self, row: AlertChannel) -> str:
        """Works, failing, waits; until when."""
        at = now()
        waits = row.not_before if row.not_before and row.not_before > at else None
        until = quiet(_("tried again %(time)s") % {"time": relative(waits, at)}) if waits else ""
        return stack(channel_badge(row, route_of(row.name), at), until)

    @admin.display(description=gettext_lazy("events"))
    def events(self, row: AlertChannel) -> str:
        """What it is told of."""
        route = route_of(row.name)
        return events_in_words(route) if route else EMPTY

    @admin.display(description=gettext_lazy("functions"))
    def functions(self, row: AlertChannel) -> str:
        """Which functions it is told of."""
        route = route_of(row.name)
        return functions_in_words(route) if route else EMPTY

    @admin.display(description=gettext_lazy("rate"))
    def rate(self, row: AlertChannel) -> str:
        """How many messages it gets at most."""
        route = route_of(row.name)
        return rate_in_words(route) if route else EMPTY

    @admin.display(description=gettext_lazy("last delivery"))
    def last_delivery(self, row: AlertChannel) -> str:
        """When it was told something."""
        return relative(row.last_sent_at, now()) if row.last_sent_at else EMPTY

    @admin.display(description=gettext_lazy("last error"))
    def error(self, row: AlertChannel) -> str:
        """When it could not be told something, and why."""
        if row.last_error_at is None:
            return EMPTY
        when = quiet(relative(row.last_error_at, now()))
        return stack(when, without_secrets(row.last_error, row.name))


def channel_page(channel: AlertChannel, links: Links) -> Page:
    """Return the page of a channel."""
    at, route = now(), route_of(channel.name)
    waits = channel.not_before if channel.not_before and channel.not_before > at else None
    return Page(
        title=channel.name,
        badge=channel_badge(channel, route, at),
        sentences=[] if route else [_("The setting ALERTS has no such channel any more.")],
        sections=[
            Section(title=_("In the settings"), is_half=True, facts=_facts(route)),
            Section(
                title=_("How it is doing"),
                is_half=True,
                facts=[
                    (_("Last delivery"), show_instant(channel.last_sent_at, beside=at)),
                    (_("Last error"), _error(channel, at)),
                    (_("Failures in a row"), str(channel.failures or "")),
                    (_("Not before"), _instant(waits, at)),
                ],
            ),
            Section(title=_("Latest deliveries"), table=_deliveries(channel, links)),
        ],
    )


def _facts(route: Route | None) -> list[tuple[Any, Any]]:
    if route is None:
        return []
    return [
        (_("Class"), code(route.path)),
        (_("Events"), events_in_words(route)),
        (_("Functions"), functions_in_words(route)),
        (_("Rate"), rate_in_words(route)),
    ]


def events_in_words(route: Route) -> str:
    """Return which events it is told of."""
    if route.events == DEFAULT:
        return _("the default")
    if route.events == set(Event):
        return _("all")
    return ", ".join(event for event in Event if event in route.events)


def functions_in_words(route: Route) -> str:
    """Return the patterns of the functions that it is told of."""
    return _("all") if route.functions == ("*",) else ", ".join(route.functions)


def rate_in_words(route: Route) -> str:
    """Return how many messages it gets at most."""
    return _("%(n)s a minute") % {"n": route.rate}


def _instant(instant: datetime | None, at: datetime) -> str:
    return show_instant(instant, beside=at) if instant else ""


def _error(channel: AlertChannel, at: datetime) -> str:
    if channel.last_error_at is None:
        return ""
    said = without_secrets(channel.last_error, channel.name)
    return stack(show_instant(channel.last_error_at, beside=at), said)


def _deliveries(channel: AlertChannel, links: Links) -> Table:
    """Show what it was told last, from the index of what was sent."""
    rows = AlertDelivery.objects.filter(channel=channel.name, sent_at__isnull=False)
    latest = rows.select_related("alert").order_by("-sent_at")[:LATEST]
    return Table(
        headings=(_("When"), _("Alert"), _("Message"), _("Answer")),
        rows=[
            (
                show_instant(row.sent_at),
                links.to(Alert, row.alert_id, title_in_words(row.alert)),
                f"{row.number}, {row.get_kind_display()}",
                without_secrets(row.answer, channel.name) or EMPTY,
            )
            for row in latest
        ],
    )
