"""Claim queued runs for idle workers.

A claim is a durable commit that writes who has the run (`claim_id`, cluster, worker) and the
attempt number it reserves. It takes only functions that this code knows, and only while its own
cluster row exists, so a cluster that was declared dead claims nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connections

from django_defer.clock import SQL_NOW
from django_defer.models import BackgroundFunction, Cluster, Queue, Run
from django_defer.statements import execute


class Place(NamedTuple):
    """Where a run stands in its queue."""

    priority: int
    id: UUID


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to one attempt at one run. Every later write names `claim_id`."""

    run_id: UUID
    claim_id: UUID
    attempt: int
    place: Place | None = field(default=None, compare=False)
    function: str = field(default="", compare=False)

    def as_list(self) -> list[Any]:
        """Return ids only, as plain data, for the trip to the worker."""
        return [self.run_id.hex, self.claim_id.hex, self.attempt]

    @classmethod
    def from_list(cls, data: Sequence[Any]) -> Claim:
        """Read what `as_list` wrote."""
        return cls(UUID(data[0]), UUID(data[1]), int(data[2]))


# What is paused is taken from the keys: "function <> ALL(…)" beside them made the planner expect no
# row at all where most runs are of one function, and then it read and sorted the whole table.
_POSTGRESQL = """
WITH picked AS MATERIALIZED (
    SELECT id FROM {run}
    WHERE state = 'queued' AND queue = %(queue)s{beyond} AND function = ANY(ARRAY(
        SELECT known FROM unnest(%(keys)s::text[]) AS known
        WHERE known NOT IN (SELECT key FROM {function} WHERE paused_at IS NOT NULL)))
    ORDER BY priority DESC, id
    LIMIT {limit}
    FOR UPDATE SKIP LOCKED
), numbered AS (
    SELECT id, row_number() OVER () AS n FROM picked
)
UPDATE {run} AS run
SET state = 'claimed', claimed_at = clock_timestamp(), attempt = attempt + 1,
    cluster = %(cluster)s, worker = (%(workers)s::text[])[n], claim_id = gen_random_uuid()
FROM numbered
WHERE run.id = numbered.id
  AND EXISTS (SELECT 1 FROM {cluster} WHERE id = %(cluster)s)
  AND NOT EXISTS (SELECT 1 FROM {queue} WHERE name = %(queue)s AND paused_at IS NOT NULL)
RETURNING run.id, run.claim_id, run.attempt, run.priority, run.function, n
"""
_BEYOND = " AND priority = %(priority)s AND id > %(id)s"

_SQLITE = """
UPDATE {run}
SET state = 'claimed', claimed_at = {now}, attempt = attempt + 1, cluster = %(cluster)s,
    worker = json_extract(%(workers)s, '$[' || (n - 1) || ']'),
    claim_id = lower(hex(randomblob(16)))
FROM (
    SELECT id AS picked, row_number() OVER (ORDER BY priority DESC, id) AS n FROM (
        SELECT id, priority FROM {run}
        WHERE state = 'queued' AND queue = %(queue)s AND function IN (
            SELECT value FROM json_each(%(keys)s)
            EXCEPT SELECT key FROM {function} WHERE paused_at IS NOT NULL)
        ORDER BY priority DESC, id
        LIMIT {limit})
)
WHERE id = picked
  AND EXISTS (SELECT 1 FROM {cluster} WHERE id = %(cluster)s)
  AND NOT EXISTS (SELECT 1 FROM {queue} WHERE name = %(queue)s AND paused_at IS NOT NULL)
RETURNING id, claim_id, attempt, priority, function, worker
"""

_WAITING_FUNCTIONS = """
SELECT function FROM {run} WHERE state = 'queued' AND queue = %(queue)s{beyond}
ORDER BY priority DESC, id LIMIT {limit}
"""

