"""UUIDv7 (RFC 9562): keys that sort by the time they were made.

Within one process they strictly increase, so runs enqueued in a loop are claimed in that order.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_lock = threading.Lock()
_last = 0


def _renew_lock() -> None:
    """Forget the parent's lock: one of its threads may have held it at the moment of the fork."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def uuid7() -> UUID:
    """Return a new UUIDv7: 48 bits of milliseconds, 12 bits of their fraction, 62 random bits."""
    global _last
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    tick = milliseconds << 12 | (nanoseconds << 12) // 1_000_000
    with _lock:
        _last = tick = max(tick, _last + 1)
    random = int.from_bytes(os.urandom(8)) >> 2
    return UUID(int=tick >> 12 << 80 | 7 << 76 | (tick & 0xFFF) << 64 | 2 << 62 | random)


def first_uuid7_of(instant: datetime) -> UUID:
    """Return the least UUIDv7 that can be made at this instant (an aware datetime)."""
    milliseconds = (instant - EPOCH) // timedelta(milliseconds=1)
    return UUID(int=max(0, milliseconds) << 80 | 7 << 76 | 2 << 62)


def instant_of(key: UUID) -> datetime:
    """Return when a UUIDv7 was made, to the millisecond."""
    return EPOCH + timedelta(milliseconds=key.int >> 80)
