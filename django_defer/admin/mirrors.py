"""What functions, definitions and queues have in common: a status, a schedule, a pause."""

from __future__ import annotations

from typing import Any

from django.utils.html import format_html
from django.utils.translation import gettext as _

from django_defer.admin.rendering import badge, code, show_instant
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
