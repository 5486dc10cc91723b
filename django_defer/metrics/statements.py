"""The statements behind the metrics: each is answered by an index, and reads so many rows at most.

No index knows when a run ended. So the runs that ended in the last hour are sought among those
that were enqueued in the last day, of which at most MOST_RUNS are read, as `history` does; if
there are more, the window is as long as the newest of them reach back. Failed runs are found by
an index of their own, whenever they were enqueued.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connections

from django_defer.clock import as_text
from django_defer.conf import conf
from django_defer.history_statements import MOST_FAILED, Span, Statements
from django_defer.models import Run
from django_defer.states import State

WINDOW: Final = timedelta(hours=1)
BUCKETS: Final = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)  # seconds
MOST_WAITING: Final = 10_000  # runs that are counted in each state

_DAY: Final = timedelta(days=1)
_ENQUEUED: Final = Span("day", "", _DAY, _DAY, is_sampled=False)

_FACTS: Final = """
    SELECT function, queue, state,
           CASE WHEN state IN ('succeeded', 'failed', 'aborted') THEN {waited} END AS waited,
           CASE WHEN state IN ('succeeded', 'failed', 'aborted') THEN {took} END AS took,
           CASE WHEN slot IS NOT NULL AND failures = 0 AND losses = 0 THEN {late} END AS late
"""
# One reading, four questions: how each function's runs ended, how long they took, how long the
# runs of each queue waited, and the most that a function's first attempts began after their slot.
_FINISHED: Final = """
    WITH recent AS (
        {facts} FROM {run} WHERE id >= %s AND state <> 'failed' AND finished_at >= %s
        UNION ALL
        {facts} FROM (
            SELECT function, queue, state, enqueued_at, queued_at, started_at, finished_at,
                   slot, failures, losses
            FROM {run} WHERE state = 'failed' ORDER BY id DESC LIMIT {most}
        ) AS failed WHERE finished_at >= %s
    )
    SELECT 'finished', function, state, 0, count(*), 0.0 FROM recent GROUP BY function, state
    UNION ALL
    SELECT 'took', function, '', {took_bucket}, count(*), sum(took)
    FROM recent WHERE took IS NOT NULL GROUP BY 2, 4
    UNION ALL
    SELECT 'waited', queue, '', {waited_bucket}, count(*), sum(waited)
    FROM recent WHERE waited IS NOT NULL GROUP BY 2, 4
    UNION ALL
    SELECT 'late', function, '', 0, count(*), max(late)
    FROM recent WHERE late IS NOT NULL GROUP BY function
"""
_WAITING: Final = """
    SELECT queue, count(*) FROM (
        SELECT queue FROM {run} WHERE state = '{state}' ORDER BY {order} LIMIT {most}
    ) AS first GROUP BY queue
"""
_ORDER: Final = {State.SCHEDULED: "run_after", State.PARKED: "function"}  # of their indexes


def finished(now: datetime) -> tuple[datetime, list[Any]]:
    """Return since when runs were counted, and rows: what about, name, state, bucket, n, seconds.

    A bucket is the place of the least of BUCKETS that is not exceeded, or one more than there are.
    """
    connection = connections[str(conf.database)]
    asked = Statements(_ENQUEUED, now, connection)
    since = max(now - WINDOW, asked.coverage.since)
    facts = _FACTS.format(
        waited=asked.seconds("started_at", "coalesce(queued_at, enqueued_at)"),
        took=asked.seconds("finished_at", "started_at"),
        late=asked.seconds("started_at", "slot"),
    )
    statement = _FINISHED.format(
        facts=facts,
        run=asked.run,
        most=MOST_FAILED,
        took_bucket=_bucket("took"),
        waited_bucket=_bucket("waited"),
    )
    instant: Any = as_text(since) if connection.vendor == "sqlite" else since
    return since, asked.rows(statement, asked.first_id, instant, instant)


def waiting(state: State) -> dict[str, int]:
    """Return how many runs are scheduled or parked in each queue: of the first, one too many."""
    connection = connections[str(conf.database)]
    statement = _WAITING.format(
        run=connection.ops.quote_name(Run._meta.db_table),
        state=state,
        order=_ORDER[state],
        most=MOST_WAITING + 1,
    )
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return dict(cursor.fetchall())


def _bucket(column: str) -> str:
    cases = (f"WHEN {column} <= {most} THEN {place}" for place, most in enumerate(BUCKETS))
    return f"CASE {' '.join(cases)} ELSE {len(BUCKETS)} END"
