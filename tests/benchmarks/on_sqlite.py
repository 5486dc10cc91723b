"""How fast a full queue is drained on SQLite, the embedded default."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.benchmarks.arena import MANAGE, Arena
from tests.benchmarks.contenders import DEFER, DEFER_SINGLE, WORKERS, Contender
from tests.benchmarks.processes import process
from tests.benchmarks.report import Report, Target, median, ratio, spread
from tests.benchmarks.throughput import QUICK_ROWS, watch
from tests.databases import SQLITE_OPTIONS

RUNS_A_SECOND: Final = 2500.0  # to reach


def measure(arena: Arena) -> Report:
    """Drain a queue, with chunks and without, in turns."""
    contenders = [DEFER, DEFER_SINGLE]
    if arena.quick:
        contenders = [replace(one, rows=min(one.rows, QUICK_ROWS)) for one in contenders]
    rates: dict[str, list[float]] = {one.name: [] for one in contenders}
    for contender in arena.in_turns(contenders):
        rates[contender.name].append(drain(contender))
    report = Report(
        name="sqlite",
        title=f"Draining no-op runs on SQLite, {WORKERS} workers: finished runs a second",
        columns=["", "rows", "runs/s", "rounds"],
        notes=["With the options of the README: write-ahead log, synchronous = NORMAL."],
        targets=[
            Target("runs a second", median(rates["defer"]), at_least=RUNS_A_SECOND),
            Target("times as many with chunks", ratio(rates["defer"], rates["defer_single"])),
        ],
        data={"rates": rates},
    )
    for one in contenders:
        figures = rates[one.name]
        report.add(one.label, one.rows, f"{median(figures):.0f}", spread(figures))
    return report


def drain(contender: Contender) -> float:
    """Fill a queue in a new file, start the workers, and return the runs a second."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "db.sqlite3"
        engine: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
        on_sqlite = replace(contender, connection={**engine, "OPTIONS": SQLITE_OPTIONS})
        env = on_sqlite.environment(str(path), os.devnull)
        subprocess.run([*MANAGE, "migrate", "--verbosity", "0"], env=env, check=True)
        steps = [sys.executable, "-m", "tests.benchmarks.steps"]
        fill = [*steps, "fill", str(contender.rows)]
        subprocess.run(fill, env=env, check=True, stdout=subprocess.DEVNULL)
        with (
            closing(sqlite3.connect(path, timeout=60)) as connection,
            Path(os.devnull).open("wb") as nowhere,
            process([*MANAGE, *on_sqlite.command], env, nowhere),
        ):
            rate = watch(
                partial(_count, connection, contender.unfinished), contender.rows, contender.label
            )
            if _count(connection, contender.failed):
                raise RuntimeError(f"{contender.label} on SQLite: not all succeeded.")
    return rate


def _count(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
