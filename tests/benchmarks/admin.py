"""How long the pages of the admin take beside five million runs, and what they ask the database.

Each page is asked for a few times. One of Django's own pages in between says how busy the machine
is with something else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from tests.benchmarks.admin_steps import OWN, SLOW, TIMES
from tests.benchmarks.arena import Arena
from tests.benchmarks.contenders import DEFER_KEPT
from tests.benchmarks.report import Report, Target, median

ADMIN: Final = replace(
    DEFER_KEPT,
    name="admin",
    apps=tuple(
        f"django.contrib.{name}" for name in ("admin", "sessions", "messages", "staticfiles")
    ),
)
ROWS: Final = 5_000_000
QUICK_ROWS: Final = 20_000
QUICK_TIMES: Final = 3
MOST_QUERIES: Final = 40


def measure(arena: Arena) -> Report:
    """Fill the database, then ask for every page."""
    rows, times = (QUICK_ROWS, QUICK_TIMES) if arena.quick else (ROWS, TIMES)
    seeded = arena.step(ADMIN, "seed_admin", rows)
    *pages, own = arena.step(ADMIN, "ask_admin", times, seeded["parent"], seeded["talker"])
    slow = [page for page in pages if page["plan"]]
    report = Report(
        name="admin",
        title=f"The admin beside {rows:,} runs: milliseconds a page",
        columns=["", "p50", "lowest", "highest", "first", "database", "Python", "queries", "KiB"],
        notes=[
            f"each was asked for {times} times after a first time, fewer if it is slow.",
            "database: its share of the median. Python: the processor's time of this process.",
            "lowest: what is left of the median where nothing else keeps the machine busy.",
            f"{OWN}: it tells how busy the machine is with something else.",
            f"the slowest statement of each of the {len(slow)} slow pages is in the JSON, with "
            "its plan.",
        ],
        targets=[
            Target("pages over 300 ms at the median", len(slow), at_most=0),
            Target("ms the slowest page, at the median", max(map(_median, pages)), at_most=SLOW),
            Target(
                "queries of a page, at most",
                max(page["queries"] for page in pages),
                at_most=MOST_QUERIES,
            ),
        ],
        data={"pages": pages, "own": own},
    )
    for page in [own, *pages]:
        _add(report, page)
    return report


def _median(page: dict[str, Any]) -> float:
    return median(page["milliseconds"])


def _add(report: Report, page: dict[str, Any]) -> None:
    numbers = (
        _median(page),
        min(page["milliseconds"]),
        max(page["milliseconds"]),
        page["first"],
        median(page["in_database"]),
        median(page["busy"]),
    )
    cells = [f"{number:.0f}" for number in numbers]
    report.add(page["name"], *cells, page["queries"], f"{page['size'] / 1024:.0f}")
