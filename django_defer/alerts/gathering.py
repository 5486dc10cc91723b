"""Gather events into alerts, and say which messages are due."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from django_defer.alerts.events import Event
    from django_defer.models import Alert


def gather(using: str, now: datetime) -> int:
    """Fold the events that were written into open alerts; return how many there were."""
    return 0


def raise_condition(using: str, event: Event, subject: str, detail: str, now: datetime) -> None:
    """Open the alert of a condition, or say that it lasts. Safe to repeat."""


def close(using: str, alert: Alert, now: datetime, *, recovered: bool) -> None:
    """Close an alert, unless anything has happened to it since it was read."""


def schedule_messages(using: str, now: datetime) -> int:
    """Make the messages that are due; return how many deliveries that makes."""
    return 0
