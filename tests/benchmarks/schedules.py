"""How late what is scheduled begins, and what many definitions cost.

Lateness: started_at minus slot, by the database's clock, in a cluster with nothing else to do.
django-q2's Schedule has no seconds, so there one schedule is due each second and its function
writes down when it began; its cluster looks every 30 s.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Final

from tests.benchmarks.arena import Arena, count
from tests.benchmarks.contenders import DEFER_KEPT, Q2_KEPT, WORKERS
from tests.benchmarks.report import Report, Target, median, percentile

SCHEDULED: Final = replace(
    DEFER_KEPT,
    name="scheduled",
    label="django-defer",
    connection={},
    apps=("tests.benchmarks.scheduled",),
)
MANY: Final = replace(DEFER_KEPT, name="many", label="django-defer")
SECONDS: Final = 300
QUICK_SECONDS: Final = 30
Q2_SCHEDULES: Final = 60
Q2_WITHIN: Final = 60  # seconds for its last one to begin
STARTS_WITHIN: Final = 30.0
DEFINITIONS: Final = 100_000
QUICK_DEFINITIONS: Final = 20_000
DUE: Final = 1000
LOOKS: Final = 200
TIMES: Final = 5

LATENESS: Final = """
SELECT kind, extract(epoch FROM started_at - slot)::float8 * 1000
FROM django_defer_run JOIN django_defer_crondefinition AS definition
  ON definition.id = django_defer_run.definition_id
WHERE slot > %s AND started_at IS NOT NULL
"""


def measure(arena: Arena) -> Report:
    """Measure both and put them into one table."""
    definitions = QUICK_DEFINITIONS if arena.quick else DEFINITIONS
    late = lateness(arena, QUICK_SECONDS if arena.quick else SECONDS)
    late["q2"] = q2_lateness(arena)
    scale = many(arena, definitions)
    q2 = arena.step(Q2_KEPT, "q2_due", DUE, TIMES)
    report = Report(
        name="schedules",
        title=f"Schedules, {WORKERS} workers, {definitions:,} definitions: milliseconds",
        columns=["", "n", "p50", "p95", "p99", "highest", "queries", "x django-q2"],
        notes=[
            "late: from the slot to the start, nothing else to do. x: django-q2's median in units "
            "of ours.",
            f"{DUE} due: in one second, most of them overlap=allow, some skip, queue, replace or "
            "supersede.",
            f"one look reads {scale['look']['pages']} pages, and {scale['resting']['pages']} when "
            "half of the definitions are paused, orphaned or off.",
            "after a weekend: each tick until nothing is due, 1,000 hourly and 10 per-second "
            "definitions.",
        ],
        targets=[
            Target("ms late at the median", percentile(late["every"], 50), at_most=15),
            Target("ms late at the 99th percentile", percentile(late["every"], 99), at_most=60),
            Target("ms a look", median(scale["look"]["milliseconds"]), at_most=5),
            Target(f"ms for {DUE} due", median(scale["due"]["milliseconds"]), at_most=300),
            Target(
                f"more queries for {DUE} due than for {DUE // 10}",
                scale["due"]["queries"] - scale["few"]["queries"],
                at_most=0,
            ),
            Target("s the longest tick", max(scale["latest"] + scale["all"])),
        ],
        data={"late": late, "many": scale, "q2": q2},
    )
    _add(report, "late, every second", late["every"])
    _add(report, "late, every minute", late["cron"])
    _add(report, "late, django-q2", late["q2"], x=median(late["q2"]) / median(late["every"]))
    _add_measured(report, "a look", scale["look"])
    _add_measured(report, "a look, half of them rest", scale["resting"])
    _add_measured(report, f"{DUE // 10} due", scale["few"])
    _add_measured(report, f"{DUE} due", scale["due"])
    x = median(q2["milliseconds"]) / median(scale["due"]["milliseconds"])
    _add_measured(report, f"{DUE} due, django-q2 (of {DUE})", q2, x=x)
    for policy in ("latest", "all"):
        ticks = [seconds * 1000 for seconds in scale[policy]]
        _add(report, f"after a weekend, catch_up={policy}", ticks)
    return report


def lateness(arena: Arena, seconds: int) -> dict[str, list[float]]:
    """Return how many milliseconds late each run began, by the kind of its definition."""
    arena.clear(SCHEDULED)
    arena.settle(SCHEDULED)
    found: dict[str, list[float]] = {"every": [], "cron": []}
    with arena.connection(SCHEDULED) as connection, arena.workers(SCHEDULED):
        until = time.monotonic() + STARTS_WITHIN
        while not count(connection, "SELECT count(*) FROM django_defer_run WHERE attempt > 0"):
            if time.monotonic() > until:
                raise TimeoutError("nothing was scheduled")
            time.sleep(0.5)
        ((began,),) = connection.execute("SELECT clock_timestamp()").fetchall()
        time.sleep(seconds + 1)
        if again := count(connection, "SELECT count(*) FROM django_defer_run WHERE attempt > 1"):
            raise RuntimeError(f"{again} runs took more than one attempt")
        for kind, milliseconds in connection.execute(LATENESS, [began]):
            found[kind].append(milliseconds)
    return found


def q2_lateness(arena: Arena) -> list[float]:
    """Return how many milliseconds late django-q2's schedules begin."""
    arena.clear(Q2_KEPT)
    arena.settle(Q2_KEPT)
    schedules = Q2_SCHEDULES // 2 if arena.quick else Q2_SCHEDULES
    with arena.workers(Q2_KEPT):
        late: list[float] = arena.step(Q2_KEPT, "q2_lateness", schedules, Q2_WITHIN)
    return late


def many(arena: Arena, definitions: int) -> dict[str, Any]:
    """Measure looks and ticks with many definitions."""
    arena.step(MANY, "define", definitions)
    found: dict[str, Any] = {"look": arena.step(MANY, "looks", LOOKS)}
    found["few"] = arena.step(MANY, "due", DUE // 10, TIMES)
    arena.clear(MANY)
    found["due"] = arena.step(MANY, "due", DUE, TIMES)
    arena.step(MANY, "rest", definitions // 2)
    found["resting"] = arena.step(MANY, "looks", LOOKS)
    for policy in ("latest", "all"):
        arena.clear(MANY)
        found[policy] = arena.step(MANY, "weekend", policy)
    return found


def _add_measured(
    report: Report, label: str, measured: dict[str, Any], *, x: float | None = None
) -> None:
    _add(report, label, measured["milliseconds"], queries=measured["queries"], x=x)


def _add(
    report: Report, label: str, values: list[float], *, queries: object = "", x: float | None = None
) -> None:
    report.add(
        label,
        len(values),
        *(f"{percentile(values, share):.1f}" if values else "" for share in (50, 95, 99)),
        f"{max(values):.1f}" if values else "",
        queries,
        "" if x is None else f"{x:.1f}",
    )
