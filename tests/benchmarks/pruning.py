"""What it costs to remove a million old runs while others claim: how long a claim takes meanwhile.

Everything is removed at once, by `defer_prune`; the scheduler does the same with rests in between.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.benchmarks.arena import Arena
from tests.benchmarks.contenders import DEFER
from tests.benchmarks.report import Report, Target, median, percentile

PRUNED: Final = replace(DEFER, name="pruned")
ROWS: Final = 1_000_000
QUICK_ROWS: Final = 20_000
MOST_MS: Final = 50.0


def measure(arena: Arena) -> Report:
    """Fill, then prune beside claims."""
    rows = QUICK_ROWS if arena.quick else ROWS
    arena.clear(PRUNED)
    arena.step(PRUNED, "fill_old", rows)
    found = arena.step(PRUNED, "prune_beside_claims")
    before, during = found["before"], found["during"]
    report = Report(
        name="pruning",
        title=f"Pruning {rows:,} old runs while others claim: milliseconds a claim",
        columns=["", "claims", "p50", "p99", "highest"],
        notes=[
            f"all removed in {found['seconds']:.1f} s, {rows / found['seconds']:,.0f} a second; "
            f"{found['left']} ended runs are left.",
            "a claim is a durable commit.",
        ],
        targets=[Target("ms the longest claim meanwhile", max(during), at_most=MOST_MS)],
        data=found,
    )
    for name, values in (("before", before), ("meanwhile", during)):
        cells = (median(values), percentile(values, 99), max(values))
        report.add(name, len(values), *(f"{value:.1f}" for value in cells))
    return report
