"""`python -m tests.benchmarks.dashboard ROWS`: how long the dashboard takes beside so many runs.

On a private PostgreSQL: runs of a week, 2,000 functions, 2,000 definitions. Each span is asked for
a few times; the median, the slowest and the number of queries are printed.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from tests import postgres

ROUNDS: Final = 9
URL: Final = "/admin/django_defer/"
FUNCTIONS: Final = 2_000

# A UUIDv7 of the time at which run n of so many was enqueued, over a week.
AT: Final = "now() - (1 - n / {rows}.0) * interval '7 days'"
ID: Final = """CAST(lpad(to_hex(CAST(floor(extract(epoch FROM {at}) * 1000) AS bigint)), 12, '0')
    || '7' || substr(md5('{salt}' || n), 1, 3) || 'a' || substr(md5('{salt}' || n), 4, 15)
    AS uuid)"""


def seed(rows: int) -> None:
    """Insert the runs of a week, functions and definitions."""
    from django_defer.models import BackgroundFunction, CronDefinition
    from django_defer.states import State
    from tests.runs import fill, new_cluster

    for state, count in ((State.SUCCEEDED, rows), (State.FAILED, rows // 200)):
        at = AT.format(rows=count)
        fill(
            state,
            count,
            id=ID.format(at=at, salt=state),
            function=f"'shop.f' || n::bigint * 7919 % {FUNCTIONS}",
            run_after=at,
            enqueued_at=at,
            queued_at=at,
            started_at=f"{at} + n % 900 * interval '1 ms'",
            finished_at=f"{at} + (n % 900 + n % 7000) * interval '1 ms'",
            attempt="1",
            failures="CASE WHEN n % 50 = 0 THEN 1 ELSE 0 END",
            error_class="'ValueError'",
        )
    fill(State.QUEUED, 20_000, id=ID.format(at=AT.format(rows=20_000), salt="queued"))
    keys = [f"shop.f{n}" for n in range(FUNCTIONS)]
    BackgroundFunction.objects.bulk_create(BackgroundFunction(key=key) for key in keys)
    now = datetime.now(UTC)
    rows_of = [
        CronDefinition(function_id=key, code_expression=f"{n % 60} {n // 7 % 24} * * *")
        for n, key in enumerate(keys)
    ]
    for row in rows_of:
        row.next_slot_at = row.schedule.next_after(now)
    CronDefinition.objects.bulk_create(rows_of)
    new_cluster(workers=4, ticked_at=now)


def main(rows: int) -> None:
    """Seed, ask and print."""
    with postgres.PrivateServer() as server:
        os.environ.update(server.environment)
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
        import django

        django.setup()
        from django.test.runner import DiscoverRunner
        from django.test.utils import setup_test_environment

        setup_test_environment()
        runner = DiscoverRunner(verbosity=0, interactive=False)
        old = runner.setup_databases()
        seed(rows)
        _measure()
        runner.teardown_databases(old)


def _measure() -> None:
    from django.contrib.auth.models import User
    from django.test import Client

    from django_defer.history import history
    from django_defer.history_statements import SPANS
    from tests.runs import captured

    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    for span in SPANS.values():
        found = history(span, datetime.now(UTC))
        print(span.name, found.coverage, found.succeeded, found.failed, flush=True)
        actions: dict[str, Callable[[], object]] = {
            "numbers": lambda span=span: history(span, datetime.now(UTC)),  # type: ignore[misc]
            "page": lambda span=span: client.get(URL, {"span": span.name}),  # type: ignore[misc]
        }
        for name, action in actions.items():
            took, busy = [], []
            for _round in range(ROUNDS):
                begin, worked = time.perf_counter(), time.process_time()
                action()
                took.append((time.perf_counter() - begin) * 1000)
                busy.append((time.process_time() - worked) * 1000)
            with captured() as queries:
                action()
            middle, slowest = statistics.median(took), max(took)
            print(
                f"  {name}: {middle:.0f} ms, at most {slowest:.0f}, of which Python "
                f"{statistics.median(busy):.0f}; {len(queries)} queries",
                flush=True,
            )
    if "-v" in sys.argv:
        with captured() as queries:
            client.get(URL, {"span": "week"})
        for query in queries.captured_queries:
            print(query["time"], query["sql"][:300].replace("\n", " "))


if __name__ == "__main__":
    main(int(sys.argv[1]))
