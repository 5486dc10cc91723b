"""What django-defer executes: the same functions, decorated."""

from __future__ import annotations

import time

from django_defer import current_run, defer
from tests.benchmarks import functions


@defer
def noop(value: object = None) -> object:
    """Return the argument."""
    return functions.noop(value)


@defer
def nap(seconds: float) -> None:
    """Wait for as long as this."""
    functions.nap(seconds)


@defer
def stamp(number: int) -> None:
    """Write down when this began."""
    functions.stamp(number)


@defer
def who(number: int) -> None:
    """Write down which process executes this."""
    functions.who(number)


@defer
def linger(number: int) -> None:
    """Write down when this began, under `number` plus the attempt's, and stay in the first one."""
    run = current_run()
    attempt = run.attempt if run else 1
    functions.stamp(number + attempt)
    if attempt == 1:
        time.sleep(functions.LONG)
