"""What a fan-out gains by more workers, and what the queue itself takes of them.

The workers are up and warm before the runs are enqueued, all in one transaction. The runs sleep,
so that what is linear is known: it's their sleep divided by the workers. The time is the
database's, from the first start to the last finish. As long as the CPU is idle for a part of the
time, it is not the machine that limits.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from tests.benchmarks.arena import Arena, count, wait_for_zero
from tests.benchmarks.contenders import DEFER, DEFER_SINGLE, Contender
from tests.benchmarks.report import Report, Target, median, percentile, ratio
from tests.benchmarks.scaling_steps import cpu

SCALED: Final = replace(DEFER, name="scaled", workers=4)
SHORT: Final = replace(DEFER, name="short")
CHUNKED: Final = replace(DEFER, name="mixed")
SINGLE: Final = replace(DEFER_SINGLE, name="mixed_single")
MIXED: Final = (CHUNKED, SINGLE)
CLUSTERS: Final = (1, 2, 4, 8)
RUNS: Final = 1000
QUICK_RUNS: Final = 320  # each of 32 workers gets as many
LONG_MS: Final = 50
SHORT_MS: Final = 10
MIXED_RUNS: Final = 2000
QUICK_MIXED: Final = 400
SLOW_MS: Final = 2000
LINEAR: Final = 0.90  # of it, to reach
IDEAL: Final = 1.10  # times it, to stay within
NO_WORSE: Final = 1.0  # times it, to stay within
WITHIN: Final = 300.0  # seconds
WARM_UPS: Final = 4  # runs a worker

SECONDS: Final = (
    "SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8 FROM django_defer_run"
)
SEEN: Final = "SELECT count(DISTINCT (cluster, worker)) FROM django_defer_run"
BETWEEN: Final = """
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - ended) * 1000)
FROM (SELECT started_at, lag(finished_at) OVER (PARTITION BY cluster, worker ORDER BY started_at)
          AS ended FROM django_defer_run) AS run
WHERE ended IS NOT NULL
"""
WAITS: Final = """
SELECT extract(epoch FROM started_at - enqueued_at)::float8,
    extract(epoch FROM started_at - claimed_at)::float8 * 1000
