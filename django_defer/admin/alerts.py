"""Alerts: what somebody is told of, what the channels answered, and who has seen it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.contrib import admin
from django.db.models import Q
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.admin.acting import ActingAdmin, as_actions
from django_defer.admin.alert_verbs import ACKNOWLEDGE
from django_defer.admin.alert_words import (
    LABELS,
    NOTHING_IS_SET,
    alert_badge,
    event_label,
    subject_link,
    subject_name,
    title_in_words,
    without_secrets,
)
from django_defer.admin.choice_filters import FunctionFilter
from django_defer.admin.pages import Page, Section, Table
from django_defer.admin.rendering import (
    badge,
    code,
    now,
    pruned,
    quiet,
    short_id,
    show_instant,
    stack,
    stack_instant,
)
from django_defer.admin.viewers import Viewer
from django_defer.alerts.composing import text_of
from django_defer.alerts.events import Event
from django_defer.alerts.recording import names_of
from django_defer.alerts.routes import routes
from django_defer.models import AlertChannel, Run
from django_defer.models.alerts import MessageKind
from django_defer.wording import EMPTY, relative, slot_in_words, with_zone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django.db.models import QuerySet
    from django.http import HttpRequest

    from django_defer.admin.rendering import Links
    from django_defer.models import Alert, AlertDelivery

MOST_DELIVERIES: Final = 50  # the latest ones
STATES: Final[Mapping[str, tuple[Any, Q]]] = {
    "open": (gettext_lazy("open"), Q(closed_at__isnull=True, acknowledged_at__isnull=True)),
    "acknowledged": (
        gettext_lazy("acknowledged"),
        Q(closed_at__isnull=True, acknowledged_at__isnull=False),
    ),
    "closed": (gettext_lazy("closed"), Q(closed_at__isnull=False)),
}


class AlertStateFilter(admin.SimpleListFilter):
    """By whether it goes on, and whether somebody has seen it."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer each state."""
        return [(name, label) for name, (label, _condition) in STATES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the alerts in that state."""
        found = STATES.get(self.value() or "")
        return queryset.filter(found[1]) if found else queryset


class EventFilter(admin.SimpleListFilter):
    """By what happened."""

    title = gettext_lazy("event")
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Offer every event."""
        return [(str(event), label) for event, label in LABELS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the alerts of that event."""
        return queryset.filter(event=self.value()) if self.value() else queryset


class SubjectFilter(FunctionFilter):
    """By the function that it is about, or what else is asked for."""

    parameter_name = "subject"


class AlertAdmin(ActingAdmin):
    """What happened that somebody is to be told."""

    verbs = (ACKNOWLEDGE,)
    actions = as_actions(verbs)
    list_display = ("what", "about", "state", "times", "opened", "last", "sent")
    list_display_links = ("what",)
    list_filter = (AlertStateFilter, EventFilter, SubjectFilter)
    list_per_page = 50
    search_fields = ("subject", "detail")
    sortable_by = ()
    ordering = ("-last_at", "-id")

    def page(self, request: HttpRequest, row: Alert) -> Page:
        """Return what the page of this alert shows."""
        return alert_page(row, Viewer(request, self.admin_site))

    @admin.display(description=gettext_lazy("what"))
    def what(self, row: Alert) -> str:
        """What kind of event it is."""
        return str(event_label(row.event))

    @admin.display(description=gettext_lazy("about"))
    def about(self, row: Alert) -> str:
        """The function or queue that it is about."""
        return row.subject or EMPTY

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: Alert) -> str:
        """Open, acknowledged by whom, or closed."""
        return stack(alert_badge(row), quiet(row.acknowledged_by) if row.acknowledged_by else "")

    @admin.display(description=gettext_lazy("count"))
    def times(self, row: Alert) -> str:
        """How often it happened."""
        return f"{row.count:,}"

    @admin.display(description=gettext_lazy("opened"))
    def opened(self, row: Alert) -> str:
        """When it began."""
        return stack_instant(row.opened_at)

    @admin.display(description=gettext_lazy("last"))
    def last(self, row: Alert) -> str:
        """When it happened last."""
        return stack(relative(row.last_at, now()))

    @admin.display(description=gettext_lazy("messages"))
    def sent(self, row: Alert) -> str:
        """How many messages were made."""
        return str(row.messages or EMPTY)


def alert_page(alert: Alert, links: Links) -> Page:
    """Return the page of an alert."""
    at = now()
    return Page(
        title=capfirst(event_label(alert.event)),
        subtitle=alert.subject,
        badge=alert_badge(alert),
        sentences=[each for each in _sentences(alert) if each],
        sections=[
            Section(
                title=_("Alert"),
                is_half=True,
                facts=[
                    (_("Event"), code(alert.event)),
                    (capfirst(subject_name(alert)), subject_link(alert, links)),
                    (_("Count"), f"{alert.count:,}"),
                    (_("Opened"), show_instant(alert.opened_at, beside=at)),
                    (_("Last"), show_instant(alert.last_at, beside=at)),
                    (_("Closed"), _instant(alert.closed_at, at)),
                ],
            ),
            Section(title=_("Messages"), is_half=True, facts=_messages(alert, links, at)),
            Section(title=_("Examples"), table=_examples(alert, links)),
            Section(title=_("Deliveries"), table=_deliveries(alert, links, at)),
        ],
    )


def _sentences(alert: Alert) -> list[str]:
    """Say what happened, and who knows."""
    said = [f"{title_in_words(alert)}.", text_of(alert, MessageKind.OPENED)]
    if alert.acknowledged_at is not None:
        said.append(
            _("Acknowledged by %(who)s at %(time)s: no reminder is sent.")
            % {"who": alert.acknowledged_by, "time": with_zone(alert.acknowledged_at)}
        )
    return said


def _instant(instant: datetime | None, at: datetime) -> str:
    return show_instant(instant, beside=at) if instant else ""


def _messages(alert: Alert, links: Links, at: datetime) -> list[tuple[Any, Any]]:
    waits = alert.is_open and alert.acknowledged_at is None
    return [
        (_("Made"), str(alert.messages)),
        (_("Told of"), _told(alert)),
        (_("Next, if there is news"), _instant(alert.next_message_at, at) if waits else ""),
        (_("Who is told"), _who(alert)),
        (_("Acknowledged by"), alert.acknowledged_by),
        (_("Acknowledged at"), _instant(alert.acknowledged_at, at)),
    ]


def _told(alert: Alert) -> str:
    return _("%(n)s of %(all)s") % {"n": f"{alert.told_count:,}", "all": f"{alert.count:,}"}


def _who(alert: Alert) -> Any:
    """Return the channels that want it now."""
    if not routes():
        return NOTHING_IS_SET
    if alert.event not in set(Event):
        return ""
    event, names = Event(alert.event), names_of(alert.subject)
    told = [route.name for route in routes() if route.wants(event, alert.subject, names)]
    return ", ".join(told) or _("Nobody: no channel lists this event of it.")


def _examples(alert: Alert, links: Links) -> Table:
    """Show what was kept of a few events, the newest first."""
    said = list(reversed(alert.examples))
    ids = [UUID(each["run_id"]) for each in said if each.get("run_id")]
    kept = set(Run.objects.filter(pk__in=ids).values_list("pk", flat=True)) if ids else set()
    return Table(
        headings=(_("When"), _("Run"), _("Attempts"), _("From"), _("Error")),
        rows=[_example(each, kept, links) for each in said],
    )


def _example(said: Mapping[str, Any], kept: set[UUID], links: Links) -> Sequence[Any]:
    run: Any = EMPTY
    if said.get("run_id"):
        pk = UUID(said["run_id"])
        run = links.to(Run, pk, code(short_id(pk))) if pk in kept else pruned(pk)
    pairs = said.get("metadata") or {}
    slot = said.get("slot")
    return (
        stack_instant(datetime.fromisoformat(said["at"])),
        stack(run, said.get("label"), *(quiet(f"{key}: {text}") for key, text in pairs.items())),
        said.get("attempts") or EMPTY,
        said.get("fan_out") or (slot_in_words(datetime.fromisoformat(slot)) if slot else EMPTY),
        said.get("error") or EMPTY,
    )


def _deliveries(alert: Alert, links: Links, at: datetime) -> Table:
    """Show each message to each channel, the newest first."""
    rows = alert.deliveries.order_by("-pk")[:MOST_DELIVERIES]
    return Table(
        headings=(_("Message"), _("Channel"), _("State"), _("Attempts"), _("Answer")),
        rows=[
            (
                f"{row.number}, {row.get_kind_display()}",
                links.to(AlertChannel, row.channel, row.channel),
                _state(row, at),
                row.attempts,
                without_secrets(row.answer, row.channel) or EMPTY,
            )
            for row in rows
        ],
    )


def _state(row: AlertDelivery, at: datetime) -> str:
    if row.sent_at is not None:
        return stack(badge("succeeded", _("sent")), show_instant(row.sent_at))
    if row.given_up_at is not None:
        return stack(badge("failed", _("given up")), show_instant(row.given_up_at))
    due = format_html(_("due {}"), show_instant(row.due_at, beside=at))
    return stack(badge("retrying" if row.attempts else "queued", _("waits")), due)
