"""Rows follow the code, and keep what an operator set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from django.db.models import Model
from django.test import override_settings

from django_defer import defer
from django_defer.clock import database_now
from django_defer.cron import CronSchedule
from django_defer.materialise import materialise
from django_defer.membership import Membership
from django_defer.models import BackgroundFunction, Cluster, CronDefinition, Run
from django_defer.pauses import pause, resume
from django_defer.registry import Problem, registry
from django_defer.sync import sync
from django_defer.sync_report import SyncReport
from tests.runs import new_run
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
    upcoming = report.upcoming["shop.weekly"]
    slots = upcoming.slots
    assert upcoming.zone == "Europe/Paris"
    assert slots == definition().next_slots(5, database_now("default"))
    line = [*report.lines()][3]
    local = slots[0].astimezone(ZoneInfo("Europe/Paris"))
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
        assert [*report.lines()][-1] == ("next     shop.weekly: none while it is paused by ada")


def test_an_override_is_never_undone_and_stays_in_force() -> None:
    define(WEEKLY)
    sync()
    definition().override(expression="15 4 * * *", timezone="Asia/Tokyo", actor="ada")
    slot = definition().next_slot_at
    define_instead(WEEKLY.replace("0 8", "0 9"))
    assert sync().changed == ["definition shop.weekly: expression 0 8 * * MON → 0 9 * * MON"]
    row = definition()
    assert (row.expression, row.timezone, row.overridden_by) == ("15 4 * * *", "Asia/Tokyo", "ada")
    assert row.code_expression == "0 9 * * MON"
    assert row.next_slot_at == slot is not None  # what is in force did not change


def test_a_definition_that_cannot_be_read_is_due_at_once_so_that_a_tick_marks_it() -> None:
    define(WEEKLY)
    sync()
    row = definition()
    row.expression_override = "nonsense"
    now = database_now("default")
    assert row.next_slot_after(now) == now


def test_a_broken_override_does_not_stop_a_sync() -> None:
    define(WEEKLY)
    sync()
    CronDefinition.objects.update(expression_override="nonsense", orphaned_at=None)
    define_instead(WEEKLY.replace("MON'", "MON', timezone='Asia/Tokyo'"))
    report = sync()
    upcoming = report.upcoming["shop.weekly"]
    assert (upcoming.zone, upcoming.slots) == ("Asia/Tokyo", [])
    assert "nonsense" in upcoming.why


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


# -- a schedule that changes ----------------------------------------------------------------------


def due_since(moment: timedelta) -> datetime:
    """Let the weekly slot be due since a moment ago."""
    slot = (database_now("default") - moment).replace(microsecond=0)
    CronDefinition.objects.update(next_slot_at=slot)
    return slot


def test_what_was_due_before_a_change_is_fired_first_so_that_a_deploy_does_not_lose_it() -> None:
    define("@defer.cron('* * * * *')\ndef weekly(): ...")
    sync()
    slot = due_since(timedelta(seconds=90))
    define_instead("@defer.cron('0 3 * * *')\ndef weekly(): ...")
    before = database_now("default")
    sync()
    run = Run.objects.get()
    assert run.definition == definition()
    assert slot <= run.slot <= before
    row = definition()
    assert row.next_slot_at == row.schedule.next_after(before)
    assert row.last_run == run


def test_what_is_due_when_nothing_changes_is_left_for_the_tick() -> None:
    define(WEEKLY)
    sync()
    slot = due_since(timedelta(seconds=1))
    assert sync().is_empty
    assert definition().next_slot_at == slot
    assert not Run.objects.exists()


def test_the_slots_before_and_after_a_change_are_shown() -> None:
    define(WEEKLY)
    sync()
    before = definition().next_slots(5, database_now("default"))
    define_instead(WEEKLY.replace("0 8 * * MON'", "0 9 * * MON', timezone='Europe/Paris'"))
    report = sync(dry_run=True)
    upcoming = report.upcoming["shop.weekly"]
    assert (upcoming.before, upcoming.zone_before) == (before, "UTC")
    assert upcoming.zone == "Europe/Paris"
    assert len(upcoming.slots) == 5
    lines = [*report.lines()]
    assert lines[1].startswith("before   shop.weekly: Mon ")
    assert lines[1].endswith(" 08:00 UTC")
    assert lines[-1].startswith("next     shop.weekly: Mon ")
    assert " 09:00 Europe/Paris (Mon 0" in lines[-1]


def test_an_expression_that_is_read_differently_since_an_upgrade_is_reported() -> None:
    define("@defer.cron('59/15 * * * *')\ndef weekly(): ...")
    sync()
    meaning = definition().meaning
    assert meaning
    older = CronSchedule("14,29,44,59 * * * *").meaning
    assert older != meaning
    CronDefinition.objects.update(meaning=older, next_slot_at=None)
    report = sync()
    assert report.changed == [
        "definition shop.weekly: this version of croniter reads '59/15 * * * *' differently"
    ]
    upcoming = report.upcoming["shop.weekly"]
    assert {slot.minute for slot in upcoming.before} == {14, 29, 44, 59}
    assert {slot.minute for slot in upcoming.slots} == {59}
    row = definition()
    assert (row.meaning, row.next_slot_at) == (meaning, upcoming.slots[0])
    assert sync().is_empty


def test_a_zone_whose_rules_have_changed_is_reported() -> None:
    define(WEEKLY.replace("MON'", "MON', timezone='Europe/Paris'"))
    sync()
    right = definition().next_slot_at
    assert right is not None
    CronDefinition.objects.update(next_slot_at=right + timedelta(hours=1))
    report = sync()
    assert report.changed == ["definition shop.weekly: the rules of Europe/Paris have changed"]
    assert definition().next_slot_at == right


def test_a_meaning_that_an_older_version_did_not_store_is_stored() -> None:
    define(WEEKLY)
    sync()
    CronDefinition.objects.update(meaning="")
    assert sync().is_empty
    assert definition().meaning == CronSchedule("0 8 * * MON").meaning


def test_a_stored_schedule_that_cannot_be_read_any_more_is_a_problem_of_its_own() -> None:
    define(f"{WEEKLY}\n@defer.cron('0 9 * * *')\ndef daily(): ...")
    sync()
    slot = definition().next_slot_at
    CronDefinition.objects.filter(function="shop.weekly").update(timezone_override="Mars/Olympus")
    report = sync()
    assert len(report.problems) == 1
    assert "'Mars/Olympus' is not a time zone" in report.problems[0]
    assert [*report.lines()] == [f"problem  {report.problems[0]}"]
    assert "Mars/Olympus" in definition().error
    assert definition().unfired_slot_at == slot
    assert definition("shop.daily").error == ""
    CronDefinition.objects.update(timezone_override="")
    assert sync().changed == ["definition shop.weekly: can be read again"]
    materialise("default", database_now("default"))
    row = definition()
    assert (row.error, row.next_slot_at, row.unfired_slot_at) == ("", slot, None)
    assert not Run.objects.exists()


# -- intervals -------------------------------------------------------------------------------------

EVERY = "@defer.every('10s')\ndef weekly(): ..."


def test_an_interval_counts_from_its_first_sync_and_no_deploy_begins_it_anew() -> None:
    define(EVERY)
    before = database_now("default")
    assert "definition shop.weekly (every 10s)" in sync().created
    row = definition()
    assert (row.kind, row.interval, row.expression) == ("every", timedelta(seconds=10), "every 10s")
    assert row.anchor is not None
    assert before.replace(microsecond=0) <= row.anchor <= database_now("default")
    assert row.anchor.microsecond == 0
    assert row.next_slot_at == row.anchor + timedelta(seconds=10)
    anchor, slot = row.anchor, row.next_slot_at
    assert sync().is_empty
    define_instead(EVERY.replace("'10s'", "'10s', queue='mail'"))
    sync()
    assert (definition().anchor, definition().next_slot_at) == (anchor, slot)
    define_instead(EVERY.replace("'10s'", "'7s', queue='mail'"))
    assert sync().changed == ["definition shop.weekly: expression 10s → 7s"]
    row = definition()
    assert row.anchor == anchor
    assert (row.next_slot_at - anchor) % timedelta(seconds=7) == timedelta(0)


def test_an_interval_with_a_start_counts_from_there() -> None:
    start = datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC)
    module = define("def weekly(): ...")
    defer.every(module.weekly, "10s", starts_at=start)
    sync()
    assert definition().anchor == start
    registry._functions.clear()
    defer.every(module.weekly, "10s", starts_at=start + timedelta(seconds=1))
    sync()
    assert definition().anchor == start + timedelta(seconds=1)


def test_a_cron_expression_may_become_an_interval_and_back() -> None:
    define(WEEKLY)
    sync()
    define_instead(EVERY)
    assert "kind cron → every" in sync().changed[-1]
    assert (definition().meaning, definition().expression) == ("", "every 10s")
    define_instead(WEEKLY)
    sync()
    row = definition()
    assert (row.kind, row.interval, row.anchor) == ("cron", None, None)
    assert row.meaning == CronSchedule("0 8 * * MON").meaning


# -- options of a schedule -------------------------------------------------------------------------


def test_the_options_of_a_schedule_are_written() -> None:
    define(
        "@defer.cron('0 8 * * *', catch_up='all', catch_up_window='2h', overlap='queue', "
        "supersede=True, jitter='5m')\ndef weekly(): ..."
    )
    sync()
    row = definition()
    assert (row.catch_up, row.catch_up_window, row.overlap) == ("all", timedelta(hours=2), "queue")
    assert (row.supersede, row.jitter) == (True, timedelta(minutes=5))
    define_instead("@defer.cron('0 8 * * *', jitter='5m')\ndef weekly(): ...")
    assert sync().changed == [
        "definition shop.weekly: catch_up all → latest, catch_up_window 2h → None, "
        "overlap queue → allow, supersede True → False"
    ]
    assert (definition().catch_up, definition().overlap) == ("latest", "allow")


def test_what_is_switched_off_does_not_fire_and_switching_on_fires_nothing_at_once() -> None:
    define(WEEKLY.replace("MON'", "MON', enabled=False"))
    report = sync()
    assert definition().next_slot_at is None
    assert report.upcoming["shop.weekly"].why == "none, since enabled= says so here"
    define_instead(WEEKLY)
    before = database_now("default")
    assert sync().changed == ["definition shop.weekly: enabled False → True"]
    row = definition()
    assert row.next_slot_at == row.schedule.next_after(before)
    assert not Run.objects.exists()
    define_instead(WEEKLY.replace("MON'", "MON', enabled=lambda: False"))
    sync()
    assert (definition().enabled, definition().next_slot_at) == (False, None)


def test_an_enabled_that_cannot_say_is_a_problem_of_its_own() -> None:
    define(f"{WEEKLY}\n@defer.cron('0 9 * * *')\ndef daily(): ...")
    sync()
    slot = definition().next_slot_at
    define_instead(
        WEEKLY.replace("MON'", "MON', enabled=lambda: 1 / 0")
        + "\n@defer.cron('0 10 * * *')\ndef daily(): ..."
    )
    report = sync()
    assert report.changed == ["definition shop.daily: expression 0 9 * * * → 0 10 * * *"]
    (problem,) = report.problems
    assert "shop.weekly: the function given as enabled= raised ZeroDivisionError" in problem
    assert definition().next_slot_at == slot


def test_the_definition_of_a_paused_function_begins_paused() -> None:
    define("@defer\ndef weekly(): ...")
    sync()
    pause(function("shop.weekly"), actor="ada", reason="outage")
    define_instead(WEEKLY)
    sync()
    row = definition()
    assert (row.is_paused, row.paused_by, row.next_slot_at) == (True, "ada", None)
    resume(function("shop.weekly"))
    assert definition().next_slot_at is not None


# -- renamed ---------------------------------------------------------------------------------------

RENAMED = WEEKLY.replace("weekly", "monday").replace("MON'", "MON', renamed_from='weekly'")


def test_a_renamed_function_takes_over_its_rows_and_its_history() -> None:
    define(WEEKLY)
    sync()
    row = definition()
    row.pause(actor="ada", reason="holidays")
    old = new_run("shop.weekly", definition=row, slot=datetime(2026, 5, 4, 8, tzinfo=UTC))
    define_instead(RENAMED)
    dry = sync(dry_run=True)
    assert BackgroundFunction.objects.filter(key="shop.weekly").exists()
    report = sync()
    assert report.renamed == dry.renamed == ["function shop.weekly → shop.monday"]
    assert report.created == report.orphaned == []
    assert [each.key for each in BackgroundFunction.objects.all()] == ["shop.monday"]
    renamed = definition("shop.monday")
    assert (renamed.pk, renamed.paused_by) == (row.pk, "ada")
    assert function("shop.monday").former_keys == ["shop.weekly"]
    run = Run.objects.get()
    assert (run.pk, run.function_id, run.definition) == (old.pk, "shop.monday", renamed)
    assert sync().is_empty


def test_the_next_slot_of_a_renamed_function_stays() -> None:
    define(WEEKLY)
    sync()
    slot = due_since(timedelta(seconds=1))
    define_instead(RENAMED)
    sync()
    assert definition("shop.monday").next_slot_at == slot


def test_a_host_with_the_old_code_does_not_bring_the_old_key_back_while_new_code_runs() -> None:
    define(WEEKLY)
    sync()
    define_instead(RENAMED)
    sync()
    newer = live_cluster("shop.monday", "shop.weekly")
    define_instead(WEEKLY)
    report = sync()
    assert report.is_empty
    assert report.kept == {"shop.monday"}
    assert [row.function_id for row in CronDefinition.objects.all()] == ["shop.monday"]
    newer.delete()  # the deploy was taken back
    report = sync()
    assert report.orphaned == ["function shop.monday", "definition shop.monday"]
    assert definition("shop.weekly").next_slot_at is not None


def test_where_both_keys_have_rows_the_former_ones_are_orphaned_and_the_runs_move() -> None:
    define(WEEKLY + "\n" + WEEKLY.replace("weekly", "monday"))
    sync()
    old = new_run("shop.weekly", definition=definition())
    define_instead(RENAMED)
    sync()
    assert orphans(BackgroundFunction) == orphans(CronDefinition) == {"shop.weekly"}
    assert Run.objects.get(pk=old.pk).function_id == "shop.monday"


# -- other hosts' code -----------------------------------------------------------------------------


def test_what_only_another_live_cluster_knows_is_kept_and_orphaned_after_its_end() -> None:
    define(f"{COMPUTE}\n{WEEKLY}")
    sync()
    other = live_cluster("shop.weekly")
    define_instead(COMPUTE)
    report = sync()
    assert report.kept == {"shop.weekly"}
    member = Membership(
        using="default",
        queues=["default"],
        serves_all=True,
        keys=["shop.compute"],
        workers=1,
        schedules=True,
        lease=timedelta(seconds=30),
        kept=report.kept,
    )
    member.join()
    member.sync_again(database_now("default"))
    assert orphans(CronDefinition) == set()
    other.delete()
    member.sync_again(database_now("default"))
    assert orphans(CronDefinition) == orphans(BackgroundFunction) == {"shop.weekly"}
    assert member.kept == set()


# -- another database ------------------------------------------------------------------------------


@pytest.mark.django_db(databases=["default", "other"])
@override_settings(DEFER={"DATABASE": "other"})
def test_it_writes_to_the_database_of_the_settings() -> None:
    define(WEEKLY)
    assert sync().created
    assert BackgroundFunction.objects.using("other").count() == 1
    assert BackgroundFunction.objects.using("default").count() == 0
