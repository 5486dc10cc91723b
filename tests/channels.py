"""Channels of alerts as a project could write them: one that keeps its messages, and bad ones."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from django_defer.alerts.messages import Channel, Refused, TryLater

if TYPE_CHECKING:
    from django_defer.alerts.messages import Message


class FileChannel(Channel):
    """Writes each message as a line of JSON into a file."""

    def __init__(self, name: str, *, path: str) -> None:
        super().__init__(name)
        self.path = Path(path)

    def send(self, message: Message) -> str:
        """Write it."""
        line = [str(message.event), str(message.kind), message.subject, message.title]
        with self.path.open("a") as file:
            file.write(json.dumps([*line, message.text]) + "\n")
        return "written"


class RefusingChannel(Channel):
    """Refuses whatever it is to send."""

    def __init__(self, name: str, *, url: str = "") -> None:
        super().__init__(name)

    def send(self, message: Message) -> str:
        """Refuse."""
        raise Refused("404 no_service")


class BrokenChannel(Channel):
    """Raises what nobody expects, and tells its secret."""

    def __init__(self, name: str, *, url: str = "") -> None:
        super().__init__(name)
        self.url = url

    def send(self, message: Message) -> str:
        """Break."""
        raise ZeroDivisionError(f"cannot reach {self.url}")


class HangingChannel(Channel):
    """Never answers: a late answer would be written after the test's transaction."""

    def send(self, message: Message) -> str:
        """Hang."""
        time.sleep(30)
        raise TryLater("never answered")


def lines_of(path: Path) -> list[list[str]]:
    """Return what a FileChannel wrote there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
