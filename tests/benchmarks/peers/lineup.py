"""Who takes part, what each keeps, and the environment of its processes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from tests.benchmarks.contenders import DEFER, Q2_BEST, WORKERS, Contender
from tests.benchmarks.functions import STAMPS

PEER: Final = "DEFER_BENCH_PEER"  # the environment variables of a peer's processes
FILE: Final = "DEFER_BENCH_FILE"
REDIS: Final = "DEFER_BENCH_REDIS"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a peer's data are: a database, a file, the socket of Redis."""

    database: str
    stamps: Path
    file: Path
    redis: Path | None


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One queue. `rows` is how many it drains in a round: some seconds' worth."""

    name: str
    label: str
    module: str  # of this package
    server: Literal["PostgreSQL", "Redis", "SQLite"]
    rows: int
    durable: str  # whether what is queued survives a power cut
    redelivers: str  # whether what a killed worker was executing is executed again
    results: str  # whether what it returned can be looked up
    settings: str
    packages: tuple[str, ...] = ()  # distributions, besides those that django-defer needs
    apps: tuple[str, ...] = ()  # if it runs within Django
    contender: Contender | None = None  # if the other benchmarks have it too

    def missing(self, *, has_redis: bool) -> str | None:
        """Return why it can't take part, if so."""
        for package in self.packages:
            try:
                version(package)
            except PackageNotFoundError:
                return f"{package} is not installed"
        return "no Redis found" if self.server == "Redis" and not has_redis else None

    def environment(self, place: Place) -> dict[str, str]:
        """Return the variables of its processes, on top of those that lead to the server."""
        variables = dict(os.environ)
        if self.contender:
            variables = self.contender.environment(place.database, str(place.stamps))
        elif self.apps:
            variables["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.peers.settings"
            variables["DEFER_BENCH_APPS"] = json.dumps(self.apps)
        return {
            **variables,
            PEER: self.name,
            STAMPS: str(place.stamps),
            "PGDATABASE": place.database,
            FILE: str(place.file),
            REDIS: str(place.redis or ""),
        }


LINEUP: Final = [
    Peer(
        name="defer",
        label="django-defer",
        module="contender",
        server="PostgreSQL",
        rows=15_000,
        durable="yes",
        redelivers="yes",
        results="yes",
        settings="defaults",
        contender=DEFER,
    ),
    Peer(
        name="q2",
        label="django-q2, ORM",
        module="contender",
        server="PostgreSQL",
        rows=5000,
        durable="yes",
        redelivers="yes",
        results="of failures",
        settings="bulk 10, save_limit -1, polls every 10 ms, connections kept",
        contender=Q2_BEST,
    ),
    Peer(
        name="procrastinate",
        label="procrastinate",
        module="procrastinate",
        server="PostgreSQL",
        packages=("procrastinate",),
        rows=2500,
        durable="yes",
        redelivers="by own code",
        results="state only",
        settings="LISTEN; without Django",
    ),
    Peer(
        name="django_tasks",
        label="django-tasks-db",
        module="django_tasks",
        server="PostgreSQL",
        packages=("django-tasks-db",),
        apps=("django_tasks_db",),
        rows=2500,
        durable="yes",
        redelivers="no",
        results="yes",
        settings="--interval 0.01 (1 s is its default), connections kept",
    ),
    Peer(
        name="huey_postgres",
        label="huey, PostgreSQL",
        module="huey",
        server="PostgreSQL",
        packages=("huey",),
        rows=10_000,
        durable="yes",
        redelivers="no",
        results="no",
        settings="LISTEN, results=False, no periodic tasks; without Django",
    ),
    Peer(
        name="huey_sqlite",
        label="huey, SQLite",
        module="huey",
        server="SQLite",
        packages=("huey",),
        rows=5000,
        durable="yes",
        redelivers="no",
        results="no",
        settings="--delay and --max-delay 0.01 (0.1 s and 10 s are its defaults), results=False, "
        "no periodic tasks; without Django",
    ),
    Peer(
        name="huey_redis",
        label="huey, Redis",
        module="huey",
        server="Redis",
        packages=("huey", "redis"),
        rows=30_000,
        durable="no",
        redelivers="no",
        results="no",
        settings="blocking pop, results=False, no periodic tasks; without Django",
    ),
    Peer(
        name="celery",
        label="celery, Redis",
        module="celery",
        server="Redis",
        packages=("celery", "redis"),
        rows=15_000,
        durable="no",
        redelivers="no",
        results="no",
        settings="solo pool, prefetch 128, ignore_result, no gossip, mingle or heartbeat; "
        "without Django",
    ),
    Peer(
        name="celery_results",
        label="celery, Redis, results in PostgreSQL",
        module="celery",
        server="Redis",
        packages=("celery", "redis", "django-celery-results"),
        apps=("django_celery_results",),
        rows=2500,
        durable="no",
        redelivers="after an hour",
        results="yes",
        settings="the same with acks_late and django-celery-results, connections kept",
    ),
    Peer(
        name="dramatiq",
        label="dramatiq, Redis",
        module="dramatiq",
        server="Redis",
        packages=("dramatiq", "redis"),
        rows=15_000,
        durable="no",
        redelivers="yes",
        results="no",
        settings="dramatiq_queue_prefetch 128; without Django",
    ),
]
BY_NAME: Final = {peer.name: peer for peer in LINEUP}

__all__ = ["BY_NAME", "FILE", "LINEUP", "PEER", "REDIS", "WORKERS", "Peer", "Place"]
