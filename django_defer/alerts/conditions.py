"""Notice what no run tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def watch(using: str, now: datetime) -> None:
    """Raise and close the alerts of conditions, and find what has recovered."""
