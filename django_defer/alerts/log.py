"""The channel `log`: a line in the log, for whoever watches that anyway."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django_defer.alerts.messages import Channel

if TYPE_CHECKING:
    from django_defer.alerts.messages import Message

logger = logging.getLogger("django_defer.alerts")


class LogChannel(Channel):
    """Logs each message as one warning."""

    def send(self, message: Message) -> str:
        """Log it."""
        error = next((each.error for each in message.examples if each.error), "")
        parts = [message.title + (f": {error}" if error else ""), message.text, message.url]
        logger.warning(
            "alert.%s %s",
            message.event,
            " ".join(" ".join(part.split()) for part in parts if part),
            extra={
                "event": f"alert.{message.event}",
                "kind": str(message.kind),
                "subject": message.subject,
                "count": message.count,
                "message_id": message.id,
            },
        )
        return "logged"
