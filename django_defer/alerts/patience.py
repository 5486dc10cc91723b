"""Wait for somebody outside for so long and no longer."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class NoAnswer(Exception):
    """The time is up, and nobody has answered."""


def within(
    seconds: float, call: Callable[[], T], *, on_late: Callable[[T], object] | None = None
) -> T:
    """Return what the call returns, but wait no longer: raise NoAnswer and leave it alone.

    Time-outs of sockets are per step: looking up a name has none, and an answer that comes byte by
    byte never meets them. What comes after all is given to `on_late`, in the thread of the call.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            with suppress(InvalidStateError):  # nobody waits for it any more
                future.set_exception(error)
            return
        try:
            future.set_result(value)
        except InvalidStateError:
            if on_late is not None:
                on_late(value)

    Thread(target=run, name="django-defer-waits", daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        if not future.cancel():  # it is what the call raised, or it came at this very moment
            return future.result()
        raise NoAnswer from None
