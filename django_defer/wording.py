"""Instants, durations and pauses in words: plain text, for pages and terminals alike.

An instant is shown in Django's current time zone, which in a command is the setting TIME_ZONE, and
always with its name. Text from rows is put in as it is: whoever shows a sentence escapes it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from datetime import tzinfo

    from django_defer.models.functions import Pausable

EMPTY: Final = "–"
LONGEST_LINE: Final = 300  # characters of a text from a row within a sentence


def display_zone() -> tzinfo:
    """Return the zone that instants are shown in."""
    return timezone.get_current_timezone() if settings.USE_TZ else UTC


def zone_name() -> str:
    """Return the name of that zone."""
    return timezone.get_current_timezone_name() if settings.USE_TZ else "UTC"


def as_text(instant: datetime, zone: tzinfo | None = None) -> str:
    """Return `2026-11-25 08:04:12`, in the zone that is shown or another one."""
    return f"{instant.astimezone(zone or display_zone()):%Y-%m-%d %H:%M:%S}"


def as_slot(slot: datetime, zone: tzinfo | None = None) -> str:
    """Return `2026-11-25 08:04`: slots rarely have seconds."""
    return as_text(slot, zone).removesuffix(":00")


def with_zone(instant: datetime) -> str:
    """Return `2026-11-25 08:04:12 Europe/Paris`, for sentences."""
    return f"{as_text(instant)} {zone_name()}"


def slot_in_words(slot: datetime) -> str:
    """Return "Monday 2026-11-23 08:00 UTC"."""
    return f"{date_format(slot.astimezone(display_zone()), 'l')} {as_slot(slot)} {zone_name()}"


def slot_beside(slot: datetime, other: datetime) -> str:
    """Return "07:55 UTC" for a slot of the same day as another that was named, else all of it."""
    (day, time), zone = as_slot(slot).split(" "), display_zone()
    if f"{other.astimezone(zone):%Y-%m-%d}" == day:
        return f"{time} {zone_name()}"
    return slot_in_words(slot)


def relative(instant: datetime, seen_from: datetime) -> str:
    """Return "in 3 h" or "5 min ago", with no-break spaces."""
    delta = instant - seen_from
    text = _roughly(abs(delta))
    if delta > timedelta(0):
        return _unbroken(_("in %(time)s") % {"time": text})
    return _unbroken(_("%(time)s ago") % {"time": text})


def _roughly(delta: timedelta) -> str:
    seconds = int(delta.total_seconds())
    if seconds < 90:
        return _("%(n)s s") % {"n": seconds}
    if seconds < 90 * 60:
        return _("%(n)s min") % {"n": round(seconds / 60)}
    if seconds < 48 * 3600:
        return _("%(n)s h") % {"n": round(seconds / 3600)}
    return _("%(n)s d") % {"n": round(seconds / 86400)}


def show_duration(duration: timedelta | None) -> str:
    """Return `240 ms`, `1.2 s`, `3 min 4 s`, `2 h 5 min` or `3 d 4 h`, with no-break spaces."""
    return EMPTY if duration is None else _unbroken(_exactly(max(duration.total_seconds(), 0)))


def _exactly(seconds: float) -> str:
    if seconds < 0.9995:
        return _("%(n)s ms") % {"n": round(seconds * 1000)}
    if seconds < 59.95:
        return _("%(n)s s") % {"n": f"{seconds:.1f}"}
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if minutes < 60:
        return _("%(m)s min %(s)s s") % {"m": minutes, "s": whole}
    if hours < 24:
        return _("%(h)s h %(m)s min") % {"h": hours, "m": minutes_left}
    return _("%(d)s d %(h)s h") % {"d": hours // 24, "h": hours % 24}


def _unbroken(text: str) -> str:
    return text.replace(" ", "\xa0")


def first_line(text: str) -> str:
    """Return the first line of a text from a row, cut to a length that a sentence bears."""
    line = text.partition("\n")[0]
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…"


def pause_in_words(row: Pausable) -> str:
    """Return "Paused by ada since 2026-11-25 08:04:12 UTC until …: the reason"."""
    if row.paused_at is None:
        return ""
    text = _("Paused since %(time)s") % {"time": with_zone(row.paused_at)}
    if row.paused_by:
        text = _("Paused by %(who)s since %(time)s") % {
            "who": row.paused_by,
            "time": with_zone(row.paused_at),
        }
    if row.paused_until:
        text += " " + _("until %(time)s") % {"time": with_zone(row.paused_until)}
    return f"{text}: {row.pause_reason}" if row.pause_reason else f"{text}."


def paused_how(row: Pausable | None) -> str:
    """Return what follows "is paused": " by ada until 2026-11-25 14:00:00 UTC: the reason"."""
    if row is None:
        return "."
    text = " " + _("by %(who)s") % {"who": row.paused_by} if row.paused_by else ""
    if row.paused_until:
        text += " " + _("until %(time)s") % {"time": with_zone(row.paused_until)}
    return f"{text}: {row.pause_reason.rstrip('.')}." if row.pause_reason else f"{text}."


def orphaned_in_words(row: Any) -> str:
    """Return since when no code has it."""
    if row.orphaned_at is None:
        return ""
    return _("Not in the code since %(time)s; its history is kept.") % {
        "time": with_zone(row.orphaned_at)
    }
