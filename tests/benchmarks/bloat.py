"""What a transaction that stays open elsewhere costs: no dead row version can be vacuumed.

Two databases and their workers, which stay up: in one of them a session holds a snapshot that is
older than all runs. Portions are enqueued there and executed, and in turns with these a smaller one
in the other database, whose table is emptied each time: that is what is fresh. A rate comes from
the rows' own `finished_at`, WARM_UP runs after the first and until the last one; meanwhile only the
last row is looked at, since counting would cost more than what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final
from uuid import UUID

import psycopg

from tests.benchmarks.arena import Arena, count, wait_for_zero
from tests.benchmarks.contenders import DEFER, WORKERS, Contender
from tests.benchmarks.report import Report, Target, ratio

HELD: Final = replace(DEFER, name="held")
FRESH: Final = replace(DEFER, name="fresh")
RUNS: Final = 200_000
PORTION: Final = 10_000
QUICK_RUNS: Final = 4_000
QUICK_PORTION: Final = 1_000
FRESH_PORTION: Final = 4_000
QUICK_FRESH: Final = 1_000
WARM_UP: Final = 300  # runs
LOOK_EVERY: Final = 0.2  # seconds
WITHIN: Final = 1800.0  # seconds for a portion
SHARE: Final = 0.5  # of the fresh rate, to keep
LAST: Final = 3  # portions that the verdict is on
SLOWER: Final = 3.0  # times the fresh milliseconds, to stay within
EACH_RUN: Final = ("next claim", "start", "finish")  # the statements that every run needs
HOPELESS: Final = 0.25  # of it, at which the rest is not executed any more

RATE: Final = """
SELECT (count(*) - 1) / extract(epoch FROM max(finished_at) - min(finished_at))::float8
FROM (SELECT finished_at FROM django_defer_run WHERE id > %s ORDER BY finished_at OFFSET %s) AS warm
"""
NONE: Final = UUID(int=0)


def measure(arena: Arena) -> Report:
    """Execute portions beside an open transaction, each after a fresh one; then without it."""
    runs, portion = (QUICK_RUNS, QUICK_PORTION) if arena.quick else (RUNS, PORTION)
    small = QUICK_FRESH if arena.quick else FRESH_PORTION
    fresh: list[float] = []
    held: list[float] = []
    statements: dict[str, dict[str, float]] = {}
    for contender in (FRESH, HELD):
        arena.clear(contender)
        arena.settle(contender)
    arena.step(HELD, "fill", 1)  # the snapshot is of a table that has a page
    with open_transaction(arena):
        with arena.workers(FRESH), arena.workers(HELD):
            for contender in (FRESH, HELD):
                drain(arena, contender, WARM_UP * 2)  # all of them are up
            while len(held) * portion < runs and (not held or held[-1] > HOPELESS * fresh[-1]):
                fresh.append(drain_fresh(arena))
                held.append(drain(arena, HELD, portion))
            after = [drain_fresh(arena)]
        for when, contender in (("fresh", FRESH), ("held", HELD)):
            statements[when] = look(arena, contender)
    arena.settle(HELD)
    with arena.workers(HELD):
        drain(arena, HELD, WARM_UP * 2)
        after.append(drain(arena, HELD, portion))
    statements["vacuumed"] = look(arena, HELD)
    executed = len(held) * portion
    report = Report(
        name="bloat",
        title=f"{executed:,} runs beside an open transaction, {WORKERS} workers: finished runs/s",
        columns=["", "runs", "runs/s", "fresh", "x fresh", *statements["fresh"]],
        notes=[
            "Each run was enqueued with map() and executed by a worker; no row version that died "
            "meanwhile could be removed. fresh: just before, in a database of its own.",
            "Then the milliseconds of one statement, at the median: claim, empty: where nothing is "
            "queued; the others where something is. Starts and finishes are rolled back. claim: "
            "from the very front; next claim: as a pusher makes most of them.",
        ],
        targets=[
            Target(
                f"x the fresh rate after {executed:,} runs, the last portions' median",
                ratio(held[-LAST:], fresh[-LAST:]),
                at_least=SHARE,
            ),
            *(
                Target(
                    f"x the fresh time of a {name}",
                    statements["held"][name] / statements["fresh"][name],
                    at_most=SLOWER,
                )
                for name in EACH_RUN
            ),
        ],
        data={"fresh": fresh, "held": held, "after": after, "statements": statements},
    )
    if executed < runs:
        report.notes.append(f"Given up below {HOPELESS:g} x fresh; {runs:,} runs were meant.")

    def add(label: str, count: int, rate: float, base: float, when: str = "") -> None:
        times = [f"{one:.2f}" for one in statements[when].values()] if when else []
        cells = times or ["" for _ in statements["fresh"]]
        report.add(label, count, f"{rate:.0f}", f"{base:.0f}", f"{rate / base:.2f}", *cells)

    add("nothing open", small, fresh[0], fresh[0], "fresh")
    for number, (rate, base) in enumerate(zip(held, fresh, strict=True), 1):
        last = "held" if number == len(held) else ""
        add(f"open, {number * portion:,} executed", portion, rate, base, last)
    add("closed, vacuumed", portion, after[1], after[0], "vacuumed")
    return report


@contextmanager
def open_transaction(arena: Arena) -> Iterator[None]:
    """Hold a snapshot of the database inside, as a long report or a forgotten session does."""
    with psycopg.connect(dbname=arena.database(HELD)) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM django_defer_run")
        yield
        connection.rollback()


def drain_fresh(arena: Arena) -> float:
    """Return the rate in the other database, its table empty."""
    arena.clear(FRESH)
    arena.settle(FRESH)
    return drain(arena, FRESH, QUICK_FRESH if arena.quick else FRESH_PORTION)


def drain(arena: Arena, contender: Contender, rows: int) -> float:
    """Enqueue for workers that are there, and return the runs a second."""
    with arena.connection(contender) as connection:
        before = _last(connection)
        arena.step(contender, "fill", rows)
        last = _last(connection)
        until = time.monotonic() + WITHIN
        while _state(connection, last) in ("queued", "claimed", "running"):
            if time.monotonic() > until:
                raise TimeoutError(f"the last of {rows} runs is not done after {WITHIN:g} s")
            time.sleep(LOOK_EVERY)
        wait_for_zero(connection, contender.unfinished, within=WITHIN)  # others are, beside it
        if failed := count(connection, contender.failed):
            raise RuntimeError(f"{failed} of the runs did not succeed")
        ((rate,),) = connection.execute(RATE, [before, WARM_UP]).fetchall()
    return float(rate)


def look(arena: Arena, contender: Contender) -> dict[str, float]:
    """Return the milliseconds of the statements that a bloated queue may slow down."""
    with arena.connection(contender) as connection:
        before = _last(connection)
        empty: dict[str, float] = arena.step(contender, "statements")
        arena.step(contender, "fill", QUICK_FRESH if arena.quick else FRESH_PORTION)
        filled: dict[str, float] = arena.step(contender, "statements")
        connection.execute("DELETE FROM django_defer_run WHERE id > %s", [before])
    return {"claim, empty": empty["claim"], **filled}


def _last(connection: psycopg.Connection) -> UUID:
    row = connection.execute("SELECT id FROM django_defer_run ORDER BY id DESC LIMIT 1").fetchone()
    return row[0] if row else NONE


def _state(connection: psycopg.Connection, run: UUID) -> str:
    ((state,),) = connection.execute(
        "SELECT state FROM django_defer_run WHERE id = %s", [run]
    ).fetchall()
    return str(state)
