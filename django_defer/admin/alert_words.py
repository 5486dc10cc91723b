"""Alerts and their channels in words and badges, for the pages and the dashboard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Min
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.admin.rendering import badge, show_instant
from django_defer.alerts.composing import title_of
from django_defer.alerts.events import FAILURES, Event
from django_defer.alerts.http import SHORTEST_SECRET, secrets_of
from django_defer.alerts.routes import routes
from django_defer.models import Alert, BackgroundFunction, Queue, Run
from django_defer.models.alerts import MessageKind
from django_defer.redaction import hide
from django_defer.states import State

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet

    from django_defer.admin.rendering import Links
    from django_defer.alerts.routes import Route
    from django_defer.models import AlertChannel

LABELS: Final[Mapping[str, Any]] = {
    Event.RUN_FAILED: gettext_lazy("run failed"),
    Event.RUN_RETRYING: gettext_lazy("run retrying"),
    Event.RUN_LOST: gettext_lazy("run lost"),
    Event.RUN_TIMED_OUT: gettext_lazy("run timed out"),
    Event.RUN_SLOW: gettext_lazy("run slow"),
    Event.RUN_RECOVERED: gettext_lazy("run recovered"),
    Event.RUN_SUCCEEDED: gettext_lazy("run succeeded"),
    Event.RUN_DISCARDED: gettext_lazy("run discarded"),
    Event.SLOT_MISSED: gettext_lazy("slot missed"),
    Event.DEFINITION_ERROR: gettext_lazy("definition error"),
    Event.QUEUE_STALLED: gettext_lazy("queue stalled"),
    Event.NO_WORKERS: gettext_lazy("no workers"),
    Event.SCHEDULER_STALLED: gettext_lazy("scheduler stalled"),
}
OF_QUEUES: Final = frozenset({Event.QUEUE_STALLED, Event.NO_WORKERS})
NOTHING_IS_SET: Final = gettext_lazy("Nobody is told: the setting ALERTS has no channel.")
_SECRET_KEYS: Final = ("url", "secret", "password", "token", "key")


def event_label(event: str) -> Any:
    """Return what kind of event it is; as it is called where only newer code knows it."""
    return LABELS.get(event, event)


def title_in_words(alert: Alert) -> str:
    """Return what happened in one line, as a first message would say it now."""
    try:
        return title_of(alert, MessageKind.OPENED, None)
    except (KeyError, ValueError):  # an event that only newer code knows
        return str(alert)


def alert_badge(alert: Alert) -> str:
    """Return whether it goes on, and whether somebody knows."""
    if not alert.is_open:
        return badge("succeeded", _("closed"))
    if alert.acknowledged_at is not None:
        return badge("paused", _("acknowledged"))
    return badge("failed", _("open"))


def subject_link(alert: Alert, links: Links) -> str:
    """Return the function or queue that it is about, with a link."""
    if not alert.subject:
        return ""
    if alert.event in OF_QUEUES:
        waiting = {"queue": alert.subject, "state": str(State.QUEUED)}
        return links.to_list(Run, alert.subject, **waiting)
    return links.to(BackgroundFunction, alert.subject, alert.subject)


def subject_name(alert: Alert) -> Any:
    """Return what a subject is called."""
    model = Queue if alert.event in OF_QUEUES else BackgroundFunction
    return model._meta.verbose_name if alert.subject else ""


def open_alerts_about(run: Run) -> QuerySet[Alert]:
    """Return the open alerts that may have this run as an example, by their index."""
    events = sorted({*FAILURES, Event.RUN_SLOW, Event.RUN_DISCARDED, Event.SLOT_MISSED})
    return Alert.objects.filter(
        event__in=events, subject=str(run.function_id), closed_at__isnull=True
    ).order_by("event")


def told_in_words(run: Run, links: Links) -> str:
    """Return "run failed: told slack 2026-11-25 08:04:12 UTC" if an open alert shows this run."""
    pk = str(run.pk)
    found = [
        alert
        for alert in open_alerts_about(run)
        if any(each.get("run_id") == pk for each in alert.examples)
    ]
    return format_html_join("; ", "{}", ((_told_of(alert, links),) for alert in found))


def _told_of(alert: Alert, links: Links) -> str:
    sent = alert.deliveries.filter(sent_at__isnull=False).values_list("channel")
    first = sorted(sent.order_by().annotate(first=Min("sent_at")))
    link = links.to(Alert, alert.pk, event_label(alert.event))
    if not first:
        return link
    told = format_html_join(", ", "{} {}", ((name, show_instant(at)) for name, at in first))
    words = format_html(_("{}: told {}"), link, told)
    return format_html('<span class="defer-told">{}</span>', words)


# -- channels --------------------------------------------------------------------------------------


def route_of(name: str) -> Route | None:
    """Return the entry of ALERTS of that name."""
    return next((route for route in routes() if route.name == name), None)


def channel_badge(channel: AlertChannel, route: Route | None, at: datetime) -> str:
    """Return how a channel is doing."""
    if route is None:
        return badge("orphaned", _("not in the settings"))
    if channel.failures:
        return badge("failed", _("failing"))
    if channel.not_before is not None and channel.not_before > at:
        return badge("paused", _("waits"))
    if channel.last_sent_at is None:
        return badge("unknown", _("not used yet"))
    return badge("active", _("works"))


def without_secrets(text: str, name: str) -> str:
    """Return what a channel has said, with a mask for what its options keep secret."""
    route = route_of(name)
    if route is None:
        return text
    secrets = {each for each in _secrets(route.options) if len(each) >= SHORTEST_SECRET}
    return hide(text, sorted(secrets, key=len, reverse=True))


def _secrets(value: object, *, is_secret: bool = False) -> Iterator[str]:
    """Yield the texts that are addresses, or called like a secret."""
    if isinstance(value, str) and "://" in value:
        yield from secrets_of(value)
    elif isinstance(value, str) and is_secret:
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            named = any(word in str(key).lower() for word in _SECRET_KEYS)
            yield from _secrets(each, is_secret=is_secret or named)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from _secrets(each, is_secret=is_secret)
