"""Celery on Redis, at what its guide to optimizing says for many short tasks.

The pool is `solo`, where a process executes by itself: the processes of `prefork`, which a parent
hands each task to, are about half as fast here. Either nothing is kept of a task, and it is
acknowledged when it begins; or its result goes to Django's database, and it is acknowledged when it
has ended.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from celery import Celery

from tests.benchmarks import functions
from tests.benchmarks.peers import redis_server
from tests.benchmarks.peers.lineup import PEER, REDIS, WORKERS
from tests.benchmarks.peers.tables import Tables

KEEPS_RESULTS: Final = os.environ[PEER] == "celery_results"

app: Final = Celery("bench", broker=f"redis+socket://{os.environ[REDIS]}")
app.conf.update(
    task_ignore_result=not KEEPS_RESULTS,
    task_acks_late=KEEPS_RESULTS,
    result_backend="django-db" if KEEPS_RESULTS else None,
    worker_prefetch_multiplier=128,
)
noop: Final = app.task(name="noop")(functions.noop)
stamp: Final = app.task(name="stamp")(functions.stamp)

results = Tables(
    ("django_celery_results_taskresult",),
    "SELECT 0",
    "SELECT count(*) FROM django_celery_results_taskresult WHERE status <> 'SUCCESS'",
)
WORKER: Final = f"""
    -m celery --app {__name__}:app worker --pool solo
    --without-gossip --without-mingle --without-heartbeat --loglevel ERROR
""".split()
workers = [[sys.executable, *WORKER, "--hostname", f"{n}@%h"] for n in range(WORKERS)]


def prepare() -> None:
    """Make the table of results, if they are kept."""
    if KEEPS_RESULTS:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)


def clear() -> None:
    """Empty the queue, and the results."""
    redis_server.client().flushdb()
    if KEEPS_RESULTS:
        results.clear()


def fill(rows: int) -> None:
    """Enqueue no-ops."""
    for number in range(rows):
        noop.delay(number)


def enqueue(number: int) -> None:
    """Enqueue one that writes down when it begins."""
    stamp.delay(number)


def unfinished() -> int:
    """Return how many are queued, or fetched and not acknowledged."""
    redis = redis_server.client()
    return int(redis.llen("celery")) + int(redis.hlen("unacked"))


def failed() -> int:
    """Return how many did not succeed, as far as that is kept."""
    return results.count_failed() if KEEPS_RESULTS else 0
