"""Rows follow the code, and keep what an operator set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.db.models import Model
from django.test import override_settings

from django_defer.clock import database_now
from django_defer.models import BackgroundFunction, Cluster, CronDefinition, Run
from django_defer.operations import pause
from django_defer.registry import Problem, registry
from django_defer.sync import SyncReport, next_slot, sync
from tests.scratch import define, own_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db

COMPUTE = "@defer\ndef compute(): ..."
WEEKLY = "@defer.cron('0 8 * * MON')\ndef weekly(): ..."


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    with own_registry():
        yield


def function(key: str = "shop.compute") -> BackgroundFunction:
    """Return a function's row."""
    return BackgroundFunction.objects.get(key=key)


def definition(key: str = "shop.weekly") -> CronDefinition:
    """Return a definition's row."""
    return CronDefinition.objects.get(function=key)


def define_instead(source: str) -> None:
    """Make this all the code there is."""
    registry._functions.clear()
    define(source)


def live_cluster(*keys: str, silent_for: timedelta = timedelta(0)) -> Cluster:
    """Insert a cluster whose code knows these keys."""
    now = database_now("default")
    return Cluster.objects.create(
        id=uuid4(),
        host="old",
        pid=1,
        functions=list(keys),
        started_at=now - timedelta(hours=1),
        beat_at=now - silent_for,
    )


def rows() -> list[Any]:
    """Return everything that sync may write."""
    return [
        *BackgroundFunction.objects.order_by("key").values(),
        *CronDefinition.objects.order_by("function").values(),
    ]


# -- created ---------------------------------------------------------------------------------------


def test_a_new_function_gets_a_row_that_says_what_the_code_says() -> None:
    define("@defer(queue='mail', priority=3, retry=2, max_duration='5m')\ndef compute(): ...")
    report = sync()
    assert report == SyncReport(created=["function shop.compute"])
    row = function()
    assert (row.queue, row.module, row.line) == ("mail", "shop.defer", 2)
    assert row.options == {
        "priority": 3,
        "max_attempts": 3,
        "initial_interval": "30s",
        "max_interval": "3h",
        "max_duration": "5m",
        "atomic": False,
        "rerun_if_lost": True,
    }
    assert row.synced_at is not None
    assert not row.is_paused
    assert row.orphaned_at is None


def test_a_new_definition_begins_with_its_next_slot_and_fires_nothing() -> None:
    define(
        "@defer.cron('0 8 * * MON', timezone='Europe/Paris', queue='mail', priority=1, retry=2,"
        " rerun_if_lost=False)\ndef weekly(): ..."
    )
    before = database_now("default")
    report = sync()
    assert report.created == [
        "function shop.weekly",
        "definition shop.weekly (0 8 * * MON Europe/Paris)",
    ]
    row = definition()
    assert row.next_slot_at == row.schedule.next_after(before)
    assert (row.expression, row.timezone) == ("0 8 * * MON", "Europe/Paris")
    assert (row.queue, row.priority, row.max_attempts, row.rerun_if_lost) == ("mail", 1, 3, False)
    assert not Run.objects.exists()


@override_settings(DEFER={"DEFAULT_QUEUE": "elsewhere"})
def test_a_function_that_names_no_queue_is_on_the_default_one() -> None:
    define(WEEKLY)
    sync()
    assert function("shop.weekly").queue == definition().queue == "elsewhere"


def test_a_plain_function_gets_no_definition() -> None:
    define(COMPUTE)
    sync()
    assert not CronDefinition.objects.exists()


def test_the_report_has_the_next_slots_in_the_zone_and_in_utc() -> None:
    define("@defer.cron('0 8 * * MON', timezone='Europe/Paris')\ndef weekly(): ...")
    report = sync()
    zone, slots = report.upcoming["shop.weekly"]
    assert zone == "Europe/Paris"
    assert slots == definition().next_slots(3, database_now("default"))
    line = [*report.lines()][2]
    local = slots[0].astimezone(definition().schedule._zone)
    assert line == (
        f"next     shop.weekly: {local:%a %Y-%m-%d} 08:00 Europe/Paris ({slots[0]:%a %H:%M} UTC)"
    )


# -- idempotent, dry run ---------------------------------------------------------------------------


def test_a_second_sync_changes_nothing_at_all() -> None:
    define(f"{COMPUTE}\n{WEEKLY}")
    sync()
    before = rows()
    assert sync().is_empty
    assert rows() == before


def test_a_function_that_only_moved_to_another_line_is_no_news() -> None:
    define(COMPUTE)
    sync()
    define_instead(f"\n\n{COMPUTE}")
    assert sync().is_empty
    assert function().line == 4


