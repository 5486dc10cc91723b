"""What is due every second and every minute."""

from __future__ import annotations

from django_defer import defer


@defer.every("1s")
def every_second() -> None:
    """Do nothing."""


@defer.cron("* * * * *")
def every_minute() -> None:
    """Do nothing."""
