"""procrastinate with psycopg: its workers LISTEN, and take the next job as soon as one is done.

The function is a plain one, as with all others; procrastinate executes it in a thread.
"""

from __future__ import annotations

import sys
from typing import Final

from procrastinate import App, PsycopgConnector

from tests.benchmarks import functions
from tests.benchmarks.peers.lineup import WORKERS
from tests.benchmarks.peers.tables import Tables, connection

app: Final = App(connector=PsycopgConnector())  # libpq's environment variables say where
noop: Final = app.task(name="noop")(functions.noop)
stamp: Final = app.task(name="stamp")(functions.stamp)

tables = Tables(
    ("procrastinate_jobs", "procrastinate_events"),
    "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
    "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'",
)
clear, unfinished, failed = tables.clear, tables.count_unfinished, tables.count_failed
WORKER: Final = f"""
    -m procrastinate --app {__name__}.app --log-level error worker --concurrency 1
""".split()
workers = [[sys.executable, *WORKER]] * WORKERS


def prepare() -> None:
    """Make the tables, and open the connection that enqueues."""
    app.open()
    ((table,),) = connection().execute("SELECT to_regclass('procrastinate_jobs')").fetchall()
    if table is None:
        app.schema_manager.apply_schema()


def fill(rows: int) -> None:
    """Enqueue no-ops."""
    noop.batch_defer(*({"value": number} for number in range(rows)))


def enqueue(number: int) -> None:
    """Enqueue one that writes down when it begins."""
    stamp.defer(number=number)