def test_a_dry_run_reports_the_same_and_writes_nothing() -> None:
    define(f"{COMPUTE}\n{WEEKLY}")
    dry = sync(dry_run=True)
    assert rows() == []
    assert sync() == dry
    before = rows()
    define_instead("@defer(queue='mail')\ndef compute(): ...")
    dry = sync(dry_run=True)
    assert dry.changed
    assert dry.orphaned
    assert rows() == before
    assert sync() == dry
    assert rows() != before


# -- changed ---------------------------------------------------------------------------------------


def test_a_changed_option_is_written_and_described() -> None:
    define(COMPUTE)
    sync()
    define_instead("@defer(queue='mail', priority=1)\ndef compute(): ...")
    assert sync().changed == ["function shop.compute: queue default → mail, priority 0 → 1"]
    assert function().queue == "mail"
    assert function().options["priority"] == 1


def test_a_changed_expression_takes_effect_from_now_and_fires_nothing() -> None:
    define(WEEKLY)
    sync()
    long_ago = datetime(2020, 1, 6, 8, tzinfo=UTC)
    CronDefinition.objects.update(next_slot_at=long_ago)
    version = definition().version
    define_instead(WEEKLY.replace("0 8 * * MON", "30 6 * * *"))
    before = database_now("default")
    report = sync()
    assert report.changed == ["definition shop.weekly: expression 0 8 * * MON → 30 6 * * *"]
    assert "shop.weekly" in report.upcoming
    row = definition()
    assert row.next_slot_at == row.schedule.next_after(before)
    assert row.version == version + 1
    assert not Run.objects.exists()


def test_a_changed_zone_moves_the_next_slot_too() -> None:
    define(WEEKLY)
    sync()
    slot = definition().next_slot_at
    define_instead(WEEKLY.replace("MON'", "MON', timezone='Asia/Tokyo'"))
    sync()
    assert definition().next_slot_at not in (None, slot)


def test_a_changed_queue_leaves_the_schedule_where_it_is() -> None:
    define(WEEKLY)
    sync()
    long_ago = datetime(2020, 1, 6, 8, tzinfo=UTC)
    CronDefinition.objects.update(next_slot_at=long_ago)
    version = definition().version
    define_instead(WEEKLY.replace("MON'", "MON', queue='mail'"))
    report = sync()
    assert report.changed[-1] == "definition shop.weekly: queue default → mail"
    assert report.upcoming == {}
    row = definition()
    assert (row.queue, row.next_slot_at, row.version) == ("mail", long_ago, version)


def test_what_could_not_be_read_is_looked_at_again_when_the_code_changes() -> None:
    define(WEEKLY)
    sync()
    CronDefinition.objects.update(error="no such zone")
    define_instead(WEEKLY.replace("0 8", "0 9"))
    sync()
    assert definition().error == ""


# -- what an operator set --------------------------------------------------------------------------


@pytest.mark.parametrize("source", [WEEKLY, WEEKLY.replace("0 8", "0 9")], ids=["same", "changed"])
def test_a_pause_is_never_undone(source: str) -> None:
    define(WEEKLY)
    sync()
    definition().pause(reason="not this month", actor="ada")
    pause(function("shop.weekly"), reason="nor this", actor="bob")
    define_instead(source)
    report = sync()
    row, owner = definition(), function("shop.weekly")
    assert row.is_paused
    assert (row.paused_by, row.pause_reason, row.next_slot_at) == ("ada", "not this month", None)
    assert owner.is_paused
    assert (owner.paused_by, owner.pause_reason) == ("bob", "nor this")
    if source != WEEKLY:
        assert [*report.lines()][-1] == (
            "next     shop.weekly: never, while it is paused or cannot be read"
        )


def test_an_override_is_never_undone_and_stays_in_force() -> None:
    define(WEEKLY)
    sync()
    override = {"expression_override": "15 4 * * *", "timezone_override": "Asia/Tokyo"}
    slot = datetime(2020, 1, 6, 8, tzinfo=UTC)
    CronDefinition.objects.update(overridden_by="ada", next_slot_at=slot, **override)
    define_instead(WEEKLY.replace("0 8", "0 9"))
    assert sync().changed == ["definition shop.weekly: expression 0 8 * * MON → 0 9 * * MON"]
    row = definition()
    assert (row.expression, row.timezone, row.overridden_by) == ("15 4 * * *", "Asia/Tokyo", "ada")
    assert row.code_expression == "0 9 * * MON"
    assert row.next_slot_at == slot  # what is in force did not change


