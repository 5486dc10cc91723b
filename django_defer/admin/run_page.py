"""The page of one run: what it does now and why, its error, data, times, attempts and relatives."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_defer.admin.alert_words import told_in_words
from django_defer.admin.attempt_timeline import timeline
from django_defer.admin.data import show_arguments, show_value
from django_defer.admin.pages import Live, Page, Section, Table
from django_defer.admin.rendering import (
    Links,
    badge,
    block,
    code,
    now,
    pruned,
    short_id,
    show_instant,
    state_badge,
)
from django_defer.admin.run_log import log_section, progress_section
from django_defer.admin.sentences import children_in_words
from django_defer.admin.tracebacks import show_traceback
from django_defer.explanations import state_in_words
from django_defer.models import Attempt, BackgroundFunction, CronDefinition, Run
from django_defer.run_facts import (
    attempts_in_words,
    lateness_in_words,
    latest_attempts,
    missed_in_words,
)
from django_defer.states import FINISHED, Outcome, State
from django_defer.wording import EMPTY, as_text, show_duration, slot_in_words, zone_name

if TYPE_CHECKING:
    from datetime import datetime

MOST_ATTEMPTS: Final = 50  # the latest ones
MOST_RERUNS: Final = 10
REFRESH_SECONDS: Final = 2  # as often as workers write log lines
IDLE_SECONDS: Final = 10
SETTLED: Final = timedelta(seconds=6)  # after its end: its last log lines come later than that
TOLD_OF: Final = FINISHED - {State.CANCELLED}
HIDDEN: Final = gettext_lazy("Hidden: you may not view arguments and results of runs.")


def run_page(run: Run, links: Links, *, may_see_data: bool) -> Page:
    """Return the page of a run."""
    at = now()
    attempts = latest_attempts(run, MOST_ATTEMPTS)
    result = _result(run, may_see_data)
    return Page(
        title=run.function_id,
        subtitle=run.label,
        badge=state_badge(run),
        sentences=[s for s in (state_in_words(run, at), children_in_words(run, links)) if s],
        sections=[
            progress_section(run),
            _error(run, attempts),
            Section(title=_("Run"), facts=_facts(run, links), is_half=True),
            Section(title=_("Times"), facts=_times(run, at), is_half=True),
            Section(title=_("Arguments"), text=_arguments(run, may_see_data), is_half=bool(result)),
            Section(title=_("Result"), text=result, is_half=True),
            Section(title=_("Metadata"), facts=_metadata(run, links)),
            Section(
                title=_("Attempts"),
                text=timeline(run, attempts, at),
                table=_attempts_table(attempts),
            ),
            log_section(run),
        ],
        live=_live(run, at),
    )


def _live(run: Run, at: datetime) -> Live | None:
    """Say how soon something may have changed; None: nothing will, not even the last log lines."""
    is_waiting = run.state in (State.SCHEDULED, State.PARKED)
    seconds = IDLE_SECONDS if is_waiting else REFRESH_SECONDS
    if run.is_finished and (not run.finished_at or at - run.finished_at > SETTLED):
        return None
    updated = as_text(at).split(" ")[1]
    return Live(seconds=seconds, now=at, updated=updated, zone=zone_name())


def _error(run: Run, attempts: list[Attempt]) -> Section:
    """Show the traceback, which ends with the error, or the error where there is none."""
    title = _("Error") if run.is_finished else _("Error of the last attempt")
    text = run.error or run.error_message
    if text and attempts and attempts[-1].traceback:
        return Section(title=title, text=show_traceback(attempts[-1].traceback.rstrip()))
    return Section(title=title, text=block(text) if text else "")


def _arguments(run: Run, may_see_data: bool) -> Any:
    if not may_see_data:
        return HIDDEN
    text = show_arguments(run)
    return block(text) if text else _("None.")


def _result(run: Run, may_see_data: bool) -> Any:
    if run.state != State.SUCCEEDED:
        return ""
    return block(show_value(run.result)) if may_see_data else HIDDEN


def _facts(run: Run, links: Links) -> list[tuple[Any, Any]]:
    relatives = _relatives(run)
    return [
        (_("Function"), links.to(BackgroundFunction, run.function_id, run.function_id)),
        (_("Label"), run.label),
        (_("Id"), code(run.pk)),
        (_("Queue"), run.queue),
        (_("Priority"), run.priority or ""),
        (_("Attempts"), attempts_in_words(run)),
        (_("Rerun if lost"), "" if run.rerun_if_lost else _("no")),
        (_("Enqueued by"), run.enqueued_by),
        (_("Cron definition"), _definition(run, links)),
        (_("Slot"), slot_in_words(run.slot) if run.slot else ""),
        (_("How late"), lateness_in_words(run)),
        (_("Stands for"), missed_in_words(run)),
        (_("Parent"), _relative(run.parent_id, relatives, links)),
        (
            _("Root"),
            _relative(run.root_id, relatives, links) if run.root_id != run.parent_id else "",
        ),
        (_("Rerun of"), _relative(run.rerun_of_id, relatives, links)),
        (_("Reruns"), _reruns(run, links)),
        (_("Before and after it"), _neighbours(run, links)),
        (_("Alert"), told_in_words(run, links) if run.state in TOLD_OF or run.failures else ""),
    ]


def _metadata(run: Run, links: Links) -> list[tuple[Any, Any]]:
    """Return the pairs; each leads to the runs that have it too."""
    pairs = run.metadata if isinstance(run.metadata, dict) else {}
    return [
        (key, links.to_list(Run, value if value != "" else EMPTY, q=f"{key}:{value}"))
        for key, value in sorted(pairs.items())
    ]


def _times(run: Run, at: datetime) -> list[tuple[Any, Any]]:
    due = run.run_after if run.state == State.SCHEDULED or run.slot else None
    asked = run.abort_requested_at
    return [
        (_("Enqueued"), show_instant(run.enqueued_at, beside=at)),
        (_("Due"), show_instant(due, beside=at) if due else ""),
        (_("Queued"), show_instant(run.queued_at) if run.queued_at else ""),
        (_("Claimed"), show_instant(run.claimed_at) if run.claimed_at else ""),
        (_("Started"), show_instant(run.started_at, beside=at) if run.started_at else ""),
        (_("Abort requested"), show_instant(asked, beside=at) if asked else ""),
        (_("Finished"), show_instant(run.finished_at, beside=at) if run.finished_at else ""),
        (_("Waited for a worker"), show_duration(run.wait_time) if run.wait_time else ""),
        (_("Took"), show_duration(run.duration) if run.duration else ""),
        (_("Discard after"), show_instant(run.discard_after) if run.discard_after else ""),
    ]


def _relatives(run: Run) -> dict[UUID, Run]:
    ids = {run.parent_id, run.root_id, run.rerun_of_id} - {None}
    if not ids:
        return {}
    return Run.objects.only("id", "function", "label", "state").in_bulk(list(ids))


def _relative(run_id: UUID | None, relatives: dict[UUID, Run], links: Links) -> str:
    """Link to a run that this one names, or say that it is gone."""
    if run_id is None:
        return ""
    if run_id in relatives:
        return links.to_run(relatives[run_id])
    return pruned(run_id)


def _reruns(run: Run, links: Links) -> str:
    """Link to the newest reruns."""
    reruns = run.reruns.defer("args", "result", "metadata").order_by("-pk")[:MOST_RERUNS]
    return format_html_join(
        "",
        "<div>{} {}</div>",
        ((links.to(Run, each.pk, code(short_id(each.pk))), state_badge(each)) for each in reruns),
    )


def _neighbours(run: Run, links: Links) -> str:
    """Link to the runs of the function that were enqueued before and after this one."""
    same = Run.objects.filter(function=run.function_id).only("id", "state")
    before = same.filter(pk__lt=run.pk).order_by("-pk").first()
    after = same.filter(pk__gt=run.pk).order_by("pk").first()
    words = ((before, _("previous")), (after, _("next")))
    found = [(links.to(Run, each.pk, word),) for each, word in words if each is not None]
    return format_html_join(" · ", "{}", found)


def _definition(run: Run, links: Links) -> str:
    if run.definition_id is None:
        return ""
    return links.to(CronDefinition, run.definition_id, run.function_id)


def _attempts_table(attempts: list[Attempt]) -> Table:
    headings = (_("No."), _("Outcome"), _("Started"), _("Took"), _("Error"), _("Process"))
    return Table(headings=headings, rows=[_attempt(each) for each in attempts])


def _attempt(attempt: Attempt) -> list[Any]:
    known = attempt.outcome in Outcome.values
    return [
        attempt.number,
        badge(str(attempt.outcome) if known else "unknown", attempt.get_outcome_display()),
        show_instant(attempt.started_at),
        show_duration(attempt.duration),
        _attempt_error(attempt),
        _exit(attempt),
    ]


def _attempt_error(attempt: Attempt) -> str:
    error = attempt.error
    if not attempt.traceback:
        return error or EMPTY
    return format_html(
        '<details class="defer-details"><summary>{}</summary>{}</details>',
        error,
        show_traceback(attempt.traceback),
    )


def _exit(attempt: Attempt) -> str:
    parts = []
    if attempt.signal:
        parts.append(_("signal %s") % attempt.signal)
    if attempt.exit_code is not None:
        parts.append(_("exit code %s") % attempt.exit_code)
    return ", ".join(parts) or EMPTY
