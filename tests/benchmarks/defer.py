"""What django-defer executes: the same functions, decorated."""

from __future__ import annotations

from django_defer import defer
from tests.benchmarks import functions


@defer
def noop(value: object = None) -> object:
    """Return the argument."""
    return functions.noop(value)


@defer
def stamp(number: int) -> None:
    """Write down when this began."""
    functions.stamp(number)
