"""Try a channel: send a message that says that it is a test, without any row of the database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from django_defer.alerts.events import Event
from django_defer.alerts.messages import Message
from django_defer.alerts.routes import routes
from django_defer.alerts.sending import reason_of, send_within
from django_defer.models.alerts import MessageKind

SECONDS: Final = 20.0


class TrialFailed(Exception):
    """The message was not sent; `str()` says why, without secrets."""


def send_test(name: str, by: str = "`manage.py defer_alerts --test`") -> str:
    """Send a test message by the channel of this name, and return what was answered."""
    known = {route.name: route for route in routes()}
    if name not in known:
        names = ", ".join(f'"{each}"' for each in known) or "none that can be read"
        raise TrialFailed(f'The setting ALERTS has no channel "{name}"; it has {names}.')
    route = known[name]
    try:
        return send_within(route.open(), _message(name, by), SECONDS)
    except Exception as error:  # a channel of somebody's own may raise anything
        raise TrialFailed(f'The channel "{name}" failed: {reason_of(error, route)}') from error


def _message(name: str, by: str) -> Message:
    now = datetime.now(UTC)
    return Message(
        id=f"test-{uuid4()}",
        event=Event.RUN_FAILED,
        kind=MessageKind.TEST,
        subject="",
        title=f'test: the channel "{name}" works',
        text=f"{by} sent this; nothing has failed.",
        first_at=now,
        last_at=now,
    )
