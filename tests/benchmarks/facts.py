"""What one has to know about the machine to read the figures."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import psycopg


def facts(server: psycopg.Connection, packages: Iterable[str] = ()) -> dict[str, Any]:
    """Return them, with the versions of our own packages and of `packages`."""
    row = server.execute(
        "SELECT current_setting('server_version'), current_setting('fsync'), "
        "current_setting('synchronous_commit')"
    ).fetchone()
    assert row is not None
    return {
        "cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2),
        "Python": platform.python_version(),
        **{
            name: version(name)
            for name in ("Django", "django-defer", "django-q2", "psycopg", *packages)
        },
        "PostgreSQL": row[0],
        "fsync": row[1],
        "synchronous_commit": row[2],
        "one durable commit, ms": round(durable_commit_ms(server), 2),
    }


def durable_commit_ms(connection: psycopg.Connection) -> float:
    """Return how long a commit of one small row takes here, at the median."""
    connection.execute("CREATE TABLE IF NOT EXISTS defer_bench_probe (n bigint)")
    seconds = []
    for number in range(200):
        began = time.perf_counter()
        connection.execute("INSERT INTO defer_bench_probe VALUES (%s)", [number])
        seconds.append(time.perf_counter() - began)
    connection.execute("DROP TABLE defer_bench_probe")
    return statistics.median(seconds) * 1000
