"""The background and scheduled functions of the test app."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from django_defer import Cancel, Retry, RetryPolicy, current_run, defer
from tests.testapp.models import Customer, Effect


@defer
def add(first: int, second: int = 1) -> int:
    """Return a sum."""
    return first + second


@defer
def noop(value: Any = None) -> Any:
    """Return the argument."""
    return value


@defer(max_duration="2m")
def leave_effect(name: str, detail: str = "") -> None:
    """Write one row."""
    Effect.objects.create(name=name, detail=detail)


@defer
def greet(customer: Customer) -> str:
    """Take a model instance."""
    return f"Hello, {customer.name}"


@defer
async def add_async(first: int, second: int) -> int:
    """Be a coroutine function."""
    await asyncio.sleep(0)
    await Effect.objects.acreate(name="add_async")
    return first + second


@defer(retry=RetryPolicy(max_attempts=3, initial_interval="50ms", randomization_factor=0))
def fail_until(attempt: int) -> int:
    """Fail before this attempt."""
    current = current_run()
    assert current is not None
    if current.attempt < attempt:
        raise ConnectionError(f"attempt {current.attempt} failed")
    return current.attempt


@defer(retry=False)
def fail() -> None:
    """Fail, without a retry."""
    raise ValueError("no <b>luck</b>")


@defer
def ask_for_retry(after: float) -> str:
    """Raise Retry once."""
    current = current_run()
    assert current is not None
    if current.attempt == 1:
        raise Retry(after=after)
    return "done"


@defer
def cancel_itself() -> None:
    """Raise Cancel."""
    raise Cancel("not needed any more")


@defer(max_duration="0.3s", retry=False)
def too_long(seconds: float) -> None:
    """Sleep, interruptibly."""
    time.sleep(seconds)


@defer(max_duration="0.3s", retry=False)
async def too_long_async(seconds: float) -> None:
    """Sleep in an event loop."""
    await asyncio.sleep(seconds)


@defer(max_duration="0.3s", retry=False)
def swallow_time_limit(seconds: float) -> None:
    """Go on whatever is raised."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(seconds)
        except BaseException:  # noqa: BLE001, S110
            pass


@defer(retry=False)
def sleep(seconds: float, name: str = "") -> float:
    """Sleep, leaving an effect before and after."""
    if name:
        Effect.objects.create(name=name, detail=f"start pid={os.getpid()}")
    time.sleep(seconds)
    if name:
        Effect.objects.create(name=name, detail="end")
    return seconds


@defer(rerun_if_lost=False)
def sleep_once(seconds: float) -> None:
    """Sleep; never to be executed twice."""
    time.sleep(seconds)


@defer
def kill_itself(times: int) -> str:
    """Be killed the first `times` times."""
    current = current_run()
    assert current is not None
    if current.attempt <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@defer.cron("0 8 * * MON", atomic=True, retry=RetryPolicy(initial_interval="50ms"))
def weekly() -> int:
    """Fan out to every customer who opted in, dying once half-way when told to."""
    current = current_run()
    assert current is not None
    customers = list(Customer.objects.filter(opted_in=True).order_by("pk"))
    for index, customer in enumerate(customers):
        if index == len(customers) // 2 and current.attempt == 1:
            how = os.environ.get("DEFER_TEST_WEEKLY_DIES", "")
            if how == "exception":
                raise ConnectionError("half-way")
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        recommend.using(label=customer.name)(customer)
    return len(customers)


@defer
def recommend(customer: Customer) -> None:
    """Leave one effect a customer."""
    Effect.objects.create(name="mail", detail=customer.name)
