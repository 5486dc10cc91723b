"""A slot becomes one run, at its time, however many clusters there are."""

from __future__ import annotations

import struct
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from django_defer.clock import database_now
from django_defer.models import CronDefinition, Run
from tests.acceptance.harness import wait_for_end, wait_until
from tests.testapp import defer as functions
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from tests.acceptance.harness import Trees


def test_three_clusters_make_one_run_of_a_slot_and_start_it_within_a_second(
    trees: Trees, tmp_path: Path
) -> None:
    slot = (database_now("default") + timedelta(seconds=8)).replace(microsecond=0)
    zone = make_zone_whose_minutes_begin_at(slot.second, tmp_path)
    for _ in range(3):
        trees("--workers", "1", env={"PYTHONTZPATH": f"{tmp_path}:/usr/share/zoneinfo"})
    definition = CronDefinition.objects.get(function="testapp.weekly")
    CronDefinition.objects.filter(pk=definition.pk).update(
        expression_override="* * * * *", timezone_override=zone, next_slot_at=slot
    )
    run = wait_until(lambda: Run.objects.filter(definition=definition).first(), what="the run")
    wait_for_end(run)
    assert run.slot == slot
    assert run.missed_slots == 0
    assert run.started_at is not None
    assert timedelta() <= run.started_at - slot < timedelta(seconds=1)
    assert Run.objects.filter(function="testapp.weekly").count() == 1
    definition.refresh_from_db()
    assert definition.next_slot_at == slot + timedelta(minutes=1)
    assert definition.last_run_id == run.pk


def test_a_slot_that_nobody_was_there_for_becomes_one_run_as_soon_as_somebody_is(
    trees: Trees,
) -> None:
    first = trees("--workers", "1")
    assert first.terminate() == 0
    now = database_now("default")
    missed = now - timedelta(days=now.weekday() + 14)
    missed = missed.replace(hour=8, minute=0, second=0, microsecond=0)
    CronDefinition.objects.filter(function="testapp.weekly").update(next_slot_at=missed)
    for _ in range(2):
        trees("--workers", "1")
    run = wait_until(lambda: Run.objects.filter(slot__isnull=False).first(), what="the run")
    wait_for_end(run)
    assert run.slot is not None
    assert run.slot > missed
    assert run.missed_slots >= 1
    assert Run.objects.filter(function="testapp.weekly").count() == 1


def test_a_delayed_run_starts_when_it_is_due(trees: Trees) -> None:
    for _ in range(2):
        trees("--workers", "1")
    run = functions.leave_effect.using(delay="1.5s")("delayed")
    wait_for_end(run)
    assert run.started_at is not None
    late = run.started_at - run.run_after
    assert timedelta() <= late < timedelta(seconds=1)
    assert Effect.objects.filter(name="delayed").count() == 1


def make_zone_whose_minutes_begin_at(second: int, directory: Path) -> str:
    """Write a time zone in which a minute begins at this second of a minute in UTC.

    So that a test of a cron expression, which knows minutes, needs not wait for a whole one.
    """
    offset = -second  # the wall shows :00 when UTC shows :second
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    data = header + struct.pack(">lbb", offset, 0, 0) + b"TST\0"
    (directory / "Soon").write_bytes(data)
    return "Soon"
