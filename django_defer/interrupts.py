"""Interrupt the user's function, and nothing else, when its time is up or it is to be aborted.

The exception is raised only while that very attempt is inside the user's call, at most once, and
never in our own start, finish or queue reads. What user code did to signal handlers and timers
is undone afterwards.
"""

from __future__ import annotations

import asyncio
import inspect
import signal

# That of `signal` looks in an enum for each answer, in vain: 8 % of what a worker does for a run.
from _signal import getsignal  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from asgiref.sync import async_to_sync

from django_defer.exceptions import RunAborted, TimeLimitExceeded
from django_defer.process import only_in_this_process

_GUARDED = (signal.SIGALRM, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


class Interrupts:
    """The timer of one worker process (its main thread), and its ear for SIGUSR1: abort."""

    def __init__(self) -> None:
        self._cause: BaseException | None = None
        self._inside = False
        self._is_async = False
        self._cancel_task: Callable[[], object] | None = None
        self._seconds = 0.0
        self._is_to_abort: Callable[[], bool] = lambda: False
        # One object each, so that a changed handler can be told.
        self._alarm, self._user_signal = self._on_alarm, self._on_user_signal
        signal.signal(signal.SIGALRM, self._alarm)
        signal.signal(signal.SIGUSR1, self._user_signal)
        self._handlers = {number: signal.getsignal(number) for number in _GUARDED}

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `function`; one that is a coroutine function runs in an event loop.

        Its synchronous database work happens in this thread, on this thread's connection, so
        that it belongs to the transaction of an atomic run.
        """
        self._is_async = inspect.iscoroutinefunction(function)
        self._inside = True
        try:
            self._abort_if_told_to()  # the signal may have come before the function was called
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
            with only_in_this_process():  # a child has this thread alone: it would never end
                return await function(*args, **kwargs)
        except asyncio.CancelledError:
            if self._cause is None:
                raise
            raise self._cause from None
        finally:
            self._cancel_task = None

    @contextmanager
    def limited(
        self, seconds: float, is_to_abort: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Raise TimeLimitExceeded in a `call` that is still inside after `seconds`.

        At a SIGUSR1, `is_to_abort` says whether RunAborted is to be raised in this one.
        """
        self._seconds, self._cause, self._is_to_abort = seconds, None, is_to_abort
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            self._inside = False
            self._is_to_abort = lambda: False
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in self._handlers.items():
                if getsignal(number) is not handler:
                    signal.signal(number, handler)

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        self._interrupt(
            TimeLimitExceeded(f"still running after its max_duration of {self._seconds:g} s")
        )

    def _on_user_signal(self, signum: int, frame: FrameType | None) -> None:
        self._abort_if_told_to()

    def _abort_if_told_to(self) -> None:
        if self._inside and self._is_to_abort():
            self._interrupt(RunAborted("an operator, or a newer slot, ended it"))

    def _interrupt(self, cause: BaseException) -> None:
        if not self._inside or self._cause is not None:
            return
        self._cause = cause
        if not self._is_async:
            raise cause
        if self._cancel_task is not None:
            self._cancel_task()
