"""How fast runs are enqueued, by one client, while nobody works."""

from __future__ import annotations

from typing import Final

from tests.benchmarks.arena import Arena
from tests.benchmarks.contenders import DEFER, Q2_KEPT, Contender
from tests.benchmarks.report import Report, median, ratio, spread

Way = tuple[str, Contender, str, int]

WAYS: Final[list[Way]] = [
    ("django-defer, f.map(range(n))", DEFER, "fill", 20_000),
    ("django-defer, f() in one transaction", DEFER, "transaction", 5_000),
    ("django-q2, async_task() in one transaction", Q2_KEPT, "transaction", 5_000),
    ("django-defer, f() in autocommit", DEFER, "autocommit", 2_000),
    ("django-q2, async_task() in autocommit", Q2_KEPT, "autocommit", 2_000),
]
QUICK_SHARE: Final = 5


def measure(arena: Arena) -> Report:
    """Enqueue in each way, in turns."""
    rates: dict[str, list[float]] = {label: [] for label, *_ in WAYS}
    for _ in range(arena.rounds):
        for label, contender, step, rows in WAYS:
            count = rows // QUICK_SHARE if arena.quick else rows
            arena.clear(contender)
            arena.settle(contender)
            rates[label].append(count / arena.step(contender, step, count))
    report = Report(
        name="enqueueing",
        title="Enqueueing no-op runs, one client: rows a second",
        columns=["", "rows", "rows/s", "rounds", "x django-q2"],
        notes=[
            "map() is one transaction with an INSERT a thousand rows; in autocommit each row waits "
            "for the disk. x: against async_task() in the same mode, map() against one "
            "transaction.",
        ],
        data={"rates": rates},
    )
    for label, _, step, rows in WAYS:
        mode = "autocommit" if step == "autocommit" else "one transaction"
        report.add(
            label,
            rows // QUICK_SHARE if arena.quick else rows,
            f"{median(rates[label]):.0f}",
            spread(rates[label]),
            f"{ratio(rates[label], rates[f'django-q2, async_task() in {mode}']):.2f}",
        )
    return report
