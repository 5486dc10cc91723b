"""Async and sync: every verb that touches the database has an async twin that runs in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async

from django_defer.exceptions import CalledInEventLoop


def refuse_event_loop(verb: str) -> None:
    """Raise in a running event loop, where the database may not be touched synchronously."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise CalledInEventLoop(verb)


def in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the async twin of a synchronous verb."""
    return sync_to_async(function, thread_sensitive=True)
