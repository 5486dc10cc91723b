"""Whether a claim, a start and a finish take longer where millions of other runs are.

Three tables: a small one that holds nothing but what waits, one with millions of runs that ended
and many that wait, and the same with many scheduled and parked ones before these. A statement in a
big one comes just before or after the same in the small one, which is made anew each round.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import replace
from typing import Final

from tests.benchmarks.arena import Arena
from tests.benchmarks.contenders import DEFER, Contender
from tests.benchmarks.report import Report, Target, median, ratio

SMALL: Final = replace(DEFER, name="small")
BIG: Final = replace(DEFER, name="big")
WAITING: Final = 20_000  # in the small one
ROWS: Final = (5_000_000, 1_000_000, 1_000_000)  # finished, waiting, before these
QUICK_ROWS: Final = (200_000, 50_000, 50_000)
ROOM: Final = 20 * 2**30  # bytes of disk that must be free for that: it takes half of them
TIMES: Final = 200
MOST: Final = 1.2  # x the small table's, to stay within

Times = dict[str, list[float]]  # milliseconds, by statement


def measure(arena: Arena) -> Report:
    """Fill, then measure each big table beside the small one."""
    rows = ROWS
    if is_quick := arena.quick or not _has_room(arena):
        rows = QUICK_ROWS
    finished, waiting, in_front = rows
    arena.step(BIG, "finished", finished)
    arena.step(BIG, "waiting", waiting)
    found = {f"{finished:,} finished and {waiting:,} waiting": beside(arena)}
    arena.step(BIG, "in_front", in_front)
    found[f"and {in_front:,} scheduled and parked before these"] = beside(arena)
    arena.drop(SMALL)
    arena.drop(BIG)
    (small, _), *_ = found.values()
    report = Report(
        name="big_tables",
        title="On big tables: milliseconds of a statement",
        columns=["", *(cell for name in small for cell in (name, "x"))],
        notes=[
            f"The median of {arena.rounds} times {TIMES}; x: the median of the ratios to the same "
            "in the small table, one just before or after the other. Nothing waits for the disk.",
        ],
        data={"found": found},
    )
    if is_quick and not arena.quick:
        report.notes.append(f"Fewer rows than meant: {ROOM >> 30} GB of disk were not free.")
    _add(report, f"{WAITING:,} waiting, nothing else", small, small)
    for label, (small, big) in found.items():
        _add(report, label, small, big)
        report.targets += [
            Target(
                f"x the small table's, {name}, {label}", ratio(big[name], small[name]), at_most=MOST
            )
            for name in small
        ]
    return report


def beside(arena: Arena) -> tuple[Times, Times]:
    """Return what each statement takes in the small and in the big table, pair by pair."""
    small: Times = defaultdict(list)
    big: Times = defaultdict(list)
    for _ in range(arena.rounds):
        arena.clear(SMALL)
        arena.step(SMALL, "waiting", WAITING)
        for contender in (SMALL, BIG):
            _vacuum(arena, contender)
        both = arena.step(BIG, "hot_statements", arena.database(SMALL), TIMES)
        for times, found in zip((small, big), both, strict=True):
            for name, values in found.items():
                times[name] += values
    return small, big


def _vacuum(arena: Arena, contender: Contender) -> None:
    """Leave nothing of what the last round claimed in an index."""
    with arena.connection(contender) as connection:
        connection.execute("VACUUM (INDEX_CLEANUP ON, ANALYZE) django_defer_run")
        connection.execute("CHECKPOINT")


def _add(report: Report, label: str, small: Times, big: Times) -> None:
    cells = [f"{median(big[name]):.2f} {ratio(big[name], small[name]):.2f}" for name in small]
    report.add(label, *" ".join(cells).split())


def _has_room(arena: Arena) -> bool:
    """Say whether the disk has room, as far as it is ours."""
    return arena.private is None or shutil.disk_usage(arena.private.data).free > ROOM
