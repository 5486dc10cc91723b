"""Whether a claim, a start and a finish take longer where millions of other runs are.

Three tables: a small one that holds nothing but what waits, one with millions of runs that ended
and many that wait, and the same with many scheduled and parked ones before these. The big ones are
measured in turns with the small one, which is made anew each time.
"""

from __future__ import annotations

import shutil
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

Times = list[dict[str, float]]  # of each round


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
    names = list(found[next(iter(found))][0][0])
    report = Report(
        name="big_tables",
        title="On big tables: milliseconds of a statement",
        columns=["", *(cell for name in names for cell in (name, "x"))],
        notes=[
            f"The median of {TIMES} each; x: of the rounds' ratios to the small table. Nothing "
            "waits for the disk here.",
        ],
        data={"found": found},
    )
    if is_quick and not arena.quick:
        report.notes.append(f"Fewer rows than meant: {ROOM >> 30} GB of disk were not free.")
    smalls = [small for rounds in found.values() for small in rounds[0]]
    cells = [(f"{median([one[name] for one in smalls]):.2f}", "1.00") for name in names]
    report.add(f"{WAITING:,} waiting, nothing else", *(cell for pair in cells for cell in pair))
    for label, (small, big) in found.items():
        times = {name: [one[name] for one in big] for name in names}
        ratios = {name: ratio(times[name], [one[name] for one in small]) for name in names}
        cells = [(f"{median(times[name]):.2f}", f"{ratios[name]:.2f}") for name in names]
        report.add(label, *(cell for pair in cells for cell in pair))
        report.targets += [
            Target(f"x the small table's, {name}, {label}", ratios[name], at_most=MOST)
            for name in names
        ]
    return report


def beside(arena: Arena) -> tuple[Times, Times]:
    """Return what the small and the big table take, round by round."""
    small: Times = []
    big: Times = []
    for turn in range(arena.rounds):
        arena.clear(SMALL)
        arena.step(SMALL, "waiting", WAITING)
        both = [(SMALL, small), (BIG, big)]
        for contender, times in both if turn % 2 == 0 else both[::-1]:
            _vacuum(arena, contender)
            found = arena.step(contender, "hot_statements", TIMES)
            times.append({name: median(values) for name, values in found.items()})
    return small, big


def _vacuum(arena: Arena, contender: Contender) -> None:
    """Leave nothing of what the last round claimed in an index."""
    with arena.connection(contender) as connection:
        connection.execute("VACUUM (INDEX_CLEANUP ON, ANALYZE) django_defer_run")
        connection.execute("CHECKPOINT")


def _has_room(arena: Arena) -> bool:
    """Say whether the disk has room, as far as it is ours."""
    return arena.private is None or shutil.disk_usage(arena.private.data).free > ROOM
