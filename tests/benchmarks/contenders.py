"""Who competes: each has its own database, its own settings and its own worker processes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, Final

from tests.benchmarks.functions import STAMPS

WORKERS: Final = 2

# All that a project has to set for the ORM broker, and the number of workers.
DEFAULTS: Final = {"name": "bench", "orm": "default", "workers": WORKERS}
BEST: Final = {
    **DEFAULTS,
    "save_limit": -1,  # no row is written for a task that succeeded
    "bulk": 10,
    "queue_limit": 20,
    "poll": 0.01,  # seconds
    "recycle": 5000,
    "scheduler": False,
    "timeout": 60,
    "retry": 120,
    "log_level": "ERROR",
}

KEPT: Final = {"CONN_MAX_AGE": None}
DJANGO_DEFAULT: Final[dict[str, Any]] = {}  # CONN_MAX_AGE is 0: close after each request or task


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to execute the same functions. `rows` is how many it drains in a round."""

    name: str
    label: str
    kind: str  # the app: django_defer or django_q; "" for a project that has neither
    rows: int
    connection: dict[str, Any] = field(default_factory=dict)
    q_cluster: dict[str, Any] = field(default_factory=dict)
    apps: tuple[str, ...] = ()  # besides those of all
    defer: dict[str, Any] = field(default_factory=dict)  # the setting DEFER
    workers: int = WORKERS  # of a django-defer; django-q2 reads its number from q_cluster
    verbosity: int = 1  # of a django-defer; with 0 it logs errors only

    @property
    def command(self) -> list[str]:
        """The arguments of manage.py that start its workers."""
        if self.kind == "django_defer":
            options = {"--workers": self.workers, "--verbosity": self.verbosity}
            return ["defer_worker", *(str(word) for pair in options.items() for word in pair)]
        return ["qcluster"]

    @property
    def tables(self) -> list[str]:
        """The tables that a round fills."""
        if self.kind == "django_defer":
            return ["django_defer_run", "django_defer_attempt"]
        return ["django_q_ormq", "django_q_task"]

    @property
    def unfinished(self) -> str:
        """A query: how many are not finished, durably."""
        if self.kind == "django_defer":
            return (
                "SELECT count(*) FROM django_defer_run "
                "WHERE state IN ('scheduled', 'queued', 'claimed', 'running', 'parked')"
            )
        return "SELECT count(*) FROM django_q_ormq"

    @property
    def failed(self) -> str:
        """A query: how many did not succeed."""
        if self.kind == "django_defer":
            return "SELECT count(*) FROM django_defer_run WHERE state <> 'succeeded'"
        return "SELECT count(*) FROM django_q_task WHERE NOT success"

    def environment(self, database: str, stamps: str) -> dict[str, str]:
        """The variables of its processes, on top of those that lead to the server."""
        return {
            **os.environ,
            "PYTHONWARNINGS": "ignore",  # django-q2 warns about its own defaults
            "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
            "DEFER_BENCH_KIND": self.kind,
            "DEFER_BENCH_APPS": json.dumps(self.apps),
            "DEFER_BENCH_DATABASE": database,
            "DEFER_BENCH_DEFER": json.dumps(self.defer),
            "DEFER_BENCH_CONNECTION": json.dumps(self.connection),
            "DEFER_BENCH_Q_CLUSTER": json.dumps(self.q_cluster),
            STAMPS: stamps,
        }


DEFER: Final = Contender(name="defer", label="django-defer", kind="django_defer", rows=20_000)
DEFER_SILENT: Final = Contender(
    name="defer_silent",
    label="django-defer, logs errors only",
    kind="django_defer",
    rows=20_000,
    verbosity=0,
)
DEFER_SINGLE: Final = Contender(
    name="defer_single",
    label="django-defer, CHUNK_SIZE = 1",
    kind="django_defer",
    rows=4000,
    defer={"CHUNK_SIZE": 1},
)
DEFER_KEPT: Final = Contender(
    name="defer_kept",
    label="django-defer, CONN_MAX_AGE = None",
    kind="django_defer",
    rows=20_000,
    connection=KEPT,
)
Q2: Final = Contender(
    name="q2",
    label="django-q2, defaults",
    kind="django_q",
    rows=1000,
    q_cluster=DEFAULTS,
)
Q2_KEPT: Final = Contender(
    name="q2_kept",
    label="django-q2, defaults, CONN_MAX_AGE = None",
    kind="django_q",
    rows=1500,
    connection=KEPT,
    q_cluster=DEFAULTS,
)
Q2_BEST: Final = Contender(
    name="q2_best",
    label="django-q2, best, CONN_MAX_AGE = None",
    kind="django_q",
    rows=5000,
    connection=KEPT,
    q_cluster=BEST,
)
