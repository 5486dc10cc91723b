"""The page of one cron definition: when it is due, what came of it, who changed or stopped it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.utils.html import format_html
from django.utils.translation import gettext as _

from django_defer.admin.mirrors import pause_facts, show_schedule, status_badge
from django_defer.admin.pages import Page, Section, Table
from django_defer.admin.rendering import (
    block,
    now,
    pruned,
    quiet,
    show_instant,
    stack,
    stack_instant,
    state_badge,
)
from django_defer.admin.sentences import children_in_words
from django_defer.admin.slots import next_slots
from django_defer.definition_explanations import (
    definition_in_words,
    schedule_as_text,
    schedule_in_words,
    unreadable,
    with_override,
)
from django_defer.durations import format_duration
from django_defer.explanations import state_in_words
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.run_facts import lateness_in_words, missed_in_words
from django_defer.states import State
from django_defer.wording import EMPTY, slot_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_defer.admin.rendering import Links


def definition_page(row: CronDefinition, links: Links) -> Page:
    """Return the page of a definition."""
    at = now()
    last = Run.objects.filter(pk=row.last_run_id).first() if row.last_run_id else None
    error = row.error or unreadable(row)
    children = children_in_words(last, links) if last else ""
    return Page(
        title=row.function_id,
        subtitle=schedule_as_text(row),
        badge=status_badge(row),
        sentences=[*definition_in_words(row, last, at), *([children] if children else [])],
        sections=[
            Section(title=_("Its schedule can't be read"), text=block(error) if error else ""),
            Section(title=_("Schedule"), facts=_schedule(row, links), is_half=True),
            Section(title=_("Last slot"), facts=_last(row, last, links, at), is_half=True),
            _next_section(row, at),
            Section(title=_("Pause"), facts=pause_facts(row), is_half=True),
            Section(title=_("Earlier pauses"), table=_earlier_pauses(row)),
            Section(title=_("What its runs inherit"), facts=_inherited(row), is_half=True),
        ],
    )


def _schedule(row: CronDefinition, links: Links) -> list[tuple[Any, Any]]:
    original = with_override(row)
    words = schedule_in_words(row)
    in_code = stack(show_schedule(original), quiet(schedule_in_words(original)))
    return [
        (_("Function"), links.to(BackgroundFunction, row.function_id, row.function_id)),
        (_("In force"), show_schedule(row)),
        (_("In words"), "" if words == row.expression else words),
        (_("In the code"), in_code if row.is_overridden else _("the same")),
        (_("Overridden by"), row.overridden_by),
        (_("Overridden at"), show_instant(row.overridden_at) if row.overridden_at else ""),
        (_("Counted from"), show_instant(row.anchor) if row.anchor else ""),
        (_("Starts"), show_instant(row.starts_at) if row.starts_at else ""),
        (_("Ends"), show_instant(row.ends_at) if row.ends_at else ""),
        (_("Jitter"), _jitter(row)),
        (_("Missed slots"), _catch_up(row)),
        (_("Earlier run not finished"), row.get_overlap_display()),
        (_("Earlier run waits for a retry"), _("a new slot discards it") if row.supersede else ""),
        (_("Enabled by its code"), "" if row.enabled else _("no, not here")),
    ]


def _jitter(row: CronDefinition) -> str:
    if not row.jitter:
        return ""
    return _("up to %(time)s after the slot, at random") % {"time": format_duration(row.jitter)}


def _catch_up(row: CronDefinition) -> str:
    text = str(row.get_catch_up_display())
    if row.catch_up_window is None:
        return text
    window = _("no older than %(time)s") % {"time": format_duration(row.catch_up_window)}
    return f"{text}, {window}"


def _last(
    row: CronDefinition, last: Run | None, links: Links, at: datetime
) -> list[tuple[Any, Any]]:
    if row.last_slot_at is None:
        return [(_("Slot"), _("None yet."))]
    run: Any = pruned(row.last_run_id) if row.last_run_id else EMPTY
    if last is not None:
        run = format_html("{} {}", links.to_run(last), state_badge(last))
    facts = [(_("Slot"), slot_in_words(row.last_slot_at)), (_("Run"), run)]
    if last is not None:
        is_plain = last.state == State.SUCCEEDED
        facts += [
            (_("State"), "" if is_plain else state_in_words(last, at)),
            (_("How late"), lateness_in_words(last)),
            (_("Stands for"), missed_in_words(last)),
        ]
    return [*facts, (_("All runs"), links.to_list(Run, _("show"), definition=row.pk))]


def _next_section(row: CronDefinition, at: datetime) -> Section:
    if row.orphaned_at is not None:
        return Section(title="")
    if row.is_paused:
        return next_slots(row, at, _("Next slots once it is resumed"))
    if not row.enabled:
        return next_slots(row, at, _("Next slots if it were enabled"))
    return next_slots(row, at, _("Next slots"))


def _earlier_pauses(row: CronDefinition) -> Table:
    """List the pauses that ended, newest first."""
    headings = (_("From"), _("To"), _("By"), _("Reason"), _("Ended by"))
    spans = row.pauses if isinstance(row.pauses, list) else []
    return Table(
        headings=headings, rows=[_earlier(span) for span in spans if isinstance(span, dict)]
    )


def _earlier(span: dict[str, Any]) -> Sequence[Any]:
    return [
        _recorded(span.get("from")),
        _recorded(span.get("to")),
        span.get("by") or EMPTY,
        span.get("reason") or EMPTY,
        span.get("ended_by") or _("its end time"),
    ]


def _recorded(text: Any) -> Any:
    """Return a recorded instant, or what else stands in its place."""
    try:
        instant = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return text or EMPTY
    return stack_instant(instant if instant.tzinfo else instant.replace(tzinfo=UTC))


def _inherited(row: CronDefinition) -> list[tuple[Any, Any]]:
    return [
        (_("Queue"), row.queue),
        (_("Priority"), row.priority),
        (_("Most attempts"), row.max_attempts),
        (_("Rerun if lost"), _("yes") if row.rerun_if_lost else _("no")),
        (_("Discard after"), format_duration(row.discard_after) if row.discard_after else ""),
    ]
