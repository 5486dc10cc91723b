"""When a cron definition fires and why it does not, in sentences: its page and `defer_explain`.

Plain text with the zone's name beside each time; a page escapes it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_defer.clock_changes import clock_changes
from django_defer.explanations import state_in_words, why_skipped
from django_defer.models import BackgroundFunction, CronDefinition
from django_defer.reports import is_overdue
from django_defer.run_facts import lateness_in_words, missed_in_words
from django_defer.states import State
from django_defer.wording import (
    first_line,
    orphaned_in_words,
    pause_in_words,
    paused_how,
    relative,
    slot_in_words,
    with_zone,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from django_defer.clock_changes import ClockChange
    from django_defer.models import Run

TIMES_NAMED = 4  # of a clock change: the others are an ellipsis


def definition_in_words(row: CronDefinition, last: Run | None, at: datetime) -> list[str]:
    """Return whether it fires, when, why not, what became of its last slot, and what comes."""
    sentences = [
        orphaned_in_words(row),
        pause_in_words(row),
        _function_in_words(row),
        "" if row.enabled else _("Switched off by its code (enabled=)."),
        _unfired_in_words(row, at),
        _next_in_words(row, at),
        _override_in_words(row),
        skipped_in_words(last) if last else "",
        *clock_changes_in_words(row, at),
    ]
    return [sentence for sentence in sentences if sentence]


def schedule_in_words(row: CronDefinition) -> str:
    """Return the schedule in words, or why it can't be read."""
    try:
        return row.schedule.describe()
    except ValueError as error:
        return str(error)


def unreadable(row: CronDefinition) -> str:
    """Return why the schedule can't be read, "" if it can."""
    try:
        row.schedule  # noqa: B018 - reading it is the question
    except ValueError as error:
        return str(error)
    return ""


def schedule_as_text(row: CronDefinition) -> str:
    """Return expression and zone in force; an interval has no zone."""
    if row.kind == row.Kind.EVERY:
        return row.expression
    return f"{row.expression} {row.timezone}"


def with_override(row: CronDefinition, expression: str = "", timezone: str = "") -> CronDefinition:
    """Return a copy that is overridden like this, without saving it; by default as code says."""
    copied = copy.copy(row)
    copied.expression_override, copied.timezone_override = expression, timezone
    return copied


def last_slot_in_words(row: CronDefinition, last: Run | None, at: datetime) -> list[str]:
    """Return what became of the last slot: when its run started, for what it stands, its state."""
    if row.last_slot_at is None:
        return [_("No slot has fired yet.")]
    slot = {"slot": slot_in_words(row.last_slot_at)}
    if last is None:
        return [_("Last slot: %(slot)s; its run was removed.") % slot]
    if said := skipped_in_words(last):
        return [said]
    facts = [_("Last slot: %(slot)s") % slot, lateness_in_words(last)]
    if missed := missed_in_words(last):
        facts.append(_("stands for %(slots)s") % {"slots": missed})
    return ["; ".join(filter(None, facts)) + ".", state_in_words(last, at)]


def skipped_in_words(last: Run) -> str:
    """Return "Its slot of Monday 2026-11-23 08:00 UTC was skipped: the run of 07:55 UTC …"."""
    if last.state != State.SKIPPED or last.slot is None:
        return ""
    facts = {"slot": slot_in_words(last.slot), "why": why_skipped(last)}
    said = _("Its slot of %(slot)s was skipped: %(why)s.") % facts
    missed = missed_in_words(last)
    return said + " " + _("It stands for %(slots)s.") % {"slots": missed} if missed else said


def clock_changes_in_words(row: CronDefinition, at: datetime) -> list[str]:
    """Return what the clock changes of the next 400 days do to its slots, each in a sentence."""
    if row.orphaned_at is not None:
        return []
    try:
        changes = list(clock_changes(row.schedule, at))
    except ValueError:
        return []
    return [_change_in_words(change) for change in changes]


