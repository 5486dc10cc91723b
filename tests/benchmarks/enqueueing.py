"""How fast runs are enqueued, by one client, while nobody works."""

from __future__ import annotations

from typing import Any, Final

from tests.benchmarks.arena import Arena
from tests.benchmarks.contenders import DEFER, Q2_KEPT, Contender
from tests.benchmarks.report import Report, Target, median, ratio, spread

Way = tuple[str, Contender, str, int]

MANY: Final = 100_000
BULK: Final = "django-defer, f.map(generator)"
WAYS: Final[list[Way]] = [
    (BULK, DEFER, "map", MANY),
    ("django-defer, the same with batch_size=5000", DEFER, "map_in_batches", MANY),
    ("django-defer, f() in one transaction", DEFER, "transaction", 5_000),
    ("django-q2, async_task() in one transaction", Q2_KEPT, "transaction", 5_000),
    ("django-defer, f() in autocommit", DEFER, "autocommit", 2_000),
    ("django-q2, async_task() in autocommit", Q2_KEPT, "autocommit", 2_000),
]
CALLS: Final = 1_000  # each in a transaction, beside as many objects.create()
QUICK_SHARE: Final = 5
MOST_SECONDS: Final = 5.0  # for MANY
MOST_MEGABYTES: Final = 5.0
MOST_MILLISECONDS: Final = 1.0


def measure(arena: Arena) -> Report:
    """Enqueue in each way, in turns."""
    rates: dict[str, list[float]] = {label: [] for label, *_ in WAYS}
    growth: list[float] = []
    beside: list[dict[str, float]] = []
    for _ in range(arena.rounds):
        for label, contender, step, rows in WAYS:
            found = _step(arena, contender, step, _count(arena, rows))
            if isinstance(found, dict):
                growth.append(found["megabytes"])
                found = found["seconds"]
            rates[label].append(_count(arena, rows) / found)
        beside.append(_step(arena, DEFER, "beside_create", _count(arena, CALLS)))
    report = Report(
        name="enqueueing",
        title="Enqueueing no-op runs, one client: rows a second",
        columns=["", "rows", "rows/s", "rounds", "x django-q2"],
        notes=[
            "map() is one transaction with an INSERT a thousand rows; in autocommit each row waits "
            "for the disk. x: against async_task() in the same mode, map() against one "
            "transaction.",
            _say(beside),
        ],
        data={"rates": rates, "megabytes": growth, "beside_create": beside},
    )
    for label, _, step, rows in WAYS:
        mode = "autocommit" if step == "autocommit" else "one transaction"
        report.add(
            label,
            _count(arena, rows),
            f"{median(rates[label]):.0f}",
            spread(rates[label]),
            f"{ratio(rates[label], rates[f'django-q2, async_task() in {mode}']):.2f}",
        )
    many = _count(arena, MANY)
    report.targets = [
        Target(
            f"s for map() of {many:,} runs",
            many / median(rates[BULK]),
            at_most=MOST_SECONDS * many / MANY,
        ),
        Target(
            "MB more memory than for 10,000 runs, at the most",
            max(growth),
            at_most=MOST_MEGABYTES,
        ),
        Target(
            "ms more for f() in a transaction than for objects.create()",
            median([each["call"] - each["create"] for each in beside]),
            at_most=MOST_MILLISECONDS,
        ),
    ]
    return report


def _step(arena: Arena, contender: Contender, step: str, count: int) -> Any:
    arena.clear(contender)
    arena.settle(contender)
    return arena.step(contender, step, count)


def _count(arena: Arena, rows: int) -> int:
    return rows // QUICK_SHARE if arena.quick else rows


def _say(beside: list[dict[str, float]]) -> str:
    call, create = (median([each[name] for each in beside]) for name in ("call", "create"))
    return (
        f"One row inside a transaction, at the median: {call:.2f} ms by f(), {create:.2f} ms by "
        f"Run.objects.create()."
    )