FROM django_defer_run WHERE finished_at - started_at < interval '{slow} ms' / 2
"""


@dataclass(frozen=True)
class FanOut:
    """How long one took, how much of the CPU was idle, and how long its quick runs waited."""

    seconds: float
    idle: float
    between: float  # milliseconds from the end of a worker's run to the start of its next, median
    waits: list[float]  # seconds from being enqueued to the start
    in_hand: list[float]  # milliseconds from being claimed to it


def measure(arena: Arena) -> Report:
    """Fan out to more and more clusters, then shorter runs, then a mix."""
    runs = QUICK_RUNS if arena.quick else RUNS
    mixed = QUICK_MIXED if arena.quick else MIXED_RUNS
    found: dict[tuple[str, int], list[FanOut]] = defaultdict(list)
    for _ in range(arena.rounds):
        for clusters in CLUSTERS:
            one = fan_out(arena, SCALED, clusters, "naps", runs, LONG_MS)
            found[SCALED.name, clusters].append(one)
        found[SHORT.name, 1].append(fan_out(arena, SHORT, 1, "naps", runs, SHORT_MS))
        for contender in MIXED:
            one = fan_out(arena, contender, 1, "mixed", mixed, SLOW_MS)
            found[contender.name, 1].append(one)
    report = Report(
        name="scaling",
        title=f"A fan-out of {runs:,} runs that sleep: seconds from the first start to the last "
        "finish",
        columns=[
            "",
            "clusters",
            "workers",
            "seconds",
            "linear",
            "x linear",
            "ms between",
            "CPU idle",
        ],
        notes=[
            "linear: the sleep of all runs divided by the workers; x linear: linear / seconds.",
            "ms between: from the end of a worker's run to the start of its next one, the median.",
            "CPU idle: of all cores meanwhile, other processes of the machine included.",
        ],
        data={
            "found": [
                {"name": name, "clusters": clusters, "seconds": [one.seconds for one in rounds]}
                | {"idle": [one.idle for one in rounds]}
                | {"between": [one.between for one in rounds]}
                for (name, clusters), rounds in found.items()
            ]
        },
    )
    for clusters in CLUSTERS:
        rounds = found[SCALED.name, clusters]
        share = _add(report, LONG_MS, runs, clusters, SCALED.workers, rounds)
        workers = clusters * SCALED.workers
        what = f"x linear, {workers} workers, runs of {LONG_MS} ms"
        report.targets.append(Target(what, share, at_least=LINEAR))
    share = _add(report, SHORT_MS, runs, 1, SHORT.workers, found[SHORT.name, 1])
    what = f"x the ideal time, {SHORT.workers} workers, runs of {SHORT_MS} ms"
    report.targets.append(Target(what, 1 / share, at_most=IDEAL))
    for contender in MIXED:
        _add_mix(report, contender, mixed, found[contender.name, 1])
    waits = [
        [percentile(one.waits, 99) for one in found[each.name, 1]] for each in (CHUNKED, SINGLE)
    ]
    what = "x the 99th percentile of the quick ones' wait without chunks"
    report.targets.append(Target(what, ratio(*waits), at_most=NO_WORSE))
    return report


def fan_out(
    arena: Arena, contender: Contender, clusters: int, step: str, runs: int, milliseconds: int
) -> FanOut:
    """Have so many clusters up, let a step enqueue, and return what came of it."""
    arena.clear(contender)
    arena.settle(contender)
    with ExitStack() as stack:
        connection = stack.enter_context(arena.connection(contender))
        for _ in range(clusters):
            stack.enter_context(arena.workers(contender))
        workers, until = clusters * contender.workers, time.monotonic() + WITHIN
        while count(connection, SEEN) < workers:  # all of them are up and warm
            if time.monotonic() > until:
                raise TimeoutError(f"not all of {workers} workers came")
            arena.step(contender, "naps", WARM_UPS * workers, LONG_MS)
            wait_for_zero(connection, contender.unfinished, within=WITHIN)
        arena.clear(contender)
        before = arena.step(contender, step, runs, milliseconds)
        wait_for_zero(connection, contender.unfinished, within=WITHIN)
        idle, everything = (now - then for now, then in zip(cpu(), before, strict=True))
        if failed := count(connection, contender.failed):
            raise RuntimeError(f"{failed} of {runs} runs did not succeed")
        ((seconds,),) = connection.execute(SECONDS).fetchall()
        ((between,),) = connection.execute(BETWEEN).fetchall()
        waits = connection.execute(WAITS.format(slow=milliseconds)).fetchall()
    return FanOut(
        seconds=float(seconds),
        idle=idle / everything,
        between=float(between),
        waits=[row[0] for row in waits],
        in_hand=[row[1] for row in waits],
    )


def _add(
    report: Report, milliseconds: int, runs: int, clusters: int, each: int, rounds: list[FanOut]
) -> float:
    """Add a row; return which share of linear was reached."""
    seconds = [one.seconds for one in rounds]
    linear = runs * milliseconds / 1000 / (clusters * each)
    share = ratio([linear] * len(seconds), seconds)
    report.add(
        f"runs of {milliseconds} ms",
        clusters,
        clusters * each,
        f"{median(seconds):.2f}",
        f"{linear:.2f}",
        f"{share:.2f}",
        f"{median([one.between for one in rounds]):.1f}",
        f"{median([one.idle for one in rounds]):.0%}",
    )
    return share


def _add_mix(report: Report, contender: Contender, runs: int, rounds: list[FanOut]) -> None:
    """Add what the quick runs of a mix waited."""
    waits = [value for one in rounds for value in one.waits]
    in_hand = [value for one in rounds for value in one.in_hand]
    report.data.setdefault("mixed", {})[contender.name] = {"waits": waits, "in_hand": in_hand}

    def figures(values: list[float]) -> str:
        cells = (percentile(values, 50), percentile(values, 99), max(values))
        return " / ".join(f"{value:.1f}" for value in cells)

    report.notes.append(
        f"{runs:,} runs, {len(waits) // len(rounds):,} of which do nothing and the others take "
        f"{SLOW_MS / 1000:g} s, {contender.workers} workers, {contender.label}: all "
        f"{median([one.seconds for one in rounds]):.2f} s. The quick ones, p50 / p99 / most: "
        f"enqueued to start {figures(waits)} s; claimed to start {figures(in_hand)} ms."
    )
