"""What it costs to remove a million old runs while others claim: how long a claim takes meanwhile.

Everything is removed by `defer_prune`, which rests half of the time; the scheduler does the same
with longer rests.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.benchmarks.arena import Arena
from tests.benchmarks.contenders import DEFER
from tests.benchmarks.pruning_steps import MOST_MS
from tests.benchmarks.report import Report, Target, median, percentile

PRUNED: Final = replace(DEFER, name="pruned")
ROWS: Final = 1_000_000
QUICK_ROWS: Final = 20_000
ALONE: Final = 4000  # claims before, as many as there are meanwhile or so


def measure(arena: Arena) -> Report:
    """Fill, then prune beside claims."""
    rows = QUICK_ROWS if arena.quick else ROWS
    arena.clear(PRUNED)
    arena.step(PRUNED, "fill_old", rows)
    found = arena.step(PRUNED, "prune_beside_claims", 200 if arena.quick else ALONE)
    before, during = found["before"], found["during"]
    report = Report(
        name="pruning",
        title=f"Pruning {rows:,} old runs while others claim: milliseconds a claim",
        columns=["", "claims", "p50", "p99", "highest", "over 50"],
        notes=[
            f"all removed in {found['seconds']:.1f} s, {rows / found['seconds']:,.0f} a second; "
            f"{found['left']} ended runs are left.",
            "a claim is a durable commit: it waits for the disk, also when nobody prunes.",
        ],
        targets=[
            Target("claims that waited 50 ms for a lock", found["blocked"], at_most=0),
            Target("ms of 999 in 1000 claims meanwhile", at_999(during), at_most=MOST_MS),
            Target("ms the longest of them", max(during)),
        ],
        data=found,
    )
    for name, values in (("before", before), ("meanwhile", during)):
        cells = (median(values), percentile(values, 99), max(values))
        long = sum(value > MOST_MS for value in values)
        report.add(name, len(values), *(f"{value:.1f}" for value in cells), long)
    return report


def at_999(values: list[float]) -> float:
    """Return what one of a thousand values exceeds: a disk stalls now and then by itself."""
    return sorted(values)[max(0, len(values) * 999 // 1000 - 1)]