def _change_in_words(change: ClockChange) -> str:
    times, n = change.times, len(change.times)
    facts = {
        "slot": f"{date_format(times[0], 'l')} {times[0]:%Y-%m-%d} {_named(times)} {change.zone}",
        "end": f"{change.becomes:%H:%M}",
        "utc": ", ".join(f"{slot:%H:%M}" for slot in change.slots[:TIMES_NAMED]),
    }
    if change.is_gap and change.slots:
        facts["end"] = f"{change.slots[0].astimezone(change.zone):%H:%M}"
        text = ngettext(
            "The slot of %(slot)s falls into the spring gap: fires at %(end)s.",
            "The slots of %(slot)s fall into the spring gap: one run at %(end)s for all of them.",
            n,
        )
    elif change.is_gap:
        text = ngettext(
            "The slot of %(slot)s falls into the spring gap: does not fire that day.",
            "The slots of %(slot)s fall into the spring gap: do not fire that day.",
            n,
        )
    elif change.is_repeated:
        text = ngettext(
            "The clock shows %(slot)s twice: that slot fires both times.",
            "The clock shows %(slot)s twice: these slots fire both times.",
            n,
        )
    else:
        text = ngettext(
            "The clock shows %(slot)s twice: that slot fires the first time only (%(utc)s UTC).",
            "The clock shows %(slot)s twice: these slots fire the first time only.",
            n,
        )
    return text % facts


def _named(times: Sequence[datetime]) -> str:
    named = [f"{time:%H:%M}" for time in times]
    if len(named) > TIMES_NAMED:
        named = [*named[: TIMES_NAMED - 1], "…", named[-1]]
    return ", ".join(named)


def _function_in_words(row: CronDefinition) -> str:
    """Return that the function alone is paused: then slots still make runs, which wait."""
    if row.is_paused:
        return ""
    function = BackgroundFunction.objects.paused().filter(pk=row.function_id).first()
    if function is None:
        return ""
    return _("It fires, and its runs wait: its function is paused%(how)s") % {
        "how": paused_how(function)
    }


def _next_in_words(row: CronDefinition, at: datetime) -> str:
    if row.next_slot_at is None:
        return _never_in_words(row, at)
    when = {"time": with_zone(row.next_slot_at), "relative": relative(row.next_slot_at, at)}
    if row.error:
        return _("Fires nothing; looked at again at %(time)s (%(relative)s).") % when
    if row.enabled and row.orphaned_at is None and is_overdue(row.next_slot_at, at):
        return (
            _(
                "Was due at %(time)s (%(relative)s), and no scheduler has fired it. "
                "Start one with manage.py defer_worker."
            )
            % when
        )
    return _("Next due at %(time)s (%(relative)s).") % when


def _never_in_words(row: CronDefinition, at: datetime) -> str:
    """Return why a definition that nobody stopped has no next slot."""
    if not row.fires or row.error:
        return ""
    if row.ends_at is not None and row.ends_at <= at:
        return _("Fires no more: it ended at %(time)s (%(relative)s).") % {
            "time": with_zone(row.ends_at),
            "relative": relative(row.ends_at, at),
        }
    if unreadable(row) or row.schedule.next_after(at) is None:
        return _("Fires no more: its schedule has no slot any more.")
    return _("Has no next slot yet: run manage.py defer_sync.")


def _unfired_in_words(row: CronDefinition, at: datetime) -> str:
    """Return since when slots are left out: the first one that was not, or will not be, fired."""
    if row.unfired_slot_at is None or not (row.is_paused or row.error):
        return ""
    slot = row.unfired_slot_at
    when = {"slot": slot_in_words(slot), "relative": relative(slot, at)}
    if slot > at:
        return _("First slot that will not fire: %(slot)s (%(relative)s).") % when
    return _("First slot not fired: %(slot)s (%(relative)s).") % when


def _override_in_words(row: CronDefinition) -> str:
    if not row.is_overridden:
        return ""
    code_says = schedule_as_text(with_override(row))
    facts = {"who": row.overridden_by or _("an operator"), "code": code_says}
    if row.overridden_at is None:
        return _("Overridden by %(who)s; the code says %(code)s.") % facts
    facts["time"] = with_zone(row.overridden_at)
    return _("Overridden by %(who)s at %(time)s; the code says %(code)s.") % facts


def error_in_words(row: CronDefinition) -> str:
    """Return why it cannot fire, "" if it can."""
    error = row.error or unreadable(row)
    return _("Cannot fire: %(error)s.") % {"error": first_line(error).rstrip(".")} if error else ""
