"""Rows for tests: runs, clusters and definitions, in the state that a test wants them in.

All of it is in the database that `DEFER["DATABASE"]` names, which need not be `default`.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.db import connections, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_defer import attempts
from django_defer.claims import Claim, claim
from django_defer.clock import DatabaseNow
from django_defer.conf import conf
from django_defer.decorators import DeferredFunction
from django_defer.models import BackgroundFunction, Cluster, CronDefinition, Run
from django_defer.options import parse_options
from django_defer.registry import registry
from django_defer.states import ACTIVE, FINISHED, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_defer.attempt_facts import Started

DATABASE = str(conf.database)
DATABASES = sorted({"default", DATABASE})
NOOP = "testapp.noop"

# Marks. Tests that commit empty the tables of these apps afterwards, which is quick.
APPS = ["django_defer", "tests.testapp"]
in_transaction = pytest.mark.django_db(databases=DATABASES)
committing = pytest.mark.django_db(databases=DATABASES, transaction=True, available_apps=APPS)
committing_to_both = pytest.mark.django_db(
    databases=["default", "other"], transaction=True, available_apps=APPS
)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Paris")


def database() -> BaseDatabaseWrapper:
    """Return the connection to django-defer's database."""
    return connections[DATABASE]


def is_postgres() -> bool:
    """Say whether the suite runs on PostgreSQL."""
    return database().vendor == "postgresql"


def defer_settings(**values: Any) -> AbstractContextManager[Any]:
    """Change keys of the setting DEFER."""
    return override_settings(DEFER={**settings.DEFER, **values})


def new_cluster(**columns: Any) -> Cluster:
    """Insert the row of a live cluster."""
    values = {
        "id": uuid4(),
        "host": "here",
        "pid": 1,
        "queues": ["default"],
        "functions": [NOOP],
        "started_at": DatabaseNow(),
        "beat_at": DatabaseNow(),
    }
    return Cluster.objects.create(**values | columns)


def new_run(function: str = NOOP, state: State = State.QUEUED, **columns: Any) -> Run:
    """Insert a run that is in this state, with what belongs to it."""
    values: dict[str, Any] = {"function_id": function, "args": {"args": [], "kwargs": {}}}
    if state == State.SCHEDULED:
        values["run_after"] = DatabaseNow(timedelta(hours=1))
    if state in ACTIVE or state in FINISHED:
        values |= {"attempt": 1, "claim_id": uuid4(), "cluster": uuid4(), "worker": "0.1"}
        values["claimed_at"] = DatabaseNow()
    if state == State.RUNNING or state in FINISHED:
        values["started_at"] = DatabaseNow()
    if state in FINISHED:
        values["finished_at"] = DatabaseNow()
    run = Run(state=state, **values | columns)
    run.save(using=str(conf.database))
    return fresh(run)


def fresh(run: Run) -> Run:
    """Return what the database says about the run now."""
    return Run.objects.get(pk=run.pk)


def claim_of(run: Run) -> Claim:
    """Return the claim that holds this run."""
    assert run.claim_id is not None
    return Claim(run.pk, run.claim_id, run.attempt)


def claim_for(
    cluster: Cluster, *workers: str, queue: str = "default", keys: tuple[str, ...] = (NOOP,)
) -> list[tuple[str, Claim]]:
    """Claim for these workers of a cluster, "0.1" unless named."""
    return claim(DATABASE, queue, cluster.pk, workers or ("0.1",), keys)


def start(run: Run) -> Started:
    """Start a claimed run, as its worker does."""
    started = attempts.start(DATABASE, claim_of(run), "0.1")
    assert started is not None
    return started


def new_definition(
    function: str = "testapp.weekly",
    expression: str = "0 8 * * MON",
    next_slot_at: datetime | None = None,
    **columns: Any,
) -> CronDefinition:
    """Insert a cron definition and the function it belongs to."""
    BackgroundFunction.objects.get_or_create(key=function)
    return CronDefinition.objects.create(
        function_id=function, code_expression=expression, next_slot_at=next_slot_at, **columns
    )


@contextmanager
def rolled_back(using: str = DATABASE) -> Iterator[None]:
    """Do what is inside in a transaction that is rolled back in the end."""
    with transaction.atomic(using=using):
        yield
        transaction.set_rollback(True, using=using)


@contextmanager
def captured() -> Iterator[CaptureQueriesContext]:
    """Record the statements sent to django-defer's database; Django sees none that is prepared."""
    with defer_settings(PREPARE_STATEMENTS=False), CaptureQueriesContext(database()) as queries:
        yield queries


def statements(queries: CaptureQueriesContext, *, besides: tuple[str, ...] = ()) -> list[str]:
    """Return the recorded statements, without those that begin with a word of `besides`."""
    texts = [query["sql"].strip() for query in queries.captured_queries]
    return [text for text in texts if not text.startswith(besides)] if besides else texts


class Define:
    """Registers functions for the length of one test, as a module `defer.py` would.

    They may be closures, so a test sees what they did.
    """

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, function: Any, **options: Any) -> DeferredFunction[Any, Any]:
        """Register `function` as `defined.<its name>`."""
        key = f"defined.{function.__name__}"
        deferred: DeferredFunction[Any, Any] = DeferredFunction(
            function, key=key, options=parse_options(key, options)
        )
        registry.add(deferred)
        deferred.is_discoverable = True
        self.keys.append(key)
        return deferred

    def forget(self) -> None:
        """Remove them again."""
        for key in self.keys:
            registry.remove(key)


def fill(state: State, count: int = 5000, /, **columns: str) -> None:
    """Insert many runs at once (PostgreSQL). `columns` are SQL, `state` too; `n` counts from 1."""
    values = {
        "id": "gen_random_uuid()",
        "function": f"'{NOOP}'",
        "queue": "'default'",
        "priority": "n % 3",
        "state": f"'{state}'",
        "run_after": "now() + n * interval '1 minute'",
        "args": "'{}'",
        "max_attempts": "17",
        "rerun_if_lost": "true",
        **dict.fromkeys(("attempt", "failures", "losses", "missed_slots"), "0"),
        **dict.fromkeys(
            ("reason", "error_class", "error_message", "label", "worker", "enqueued_by"), "''"
        ),
    } | columns
    with database().cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {Run._meta.db_table} ({', '.join(values)}) "
            f"SELECT {', '.join(values.values())} FROM generate_series(1, {count}) AS n"
        )
        cursor.execute(f"ANALYZE {Run._meta.db_table}")


def uuid7_sql(instant: str) -> str:
    """Return SQL that makes an id of an instant, which is SQL too; they may differ in `n`."""
    milliseconds = f"CAST(extract(epoch FROM {instant}) * 1000 AS bigint)"
    random = "md5(CAST(n AS text))"
    return (
        f"CAST(lpad(to_hex({milliseconds}), 12, '0') || '7' || substr({random}, 1, 3) "
        f"|| '8' || substr({random}, 4, 15) AS uuid)"
    )


def plan_of(sql: str, values: Any = None) -> str:
    """Return how PostgreSQL would execute a statement."""
    with database().cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", values)
        return "\n".join(line for (line,) in cursor.fetchall())
