"""Numbers over time: what ended when, how long it waited and took, which functions fail.

No index knows when a run ended. But an id begins with the time of its enqueueing, so the primary
key finds the runs that were *enqueued* in a span. At most MOST_RUNS of them are read: of a larger
span the newest (an hour, and SQLite) or a sample of the table's pages, and `Coverage` says so.
Runs that failed have an index of their own and are counted by when they failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connections

from django_defer.conf import conf
from django_defer.history_statements import Coverage, Span, Statements


@dataclass(slots=True)
class Part:
    """What ended in one part of the span."""

    begins_at: datetime
    ends_at: datetime
    succeeded: int = 0
    failed: int = 0


@dataclass(slots=True)
class FunctionNumbers:
    """What a function did: runs that started, attempts of theirs that failed, time they took.

    `failed` are the runs that failed for good in the span, whenever they were enqueued.
    """

    key: str
    runs: int = 0
    failed_attempts: int = 0
    seconds: float = 0.0
    failed: int = 0


@dataclass(slots=True)
class Percentiles:
    """How long runs waited from being due to their start, and how long they took."""

    waited_half: timedelta | None = None
    waited_most: timedelta | None = None
    took_half: timedelta | None = None
    took_most: timedelta | None = None


@dataclass(slots=True)
class History:
    """The numbers of one span."""

    span: Span
    coverage: Coverage
    parts: list[Part]
    percentiles: Percentiles
    functions: dict[str, FunctionNumbers] = field(default_factory=dict)

    @property
    def succeeded(self) -> int:
        """How many runs succeeded."""
        return sum(part.succeeded for part in self.parts)

    @property
    def failed(self) -> int:
        """How many runs failed."""
        return sum(part.failed for part in self.parts)

    @property
    def a_minute(self) -> float:
        """How many runs ended in a minute, on average of the time that was looked at."""
        time = self.parts[-1].ends_at - self.coverage.since
        return (self.succeeded + self.failed) / max(time / timedelta(minutes=1), 1.0)

    def most_failing(self, most: int) -> list[FunctionNumbers]:
        """Return the functions that failed, the worst first."""
        worst = [each for each in self.functions.values() if each.failed or each.failed_attempts]
        return sorted(worst, key=lambda f: (-f.failed, -f.failed_attempts, f.key))[:most]

    def most_busy(self, most: int) -> list[FunctionNumbers]:
        """Return the functions on which most time was spent."""
        busy = [each for each in self.functions.values() if each.seconds > 0]
        return sorted(busy, key=lambda f: (-f.seconds, f.key))[:most]


def history(span: Span, now: datetime) -> History:
    """Return the numbers of the span that ends at `now`, in three or four statements."""
    asked = Statements(span, now, connections[str(conf.database)])
    begins = [asked.begin + span.width * number for number in range(span.parts)]
    parts = [Part(begin, begin + span.width) for begin in begins]
    numbers = History(span, asked.coverage, parts, Percentiles())
    _add_runs(numbers, asked)
    _add_failed(numbers, asked)
    return numbers


def _add_runs(numbers: History, asked: Statements) -> None:
    weight = asked.coverage.weight
    for about, name, *values in asked.runs():
        if about == "part":
            # What ended after `now` was read, or by another clock, belongs to the last part.
            if (place := int(name)) >= 0:
                part = numbers.parts[min(place, len(numbers.parts) - 1)]
                part.succeeded += round(values[0] * weight)
        elif about == "function":
            runs, failed_attempts, seconds = (float(value) * weight for value in values[:3])
            function = FunctionNumbers(name, round(runs), round(failed_attempts), seconds)
            numbers.functions[name] = function
        else:
            spans = (None if each is None else timedelta(seconds=max(0, each)) for each in values)
            numbers.percentiles = Percentiles(*spans)


def _add_failed(numbers: History, asked: Statements) -> None:
    for place, key, count in asked.failed():
        numbers.parts[min(place, len(numbers.parts) - 1)].failed += count
        function = numbers.functions.setdefault(key, FunctionNumbers(key))
        function.failed += count
