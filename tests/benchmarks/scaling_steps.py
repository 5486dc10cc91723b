"""The steps of the benchmark of scaling: many runs at once, in one transaction."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ONE_IN: Final = 100  # of which one is slow


def naps(rows: int, milliseconds: int) -> list[int]:
    """Enqueue runs that wait as long as this for something; return what the cores did so far."""
    from tests.benchmarks.defer import nap

    nap.map([milliseconds / 1000] * rows)
    return cpu()


def mixed(rows: int, milliseconds: int) -> list[int]:
    """The same with runs that do nothing, and among them evenly a few that take as long as this."""
    from tests.benchmarks.defer import nap

    nap.map([(number % ONE_IN == ONE_IN // 2) * milliseconds / 1000 for number in range(rows)])
    return cpu()


def cpu() -> list[int]:
    """Return how long the cores have been idle, and in all, since the machine was started."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    times = [int(word) for word in words[1:9]]
    return [times[3] + times[4], sum(times)]  # who waits for the disk is idle
