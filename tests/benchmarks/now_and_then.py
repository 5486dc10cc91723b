"""Enqueue now and then on an idle system, and read from the stamps when each run began."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.benchmarks import functions

WARM_UPS: Final = 10
GAP: Final = (0.030, 0.120)  # seconds between two enqueues
SOON: Final = 0.003  # seconds: the notification of what is enqueued so soon is throttled away
WAIT: Final = 30.0  # seconds for the last run to begin


def latencies(
    enqueue: Callable[[int], object], runs: int, seed: int, *, in_pairs: bool = False
) -> list[float]:
    """Return the milliseconds from each call of `enqueue` to the first line of the function.

    `in_pairs`: every second one follows SOON after the one before.
    """
    gaps = random.Random(seed)
    called: dict[int, float] = {}
    for number in range(-WARM_UPS, runs):
        if in_pairs and number % 2:
            time.sleep(max(0.0, called[number - 1] + SOON - time.time()))
        else:
            time.sleep(gaps.uniform(*GAP))
        called[number] = time.time()
        enqueue(number)
    began = _wait_for_stamps(set(called))
    return [(began[number] - called[number]) * 1000 for number in range(runs)]


def _wait_for_stamps(numbers: set[int]) -> dict[int, float]:
    until = time.monotonic() + WAIT
    while True:
        stamps = functions.read_stamps(Path(os.environ[functions.STAMPS]))
        if numbers <= set(stamps):
            return stamps
        if time.monotonic() > until:
            raise TimeoutError(f"{len(numbers - set(stamps))} runs did not begin")
        time.sleep(0.1)