# A loose index scan: one look-up a queue, however many rows wait in it.
_WAITING_QUEUES = """
WITH RECURSIVE found(name) AS (
    SELECT (SELECT queue FROM {run} WHERE state = 'queued' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM {run} WHERE state = 'queued' AND queue > found.name
            ORDER BY queue LIMIT 1)
    FROM found WHERE found.name IS NOT NULL
)
SELECT name FROM found WHERE name IS NOT NULL
"""


def waiting_queues(using: str) -> list[str]:
    """Return the names of the queues in which runs are waiting."""
    with connections[using].cursor() as cursor:
        cursor.execute(_WAITING_QUEUES.format(run=Run._meta.db_table))
        return [name for (name,) in cursor.fetchall()]


def waiting_functions(using: str, queue: str, most: int, beyond: Place | None = None) -> list[str]:
    """Return the functions of the first runs in line, `most` at most, in their order."""
    sql = _statement(_WAITING_FUNCTIONS, most, is_beyond=beyond is not None)
    values = {"queue": queue, **(beyond._asdict() if beyond else {})}
    return [function for (function,) in execute(using, sql, values)]


@cache  # psycopg goes on as it did when it is given the very same object again
def _statement(template: str, limit: int, *, is_beyond: bool) -> str:
    """Fill in the tables, where to begin, and how many.

    The limit is no parameter: the plan for an unknown one is made for many rows.
    """
    return template.format(
        run=Run._meta.db_table,
        now=SQL_NOW["sqlite"],
        function=BackgroundFunction._meta.db_table,
        cluster=Cluster._meta.db_table,
        queue=Queue._meta.db_table,
        beyond=_BEYOND if is_beyond else "",
        limit=limit,
    )


def claim(
    using: str,
    queue: str,
    cluster: UUID,
    workers: Sequence[str],
    keys: Sequence[str],
    *,
    beyond: Place | None = None,
) -> list[tuple[str, Claim]]:
    """Claim at most one run of `queue` for each of `workers`; return (worker, claim) pairs.

    The first one gets the run that is first in line; a worker that is named several times gets a
    chunk. `keys` are the functions that may run.
    `beyond` a place: only what was enqueued later with the same priority (PostgreSQL).
    """
    if not workers or not keys:
        return []
    if connections[using].vendor == "postgresql":
        return _claim_postgresql(using, queue, cluster, workers, keys, beyond)
    return _claim_sqlite(using, queue, cluster, workers, keys)


def _claim_postgresql(
    using: str,
    queue: str,
    cluster: UUID,
    workers: Sequence[str],
    keys: Sequence[str],
    beyond: Place | None,
) -> list[tuple[str, Claim]]:
    values = {
        "queue": queue,
        "keys": list(keys),
        "cluster": cluster,
        "workers": list(workers),
        **(beyond._asdict() if beyond else {}),
    }
    sql = _statement(_POSTGRESQL, len(workers), is_beyond=beyond is not None)
    rows = sorted(execute(using, sql, values), key=lambda row: int(row[5]))
    return [
        (workers[n - 1], Claim(run, claim_id, attempt, Place(priority, run), function))
        for run, claim_id, attempt, priority, function, n in rows
    ]


def _claim_sqlite(
    using: str, queue: str, cluster: UUID, workers: Sequence[str], keys: Sequence[str]
) -> list[tuple[str, Claim]]:
    """Do the same under SQLite's one write lock. Looks first: an empty queue takes no lock."""
    waiting = Run.objects.using(using).queued().filter(queue=queue, function__in=keys)
    if not waiting.exists():
        return []
    values = {
        "queue": queue,
        "keys": json.dumps(list(keys)),
        "cluster": cluster.hex,
        "workers": json.dumps(list(workers)),
    }
    rows = execute(using, _statement(_SQLITE, len(workers), is_beyond=False), values, hot=True)
    rows.sort(key=lambda row: (-row[3], row[0]))  # they come in any order
    return [
        (worker, Claim(UUID(run), UUID(claim_id), attempt, function=function))
        for run, claim_id, attempt, _, function, worker in rows
    ]
