"""Whether many clusters that claim from one queue hold each other up.

The claimers are processes that claim in a loop and do nothing else: each claim is a durable
commit. They begin together, on a backlog that none of them empties.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from tests.benchmarks.arena import Arena
from tests.benchmarks.contenders import DEFER
from tests.benchmarks.report import Report, Target, median, percentile, ratio, spread

CLAIMED: Final = replace(DEFER, name="claimed")
BACKLOG: Final = 200_000
QUICK_BACKLOG: Final = 40_000
SECONDS: Final = 5
QUICK_SECONDS: Final = 1
LABELS: Final = (2, 32)  # an idle cluster of two workers; chunks of 16 for both
NUMBERS: Final = (1, 4, 20)
FEW, MANY = 4, 20

Key = tuple[int, int]  # labels, claimers


def measure(arena: Arena) -> Report:
    """Let a few and many claim, in turns."""
    backlog, seconds = (BACKLOG, SECONDS)
    if arena.quick:
        backlog, seconds = (QUICK_BACKLOG, QUICK_SECONDS)
    found: dict[Key, list[dict[str, Any]]] = {}
    for turn in range(arena.rounds):
        for labels in LABELS:
            for number in NUMBERS if turn % 2 == 0 else NUMBERS[::-1]:
                arena.clear(CLAIMED)
                arena.step(CLAIMED, "waiting", backlog)
                arena.settle(CLAIMED)
                one = arena.step(CLAIMED, "claimers", number, labels, seconds)
                found.setdefault((labels, number), []).append(one)
    rates = {key: [one["rate"] for one in rounds] for key, rounds in found.items()}
    every = [one for rounds in found.values() for one in rounds]
    report = Report(
        name="claiming",
        title=f"Claiming from {backlog:,} queued runs: runs claimed a second by all together",
        columns=["", "claimers", "runs/s", "rounds", f"x {FEW}", "ms p50", "p99", "least : most"],
        notes=[
            f"Each claimer is a process that claims for {seconds} s; all of them share this "
            "machine's cores. Each claim is a durable commit, its milliseconds are those of one.",
            "least : most: what the unluckiest claimer got, of what the luckiest did.",
            f"errors: {_errors(every) or 'none'}",
        ],
        targets=[
            *(
                Target(
                    f"x the rate of {FEW} have {MANY} claimers of {labels} runs at a time",
                    ratio(rates[labels, MANY], rates[labels, FEW]),
                    at_least=1.0,
                )
                for labels in LABELS
            ),
            Target("errors, deadlocks or others", sum(_errors(every).values()), at_most=0),
            Target(
                "answers without a run while many waited",
                sum(one["empty"] for one in every),
                at_most=0,
            ),
        ],
        data={
            "found": [
                {"labels": labels, "claimers": number, "rounds": rounds}
                for (labels, number), rounds in found.items()
            ]
        },
    )
    for (labels, number), rounds in found.items():
        rate = rates[labels, number]
        took = [value for one in rounds for value in one["milliseconds"]]
        report.add(
            f"{labels} runs a claim",
            number,
            f"{median(rate):.0f}",
            spread(rate),
            f"{ratio(rate, rates[labels, FEW]):.2f}",
            f"{median(took):.1f}",
            f"{percentile(took, 99):.1f}",
            f"{median([min(one['claimed']) / max(one['claimed']) for one in rounds]):.2f}",
        )
    return report


def _errors(every: list[dict[str, Any]]) -> dict[str, int]:
    names = {name for one in every for name in one["errors"]}
    return {name: sum(one["errors"].get(name, 0) for one in every) for name in sorted(names)}
