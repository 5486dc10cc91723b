"""Time limits: raised inside the user's call, once, and never before or after it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from django_defer.exceptions import RunAborted, TimeLimitExceeded
from django_defer.interrupts import Interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT, LONG = 0.05, 5.0  # seconds
NUMBERS = (signal.SIGALRM, signal.SIGUSR1, signal.SIGTERM)


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield Interrupts()
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_is_quick_is_not_interrupted(interrupts: Interrupts) -> None:
    with interrupts.limited(LONG):
        assert interrupts.call(lambda a, *, b: a + b, 1, b=2) == 3
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_is_slow_is_interrupted_inside(interrupts: Interrupts) -> None:
    seen: list[str] = []

    def slow() -> None:
        try:
            time.sleep(LONG)
        finally:
            seen.append("cleaned up")

    began = time.monotonic()
    with pytest.raises(TimeLimitExceeded, match=r"of 0\.05 s"), interrupts.limited(SHORT):
        interrupts.call(slow)
    assert time.monotonic() - began < 1
    assert seen == ["cleaned up"]


def test_an_except_clause_for_exceptions_does_not_catch_it(interrupts: Interrupts) -> None:
    def careless() -> None:
        try:
            time.sleep(LONG)
        except Exception:  # noqa: BLE001
            pytest.fail("caught")

    with pytest.raises(TimeLimitExceeded), interrupts.limited(SHORT):
        interrupts.call(careless)


def test_nothing_is_raised_before_the_call(interrupts: Interrupts) -> None:
    with interrupts.limited(SHORT):
        time.sleep(2 * SHORT)


def test_nothing_is_raised_between_the_call_and_the_end(interrupts: Interrupts) -> None:
    with interrupts.limited(SHORT):
        interrupts.call(lambda: None)
        time.sleep(2 * SHORT)  # what the executor itself does there


def test_nothing_is_raised_afterwards(interrupts: Interrupts) -> None:
    with interrupts.limited(SHORT):
        interrupts.call(lambda: None)
    time.sleep(2 * SHORT)
    signal.raise_signal(signal.SIGALRM)


def test_one_attempt_is_not_interrupted_for_the_one_before(interrupts: Interrupts) -> None:
    with pytest.raises(TimeLimitExceeded), interrupts.limited(SHORT):
        interrupts.call(time.sleep, LONG)
    with interrupts.limited(LONG):
        interrupts.call(time.sleep, SHORT)


def test_a_function_that_swallows_it_goes_on_and_is_not_interrupted_again(
    interrupts: Interrupts,
) -> None:
    def stubborn() -> str:
        try:
            time.sleep(LONG)
        except BaseException:  # noqa: BLE001
            signal.raise_signal(signal.SIGALRM)
        return "went on"

    with interrupts.limited(SHORT):
        assert interrupts.call(stubborn) == "went on"


def test_signal_handlers_and_the_timer_are_put_back(interrupts: Interrupts) -> None:
    terminate = signal.getsignal(signal.SIGTERM)
    alarm = signal.getsignal(signal.SIGALRM)

    def meddle() -> None:
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 100, 100)

    with interrupts.limited(LONG):
        interrupts.call(meddle)
    assert signal.getsignal(signal.SIGTERM) is terminate
    assert signal.getsignal(signal.SIGALRM) is alarm
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_limit_holds_after_a_function_that_took_the_handler_away(
    interrupts: Interrupts,
) -> None:
    with interrupts.limited(LONG):
        interrupts.call(signal.signal, signal.SIGALRM, signal.SIG_IGN)
    with pytest.raises(TimeLimitExceeded), interrupts.limited(SHORT):
        interrupts.call(time.sleep, LONG)


# -- coroutine functions ---------------------------------------------------------------------


def test_a_coroutine_function_runs_in_an_event_loop(interrupts: Interrupts) -> None:
    async def add(a: int, *, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    with interrupts.limited(LONG):
        assert interrupts.call(add, 1, b=2) == 3


def test_a_coroutine_is_cancelled_where_it_awaits(interrupts: Interrupts) -> None:
    seen: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    began = time.monotonic()
    with pytest.raises(TimeLimitExceeded, match="max_duration"), interrupts.limited(SHORT):
        interrupts.call(slow)
    assert time.monotonic() - began < 1
    assert seen == ["cancelled"]


def test_a_coroutine_that_swallows_the_cancellation_goes_on(interrupts: Interrupts) -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            await asyncio.sleep(SHORT)
        return "went on"

    with interrupts.limited(SHORT):
        assert interrupts.call(stubborn) == "went on"


def test_a_coroutine_that_cancels_itself_has_not_exceeded_a_limit(interrupts: Interrupts) -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError), interrupts.limited(LONG):
        interrupts.call(give_up)


def test_a_coroutine_is_not_interrupted_for_the_one_before(interrupts: Interrupts) -> None:
    async def quick() -> str:
        await asyncio.sleep(0)
        return "done"

    with pytest.raises(TimeLimitExceeded), interrupts.limited(SHORT):
        interrupts.call(asyncio.sleep, LONG)
    with interrupts.limited(LONG):
        assert interrupts.call(quick) == "done"


def test_synchronous_code_of_a_coroutine_runs_in_the_calling_thread(interrupts: Interrupts) -> None:
    from asgiref.sync import sync_to_async

    async def where() -> int:
        return await sync_to_async(threading.get_ident)()

    with interrupts.limited(LONG):  # so that it is on this thread's connection
        assert interrupts.call(where) == threading.get_ident()


# -- abort -----------------------------------------------------------------------------------------


def raise_signal_soon() -> None:
    """Send SIGUSR1 to this process in a moment."""
    threading.Timer(SHORT, os.kill, [os.getpid(), signal.SIGUSR1]).start()


def test_a_signal_aborts_the_call_that_it_is_meant_for(interrupts: Interrupts) -> None:
    wanted: list[bool] = []

    def slow() -> None:
        wanted.append(True)
        time.sleep(LONG)

    raise_signal_soon()
    with pytest.raises(RunAborted), interrupts.limited(LONG, lambda: bool(wanted)):
        interrupts.call(slow)


def test_a_signal_for_another_claim_does_nothing(interrupts: Interrupts) -> None:
    raise_signal_soon()
    with interrupts.limited(LONG, lambda: False):
        interrupts.call(time.sleep, 3 * SHORT)


def test_an_abort_that_was_asked_for_before_the_call_ends_it_at_once(
    interrupts: Interrupts,
) -> None:
    wanted: list[bool] = []
    with interrupts.limited(LONG, lambda: bool(wanted)):
        signal.raise_signal(signal.SIGUSR1)
        wanted.append(True)
        with pytest.raises(RunAborted):
            interrupts.call(pytest.fail, "called")


def test_a_coroutine_is_aborted_too(interrupts: Interrupts) -> None:
    seen: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            seen.append("cleaned up")

    wanted: list[bool] = []
    threading.Timer(SHORT, wanted.append, [True]).start()
    threading.Timer(2 * SHORT, os.kill, [os.getpid(), signal.SIGUSR1]).start()
    began = time.monotonic()
    with pytest.raises(RunAborted), interrupts.limited(LONG, lambda: bool(wanted)):
        interrupts.call(slow)
    assert time.monotonic() - began < 1
    assert seen == ["cleaned up"]


def test_no_signal_aborts_what_is_not_inside_a_call(interrupts: Interrupts) -> None:
    signal.raise_signal(signal.SIGUSR1)
    wanted: list[bool] = []
    with interrupts.limited(LONG, lambda: bool(wanted)):
        interrupts.call(lambda: None)
        wanted.append(True)
        signal.raise_signal(signal.SIGUSR1)  # what the executor itself does there
    signal.raise_signal(signal.SIGUSR1)


def test_an_abort_is_raised_once(interrupts: Interrupts) -> None:
    seen: list[str] = []

    def careful() -> None:
        try:
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.raise_signal(signal.SIGUSR1)
            seen.append("cleaned up")

    wanted: list[bool] = []

    def call() -> None:
        wanted.append(True)
        careful()

    with pytest.raises(RunAborted), interrupts.limited(LONG, lambda: bool(wanted)):
        interrupts.call(call)
    assert seen == ["cleaned up"]


def test_a_changed_handler_is_put_back(interrupts: Interrupts) -> None:
    handler = signal.getsignal(signal.SIGUSR1)
    with interrupts.limited(LONG):
        interrupts.call(signal.signal, signal.SIGUSR1, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGUSR1) is handler