def test_a_definition_that_cannot_be_read_is_due_at_once_so_that_a_tick_marks_it() -> None:
    define(WEEKLY)
    sync()
    row = definition()
    row.expression_override = "nonsense"
    now = database_now("default")
    assert next_slot(row, now) == now


def test_a_broken_override_does_not_stop_a_sync() -> None:
    define(WEEKLY)
    sync()
    CronDefinition.objects.update(expression_override="nonsense", orphaned_at=None)
    define_instead(WEEKLY.replace("MON'", "MON', timezone='Asia/Tokyo'"))
    report = sync()
    assert report.upcoming == {"shop.weekly": ("Asia/Tokyo", [])}


# -- orphaned and revived --------------------------------------------------------------------------


def orphans(model: type[Model]) -> set[str]:
    """Return the keys of the rows that are orphaned."""
    rows = model._default_manager.filter(orphaned_at__isnull=False)
    return {str(row.pk if model is BackgroundFunction else row.function_id) for row in rows}  # type: ignore[attr-defined]


def test_what_left_the_code_is_orphaned_and_stops() -> None:
    define(f"{COMPUTE}\n{WEEKLY}")
    sync()
    version = definition().version
    define_instead(COMPUTE)
    report = sync()
    assert report.orphaned == ["function shop.weekly", "definition shop.weekly"]
    assert orphans(BackgroundFunction) == orphans(CronDefinition) == {"shop.weekly"}
    assert (definition().next_slot_at, definition().version) == (None, version + 1)
    assert sync().is_empty


def test_a_function_that_is_not_scheduled_any_more_keeps_its_row_and_loses_its_schedule() -> None:
    define(WEEKLY)
    sync()
    define_instead("@defer\ndef weekly(): ...")
    assert sync().orphaned == ["definition shop.weekly"]
    assert orphans(CronDefinition) == {"shop.weekly"}
    assert orphans(BackgroundFunction) == set()


def test_what_comes_back_is_revived_with_a_next_slot_after_now() -> None:
    define(WEEKLY)
    sync()
    define_instead(COMPUTE)
    sync()
    last_year = database_now("default") - timedelta(days=365)
    BackgroundFunction.objects.filter(orphaned_at__isnull=False).update(orphaned_at=last_year)
    CronDefinition.objects.update(orphaned_at=last_year)
    define_instead(WEEKLY)
    before = database_now("default")
    report = sync()
    assert report.revived == [
        "function shop.weekly",
        "definition shop.weekly (0 8 * * MON UTC)",
    ]
    assert "shop.weekly" in report.upcoming
    row = definition()
    assert row.orphaned_at is None
    assert row.next_slot_at == row.schedule.next_after(before)
    assert row.next_slot_at is not None
    assert row.next_slot_at > before
    assert not Run.objects.exists()


def test_what_comes_back_paused_stays_paused() -> None:
    define(WEEKLY)
    sync()
    definition().pause(actor="ada")
    define_instead(COMPUTE)
    sync()
    define_instead(WEEKLY)
    sync()
    row = definition()
    assert row.orphaned_at is None
    assert row.is_paused
    assert row.next_slot_at is None


def test_what_a_live_cluster_knows_is_not_orphaned() -> None:
    define(f"{COMPUTE}\n{WEEKLY}")
    sync()
    cluster = live_cluster("shop.weekly")
    slot = definition().next_slot_at
    define_instead(COMPUTE)
    assert sync().is_empty
    assert definition().next_slot_at == slot
    cluster.delete()
    assert sync().orphaned == ["function shop.weekly", "definition shop.weekly"]


def test_what_only_a_dead_cluster_knew_is_orphaned() -> None:
    define(f"{COMPUTE}\n{WEEKLY}")
    sync()
    live_cluster("shop.weekly", silent_for=timedelta(seconds=31))
    define_instead(COMPUTE)
    assert sync().orphaned == ["function shop.weekly", "definition shop.weekly"]


def test_nothing_is_orphaned_while_a_module_cannot_be_imported() -> None:
    define(f"{COMPUTE}\n{WEEKLY}")
    sync()
    define_instead(COMPUTE)
    registry.problems.append(Problem("shop.defer.weekly", ImportError("broken")))
    assert sync().is_empty
    registry.problems.clear()
    assert sync().orphaned


# -- another database ------------------------------------------------------------------------------


@pytest.mark.django_db(databases=["default", "other"])
@override_settings(DEFER={"DATABASE": "other"})
def test_it_writes_to_the_database_of_the_settings() -> None:
    define(WEEKLY)
    assert sync().created
    assert BackgroundFunction.objects.using("other").count() == 1
    assert BackgroundFunction.objects.using("default").count() == 0
