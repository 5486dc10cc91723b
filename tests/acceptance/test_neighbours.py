"""Beside others: a project's own django-q2, and SQLite as `startproject` leaves it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.harness import PATIENCE, wait_until_all_ended
from tests.databases import environment
from tests.testapp import defer as functions
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.harness import Trees

WITH_DJANGO_Q = {"DEFER_TEST_DJANGO_Q": "1"}

SCHEDULE = """
from datetime import timedelta
from django.utils import timezone
from django_q.models import Schedule
Schedule.objects.create(func="math.sqrt", args="4", next_run=timezone.now() - timedelta(hours=1))
"""
IS_UNTOUCHED = """
from django_q.models import OrmQ, Schedule
schedule = Schedule.objects.get()
assert schedule.task is None, schedule.task
assert schedule.repeats == -1, schedule.repeats
assert not OrmQ.objects.exists()
"""


def manage(*arguments: str) -> None:
    """Run a management command of the project that has django-q2 too."""
    command = [sys.executable, "-m", "django", *arguments]
    env = {**environment(), **WITH_DJANGO_Q}
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=PATIENCE)


@pytest.fixture
def django_q_tables(transactional_db: None) -> Iterator[None]:
    manage("migrate", "django_q", "-v", "0")
    yield
    manage("migrate", "django_q", "zero", "-v", "0")


@pytest.mark.usefixtures("django_q_tables")
def test_a_projects_own_schedules_and_receivers_are_left_alone(trees: Trees) -> None:
    manage("shell", "-v", "0", "-c", SCHEDULE)
    tree = trees("--workers", "1", env=WITH_DJANGO_Q)
    assert functions.add(1, 1).get_result(timeout=PATIENCE) == 2
    assert functions.add(2, 2).get_result(timeout=PATIENCE) == 4
    assert tree.terminate() == 0
    assert not tree.said("worker.died")
    manage("shell", "-v", "0", "-c", IS_UNTOUCHED)


@pytest.mark.sqlite
def test_sqlite_without_our_options_says_locked_to_no_function(trees: Trees) -> None:
    trees.may_say.append("defer.W004")  # the check that advises these options
    Effect.objects.create(name="count", detail="0")
    functions.read_then_write.map(["count"] * 60)
    for _ in range(2):
        trees("--workers", "2", env={"DEFER_TEST_SQLITE_BARE": "1"})
    wait_until_all_ended()
    assert Effect.objects.get().detail == "60"
