"""huey, on whichever of its three stores: a task is deleted when a worker takes it."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from huey import PostgresHuey, RedisHuey, SqliteHuey

from tests.benchmarks import functions
from tests.benchmarks.peers.lineup import FILE, PEER, REDIS, WORKERS

NAME: Final = os.environ[PEER]


def _huey() -> Any:
    if NAME == "huey_redis":
        return RedisHuey(results=False, url=f"unix://{os.environ[REDIS]}")
    if NAME == "huey_postgres":
        return PostgresHuey(results=False)  # libpq's environment variables say where
    return SqliteHuey(results=False, filename=os.environ[FILE])


huey: Final = _huey()
noop: Final = huey.task(name="noop")(functions.noop)
stamp: Final = huey.task(name="stamp")(functions.stamp)

POLL: Final = ["--delay", "0.01", "--max-delay", "0.01"] if NAME == "huey_sqlite" else []
CONSUMER: Final = f"""
    -m huey.bin.huey_consumer {__name__}.huey
    --workers {WORKERS} --worker-type process --no-periodic --quiet
""".split()
workers = [[sys.executable, *CONSUMER, *POLL]]


def prepare() -> None:
    """The tables are made by importing this."""


def clear() -> None:
    """Empty the queue."""
    huey.flush()


def fill(rows: int) -> None:
    """Enqueue no-ops."""
    for number in range(rows):
        noop(number)


def enqueue(number: int) -> None:
    """Enqueue one that writes down when it begins."""
    stamp(number)


def unfinished() -> int:
    """Return how many no worker has taken."""
    return int(huey.pending_count())


def failed() -> int:
    """Return 0: nothing is kept that would tell."""
    return 0
