"""How much memory a worker takes, beside one of django-q2's, and whether it stays so.

Workers are told by what they write down: each executes runs that stamp its process id. `own` is
what no other process shares, so it is what one more worker costs; RSS counts shared pages in full.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.benchmarks.arena import Arena, wait_for_zero
from tests.benchmarks.contenders import DEFER, Q2, WORKERS, Contender
from tests.benchmarks.functions import read_stamps
from tests.benchmarks.process_trees import memory, tree_of
from tests.benchmarks.recovery_cluster import wait_for
from tests.benchmarks.report import Report, Target, median

if TYPE_CHECKING:
    from collections.abc import Iterable

STEADY: Final = replace(
    DEFER, name="steady", workers=1, defer={"MAX_RUNS_PER_WORKER": 1_000_000_000}
)
MORE: Final = 10.0  # megabytes that a worker may take above django-q2's
GROWTH: Final = 5.0  # megabytes that it may grow by
ASKED: Final = 50  # runs that stamp a process id, each a moment long
RUNS: Final = 100_000
QUICK_RUNS: Final = 20_000
PORTION: Final = 10_000
QUICK_PORTION: Final = 5_000
WARM: Final = 10_000  # runs, from where on it is to be steady
WITHIN: Final = 900.0  # seconds for a portion
KINDS: Final = ("worker", "pusher", "supervisor")

Megabytes = dict[str, float]


def measure(arena: Arena) -> Report:
    """Look at workers of both, then at one of ours while it executes many runs."""
    found: dict[str, list[Megabytes]] = {"defer": [], "q2": []}
    trees: dict[str, list[float]] = {"defer": [], "q2": []}
    for contender in arena.in_turns([DEFER, Q2]):
        workers, tree = sizes(arena, contender)
        found[contender.name] += workers
        trees[contender.name].append(tree)
    runs, portion = (QUICK_RUNS, QUICK_PORTION) if arena.quick else (RUNS, PORTION)
    rss = steadiness(arena, runs, portion)
    since = WARM // portion - 1  # the look after as many runs
    more = {
        name: _middle(found["defer"], name) - _middle(found["q2"], name)
        for name in ("own", "pss", "rss")
    }
    report = Report(
        name="memory",
        title=f"Memory of a worker, {WORKERS} workers: megabytes",
        columns=["", "own", "PSS", "RSS", "all processes, PSS"],
        notes=[
            "own: shared with no other process. PSS: with its share of what is shared.",
            f"then RSS of 1 worker that executes {runs:,} no-ops, and of those beside it.",
        ],
        targets=[
            Target("MB of its own above django-q2's worker", more["own"], at_most=MORE),
            Target("MB of PSS above it", more["pss"], at_most=MORE),
        ],
        data={"sizes": found, "trees": trees, "rss": rss},
    )
    for one in (DEFER, Q2):
        cells = [f"{_middle(found[one.name], name):.1f}" for name in ("own", "pss", "rss")]
        report.add(one.label, *cells, f"{median(trees[one.name]):.1f}")
    for kind in KINDS:
        report.add(f"{kind} after {WARM:,} runs", "", "", f"{rss[kind][since]:.1f}", "")
        report.add(f"{kind} after {runs:,} runs", "", "", f"{rss[kind][-1]:.1f}", "")
        growth = rss[kind][-1] - rss[kind][since]
        label = f"MB that a {kind} grew by, from run {WARM:,} to {runs:,}"
        report.targets.append(Target(label, growth, at_most=GROWTH))
    return report


def sizes(arena: Arena, contender: Contender) -> tuple[list[Megabytes], float]:
    """Return what each worker takes, and all processes together."""
    arena.clear(contender)
    with arena.process(contender) as process, arena.connection(contender) as connection:
        workers = known_workers(arena, contender, WORKERS)
        wait_for_zero(connection, contender.unfinished, within=WITHIN)
        tree = sum(memory(pid)["pss"] for pid in tree_of(process.pid))
        return [memory(pid) for pid in sorted(workers)], tree


def known_workers(arena: Arena, contender: Contender, number: int) -> set[int]:
    """Have runs executed until so many processes have; return these."""

    def executed() -> set[int] | None:
        arena.step(contender, "who", ASKED)
        time.sleep(1.0)
        found = set(read_stamps(arena.stamps))
        return found if len(found) >= number else None

    return wait_for(executed, "a run of each worker")


def steadiness(arena: Arena, runs: int, portion: int) -> dict[str, list[float]]:
    """Return the RSS of each process after each portion of runs."""
    arena.clear(STEADY)
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with arena.process(STEADY) as process, arena.connection(STEADY) as connection:
        (worker,) = known_workers(arena, STEADY, 1)
        (pusher,) = set(tree_of(process.pid)) - {process.pid, worker}
        for _ in range(runs // portion):
            arena.step(STEADY, "fill", portion)
            wait_for_zero(connection, STEADY.unfinished, within=WITHIN)
            for kind, pid in zip(KINDS, (worker, pusher, process.pid), strict=True):
                found[kind].append(memory(pid)["rss"])
    return found


def _middle(sizes: Iterable[Megabytes], name: str) -> float:
    return median([each[name] for each in sizes])
