"""The dashboard's card of alerts: what is open, and whether anybody is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_defer.admin.alert_words import (
    NOTHING_IS_SET,
    alert_badge,
    event_label,
    without_secrets,
)
from django_defer.admin.dashboard_cards import Card, Row, number, show_instant_ago
from django_defer.admin.rendering import badge, quiet, stack
from django_defer.alerts.routes import routes
from django_defer.models import Alert, AlertChannel
from django_defer.status_text import one_line
from django_defer.wording import EMPTY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from django_defer.admin.viewers import Viewer

MOST_LISTED: Final = 5
MOST_COUNTED: Final = 100
MOST_CHANNELS: Final = 5


def alerts_card(now: datetime, viewer: Viewer) -> Card:
    """List the alerts that are open, the newest first, and the channels that fail."""
    found = list(
        Alert.objects.filter(closed_at__isnull=True)
        .order_by("-last_at", "-pk")
        .defer("examples", "detail")[: MOST_COUNTED + 1]
    )
    return Card(
        name="alerts",
        title=_("Alerts"),
        headings=(_("What"), _("State"), number(_("Count")), number(_("Last"))),
        rows=[Row(alert.pk, _cells(alert, now, viewer)) for alert in found[:MOST_LISTED]],
        empty=_("No alert is open."),
        text=stack(*lines) if (lines := list(_lines(found, now, viewer))) else "",
        more=viewer.to_list(Alert, _("All alerts")) if viewer.may_view(Alert) else "",
    )


def _cells(alert: Alert, now: datetime, viewer: Viewer) -> list[Any]:
    what = viewer.to(Alert, alert.pk, f"{event_label(alert.event)} {alert.subject}".strip())
    who = quiet(alert.acknowledged_by) if alert.acknowledged_by else ""
    return [
        what,
        stack(alert_badge(alert), who),
        number(f"{alert.count:,}"),
        number(show_instant_ago(alert.last_at, now)),
    ]


def _lines(found: list[Alert], now: datetime, viewer: Viewer) -> Iterator[str]:
    """Yield how many there are if not all are listed, and what is wrong with the channels."""
    if len(found) > MOST_LISTED:
        many = f"{MOST_COUNTED}+" if len(found) > MOST_COUNTED else str(len(found))
        unseen = sum(alert.acknowledged_at is None for alert in found[:MOST_COUNTED])
        yield ngettext(
            "%(n)s alerts are open; nobody has acknowledged %(unseen)s of them.",
            "%(n)s alerts are open; nobody has acknowledged %(unseen)s of them.",
            len(found),
        ) % {"n": many, "unseen": unseen}
    names = [route.name for route in routes()]
    if not names:
        yield str(NOTHING_IS_SET)
    elif viewer.is_shown(AlertChannel):
        failing = AlertChannel.objects.filter(name__in=names, failures__gt=0)
        for channel in failing.order_by("-last_error_at", "name")[:MOST_CHANNELS]:
            yield _failing(channel, now, viewer)


def _failing(channel: AlertChannel, now: datetime, viewer: Viewer) -> str:
    name = viewer.to(AlertChannel, channel.pk, channel.name)
    said = one_line(without_secrets(channel.last_error, channel.name)) or EMPTY
    when: Any = EMPTY
    if channel.last_error_at is not None:
        when = show_instant_ago(channel.last_error_at, now)
    words = format_html(_("Channel {} {} {}: {}"), name, badge("failed", _("failing")), when, said)
    return format_html('<span class="defer-told">{}</span>', words)
