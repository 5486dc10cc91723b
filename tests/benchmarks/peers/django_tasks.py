"""django-tasks-db, the database backend of Django's tasks: each worker polls for one at a time."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import django
from django.core.management import call_command
from django.db import transaction

from tests.benchmarks import functions
from tests.benchmarks.arena import MANAGE
from tests.benchmarks.peers.lineup import WORKERS
from tests.benchmarks.peers.tables import Tables

if TYPE_CHECKING or importlib.util.find_spec("django.tasks"):  # since Django 6.0
    from django.tasks import task
else:
    from django_tasks import task


@task
def noop(value: object = None) -> object:
    """Return the argument."""
    return functions.noop(value)


@task
def stamp(number: int) -> None:
    """Write down when this began."""
    functions.stamp(number)


tables = Tables(
    ("django_tasks_database_dbtaskresult",),
    "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status IN ('READY', 'RUNNING')",
    "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status <> 'SUCCESSFUL'",
)
clear, unfinished, failed = tables.clear, tables.count_unfinished, tables.count_failed
workers = [
    [*MANAGE, "db_worker", "--interval", "0.01", "--no-startup-delay", "--verbosity", "0"]
] * WORKERS


def prepare() -> None:
    """Make the tables."""
    django.setup()
    call_command("migrate", verbosity=0)


def fill(rows: int) -> None:
    """Enqueue no-ops."""
    with transaction.atomic():
        for number in range(rows):
            noop.enqueue(number)


def enqueue(number: int) -> None:
    """Enqueue one that writes down when it begins."""
    stamp.enqueue(number)
