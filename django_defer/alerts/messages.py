"""A message as every channel gets it, and the ways in which sending one can fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from uuid import UUID

    from django_defer.alerts.events import Event
    from django_defer.models.alerts import MessageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One run that a message tells of. Texts are as they are: a channel escapes them."""

    run_id: UUID
    at: datetime
    error: str = ""  # the last line of it
    label: str = ""  # for whom: `using(label=…)`
    metadata: Mapping[str, str] = field(default_factory=dict)
    attempts: str = ""  # "17 of 17"
    slot: datetime | None = None
    fan_out: str = ""  # "3 of 300 of shop.weekly, 2026-11-23 08:00 UTC"
    url: str = ""  # of its page in the admin; "" without SITE_URL


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a channel sends. `id` is the same when it is sent again."""

    id: str
    event: Event
    kind: MessageKind
    subject: str  # a function's key, a queue's name or ""
    title: str  # one line: "shop.send_report failed 5,000 times"
    text: str = ""  # a sentence or two more
    count: int = 1
    first_at: datetime
    last_at: datetime
    examples: tuple[Example, ...] = ()
    url: str = ""  # of the alert's page in the admin


class ChannelError(Exception):
    """Sending failed; `str()` says what the other side answered, without secrets."""


class Refused(ChannelError):
    """It would fail in the same way again: the address is unknown, the message is not accepted."""


class TryLater(ChannelError):
    """It may work later: after `after`, if the other side said so."""

    def __init__(self, reason: str, after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Channel:
    """One way of telling people; a project may write its own and name it by its dotted path.

    The constructor gets the keys of the entry in `ALERTS` that are not about routing, and raises
    ValueError with a sentence that says what to write instead. `manage.py check` calls it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def send(self, message: Message) -> str:
        """Send it within seconds, and return what was answered, in a few words.

        Raises Refused or TryLater; any other error counts as TryLater.
        """
        raise NotImplementedError
