"""The dashboard: what a person on call looks at first. Values only; the template lays them out.

Whoever may see runs sees all of it; others see the parts about what they may see.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.utils.translation import gettext as _

from django_defer.admin.dashboard_alerts import alerts_card
from django_defer.admin.dashboard_cards import (
    Card,
    clusters_card,
    definitions_card,
    failed_card,
    queues_card,
)
from django_defer.admin.dashboard_history import HistoryCard, history_card, slots_card
from django_defer.admin.judgement import Judgement, judge
from django_defer.admin.viewers import Viewer, site_of
from django_defer.clock import database_now
from django_defer.conf import conf
from django_defer.history import history
from django_defer.history_statements import SPANS
from django_defer.models import (
    Alert,
    AlertChannel,
    BackgroundFunction,
    Cluster,
    CronDefinition,
    Queue,
    Run,
)
from django_defer.reports import status
from django_defer.wording import as_text, zone_name

if TYPE_CHECKING:
    from django.http import HttpRequest

REFRESH_SECONDS: Final = 5
DEFINITIONS_LISTED: Final = 10


@dataclass(slots=True)
class Dashboard:
    """What the page shows."""

    now: Any
    updated: str
    zone: str
    refresh: int
    pages: list[tuple[Any, str]]
    judgement: Judgement | None = None
    history: HistoryCard | None = None
    before: list[Card] = field(default_factory=list)  # above the numbers
    after: list[Card] = field(default_factory=list)  # below them


def dashboard(request: HttpRequest) -> Dashboard:
    """Return what the page shows to this person now."""
    viewer = Viewer(request, site_of(request))
    now = database_now(str(conf.database))
    updated = as_text(now).split(" ")[1]
    page = Dashboard(now, updated, zone_name(), REFRESH_SECONDS, _pages(viewer))
    found = status(now, most=DEFINITIONS_LISTED)
    page.judgement = judge(found, viewer)
    if viewer.is_shown(Cluster):
        page.before.append(clusters_card(found, viewer))
    if viewer.is_shown(Queue):
        page.before.append(queues_card(found, viewer))
    if viewer.is_shown(Alert):
        page.before.append(alerts_card(now, viewer))
    if viewer.may_view(Run):
        span = SPANS.get(request.GET.get("span", ""), SPANS["hour"])
        page.history = history_card(history(span, now), viewer)
        page.after.append(failed_card(now, viewer))
    if viewer.is_shown(CronDefinition):
        page.after.append(slots_card(now, viewer))
    if viewer.is_shown(CronDefinition) or viewer.is_shown(BackgroundFunction):
        page.after.append(definitions_card(found, viewer))
    return page


def _pages(viewer: Viewer) -> list[tuple[Any, str]]:
    names = {
        Run: _("Runs"),
        BackgroundFunction: _("Background functions"),
        CronDefinition: _("Cron definitions"),
        Queue: _("Queues"),
        Cluster: _("Clusters"),
        Alert: _("Alerts"),
        AlertChannel: _("Alert channels"),
    }
    found = ((name, viewer.url(model, "changelist")) for model, name in names.items())
    return [(name, url) for name, url in found if url]
