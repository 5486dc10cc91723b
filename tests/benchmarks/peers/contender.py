"""django-defer and django-q2, as the other benchmarks have them."""

from __future__ import annotations

import os

import django
from django.core.management import call_command

from tests.benchmarks.arena import MANAGE
from tests.benchmarks.peers.lineup import BY_NAME, PEER
from tests.benchmarks.peers.tables import Tables

contender = BY_NAME[os.environ[PEER]].contender
assert contender is not None

tables = Tables(tuple(contender.tables), contender.unfinished, contender.failed)
clear, unfinished, failed = tables.clear, tables.count_unfinished, tables.count_failed
workers = [[*MANAGE, *contender.command]]


def prepare() -> None:
    """Make the tables."""
    django.setup()
    call_command("migrate", verbosity=0)


def fill(rows: int) -> None:
    """Enqueue no-ops."""
    from tests.benchmarks import steps

    steps.fill(rows)


def enqueue(number: int) -> None:
    """Enqueue one that writes down when it begins."""
    from tests.benchmarks import steps

    steps.enqueuer("stamp")(number)
