"""dramatiq on Redis: a message stays there until it was processed."""

from __future__ import annotations

import os
import sys
from typing import Final

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.benchmarks import functions
from tests.benchmarks.peers import redis_server
from tests.benchmarks.peers.lineup import REDIS, WORKERS

os.environ["dramatiq_queue_prefetch"] = "128"  # noqa: SIM112 - that is its name

broker: Final = RedisBroker(url=f"unix://{os.environ[REDIS]}")
dramatiq.set_broker(broker)


def discard(value: object) -> None:
    """Return nothing: for each value that is returned and not kept, dramatiq logs a warning."""
    functions.noop(value)


noop: Final = dramatiq.actor(actor_name="noop")(discard)
stamp: Final = dramatiq.actor(actor_name="stamp")(functions.stamp)

WORKER: Final = f"-m dramatiq {__name__}:broker --processes {WORKERS} --threads 1".split()
workers = [[sys.executable, *WORKER]]


def prepare() -> None:
    """Nothing is to be made."""


def clear() -> None:
    """Empty the queue."""
    redis_server.client().flushdb()


def fill(rows: int) -> None:
    """Enqueue no-ops."""
    for number in range(rows):
        noop.send(number)


def enqueue(number: int) -> None:
    """Enqueue one that writes down when it begins."""
    stamp.send(number)


def unfinished() -> int:
    """Return how many are queued, or fetched and not acknowledged."""
    return int(redis_server.client().hlen("dramatiq:default.msgs"))


def failed() -> int:
    """Return how many wait for another try, or had their last one."""
    redis = redis_server.client()
    return int(redis.hlen("dramatiq:default.DQ.msgs")) + int(redis.hlen("dramatiq:default.XQ.msgs"))
