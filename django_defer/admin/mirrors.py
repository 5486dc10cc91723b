"""What functions and definitions have in common: a status and a pause."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from django_defer.admin.rendering import badge, show_instant, with_zone
from django_defer.models import CronDefinition
from django_defer.models.functions import Pausable


def status_badge(row: Any) -> str:
    """Return whether it is active, paused, in error, off or gone from the code."""
    if row.orphaned_at:
        return badge("orphaned", _("not in the code"))
    if row.is_paused:
        return badge("paused", _("paused"))
    if isinstance(row, CronDefinition):
        if row.error:
            return badge("failed", _("error"))
        if not row.enabled:
            return badge("paused", _("switched off"))
    return badge("active", _("active"))


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


def orphaned_in_words(row: Any) -> str:
    """Return since when no code has it."""
    if row.orphaned_at is None:
        return ""
    return _("Not in the code since %(time)s; its history is kept.") % {
        "time": with_zone(row.orphaned_at)
    }


def pause_facts(row: Pausable) -> list[tuple[Any, Any]]:
    """Return who paused it, when, until when and why."""
    if row.paused_at is None:
        return []
    return [
        (_("Paused by"), row.paused_by),
        (_("Paused at"), show_instant(row.paused_at)),
        (_("Paused until"), show_instant(row.paused_until) if row.paused_until else ""),
        (_("Reason"), row.pause_reason),
    ]
