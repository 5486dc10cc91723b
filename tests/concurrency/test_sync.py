"""Two hosts sync at once, or one while an operator is at work: each with its own connection."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from django.db import connections, transaction

from django_defer.models import BackgroundFunction, CronDefinition
from django_defer.registry import registry
from django_defer.sync import sync
from django_defer.sync_report import SyncReport
from tests.scratch import define, own_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

pytestmark = pytest.mark.django_db(transaction=True)

MANY = "\n".join(
    f"@defer\ndef f{n}(): ...\n@defer.cron('{n} 8 * * *')\ndef s{n}(): ..." for n in range(10)
)
WEEKLY = "@defer.cron('0 8 * * MON')\ndef weekly(): ..."


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    with own_registry():
        yield


@pytest.fixture
def host() -> Iterator[Callable[..., Future[SyncReport]]]:
    """Sync in a thread with a connection of its own, as another host would."""
    with ThreadPoolExecutor() as pool:

        def work(before: Callable[[], object] = lambda: None) -> SyncReport:
            try:
                before()
                return sync()
            finally:
                connections.close_all()

        yield lambda *arguments: pool.submit(work, *arguments)


def test_of_hosts_that_sync_at_once_one_does_it_and_the_others_find_nothing_to_do(
    host: Callable[..., Future[SyncReport]],
) -> None:
    define(MANY)
    together = threading.Barrier(4)
    reports = [each.result(30) for each in [host(together.wait) for _ in range(4)]]
    assert sorted(len(report.created) for report in reports) == [0, 0, 0, 30]
    assert BackgroundFunction.objects.count() == 20
    assert CronDefinition.objects.count() == 10


def test_the_same_when_code_changed_or_left(host: Callable[..., Future[SyncReport]]) -> None:
    define(MANY)
    sync()
    registry._functions.clear()
    define(MANY.replace("8 * * *", "9 * * *").replace("def f0()", "def g0()"))
    together = threading.Barrier(2)
    reports = [each.result(30) for each in [host(together.wait) for _ in range(2)]]
    assert sorted(len(report.changed) for report in reports) == [0, 10]
    assert sorted(len(report.orphaned) for report in reports) == [0, 1]
    assert sum(definition.version for definition in CronDefinition.objects.all()) == 10


def test_a_host_waits_for_the_sync_of_another(host: Callable[..., Future[SyncReport]]) -> None:
    define(MANY)
    with transaction.atomic():
        assert sync().created
        other = host()
        with pytest.raises(TimeoutError):
            other.result(0.5)
    assert other.result(30).is_empty


def test_a_pause_that_is_just_being_made_is_seen(host: Callable[..., Future[SyncReport]]) -> None:
    define(WEEKLY)
    sync()
    registry._functions.clear()
    define(WEEKLY.replace("0 8", "0 9"))
    with transaction.atomic():
        CronDefinition.objects.get().pause(actor="ada")
        other = host()
        with pytest.raises(TimeoutError):
            other.result(0.5)
    assert other.result(30).changed
    row = CronDefinition.objects.get()
    assert row.code_expression == "0 9 * * MON"
    assert row.is_paused
    assert row.next_slot_at is None


@pytest.mark.sqlite
def test_on_sqlite_it_waits_even_without_immediate(
    host: Callable[..., Future[SyncReport]],
) -> None:
    define(MANY)

    def deferred() -> None:
        connections["default"].ensure_connection()
        connections["default"].transaction_mode = None  # type: ignore[attr-defined]
        together.wait()

    together = threading.Barrier(3)
    reports = [each.result(30) for each in [host(deferred) for _ in range(3)]]
    assert sorted(len(report.created) for report in reports) == [0, 0, 30]
