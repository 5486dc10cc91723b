"""Interrupt the user's function, and nothing else, when its time is up.

The exception is raised only while that very attempt is inside the user's call, at most once, and
never in our own start, finish or queue reads. What user code did to signal handlers and timers
is undone afterwards.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from asgiref.sync import async_to_sync

from django_defer.exceptions import TimeLimitExceeded

_GUARDED = (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)


class Interrupts:
    """The timer of one worker process (its main thread)."""

    def __init__(self) -> None:
        self._cause: BaseException | None = None
        self._inside = False
        self._is_async = False
        self._cancel_task: Callable[[], object] | None = None
        self._seconds = 0.0
        self._alarm = self._on_alarm  # one object, so that a changed handler can be told
        signal.signal(signal.SIGALRM, self._alarm)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `function`; one that is a coroutine function runs in an event loop.

        Its synchronous database work happens in this thread, on this thread's connection, so
        that it belongs to the transaction of an atomic run.
        """
        self._is_async = inspect.iscoroutinefunction(function)
        self._inside = True
        try:
            if self._is_async:
                return async_to_sync(self._supervised)(function, *args, **kwargs)
            return function(*args, **kwargs)
        finally:
            self._inside = False

    async def _supervised(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._cancel_task = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            if self._cause is not None:  # its time was up before the loop had begun
                raise self._cause
            return await function(*args, **kwargs)
        except asyncio.CancelledError:
            if self._cause is None:
                raise
            raise self._cause from None
        finally:
            self._cancel_task = None

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Raise TimeLimitExceeded in a `call` that is still inside after `seconds`."""
        handlers = {number: signal.getsignal(number) for number in _GUARDED}
        self._seconds, self._cause = seconds, None
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            self._inside = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in handlers.items():
                if signal.getsignal(number) is not handler:
                    signal.signal(number, handler)

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        self._interrupt(
            TimeLimitExceeded(f"still running after its max_duration of {self._seconds:g} s")
        )

    def _interrupt(self, cause: BaseException) -> None:
        if not self._inside or self._cause is not None:
            return
        self._cause = cause
        if not self._is_async:
            raise cause
        if self._cancel_task is not None:
            self._cancel_task()
