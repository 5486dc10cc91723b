"""The steps of the benchmark of schedules, each in a process with a contender's own settings."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.benchmarks import functions

if TYPE_CHECKING:
    from django_defer.models import CronDefinition

BATCH: Final = 5000  # rows an INSERT
FUTURE: Final = datetime(2100, 1, 1, tzinfo=UTC)
SETTING_UP: Final = 6  # queries of `_fire` beside the materialising
HOURS: Final = 60  # of a weekend without a scheduler
EXPRESSIONS: Final = (
    *("0 8 * * *", "30 6 * * MON-FRI", "*/15 * * * *", "0 0 1 * *", "17 3 * * 7"),
    *("H H * * *", "0 9-17 * * MON-FRI", "45 23 L * *", "5,35 * * * *", "0 12 * * MON#1"),
)
ZONES: Final = ("UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")

# -- django-defer --------------------------------------------------------------------------------


def define(rows: int) -> None:
    """Insert definitions whose next slot is far away."""
    from django_defer.models import CronDefinition

    made = (_definition(number, FUTURE + timedelta(seconds=number)) for number in range(rows))
    while batch := list(islice(made, BATCH)):
        CronDefinition.objects.bulk_create(batch)
    _analyze()


def looks(count: int) -> dict[str, Any]:
    """Look `count` times; return the milliseconds of each, how many queries, and how many pages
    PostgreSQL reads for one."""
    from django_defer import scheduler

    scheduler.look("default")
    milliseconds = []
    for _ in range(count):
        began = time.perf_counter()
        scheduler.look("default")
        milliseconds.append((time.perf_counter() - began) * 1000)
    with CaptureQueriesContext(connection) as queries:
        scheduler.look("default")
    with connection.cursor() as cursor:
        sql = queries.captured_queries[0]["sql"]
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}")
        plan = cursor.fetchone()[0][0]["Plan"]
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return {"milliseconds": milliseconds, "queries": len(queries), "pages": pages}


def rest(rows: int) -> None:
    """Pause, orphan or switch off `rows` of the definitions, a third each."""
    from django_defer.models import CronDefinition

    keys = list(CronDefinition.objects.order_by("pk").values_list("pk", flat=True)[:rows])
    ways: list[dict[str, Any]] = [
        {"paused_at": FUTURE},
        {"orphaned_at": FUTURE},
        {"enabled": False},
    ]
    for number, columns in enumerate(ways):
        some = CronDefinition.objects.filter(pk__in=keys[number :: len(ways)])
        some.update(next_slot_at=None, **columns)
    _analyze()


def due(count: int, times: int) -> dict[str, Any]:
    """Let `count` be due in one second, `times` times; return the milliseconds, and the queries
    of one more time. Fails unless the runs are claimed in the order of their definitions."""
    found = [_fire(number, count) for number in range(times)]
    with CaptureQueriesContext(connection) as queries:
        _fire(times, count)
    return {"milliseconds": found, "queries": len(queries) - SETTING_UP}


def _fire(number: int, count: int) -> float:
    """Return how many milliseconds `count` due slots take, of definitions that had no run yet."""
    from django_defer.materialise import materialise
    from django_defer.models import CronDefinition, Run

    now = datetime(2026, 5, 4, 8, tzinfo=UTC) + timedelta(minutes=number)
    last = CronDefinition.objects.firing().order_by("-pk")
    keys = list(last.values_list("pk", flat=True)[number * count : (number + 1) * count])
    ways = [(f"{now.minute} 8 * * *", "UTC"), (f"{now.minute} * * * MON", "Europe/Paris")]
    for start, (expression, zone) in enumerate([*ways, ("* * * * *", "Asia/Kolkata")]):
        some = CronDefinition.objects.filter(pk__in=keys[start::3])
        some.update(next_slot_at=now, code_expression=expression, code_timezone=zone)
    began = time.perf_counter()
    made = materialise("default", now)
    milliseconds = (time.perf_counter() - began) * 1000
    queued = Run.objects.filter(slot=now).queued().order_by("-priority", "id")
    order = list(queued.values_list("definition", flat=True))
    if len(made) != count or len(order) != count:
        raise RuntimeError(f"{len(made)} of {count} fired")
    if order != sorted(order):
        raise RuntimeError("the runs are not in the order of their slots")
    CronDefinition.objects.filter(pk__in=keys).update(next_slot_at=FUTURE)
    return milliseconds


def weekend(catch_up: str) -> list[float]:
    """Wake after a weekend with 1,000 hourly and 10 per-second definitions; return the seconds of
    each tick until nothing is due any more."""
    from django_defer import scheduler
    from django_defer.models import CronDefinition

    now = datetime(2026, 5, 4, 8, tzinfo=UTC)
    CronDefinition.objects.all().delete()
    made = [_definition(number, now - timedelta(hours=HOURS)) for number in range(1010)]
    for number, definition in enumerate(made):
        definition.catch_up, definition.code_expression = catch_up, f"{number % 60} * * * *"
        if number >= 1000:
            definition.kind, definition.code_expression = "every", "1s"
            definition.interval, definition.anchor = timedelta(seconds=1), now - timedelta(days=9)
    CronDefinition.objects.bulk_create(made)
    _analyze()
    seconds = []
    while CronDefinition.objects.due(now).exists():
        began = time.perf_counter()
        scheduler.tick("default", now)
        seconds.append(time.perf_counter() - began)
    return seconds


def _definition(number: int, next_slot_at: datetime) -> CronDefinition:
    """Most may run beside themselves; one of five skips, waits or supersedes."""
    from django_defer.models import CronDefinition

    return CronDefinition(
        function_id=f"bench.scheduled_{number}",
        code_expression=EXPRESSIONS[number % len(EXPRESSIONS)],
        code_timezone=ZONES[number // 10 % len(ZONES)],
        overlap={3: "skip", 5: "queue", 7: "replace"}.get(number % 20, "allow"),
        supersede=number % 20 == 9,
        next_slot_at=next_slot_at,
    )


def _analyze() -> None:
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


# -- django-q2 -----------------------------------------------------------------------------------


def q2_due(count: int, times: int) -> dict[str, Any]:
    """Do the same with django-q2's scheduler and its ORM broker."""
    from django_q.brokers.orm import ORM
    from django_q.models import OrmQ, Schedule
    from django_q.scheduler import scheduler

    def fire() -> float:
        now = datetime.now(UTC) - timedelta(seconds=1)
        Schedule.objects.all().delete()
        Schedule.objects.bulk_create(
            Schedule(func=f"{functions.__name__}.noop", schedule_type=Schedule.DAILY, next_run=now)
            for _ in range(count)
        )
        OrmQ.objects.all().delete()
        connection.ensure_connection()
        began = time.perf_counter()
        scheduler(ORM())
        milliseconds = (time.perf_counter() - began) * 1000
        if OrmQ.objects.count() != count:
            raise RuntimeError(f"{OrmQ.objects.count()} of {count} fired")
        return milliseconds

    found = [fire() for _ in range(times)]
    with CaptureQueriesContext(connection) as queries:
        fire()
    ours = ("SELECT", "INSERT", "UPDATE", "BEGIN", "COMMIT")
    texts = [query["sql"] for query in queries.captured_queries]
    begin = max(n for n, text in enumerate(texts) if text.startswith("DELETE")) + 1
    return {
        "milliseconds": found,
        "queries": sum(text.startswith(ours) for text in texts[begin:]) - 1,
    }


def q2_lateness(count: int, within: int) -> list[float]:
    """Let one schedule a second be due; return how many milliseconds late each began."""
    from django_q.models import Schedule

    first = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)
    Schedule.objects.bulk_create(
        Schedule(
            func=f"{functions.__name__}.stamp",
            args=f"({number},)",
            schedule_type=Schedule.ONCE,
            repeats=-1,
            next_run=first + timedelta(seconds=number),
        )
        for number in range(count)
    )
    until = time.monotonic() + count + within
    path = Path(os.environ[functions.STAMPS])
    while len(began := functions.read_stamps(path)) < count:
        if time.monotonic() > until:
            raise TimeoutError(f"{count - len(began)} schedules did not begin")
        time.sleep(0.5)
    return [(began[n] - first.timestamp() - n) * 1000 for n in range(count)]
