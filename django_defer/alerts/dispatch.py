"""Send what is due, each channel in its turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def work(using: str, seconds: float) -> None:
    """Notice, gather and send, until nothing is due or the time is up."""


def send_due(using: str, now: datetime, seconds: float) -> int:
    """Send what is due for so many seconds at most; return how many messages were sent."""
    return 0


def is_work_due(using: str, now: datetime) -> bool:
    """Say, in one query, whether there is anything for `work` to do."""
    return False
