"""What a heartbeat may find to do besides renewing the lease, asked in one query.

An idle cluster beats every few seconds, and a database may have a hundred of them: each kind of
work makes queries of its own only where this one says that there is any.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from django.db import connections

from django_defer.clock import SQL_NOW, as_instant
from django_defer.models import BackgroundFunction, Cluster, CronDefinition, Queue, Run
from django_defer.statements import execute

if TYPE_CHECKING:
    from datetime import datetime

# The conditions of the partial indexes, word for word: nothing here reads what has ended.
_CHORES: Final = """
SELECT clock.now,
       (SELECT min(beat_at) FROM {cluster}),
       (SELECT coalesce(sum(workers), 0) FROM {cluster}),
       EXISTS (SELECT 1 FROM {definition} WHERE paused_until <= clock.now)
       OR EXISTS (SELECT 1 FROM {function} WHERE paused_until <= clock.now)
       OR EXISTS (SELECT 1 FROM {queue} WHERE paused_until <= clock.now),
       EXISTS (SELECT 1 FROM {run} WHERE state = 'parked'),
       EXISTS (SELECT 1 FROM {run} WHERE state = 'queued'),
       EXISTS (SELECT 1 FROM {run} AS held
               WHERE attempt >= 0 AND state IN ('claimed', 'running')
                 AND NOT EXISTS (SELECT 1 FROM {cluster} AS holder WHERE holder.id = held.cluster))
FROM (SELECT {now} AS now) AS clock
"""


@dataclass(frozen=True, slots=True)
class Chores:
    """The database's time, what the clusters' rows say, and what there is any of."""

    now: datetime
    oldest_beat: datetime | None
    fleet: int  # workers of all clusters
    has_overdue_pauses: bool
    has_parked: bool
    has_queued: bool
    has_held_by_nobody: bool  # by a cluster whose row is gone


def find_chores(using: str) -> Chores:
    """Ask for all of it at once."""
    connection = connections[using]
    ((now, oldest_beat, fleet, *found),) = execute(using, _chores_sql(connection.vendor), {})
    return Chores(
        as_instant(now, connection),
        as_instant(oldest_beat, connection) if oldest_beat else None,
        int(fleet),
        *map(bool, found),
    )


@cache
def _chores_sql(vendor: str) -> str:
    return _CHORES.format(
        now=SQL_NOW[vendor],
        cluster=Cluster._meta.db_table,
        definition=CronDefinition._meta.db_table,
        function=BackgroundFunction._meta.db_table,
        queue=Queue._meta.db_table,
        run=Run._meta.db_table,
    )
