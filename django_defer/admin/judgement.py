"""Is it working right now? The judgement of `defer_status`, in the language of the reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_defer.models import CronDefinition, Queue
from django_defer.status_text import one_line
from django_defer.troubles import Kind, troubles_of
from django_defer.wording import relative, with_zone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.admin.viewers import Viewer
    from django_defer.reports import Status

MOST_SAID: Final = 6  # sentences


@dataclass(frozen=True, slots=True)
class Judgement:
    """A headline, the kind that colours it, and what there is to say below it."""

    kind: str  # "well", "idle" or "trouble"
    headline: str
    sentences: list[str] = field(default_factory=list)
    count: int = 0


def judge(status: Status, viewer: Viewer) -> Judgement:
    """Return the headline for a person who may know this much."""
    found = list(troubles(status, viewer))
    if found:
        headline = ngettext(
            "%(n)s thing needs attention", "%(n)s things need attention", len(found)
        ) % {"n": len(found)}
        said = found[:MOST_SAID]
        if more := len(found) - len(said):
            said.append(_("… and %(n)s more.") % {"n": more})
        return Judgement("trouble", headline, said, len(found))
    notes = list(_notes(status, viewer))
    if not status.has_workers:
        return Judgement("idle", _("No worker is running, and nothing waits for one"), notes)
    return Judgement("well", _("All is well"), notes)


def troubles(status: Status, viewer: Viewer) -> Iterator[str]:
    """Yield a sentence for each thing that makes `defer_status` exit with 1, as far as shown."""
    for trouble in troubles_of(status):
        if trouble.queue is not None:
            if viewer.is_shown(Queue):
                facts: dict[str, Any] = {"queue": trouble.queue.name}
                yield _("Runs wait in queue “%(queue)s”, and no worker serves it.") % facts
        elif (report := trouble.definition) is not None:
            if viewer.is_shown(CronDefinition):
                error = one_line(report.error).rstrip(".")
                facts = {"key": report.row.function_id, "error": error}
                yield _("%(key)s cannot fire: %(error)s.") % facts
        elif trouble.kind is Kind.NO_WORKERS:
            yield _("No worker is running: start one with “manage.py defer_worker”.")
        else:
            yield _stalled(status, viewer)


def _stalled(status: Status, viewer: Viewer) -> str:
    scheduler = status.scheduler
    due = []
    if since := scheduler.overdue_slot_at:
        key = scheduler.next_slot_of if viewer.is_shown(CronDefinition) else _("a slot")
        due.append(
            _("%(key)s since %(time)s (%(ago)s)")
            % {"key": key, "time": with_zone(since), "ago": relative(since, status.now)}
        )
    if since := scheduler.overdue_run_at:
        due.append(
            _("a delayed run since %(time)s (%(ago)s)")
            % {"time": with_zone(since), "ago": relative(since, status.now)}
        )
    facts = {"due": "; ".join(due)}
    if scheduler.ticks:
        return _("The scheduler is behind: it ticks, but what is due is not done: %(due)s.") % facts
    return _("The scheduler is stalled: nobody does what is due: %(due)s.") % facts


def _notes(status: Status, viewer: Viewer) -> Iterator[str]:
    """Yield what is worth a look and nobody's alarm."""
    silent = sum(not cluster.is_live for cluster in status.clusters)
    if silent:
        yield ngettext(
            "%(n)s cluster is silent; what it held is given to others.",
            "%(n)s clusters are silent; what they held is given to others.",
            silent,
        ) % {"n": silent}
    paused = [queue.name for queue in status.queues if queue.pause]
    if paused and viewer.is_shown(Queue):
        yield _("Paused: queue %(names)s.") % {"names": ", ".join(paused)}
