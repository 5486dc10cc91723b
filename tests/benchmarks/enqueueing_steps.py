"""The steps of the benchmark of enqueueing that django-q2 has no counterpart of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.db import transaction

WARM_UP: Final = 10_000  # rows, by which all is imported and the memory of two batches is had
BATCH: Final = 5000  # rows a transaction


def bulk(rows: int) -> dict[str, float]:
    """Enqueue what a generator yields, in one transaction; return seconds and MB of memory."""
    return _bulk(rows, None)


def bulk_in_batches(rows: int) -> dict[str, float]:
    """Enqueue the same in a transaction a batch."""
    return _bulk(rows, BATCH)


def _bulk(rows: int, batch_size: int | None) -> dict[str, float]:
    from tests.benchmarks.defer import noop

    noop.map(_items(WARM_UP), batch_size=batch_size)
    before, began = _most_memory(), time.perf_counter()
    assert noop.map(_items(rows), batch_size=batch_size) == rows
    return {"seconds": time.perf_counter() - began, "megabytes": _most_memory() - before}


def beside_create(rows: int) -> dict[str, float]:
    """Return the milliseconds of a call inside a transaction, and of creating the same row."""
    from django_defer.models import Run
    from tests.benchmarks.defer import noop

    def create(number: int) -> None:
        Run.objects.create(
            function_id=noop.key,
            args={"args": [number], "kwargs": {}},
            max_attempts=noop.options.retry.max_attempts,
        )

    seconds: dict[str, list[float]] = {"call": [], "create": []}
    for number in range(rows):
        for name, make in (("call", noop), ("create", create)):
            with transaction.atomic():
                make(-1)  # has BEGIN sent
                began = time.perf_counter()
                make(number)
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) * 1000 for name, values in seconds.items()}


def _items(rows: int) -> Iterator[str]:
    return (f"item number {number}" for number in range(rows))


def _most_memory() -> float:
    """Return the most memory that this process has had so far, in MB (Linux).

    Not by getrusage(), which begins with what the process that started this one had.
    """
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024
