"""Events and alerts for tests, and channels that do what a test wants."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django_defer.alerts import dispatch, gathering
from django_defer.alerts.messages import Channel, Refused, TryLater
from django_defer.models import Alert, AlertDelivery, AlertEvent
from tests.runs import DATABASE, NOOP

if TYPE_CHECKING:
    from uuid import UUID

    from django_defer.alerts.messages import Message

T0: Final = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)  # a Monday
LOG: Final = ({"channel": "log"},)
FILE: Final = "tests.alerts.FileChannel"
TOLD: Final = "tests.alerts.Told"


def at(seconds: float) -> datetime:
    """Return the instant so many seconds after T0."""
    return T0 + timedelta(seconds=seconds)


def happens(
    seconds: float = 0,
    event: str = "run_failed",
    subject: str = NOOP,
    *,
    run_id: UUID | None = None,
    error: str = "ValueError: no",
    times: int = 1,
) -> None:
    """Write events, as if so many seconds after T0."""
    AlertEvent.objects.using(DATABASE).bulk_create(
        AlertEvent(event=event, subject=subject, run_id=run_id, error=error, at=at(seconds))
        for _ in range(times)
    )


def gather_at(seconds: float) -> int:
    """Gather and make the messages that are due then; return how many deliveries that makes."""
    gathering.gather(DATABASE, at(seconds))
    return gathering.schedule_messages(DATABASE, at(seconds))


def send_at(seconds: float) -> int:
    """Gather, make messages and send them; return how many were sent."""
    gather_at(seconds)
    return dispatch.send_due(DATABASE, at(seconds), 20)


def the_alert() -> Alert:
    """Return the only alert."""
    return Alert.objects.using(DATABASE).get()


def deliveries() -> list[tuple[str, str, int]]:
    """Return kind, channel and number of every delivery that is not given up, in order."""
    rows = AlertDelivery.objects.using(DATABASE).filter(given_up_at=None).order_by("pk")
    return list(rows.values_list("kind", "channel", "number"))


class Told(Channel):
    """Keeps its messages in memory, and fails as it is told to."""

    messages: Final[list[tuple[str, Message]]] = []
    errors: Final[dict[str, list[BaseException]]] = {}  # raised, one a message, by channel

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name)

    def send(self, message: Message) -> str:
        """Keep it, unless there is an error left to raise."""
        if errors := self.errors.get(self.name):
            raise errors.pop(0)
        self.messages.append((self.name, message))
        return "ok"

    @classmethod
    def titles(cls, name: str | None = None) -> list[str]:
        """Return the titles that were sent, by one channel or all."""
        return [message.title for each, message in cls.messages if name in (None, each)]

    @classmethod
    def forget(cls) -> None:
        """Begin anew."""
        cls.messages.clear()
        cls.errors.clear()


class Broken(Channel):
    """Cannot be opened: something it needs is not there."""

    def __init__(self, name: str) -> None:
        raise ImportError("no module named slack_sdk")


class FileChannel(Channel):
    """Appends each message to a file: for other processes.

    `how`: "die" kills the process after the first message, before its sending is written down;
    "hang" never answers.
    """

    def __init__(self, name: str, path: str, how: str = "") -> None:
        super().__init__(name)
        self.path, self.how = Path(path), how

    def send(self, message: Message) -> str:
        """Append a line."""
        if self.how == "hang":
            time.sleep(3600)
        is_first = not self.path.exists()
        with self.path.open("a") as file:
            file.write(f"{message.id} {message.kind} {message.title}\n")
        if self.how == "die" and is_first:
            os.kill(os.getpid(), signal.SIGKILL)
        return "written"


__all__ = ["Refused", "TryLater"]
