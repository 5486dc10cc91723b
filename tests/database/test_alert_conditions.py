"""What no run tells of is noticed by whoever looks, once, and said to be over when it is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_defer import defer
from django_defer.alerts import recoveries
from django_defer.alerts.conditions import watch
from django_defer.alerts.events import Event
from django_defer.alerts.gathering import gather, schedule_messages
from django_defer.clock import database_now
from django_defer.models import (
    Alert,
    AlertDelivery,
    AlertEvent,
    Cluster,
    CronDefinition,
    Run,
)
from django_defer.models.alerts import MessageKind
from django_defer.pauses import pause, pause_queue
from django_defer.states import Reason, State
from tests import runs
from tests.runs import (
    DATABASE,
    NOOP,
    captured,
    database,
    defer_settings,
    fill,
    new_cluster,
    new_definition,
    new_run,
    plan_of,
    statements,
)
from tests.scratch import own_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

pytestmark = runs.in_transaction

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
ALL = ({"channel": "log", "events": "all"},)
WEEKLY = "testapp.weekly"


@pytest.fixture(autouse=True)
def _told_of_all() -> Iterator[None]:
    with defer_settings(ALERTS=ALL):
        yield


@pytest.fixture
def now() -> datetime:
    return database_now(DATABASE)


def look(now: datetime) -> list[tuple[str, str]]:
    """Watch and gather; return what is open."""
    watch(DATABASE, now)
    gather(DATABASE, now)
    return open_alerts()


def open_alerts() -> list[tuple[str, str]]:
    found = Alert.objects.filter(closed_at=None).order_by("event", "subject")
    return list(found.values_list("event", "subject"))


def beat(now: datetime) -> None:
    """Let there be a live cluster at this moment, which ticks."""
    if not Cluster.objects.update(beat_at=now, ticked_at=now):
        new_cluster(beat_at=now, ticked_at=now)


def tell(now: datetime) -> None:
    """Let the message of what is open be sent, so that its end is told too."""
    schedule_messages(DATABASE, now)
    AlertDelivery.objects.filter(sent_at=None).update(sent_at=now)


def kinds() -> list[str]:
    return list(AlertDelivery.objects.order_by("id").values_list("kind", flat=True))


# -- what lasts ------------------------------------------------------------------------------------


def no_workers(now: datetime) -> tuple[str, str]:
    new_run(queued_at=now)
    return "no_workers", ""


def scheduler_stalled(now: datetime) -> tuple[str, str]:
    beat(now)
    new_definition(next_slot_at=now - 2 * MINUTE)
    return "scheduler_stalled", ""


def scheduler_behind_with_runs(now: datetime) -> tuple[str, str]:
    beat(now)
    new_run(state=State.SCHEDULED, run_after=now - 2 * MINUTE)
    return "scheduler_stalled", ""


def queue_unserved(now: datetime) -> tuple[str, str]:
    beat(now)
    new_run(queue="mail", queued_at=now - 2 * MINUTE)
    return "queue_stalled", "mail"


def queue_stalled(now: datetime) -> tuple[str, str]:
    beat(now)
    new_run(queued_at=now - 11 * MINUTE)
    return "queue_stalled", "default"


def definition_error(now: datetime) -> tuple[str, str]:
    beat(now)
    new_definition(error="cannot be read", next_slot_at=now + HOUR)
    return "definition_error", WEEKLY


def mend(now: datetime) -> None:
    """Do what ends each of them."""
    beat(now)
    Run.objects.update(state=State.SUCCEEDED)
    CronDefinition.objects.update(error="", next_slot_at=now + HOUR)


SITUATIONS = [
    no_workers,
    scheduler_stalled,
    scheduler_behind_with_runs,
    queue_unserved,
    queue_stalled,
    definition_error,
]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_wrong_is_raised_once_and_said_to_be_over(situation: Any, now: datetime) -> None:
    key = situation(now)
    assert look(now) == [key]
    opened = Alert.objects.get()
    assert opened.detail
    assert look(now + SECOND) == [key]
    assert Alert.objects.get().count == opened.count
    tell(now + MINUTE)
    mend(now + MINUTE)
    assert look(now + MINUTE) == []
    assert kinds() == [MessageKind.OPENED, MessageKind.RECOVERED]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_who_does_not_ask_for_it_is_told_of_nothing(situation: Any, now: datetime) -> None:
    situation(now)
    with defer_settings(ALERTS=({"channel": "log", "events": ["run_slow"]},)), captured() as asked:
        watch(DATABASE, now)
    assert statements(asked) == []


def test_without_channels_the_database_is_not_asked_anything(now: datetime) -> None:
    no_workers(now)
    with defer_settings(ALERTS=()), captured() as asked:
        watch(DATABASE, now)
    assert statements(asked) == []
    assert not Alert.objects.exists()


def test_all_is_well(now: datetime) -> None:
    beat(now)
    new_definition(next_slot_at=now + HOUR)
    new_run(queued_at=now - 9 * MINUTE)
    assert look(now) == []


def test_the_death_of_all_is_told_once_and_not_all_that_follows(now: datetime) -> None:
    new_run(queued_at=now - HOUR)
    new_run(queue="mail", state=State.SCHEDULED, run_after=now - HOUR)
    new_definition(next_slot_at=now - HOUR)
    slot = now - HOUR
    late = new_definition("shop.daily", next_slot_at=now + HOUR)
    new_run("shop.daily", definition=late, slot=slot, run_after=slot, enqueued_at=slot)
    assert look(now) == [("no_workers", "")]
    detail = Alert.objects.get().detail
    assert "The oldest that waits has been due since" in detail
    assert f"{WEEKLY} was due at" in detail


def test_who_is_not_told_of_the_cause_is_told_of_what_follows(now: datetime) -> None:
    new_run(queued_at=now - HOUR)
    new_run(queue="mail", state=State.SCHEDULED, run_after=now - HOUR)
    new_definition(next_slot_at=now - HOUR)
    events = ["queue_stalled", "slot_missed"]
    with defer_settings(ALERTS=({"channel": "log", "events": events},)):
        assert look(now) == [
            ("queue_stalled", "default"),
            ("queue_stalled", "mail"),
            ("slot_missed", WEEKLY),
        ]


def test_a_team_that_is_told_of_its_functions_alone_is_told_of_their_slots(now: datetime) -> None:
    new_definition("shop.daily", next_slot_at=now - HOUR)
    new_definition("blog.daily", next_slot_at=now - HOUR)
    team = {"channel": "log", "name": "shop", "functions": ["shop.*"], "events": ["slot_missed"]}
    with defer_settings(ALERTS=(*ALL, team)):
        assert look(now) == [("no_workers", ""), ("slot_missed", "shop.daily")]
    assert "did not fire" in Alert.objects.get(event="slot_missed").examples[0]["error"]


def test_a_stalled_queue_has_not_recovered_because_the_last_worker_died(now: datetime) -> None:
    queue_unserved(now)
    look(now)
    Cluster.objects.all().delete()
    assert look(now + SECOND) == [("no_workers", ""), ("queue_stalled", "mail")]
    beat(now + 2 * SECOND)
    assert look(now + 2 * SECOND) == [("queue_stalled", "mail")]


def test_a_queue_at_the_limit_is_not_reported_again_and_again(now: datetime) -> None:
    queue_stalled(now)
    look(now)
    Run.objects.update(queued_at=now - 9 * MINUTE)
    assert look(now) == [("queue_stalled", "default")]
    Run.objects.update(queued_at=now - 4 * MINUTE)
    assert look(now) == []


def test_what_a_person_stopped_is_no_condition(now: datetime) -> None:
    queue_stalled(now)
    pause_queue("default")
    new_run(queue="default", state=State.SCHEDULED, run_after=now - 30 * SECOND)
    pause(new_definition(error="cannot be read", next_slot_at=now - HOUR))
    assert look(now) == []


def test_what_a_person_stops_is_over_and_not_called_recovered(now: datetime) -> None:
    queue_stalled(now)
    definition_error(now)
    look(now)
    tell(now + MINUTE)
    pause_queue("default")
    pause(CronDefinition.objects.get())
    beat(now + MINUTE)
    assert look(now + MINUTE) == []
    assert kinds() == [MessageKind.OPENED] * 2


def test_no_workers_is_over_when_none_is_needed_any_more_and_nobody_recovered(
    now: datetime,
) -> None:
    no_workers(now)
    look(now)
    tell(now + MINUTE)
    Run.objects.update(state=State.CANCELLED)
    assert look(now + MINUTE) == []
    assert kinds() == [MessageKind.OPENED]


def test_more_broken_definitions_than_a_status_shows_do_not_recover_by_that(now: datetime) -> None:
    beat(now)
    for n in range(25):
        new_definition(f"shop.f{n:02}", error="bad", next_slot_at=now + n * SECOND)
    assert len(look(now)) == 20
    CronDefinition.objects.filter(function__lt="shop.f10").update(next_slot_at=now + HOUR)
    assert len(look(now)) == 25


# -- slots -----------------------------------------------------------------------------------------


def slot_run(slot: datetime, /, **columns: Any) -> Run:
    """Insert the run of a slot of WEEKLY that was made in time, and waits."""
    definition = CronDefinition.objects.filter(function=WEEKLY).first() or new_definition()
    times = {"slot": slot, "run_after": slot, "enqueued_at": slot, "queued_at": slot}
    return new_run(WEEKLY, **{"definition": definition, **times, **columns})


@pytest.fixture
def _others_work() -> Iterator[None]:
    """A busy queue is no cause here."""
    with defer_settings(ALERTS=ALL, QUEUE_STALLED_AFTER="10 days"):
        yield


others_work = pytest.mark.usefixtures("_others_work")


def events() -> list[Any]:
    return [row.run_id for row in AlertEvent.objects.filter(event="slot_missed").order_by("id")]


@others_work
def test_a_slot_whose_run_did_not_begin_is_told_once(now: datetime) -> None:
    beat(now)
    run = slot_run(now - 9 * MINUTE)
    assert look(now) == []
    beat(now + 2 * MINUTE)
    watch(DATABASE, now + 2 * MINUTE)
    assert events() == [run.pk]
    watch(DATABASE, now + 2 * MINUTE)  # another, at the same moment
    watch(DATABASE, now + 1 * MINUTE)  # and one whose clock is behind
    beat(now + 3 * MINUTE)
    watch(DATABASE, now + 3 * MINUTE)
    assert events() == [run.pk]
    gather(DATABASE, now + 3 * MINUTE)
    beat(now + 5 * HOUR)
    watch(DATABASE, now + 5 * HOUR)
    assert events() == []
    alert = Alert.objects.get()
    assert (alert.event, alert.subject, alert.count) == ("slot_missed", WEEKLY, 1)
    assert 'it waits in queue "default"' in alert.examples[0]["error"]


@others_work
def test_the_first_to_look_finds_what_waits_already(now: datetime) -> None:
    beat(now)
    run = slot_run(now - 3 * timedelta(days=1))
    watch(DATABASE, now)
    assert events() == [run.pk]


@others_work
def test_a_slot_that_is_caught_up_has_its_margin_from_then(now: datetime) -> None:
    beat(now)
    watch(DATABASE, now)
    run = slot_run(now - timedelta(days=1), enqueued_at=now)
    jittered = slot_run(now - HOUR, run_after=now + 5 * MINUTE)
    for later, missed in ((9, []), (11, [run.pk]), (16, [run.pk, jittered.pk])):
        beat(now + later * MINUTE)
        watch(DATABASE, now + later * MINUTE)
        assert events() == missed, later


@others_work
@pytest.mark.parametrize(
    "columns",
    [
        {"state": State.RUNNING},
        {"state": State.SUCCEEDED},
        {"state": State.SCHEDULED, "attempt": 1, "failures": 1},
        {"state": State.PARKED, "reason": Reason.FUNCTION_PAUSED},
        {"queue": "paused"},
        {"slot": None},
    ],
    ids=str,
)
def test_these_are_no_missed_slots(columns: dict[str, Any], now: datetime) -> None:
    beat(now)
    Cluster.objects.update(queues=[])
    pause_queue("paused")
    slot_run(now - HOUR, **columns)
    watch(DATABASE, now)
    assert events() == []


@others_work
def test_what_is_parked_for_another_reason_says_which(now: datetime) -> None:
    beat(now)
    slot_run(now - HOUR, state=State.PARKED, reason=Reason.NO_CODE)
    watch(DATABASE, now)
    assert "no live worker's code" in AlertEvent.objects.get().error


def test_a_stalled_queue_explains_the_slots_that_wait_in_it(now: datetime) -> None:
    beat(now)
    slot_run(now - HOUR)
    assert look(now) == [("queue_stalled", "default")]


@others_work
def test_a_function_of_which_nobody_is_to_be_told_misses_its_slot_in_silence(
    now: datetime,
) -> None:
    beat(now)
    slot_run(now - HOUR)
    with own_registry():
        defer(_nothing, name=WEEKLY, alert=False)
        watch(DATABASE, now)
    assert events() == []


def _nothing() -> None:
    """Do nothing."""


@others_work
def test_the_next_slot_that_runs_in_time_is_the_recovery(now: datetime) -> None:
    beat(now)
    missed = slot_run(now - 11 * MINUTE)
    look(now)
    tell(now + MINUTE)
    Run.objects.filter(pk=missed.pk).update(started_at=now + MINUTE, state=State.SUCCEEDED)
    later = now + 20 * MINUTE
    beat(later)
    assert look(later) == [("slot_missed", WEEKLY)]  # it began at last: late all the same
    slot_run(later - MINUTE, state=State.RUNNING, attempt=1, started_at=later - 50 * SECOND)
    assert look(later) == []
    assert kinds() == [MessageKind.OPENED, MessageKind.RECOVERED]


# -- recoveries ------------------------------------------------------------------------------------


def failed(at: datetime, event: Event = Event.RUN_FAILED, key: str = NOOP) -> None:
    """Record a run that failed for good, as its worker does."""
    run = new_run(key, State.FAILED, started_at=at - SECOND, finished_at=at)
    AlertEvent.objects.create(event=event, subject=key, run_id=run.pk, error="oh", at=at)


def succeeded(at: datetime, *, began: datetime | None = None, key: str = NOOP) -> None:
    new_run(key, State.SUCCEEDED, started_at=began or at - SECOND, finished_at=at)


@pytest.mark.parametrize("event", ["run_failed", "run_retrying", "run_timed_out", "run_lost"])
def test_a_function_that_succeeds_again_has_recovered(event: str, now: datetime) -> None:
    beat(now)
    succeeded(now - MINUTE)
    failed(now, Event(event))
    assert look(now) == [(event, NOOP)]
    tell(now + MINUTE)
    later = now + HOUR
    beat(later)
    assert look(later) == [(event, NOOP)]
    succeeded(later, key="testapp.other")
    assert look(later) == [(event, NOOP)]
    succeeded(later)
    assert look(later) == []
    assert kinds() == [MessageKind.OPENED, MessageKind.RECOVERED]


def test_a_success_that_began_before_the_failure_recovers_nothing(now: datetime) -> None:
    beat(now)
    failed(now)
    look(now)
    later = now + HOUR
    beat(later)
    succeeded(later, began=now - MINUTE)
    assert look(later) == [("run_failed", NOOP)]


def test_a_storm_in_which_some_succeed_recovers_once_at_its_end(now: datetime) -> None:
    """A fan-out of which some fail and others succeed, all the time, for an hour."""
    at = now
    for minute in range(60):
        at = now + minute * MINUTE
        beat(at)
        failed(at)
        succeeded(at + SECOND)
        assert look(at + 30 * SECOND) == [("run_failed", NOOP)], minute
    tell(at + MINUTE)
    succeeded(at + MINUTE)
    assert look(at + 2 * MINUTE) == [("run_failed", NOOP)]
    end = at + recoveries.QUIET + SECOND
    beat(end)
    assert look(end) == []
    assert Alert.objects.get().count == 60
    assert kinds() == [MessageKind.OPENED, MessageKind.RECOVERED]


def test_a_failure_that_no_channel_asks_for_is_still_no_recovery(now: datetime) -> None:
    beat(now)
    failed(now, Event.RUN_LOST)
    look(now)
    later = now + HOUR
    succeeded(later - MINUTE)
    new_run(state=State.FAILED, started_at=later - SECOND, finished_at=later)
    beat(later)
    assert look(later) == [("run_lost", NOOP)]


def test_a_failure_that_is_not_gathered_yet_keeps_it_open(now: datetime) -> None:
    beat(now)
    failed(now)
    look(now)
    later = now + HOUR
    beat(later)
    failed(later - SECOND)
    succeeded(later)
    assert look(later) == [("run_failed", NOOP)]
    assert Alert.objects.get().count == 2


def test_only_the_newest_runs_are_looked_at(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recoveries, "NEWEST", 3)
    beat(now)
    failed(now)
    look(now)
    later = now + HOUR
    beat(later)
    succeeded(later)
    for _ in range(3):
        new_run(queued_at=later)
    assert look(later) == [("run_failed", NOOP)]
    monkeypatch.setattr(recoveries, "NEWEST", 4)
    assert look(later) == []


@pytest.mark.postgres
def test_each_query_goes_by_an_index(now: datetime) -> None:
    """30,000 runs that are of no interest beside those that are."""
    long_ago = "now() - interval '10 days'"
    fill(State.SUCCEEDED, 30_000, enqueued_at=long_ago, started_at=long_ago, finished_at=long_ago)
    definition = new_definition()
    slots = {"slot": "now() - n * interval '1 minute'", "definition_id": str(definition.pk)}
    times = {"enqueued_at": long_ago, "started_at": long_ago, "finished_at": long_ago}
    fill(State.SUCCEEDED, 10_000, function=f"'{WEEKLY}'", **slots, **times)
    fill(State.QUEUED, 20, function="'testapp.rare'", enqueued_at="now()")
    beat(now)
    for key in (NOOP, WEEKLY, "testapp.rare"):
        failed(now - HOUR, key=key)
    AlertEvent.objects.create(event="slot_missed", subject=WEEKLY, at=now)
    gather(DATABASE, now)
    with captured() as asked:
        watch(DATABASE, now)
    table = f'"{Run._meta.db_table}"'
    plans = {
        sql: plan_of(sql) for sql in statements(asked) if sql.startswith("SELECT") and table in sql
    }
    assert len(plans) >= 6
    for sql, plan in plans.items():
        assert f"Seq Scan on {Run._meta.db_table}" not in plan, f"{sql}\n{plan}"
    both = "\n".join(plans.values())
    assert "defer_run_function" in both
    assert "defer_run_one_per_slot" in both
    assert "defer_run_slots" in both


@pytest.mark.sqlite
def test_sqlite_goes_by_indexes_too(now: datetime) -> None:
    new_definition()
    failed(now - HOUR)
    AlertEvent.objects.create(event="slot_missed", subject=WEEKLY, at=now)
    gather(DATABASE, now)
    beat(now)
    with captured() as asked:
        watch(DATABASE, now)
    table = f'FROM "{Run._meta.db_table}"'
    plans = ""
    for sql in (sql for sql in statements(asked) if sql.startswith("SELECT") and table in sql):
        with database().cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
        assert "INDEX" in plan, sql
        plans += plan
    for index in ("defer_run_function", "defer_run_one_per_slot", "defer_run_slots"):
        assert index in plans


def test_it_asks_a_bounded_number_of_queries(now: datetime) -> None:
    beat(now)
    new_definition(next_slot_at=now + HOUR)
    watch(DATABASE, now)
    with captured() as asked:
        watch(DATABASE, now + SECOND)
    assert len(statements(asked, besides=("SAVEPOINT", "RELEASE"))) <= 17
