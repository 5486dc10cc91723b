"""A pause, an override or a deploy in the very second of a slot: the slot is fired, and once.

The schedule counts hours from a moment ago, so that one slot is due now and no other soon.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections, transaction

from django_defer.clock import database_now
from django_defer.models import CronDefinition, Run
from django_defer.overrides import clear_override, override
from django_defer.pauses import pause, resume
from django_defer.registry import registry
from django_defer.scheduler import tick
from django_defer.sync import sync
from tests import runs
from tests.concurrency.processes import Child, no_alarms
from tests.concurrency.race import race
from tests.runs import DATABASE, is_postgres, new_definition
from tests.scratch import define, own_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    runs.committing,
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

HOUR = timedelta(hours=1)
ROUNDS = 10


@pytest.fixture(autouse=True)
def _no_alarm() -> Iterator[None]:
    with no_alarms():
        yield


def due_now(function: str, **columns: Any) -> CronDefinition:
    slot = database_now(DATABASE).replace(microsecond=0)
    values = {"kind": "every", "interval": HOUR, "anchor": slot, "next_slot_at": slot, **columns}
    return new_definition(function, "1h", **values)


def slot_of(definition: CronDefinition) -> datetime:
    assert definition.anchor is not None
    anchor: datetime = definition.anchor
    return anchor


def tick_now() -> int:
    return tick(DATABASE, database_now(DATABASE)).fired


def runs_of(definition: CronDefinition) -> list[datetime | None]:
    made = Run.objects.filter(definition=definition).order_by("slot")
    return list(made.values_list("slot", flat=True))


def again(definition: CronDefinition) -> CronDefinition:
    return CronDefinition.objects.get(pk=definition.pk)


@pytest.mark.parametrize("tickers", [1, 3])
def test_a_slot_that_is_due_when_a_pause_begins_is_fired_or_is_the_first_of_the_pause(
    tickers: int,
) -> None:
    for number in range(ROUNDS):
        definition = due_now(f"testapp.round_{number}")
        slot = slot_of(definition)
        race(*[tick_now] * tickers, lambda: pause(again(definition)))  # noqa: B023
        row = again(definition)
        assert row.is_paused
        assert row.next_slot_at is None
        fired = runs_of(definition) == [slot]
        assert fired or runs_of(definition) == []
        assert row.unfired_slot_at == (slot + HOUR if fired else slot)
        assert row.version == (2 if fired else 1)
        resume(again(definition), catch_up=True)
        tick_now()
        assert runs_of(definition) == [slot]
        assert again(definition).next_slot_at == slot + HOUR


def test_a_slot_that_is_due_when_an_override_comes_is_fired_once() -> None:
    for number in range(ROUNDS):
        definition = due_now(f"testapp.round_{number}")
        slot = slot_of(definition)
        race(
            tick_now,
            lambda: override(again(definition), expression="2h"),  # noqa: B023
            tick_now,
        )
        assert runs_of(definition) == [slot]
        row = again(definition)
        assert (row.next_slot_at, row.version) == (slot + 2 * HOUR, 2)
        race(tick_now, lambda: clear_override(again(definition)))  # noqa: B023
        assert runs_of(definition) == [slot]
        assert again(definition).next_slot_at == slot + HOUR


def test_two_operators_and_a_scheduler_at_one_slot() -> None:
    for number in range(ROUNDS):
        definition = due_now(f"testapp.round_{number}")
        slot = slot_of(definition)
        race(
            lambda: override(again(definition), expression="2h"),  # noqa: B023
            lambda: pause(again(definition)),  # noqa: B023
            tick_now,
        )
        row = again(definition)
        assert row.is_paused
        assert row.expression == "every 2h"
        if runs_of(definition) != [slot]:  # paused before anybody fired it, overridden then
            assert runs_of(definition) == []
            assert row.unfired_slot_at is not None
            assert row.unfired_slot_at > slot


def define_hourly(expression: str, **options: str) -> None:
    registry._functions.clear()
    written = "".join(f", {name}={value}" for name, value in options.items())
    define(f"@defer.every({expression!r}{written})\ndef hourly(): ...")


@pytest.mark.parametrize("options", [{}, {"enabled": "False"}], ids=["changed", "switched off"])
def test_a_slot_that_is_due_when_a_deploy_changes_the_schedule_is_fired_once(
    options: dict[str, str],
) -> None:
    with own_registry():
        for _ in range(ROUNDS):
            CronDefinition.objects.all().delete()
            Run.objects.all().delete()
            define_hourly("1h")
            sync()
            definition = CronDefinition.objects.get()
            slot = database_now(DATABASE).replace(microsecond=0)
            CronDefinition.objects.update(anchor=slot, next_slot_at=slot)
            define_hourly("2h", **options)
            race(tick_now, sync, tick_now, sync)
            assert runs_of(definition) == [slot]
            row = again(definition)
            assert row.next_slot_at == (None if options else slot + 2 * HOUR)
            assert row.version == 2


def test_while_it_is_paused_and_resumed_again_and_again_no_slot_is_lost() -> None:
    first = database_now(DATABASE)
    definition = due_now(
        "testapp.often",
        catch_up="all",
        interval=timedelta(milliseconds=20),
        anchor=first,
        next_slot_at=first,
    )
    until = time.monotonic() + 2

    def keep_ticking() -> None:
        while time.monotonic() < until:
            tick_now()
            time.sleep(0.001)  # else nobody else gets SQLite's one lock

    def keep_pausing() -> None:
        times = 0
        while time.monotonic() < until or times < 3:
            pause(again(definition))
            time.sleep(0.01)
            resume(again(definition), catch_up=True)
            time.sleep(0.01)
            times += 1

    children = [Child(keep_ticking) for _ in range(2)] + [Child(keep_pausing)]
    for child in children:
        child.result()
    tick_now()
    row = again(definition)
    assert row.last_slot_at is not None
    assert row.last_slot_at - first > timedelta(seconds=1.9)
    expected = (row.last_slot_at - first) // timedelta(milliseconds=20) + 1
    assert runs_of(definition) == [first + n * timedelta(milliseconds=20) for n in range(expected)]
    assert len(row.pauses) > 2


# -- who waits for a tick, and sees the time pass --------------------------------------------------


def sync_to_two_seconds(definition: CronDefinition) -> None:
    sync()


def override_to_two_seconds(definition: CronDefinition) -> None:
    override(again(definition), expression="2s")


@pytest.mark.postgres
@pytest.mark.parametrize("change", [override_to_two_seconds, sync_to_two_seconds])
def test_who_waits_for_a_tick_reckons_with_the_time_at_which_that_has_ended(
    change: Callable[[CronDefinition], None],
) -> None:
    """A slot that passes while the change waits must not be set as the next one once more."""
    with own_registry():
        define_hourly("1s")
        sync()
        definition = CronDefinition.objects.get()
        anchor = slot_of(definition)
        define_hourly("2s")
        is_locked = threading.Event()

        def tick_slowly() -> None:
            with transaction.atomic(using=DATABASE):
                CronDefinition.objects.select_for_update().get()
                is_locked.set()
                wait_until_somebody_waits_for_a_lock()
                now = database_now(DATABASE)
                even = anchor + ((now - anchor) // timedelta(seconds=2) + 1) * timedelta(seconds=2)
                time.sleep((even - now).total_seconds() + 0.05)
                assert tick(DATABASE, database_now(DATABASE)).fired == 1

        def change_meanwhile() -> None:
            assert is_locked.wait(10)
            change(definition)

        race(tick_slowly, change_meanwhile)
        row = again(definition)
        assert row.last_slot_at is not None
        assert row.next_slot_at is not None
        assert row.next_slot_at > row.last_slot_at


def wait_until_somebody_waits_for_a_lock() -> None:
    assert is_postgres()
    until = time.monotonic() + 10
    with connections[DATABASE].cursor() as cursor:
        while time.monotonic() < until:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0]:
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits")
