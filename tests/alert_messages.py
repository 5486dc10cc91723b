"""Messages as the dispatcher makes them, for the tests of channels."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django_defer.alerts.events import Event
from django_defer.alerts.messages import Example, Message
from django_defer.models.alerts import MessageKind

AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
RUN = UUID("0193a1b2-0000-7000-8000-000000000001")
SITE = "https://shop.example.com/admin"


def new_example(**values: Any) -> Example:
    """Return what is said of a run that failed."""
    defaults: dict[str, Any] = {
        "run_id": RUN,
        "at": AT + timedelta(minutes=3),
        "error": "ValueError: no such user",
        "label": "user 42",
        "metadata": {"plan": "pro", "country": "de"},
        "attempts": "17 of 17",
        "slot": AT,
        "fan_out": "3 of 300 of shop.weekly, 2026-11-23 08:00 UTC",
        "url": f"{SITE}/run/{RUN}/?a=1&b=2",
    }
    return Example(**{**defaults, **values})


def new_message(**values: Any) -> Message:
    """Return a first message of failures."""
    defaults: dict[str, Any] = {
        "id": "alert-7-1",
        "event": Event.RUN_FAILED,
        "kind": MessageKind.OPENED,
        "subject": "shop.send_report",
        "title": "shop.send_report failed 5,000 times",
        "text": "All attempts are used up.",
        "count": 5000,
        "first_at": AT,
        "last_at": AT + timedelta(minutes=5),
        "examples": (new_example(), new_example(label="user 43", slot=None, fan_out="")),
        "url": f"{SITE}/alert/7/",
    }
    return Message(**{**defaults, **values})


# What a text of a function may hold: markup, mentions, control characters, other scripts.
NASTY = (
    "<!channel> @here <@U123> *bold* _it_ ~no~ `code` ```block``` <https://evil.example|Click> "
    "& &lt; <script>alert(1)</script> \"'\x00\x1b[31m\r\nBcc: x@evil.example\u202e :smile: | ü"
)
