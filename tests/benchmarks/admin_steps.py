"""The steps of the benchmark of the admin, in a process with django-defer's own settings.

Pages are asked for through Django's test client, as a superuser, one after the other.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

TIMES: Final = 9
PATIENCE: Final = 10.0  # seconds: a page that takes longer is asked for less often
SLOW: Final = 300.0  # milliseconds from which on the slowest statement is explained
OWN: Final = "Django's own page, for comparison"


def seed(rows: int) -> dict[str, str]:
    """Fill the database; return the ids of runs that have pages worth to be measured."""
    from tests.benchmarks.admin_seed import seed

    return seed(rows)


def ask(times: int, parent: str, talker: str) -> list[dict[str, Any]]:
    """Ask for each page a few times; return what was measured of each, Django's own the last."""
    return list(each_page(times, parent, talker))


def each_page(times: int, parent: str, talker: str) -> Iterator[dict[str, Any]]:
    """Yield what was measured of each page."""
    from tests.benchmarks.admin_pages import own_page, pages

    own = Measured(OWN)
    for name, action in pages(parent, talker):
        own.once(own_page)
        page = Measured(name)
        page.once(action)  # compiles templates, reads pages from the disk
        page.forget()
        stop_at = time.monotonic() + PATIENCE
        while len(page.milliseconds) < times and (
            time.monotonic() < stop_at or not page.milliseconds
        ):
            page.once(action)
        yield {**page.as_data(), "plan": page.plan(action)}
    yield own.as_data()


@dataclass
class Measured:
    """What one page took, each time."""

    name: str
    milliseconds: list[float] = field(default_factory=list)
    first: float = 0.0
    busy: list[float] = field(default_factory=list)  # of this process alone
    in_database: list[float] = field(default_factory=list)
    queries: int = 0
    size: int = 0

    def once(self, action: Callable[[], bytes]) -> None:
        """Ask for it."""
        with Watch() as watch:
            self.size = len(action())
        self.milliseconds.append(watch.elapsed)
        self.busy.append(watch.busy)
        self.in_database.append(sum(watch.statements))
        self.queries = len(watch.statements)

    def forget(self) -> None:
        """Keep the first time apart."""
        (self.first,) = self.milliseconds
        for values in (self.milliseconds, self.busy, self.in_database):
            values.clear()

    def plan(self, action: Callable[[], bytes]) -> str:
        """Return the slowest statement of a slow page and how PostgreSQL executed it."""
        from tests.runs import captured, database

        if statistics.median(self.milliseconds) < SLOW:
            return ""
        with captured() as queries:
            action()
        asked = [each for each in queries.captured_queries if not each["sql"].startswith("EXPLAIN")]
        slowest = max(asked, key=lambda query: float(query["time"]))["sql"]
        with database().cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {slowest}")
            return "\n".join([slowest, *(line for (line,) in cursor.fetchall())])

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return dict(vars(self))


class Watch:
    """How long what is inside takes: by the clock, of this process, and each statement."""

    def __enter__(self) -> Watch:
        from tests.runs import database

        self.statements: list[float] = []
        self._wrapper = database().execute_wrapper(self._statement)
        self._wrapper.__enter__()
        self._began, self._worked = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.elapsed = (time.perf_counter() - self._began) * 1000
        self.busy = (time.process_time() - self._worked) * 1000
        self._wrapper.__exit__(*exc_info)

    def _statement(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.statements.append((time.perf_counter() - began) * 1000)


@contextlib.contextmanager
def output() -> Iterator[io.StringIO]:
    """Give a command somewhere to print to; trouble that it reports is no error here."""
    from django.core.management.base import CommandError

    text = io.StringIO()
    with contextlib.suppress(CommandError):
        yield text
