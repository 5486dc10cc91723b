"""How long it takes from the call that enqueues to the function's first line, on an idle system.

Single enqueues in autocommit, a random 30 to 120 ms apart, the same gaps for each contender. The
function writes down its own beginning, so the clock is the host's for all of them (django-q2's
Task.started is the instant of enqueueing). For django-defer the database's own view, started_at
minus enqueued_at, is shown besides, and what comes of two enqueues 3 ms apart, of which the second
is not notified, and without LISTEN.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.benchmarks.arena import Arena, wait_for_zero
from tests.benchmarks.contenders import DEFER, Q2_BEST, Q2_KEPT, WORKERS, Contender
from tests.benchmarks.report import Report, Target, percentile

POLLING: Final = replace(
    DEFER, name="polling", label="  without LISTEN, by polling", defer={"LISTEN": False}
)
RUNS: Final = 200
QUICK_RUNS: Final = 60
WITHIN: Final = 60.0  # seconds
MEDIAN: Final = 5.0  # milliseconds, to reach
HIGH: Final = 12.0  # milliseconds at the 99th percentile, to reach
PAIRED: Final = 15.0  # milliseconds at the 99th percentile of two that come 3 ms apart, to reach
POLLED: Final = 250.0  # milliseconds at the 99th percentile by polling, to reach

IN_DATABASE: Final = (
    "SELECT extract(epoch FROM started_at - enqueued_at)::float8 * 1000 FROM django_defer_run"
)


def measure(arena: Arena) -> Report:
    """Enqueue now and then for each contender in turns; the rounds' figures are put together."""
    contenders = [DEFER, Q2_KEPT, Q2_BEST]
    rounds = max(1, arena.rounds - 1)
    runs = QUICK_RUNS if arena.quick else RUNS
    found: dict[str, list[float]] = {one.name: [] for one in contenders}
    database: list[float] = []
    pairs: list[float] = []
    polled: list[float] = []
    for seed in range(rounds):
        for contender in contenders:
            found[contender.name] += idle(arena, contender, runs, seed)
            if contender is DEFER:
                with arena.connection(DEFER) as connection:
                    database += [row[0] for row in connection.execute(IN_DATABASE)]
        pairs += idle(arena, DEFER, runs, seed, step="latencies_in_pairs")
        polled += idle(arena, POLLING, runs, seed)
    report = Report(
        name="latency",
        title=f"From enqueueing to start, idle, {WORKERS} workers: milliseconds",
        columns=["", "p50", "p95", "p99", "highest", "p50 x best"],
        notes=[
            f"{rounds} times {runs} single enqueues, 30 to 120 ms apart, from the call to the "
            "function's first line, host clock.",
            "in the database: started_at minus enqueued_at, its own clock.",
            "in pairs: every second one follows 3 ms after the one before.",
        ],
        targets=[
            Target("ms at the median", percentile(found["defer"], 50), at_most=MEDIAN),
            Target("ms at the 99th percentile", percentile(found["defer"], 99), at_most=HIGH),
            Target("ms of two 3 ms apart, p99", percentile(pairs, 99), at_most=PAIRED),
            Target("ms by polling, p99", percentile(polled, 99), at_most=POLLED),
        ],
        data={
            "milliseconds": found,
            "in_database": database,
            "in_pairs": pairs,
            "polled": polled,
        },
    )
    best = percentile(found["q2_best"], 50)
    for one in contenders:
        _add(report, one.label, found[one.name], best)
        if one is DEFER:
            _add(report, "  the same, in the database", database, best)
            _add(report, "  in pairs", pairs, best)
            _add(report, POLLING.label, polled, best)
    return report


def idle(
    arena: Arena, contender: Contender, runs: int, seed: int, step: str = "latencies"
) -> list[float]:
    """Return the milliseconds of each run."""
    arena.clear(contender)
    arena.step(contender, "fill", 20)
    arena.settle(contender)
    with arena.connection(contender) as connection, arena.workers(contender):
        wait_for_zero(connection, contender.unfinished, within=WITHIN)  # they are up and warm
        arena.clear(contender)
        milliseconds: list[float] = arena.step(contender, step, runs, seed)
        wait_for_zero(connection, contender.unfinished, within=WITHIN)
    return milliseconds


def _add(report: Report, label: str, values: list[float], best: float) -> None:
    middle = percentile(values, 50)
    report.add(
        label,
        *(f"{percentile(values, share):.1f}" for share in (50, 95, 99)),
        f"{max(values):.1f}",
        f"{middle / best:.2f}",
    )
