"""Slots on an admin page: in words, how late their runs started, and the next ones as a table."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_defer.admin.pages import Section, Table
from django_defer.admin.rendering import (
    as_slot,
    as_text,
    display_zone,
    quiet,
    relative,
    show_duration,
    zone_name,
)
from django_defer.catch_up import MOST_MISSED
from django_defer.models import CronDefinition
from django_defer.schedules import SLOTS_SHOWN

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from django_defer.models import Run


def slot_in_words(slot: datetime) -> str:
    """Return "Monday 2026-11-23 08:00 UTC"."""
    return f"{date_format(slot.astimezone(display_zone()), 'l')} {as_slot(slot)} {zone_name()}"


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


def lateness_in_words(run: Run) -> str:
    """Return how long after its slot the run started; of a retry, its latest attempt."""
    if run.slot is None or run.started_at is None:
        return ""
    facts = {"n": run.attempt, "time": show_duration(run.started_at - run.slot)}
    if run.attempt > 1:
        return _("attempt %(n)s started %(time)s after it") % facts
    return _("started %(time)s after it") % facts


def missed_in_words(run: Run) -> str:
    """Return "its slot and 3 missed ones before it", "" where there are no others."""
    if not run.missed_slots:
        return ""
    if run.missed_slots >= MOST_MISSED:
        most = f"{MOST_MISSED:,}"
        return _("its slot and %(n)s or more missed ones before it") % {"n": most}
    return ngettext(
        "its slot and %(n)s missed one before it",
        "its slot and %(n)s missed ones before it",
        run.missed_slots,
    ) % {"n": run.missed_slots}


def next_slots(row: CronDefinition, at: datetime, title: Any) -> Section:
    """List the next slots, in the definition's own zone and in UTC; an interval has no zone."""
    try:
        slots = row.next_slots(SLOTS_SHOWN, at)
        zone = ZoneInfo(row.timezone)
    except ValueError:
        return Section(title=title, text=_("None: the schedule can't be read."))
    own = [] if row.kind == row.Kind.EVERY or row.timezone == "UTC" else [row.timezone]
    write = as_text if any(slot.second for slot in slots) else as_slot
    rows = [
        [
            *(_on_weekday(slot, write(slot, zone), zone, name) for name in own),
            _on_weekday(slot, write(slot, UTC), UTC, "UTC"),
            relative(slot, at),
        ]
        for slot in slots
    ]
    table = Table(headings=[*own, "UTC", _("From now")], rows=rows)
    return Section(title=title, table=table, text="" if slots else _("Never again."))


def _on_weekday(slot: datetime, time: str, zone: tzinfo, name: str) -> str:
    day = date_format(slot.astimezone(zone), "D")
    return format_html('<span class="defer-time">{} {}</span> {}', day, time, quiet(name))
