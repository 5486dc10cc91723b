"""How fast a full queue is drained.

The queue is filled, then the workers are started. A second connection counts four times a second
what is not finished; the rate is taken from the first count after WARM_UP rows to the last one,
so starting the processes costs nothing. WARM_UP is more than django-q2's save_limit of 250, from
where on each of its saves looks through as many rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.benchmarks.arena import Arena, count
from tests.benchmarks.contenders import (
    DEFER,
    DEFER_KEPT,
    DEFER_SILENT,
    DEFER_SINGLE,
    Q2,
    Q2_BEST,
    Q2_KEPT,
    WORKERS,
    Contender,
)
from tests.benchmarks.report import Report, Target, median, ratio, spread

WARM_UP: Final = 300  # rows
LOOK_EVERY: Final = 0.25  # seconds
WITHIN: Final = 600.0  # seconds
QUICK_ROWS: Final = 3000
FACTOR: Final = 5.0  # to reach, against django-q2's defaults with connections kept
BEST_FACTOR: Final = 3.0  # to reach, against its best
RUNS_A_SECOND: Final = 3000.0  # to reach


def measure(arena: Arena) -> Report:
    """Drain the queue of each contender in turns."""
    contenders = [DEFER, Q2_BEST, DEFER_SILENT, DEFER_SINGLE, Q2, DEFER_KEPT, Q2_KEPT]
    if arena.quick:
        contenders = [replace(one, rows=min(one.rows, QUICK_ROWS)) for one in contenders]
    rates: dict[str, list[float]] = {one.name: [] for one in contenders}
    for contender in arena.in_turns(contenders):
        rates[contender.name].append(drain(arena, contender))
    report = Report(
        name="throughput",
        title=f"Draining no-op runs, {WORKERS} workers: finished runs a second",
        columns=["", "rows", "runs/s", "rounds", "x defaults", "x best"],
        notes=[
            "runs/s: the median of the rounds; rounds: their lowest to highest; x: the median of "
            "the rounds' own ratios to django-q2 at its defaults and at its best, both with "
            "CONN_MAX_AGE = None.",
            "Where no CONN_MAX_AGE is named, it is Django's default, 0.",
            "finished: django-defer's row says succeeded, django-q2's message is deleted; each "
            f"commit waits for the disk. Counted from the {WARM_UP}th on.",
        ],
        targets=[
            Target(
                "times django-q2's defaults, connections kept",
                ratio(rates["defer"], rates["q2_kept"]),
                at_least=FACTOR,
            ),
            Target(
                "times django-q2's best",
                ratio(rates["defer"], rates["q2_best"]),
                at_least=BEST_FACTOR,
            ),
            Target("runs a second", median(rates["defer"]), at_least=RUNS_A_SECOND),
            Target("times as many with chunks", ratio(rates["defer"], rates["defer_single"])),
            Target(
                "as many with errors only in the log, like django-q2's best",
                ratio(rates["defer_silent"], rates["defer"]),
            ),
            Target(
                "Django's CONN_MAX_AGE against None", ratio(rates["defer"], rates["defer_kept"])
            ),
        ],
        data={"rates": rates, "rows": {one.name: one.rows for one in contenders}},
    )
    for one in contenders:
        report.add(
            one.label,
            one.rows,
            f"{median(rates[one.name]):.0f}",
            spread(rates[one.name]),
            f"{ratio(rates[one.name], rates['q2_kept']):.2f}",
            f"{ratio(rates[one.name], rates['q2_best']):.2f}",
        )
    return report


def drain(arena: Arena, contender: Contender) -> float:
    """Fill the queue, start the workers, and return the runs a second."""
    arena.clear(contender)
    arena.step(contender, "fill", contender.rows)
    arena.settle(contender)
    with arena.connection(contender) as connection, arena.workers(contender):
        rate = watch(
            lambda: count(connection, contender.unfinished), contender.rows, contender.label
        )
        if failed := count(connection, contender.failed):
            raise RuntimeError(f"{contender.label}: {failed} of {contender.rows} failed.")
    return rate


def watch(unfinished: Callable[[], int], rows: int, label: str) -> float:
    """Return the rate at which the unfinished become fewer, warm-up and last look excluded."""
    until = time.monotonic() + WITHIN
    looks: list[tuple[float, int]] = []
    left = rows
    while left:
        if time.monotonic() > until:
            raise TimeoutError(f"{label}: {left} left after {WITHIN:g} s.")
        time.sleep(LOOK_EVERY)
        left = unfinished()
        if 0 < left <= rows - WARM_UP:
            looks.append((time.monotonic(), left))
    if len(looks) < 2:
        raise RuntimeError(f"{label}: {rows} rows are too few to measure.")
    (began, first), (ended, last) = looks[0], looks[-1]
    return (first - last) / (ended - began)
