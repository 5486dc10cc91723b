"""What functions, definitions and queues have in common: a status, a schedule, a pause."""

from __future__ import annotations

import copy
from typing import Any

from django.utils.html import format_html
from django.utils.translation import gettext as _

from django_defer.admin.rendering import badge, code, show_instant, with_zone
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


def show_schedule(row: CronDefinition) -> str:
    """Return expression and zone in force; an interval has no zone."""
    if row.kind == row.Kind.EVERY:
        return code(row.expression)
    return format_html("{} {}", code(row.expression), row.timezone)


def schedule_as_text(row: CronDefinition) -> str:
    """Return the same as plain text."""
    if row.kind == row.Kind.EVERY:
        return row.expression
    return f"{row.expression} {row.timezone}"


def with_override(row: CronDefinition, expression: str = "", timezone: str = "") -> CronDefinition:
    """Return a copy that is overridden like this, without saving it; by default as code says."""
    copied = copy.copy(row)
    copied.expression_override, copied.timezone_override = expression, timezone
    return copied


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
