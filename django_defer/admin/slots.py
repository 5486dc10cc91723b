"""The next slots of a definition on an admin page, as a table."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.translation import gettext as _

from django_defer.admin.pages import Section, Table
from django_defer.admin.rendering import quiet
from django_defer.schedules import SLOTS_SHOWN
from django_defer.wording import as_slot, as_text, relative

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from django_defer.models import CronDefinition


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
