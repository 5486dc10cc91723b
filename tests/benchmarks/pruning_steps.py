"""The steps of the benchmark of pruning, in a process with django-defer's own settings."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any, Final
from uuid import uuid4

from django.db import OperationalError, connection
from psycopg.errors import LockNotAvailable

DAYS_OLD: Final = 30
WARM_UPS: Final = 20
GAP: Final = 0.005  # seconds between two claims
MOST_MS: Final = 50  # milliseconds that a claim may wait for a lock

# Ids as they would have been made then: pruning goes by their order.
_FILL: Final = """
INSERT INTO django_defer_run (
    id, function, queue, priority, state, reason, args, result, error_class, error_message, label,
    run_after, enqueued_at, started_at, finished_at, attempt, failures, losses, max_attempts,
    rerun_if_lost, worker, missed_slots, enqueued_by)
SELECT (lpad(to_hex(((extract(epoch FROM at)) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
    'benchmarks.noop', 'default', 0, 'succeeded', '', '{{"args": [1], "kwargs": {{}}}}', '1', '',
    '', '', at, at, at, at, 1, 0, 0, 17, true, '0.1', 0, ''
FROM (SELECT n, now() - interval '{days} days' + n * interval '1 ms' AS at
      FROM generate_series(1, %s) AS n) AS rows
"""


def fill(rows: int) -> None:
    """Insert so many runs that ended a month ago."""
    with connection.cursor() as cursor:
        cursor.execute(_FILL.format(days=DAYS_OLD), [rows])
        cursor.execute("VACUUM ANALYZE django_defer_run")


def prune_beside_claims(alone: int) -> dict[str, Any]:
    """Claim again and again, `alone` and while another process prunes; return milliseconds."""
    claims = _Claims()
    for _ in range(WARM_UPS):
        claims.one()
    before = [claims.one() for _ in range(alone)]
    began = time.perf_counter()
    pruner = subprocess.Popen([sys.executable, "-m", "django", "defer_prune", "-v", "0"])
    during = []
    while pruner.poll() is None:
        during.append(claims.one())
    if pruner.returncode:
        raise RuntimeError(f"defer_prune ended with {pruner.returncode}")
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "before": before,
        "during": during,
        "blocked": claims.blocked,
        "left": claims.old_ones(),
    }


class _Claims:
    """Enqueues a run and claims it, as a worker's pusher does."""

    def __init__(self) -> None:
        from django_defer.clock import DatabaseNow
        from django_defer.models import Cluster
        from tests.benchmarks.defer import noop

        self.noop = noop
        self.blocked = 0
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {MOST_MS}")
        self.cluster = Cluster.objects.create(
            id=uuid4(), host="here", pid=1, started_at=DatabaseNow(), beat_at=DatabaseNow()
        )

    def one(self) -> float:
        """Return how many milliseconds a claim took; count one that a lock held up."""
        from django_defer.claims import claim

        self.noop(1)
        time.sleep(GAP)
        began = time.perf_counter()
        pairs: list[Any] = []
        while not pairs:
            try:
                pairs = claim("default", "default", self.cluster.pk, ["0.1"], [self.noop.key])
            except OperationalError as error:
                if not isinstance(error.__cause__, LockNotAvailable):
                    raise
                self.blocked += 1
        milliseconds = (time.perf_counter() - began) * 1000
        if len(pairs) != 1:
            raise RuntimeError("there was nothing to claim")
        return milliseconds

    def old_ones(self) -> int:
        """Return how many ended runs there are."""
        from django_defer.models import Run

        return Run.objects.finished().count()
