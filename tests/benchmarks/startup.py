"""What the app adds to the start of a process of a project: `manage.py check`, with and without it.

In pairs, one beginning as often as the other, bytecode written before. The database is not asked.
"""

from __future__ import annotations

import resource
import subprocess
import time
from dataclasses import replace
from typing import Final

from tests.benchmarks.arena import MANAGE, Arena
from tests.benchmarks.contenders import DEFER, Contender
from tests.benchmarks.report import Report, Target, median, spread

WITH: Final = replace(DEFER, name="with", label="with django_defer")
CRON: Final = replace(
    WITH,
    name="cron",
    label="with it, and a cron expression in the project",
    apps=("tests.benchmarks.scheduled",),
)
WITHOUT: Final = replace(DEFER, name="without", label="a project without it", kind="")
PAIRS: Final = 10
QUICK_PAIRS: Final = 3
MOST: Final = 30.0  # milliseconds
WAITED: Final = 1.3  # times its processor's time that it takes where something else runs

Taken = tuple[float, float]  # milliseconds: by the clock, and of the processor


def measure(arena: Arena) -> Report:
    """Start them in turns, and look at the differences of neighbours."""
    contenders = [WITHOUT, WITH, CRON]
    for contender in contenders:
        start(arena, contender)  # compiles what is not compiled yet
    taken: dict[str, list[Taken]] = {each.name: [] for each in contenders}
    for number in range(QUICK_PAIRS if arena.quick else PAIRS):
        for contender in contenders[:: -1 if number % 2 else 1]:
            taken[contender.name].append(start(arena, contender))
    added = {name: differences(taken[name], taken["without"]) for name in taken}
    clocks = [clock for clock, _ in added["with"]]
    waited = [median([clock / cpu for clock, cpu in each]) for each in taken.values()]
    is_quiet = max(waited) < WAITED  # else they waited for the processor, one more than another
    report = Report(
        name="startup",
        title="`manage.py check`: milliseconds",
        columns=["", "n", "ms", "CPU ms", "added ms", "added CPU ms", "lowest – highest"],
        notes=[
            "added: the median of the differences to the neighbour without it.",
            "CPU: where something else keeps the machine busy, it says more than the clock.",
        ],
        targets=[
            Target("ms added", median(clocks), at_most=MOST if is_quiet else None),
            Target("ms added, of the processor", median([cpu for _, cpu in added["with"]])),
        ],
        data={"milliseconds": taken},
    )
    for one in contenders:
        totals, (more, others) = (
            zip(*taken[one.name], strict=True),
            zip(*added[one.name], strict=True),
        )
        cells = [f"{median(values):.0f}" for values in (*totals, more, others)]
        if one is WITHOUT:
            cells[2:] = ["", ""]
        report.add(one.label, len(more), *cells, "" if one is WITHOUT else spread(more))
    if not is_quiet:
        report.notes.append("Too busy a machine to say what is reached: it waited. Measure again.")
    return report


def start(arena: Arena, contender: Contender) -> Taken:
    """Return what one `manage.py check` takes."""
    environment = contender.environment("asked by nobody", str(arena.stamps))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(arena.directory / "bytecode")
    used = _processor()
    began = time.perf_counter()
    subprocess.run([*MANAGE, "check"], env=environment, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000, (_processor() - used) * 1000


def differences(taken: list[Taken], base: list[Taken]) -> list[Taken]:
    """Return how much more each took than the one that was started beside it."""
    return [(a - c, b - d) for (a, b), (c, d) in zip(taken, base, strict=True)]


def _processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
