"""The numbers behind `defer_status`, and the words and the JSON that are made of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_defer import reports
from django_defer.clock import DatabaseNow, database_now
from django_defer.models import CronDefinition, Queue, Run
from django_defer.reports import Status, status
from django_defer.states import State
from django_defer.status_json import as_json
from django_defer.status_text import NO_WORKER, lines, slots_in_words, troubles
from tests import runs
from tests.runs import (
    DATABASE,
    captured,
    database,
    new_cluster,
    new_definition,
    new_run,
)

pytestmark = runs.in_transaction

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)  # a Wednesday


@pytest.fixture
def now() -> datetime:
    """Return the database's time."""
    return database_now(DATABASE)


def text(found: Status) -> str:
    """Return all that a person sees."""
    return "\n".join(lines(found))


def trouble(found: Status) -> list[str]:
    """Return the sentences that make the exit code 1; the JSON has them too."""
    sentences = list(troubles(found))
    data = as_json(found)
    assert (data["trouble"], data["ok"]) == (sentences, not sentences)
    return sentences


# -- is it working? --------------------------------------------------------------------------------


def test_an_empty_database_is_no_trouble(now: datetime) -> None:
    found = status(now)
    assert trouble(found) == []
    shown = text(found)
    assert NO_WORKER in shown
    assert "nothing waits, nothing runs" in shown
    assert "failed in the last day: 0" in shown


@pytest.mark.parametrize("state", [State.QUEUED, State.SCHEDULED, State.PARKED, State.RUNNING])
def test_nobody_to_do_what_waits_is_trouble(state: State) -> None:
    new_run(state=state)
    found = status(database_now(DATABASE))
    assert trouble(found) == [NO_WORKER]
    new_cluster()
    assert trouble(status(database_now(DATABASE))) == []


def test_nobody_to_do_what_will_fire_is_trouble(now: datetime) -> None:
    definition = new_definition(next_slot_at=now + HOUR)
    assert trouble(status(now)) == [NO_WORKER]
    CronDefinition.objects.filter(pk=definition.pk).update(paused_at=now)
    assert trouble(status(now)) == []


def test_finished_runs_need_no_worker(now: datetime) -> None:
    for state in (State.SUCCEEDED, State.FAILED, State.SKIPPED):
        new_run(state=state)
    assert trouble(status(now)) == []


# -- clusters --------------------------------------------------------------------------------------


def test_live_clusters_come_first_and_dead_ones_are_marked(now: datetime) -> None:
    new_cluster(host="gone", beat_at=now - HOUR, started_at=now - DAY)
    new_cluster(host="web1", pid=7, workers=4, queues=["default", "mail"], beat_at=now)
    found = status(now)
    assert [(each.row.host, each.is_live) for each in found.clusters] == [
        ("web1", True),
        ("gone", False),
    ]
    shown = text(found)
    assert "web1:7  4 workers  queues default, mail  since " in shown
    assert "DEAD, last beat 60 min ago, not reaped yet" in shown
    assert NO_WORKER not in shown


def test_a_dead_cluster_is_no_worker(now: datetime) -> None:
    new_cluster(beat_at=now - HOUR, ticked_at=now)
    new_run()
    found = status(now)
    assert trouble(found) == [NO_WORKER]
    assert found.scheduler.ticked_at is None


# -- the scheduler ---------------------------------------------------------------------------------


def test_the_last_tick_is_the_newest_of_live_clusters_that_schedule(now: datetime) -> None:
    new_cluster(ticked_at=now - 40 * timedelta(seconds=1), beat_at=now)
    new_cluster(ticked_at=now - 5 * timedelta(seconds=1), beat_at=now)
    new_cluster(ticked_at=now, beat_at=now, schedules=False)
    found = status(now)
    assert found.scheduler.ticked_at == now - timedelta(seconds=5)
    assert "last tick 5 s ago" in text(found)


def test_a_slot_that_nobody_fires_for_a_minute_is_a_stalled_scheduler(now: datetime) -> None:
    definition = new_definition(next_slot_at=now - MINUTE)
    new_cluster(schedules=False, beat_at=now)
    assert not status(now).scheduler.is_stalled
    late = now + timedelta(seconds=1)
    (sentence,) = trouble(status(late))
    assert sentence.startswith("scheduler_stalled: nobody does what is due (testapp.weekly since ")
    assert "`manage.py defer_scheduler`" in sentence
    assert status(late).definitions[0].is_overdue
    assert "overdue: the slot of " in text(status(late))
    CronDefinition.objects.filter(pk=definition.pk).update(paused_at=now)
    assert trouble(status(late)) == []


def test_a_run_that_nobody_promotes_for_a_minute_is_a_stalled_scheduler(now: datetime) -> None:
    new_run(state=State.SCHEDULED, run_after=now - 3 * MINUTE)
    new_cluster(beat_at=now, ticked_at=now)
    (sentence,) = trouble(status(now))
    assert sentence.startswith("scheduler_stalled: a worker ticks, but what is due is not done")
    assert "a delayed run since " in sentence
    assert "3 min ago" in sentence


def test_a_scheduler_alone_records_no_tick_and_is_judged_by_what_is_overdue(now: datetime) -> None:
    new_cluster(schedules=False, beat_at=now)
    new_definition(next_slot_at=now + HOUR)
    found = status(now)
    assert trouble(found) == []
    assert "no tick by a live worker" in text(found)


# -- queues ----------------------------------------------------------------------------------------


def test_a_queue_says_what_waits_what_runs_and_since_when(now: datetime) -> None:
    new_cluster(beat_at=now)
    new_run(queued_at=now - MINUTE)
    new_run(queued_at=now - 3 * MINUTE)
    new_run(state=State.RUNNING)
    new_run(state=State.CLAIMED)
    new_run(state=State.SUCCEEDED)
    new_run(state=State.SCHEDULED)
    (queue,) = status(now).queues
    assert (queue.name, queue.waiting, queue.running) == ("default", 2, 2)
    assert queue.oldest_due_at == now - 3 * MINUTE
    assert queue.is_served
    assert "default  2 waiting, oldest 3 min  2 running" in text(status(now))


def test_waiting_runs_are_counted_up_to_a_cap(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MOST_WAITING", 3)
    for _ in range(3):
        new_run(queued_at=now - MINUTE)
    assert not status(now).queues[0].is_capped
    for _ in range(3):
        new_run(queued_at=now - MINUTE)
    (queue,) = status(now).queues
    assert (queue.waiting, queue.is_capped) == (3, True)
    assert "3+ waiting, oldest at least 60 s" in text(status(now))


def test_a_paused_queue_says_by_whom_why_and_until_and_is_no_trouble(now: datetime) -> None:
    new_cluster(beat_at=now, queues=["other"])
    new_run(queue="mail", queued_at=now - HOUR)
    Queue.objects.create(
        name="mail",
        paused_at=now - 2 * HOUR,
        paused_by="ada",
        pause_reason="provider\x1b[31m\ndown",
        paused_until=NOON,
    )
    assert trouble(status(now)) == []
    assert "paused by ada 2 h ago: provider�[31m down, until 2026-11-25 12:00 UTC" in text(
        status(now)
    )


def test_a_queue_that_no_worker_serves_is_trouble_after_a_minute(now: datetime) -> None:
    new_cluster(beat_at=now, queues=["default"])
    run = new_run(queue="mail", queued_at=now)
    assert trouble(status(now)) == []
    Run.objects.filter(pk=run.pk).update(queued_at=now - 2 * MINUTE)
    (sentence,) = trouble(status(now))
    assert "`manage.py defer_worker --queue mail`" in sentence
    assert "no worker serves it" in text(status(now))


# -- failures --------------------------------------------------------------------------------------


def test_failures_of_the_last_day_are_counted_by_their_end(now: datetime) -> None:
    new_run("shop.old", state=State.FAILED, finished_at=now - 2 * DAY)
    # Enqueued first, and after many attempts the last to fail.
    new_run(
        "shop.compute",
        state=State.FAILED,
        finished_at=now - MINUTE,
        error_class="ConnectionError",
        error_message="no\nroute\x07",
    )
    new_run("shop.early", state=State.FAILED, finished_at=now - HOUR)
    found = status(now).failures
    assert (found.count, found.is_capped) == (2, False)
    shown = text(status(now))
    assert "failed in the last day: 2 (latest shop.compute " in shown
    assert " UTC ConnectionError: no route�)" in shown


def test_failures_are_looked_at_up_to_a_cap(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MOST_FAILURES", 2)
    for _ in range(3):
        new_run(state=State.FAILED, finished_at=now - MINUTE)
    found = status(now).failures
    assert (found.count, found.is_capped) == (2, True)
    assert "failed in the last day: 2+" in text(status(now))


# -- definitions -----------------------------------------------------------------------------------


def test_definitions_in_trouble_come_first_then_the_next_to_fire(now: datetime) -> None:
    new_cluster(beat_at=now)
    new_definition("a.later", next_slot_at=now + DAY)
    new_definition("a.sooner", next_slot_at=now + HOUR)
    new_definition("a.off", enabled=False)
    new_definition("a.orphaned", orphaned_at=now)
    new_definition("a.paused", paused_at=now)
    new_definition("a.overdue", next_slot_at=now - HOUR)
    new_definition("a.broken", next_slot_at=now + HOUR, error="it is broken")
    new_definition("a.over", next_slot_at=None)
    order = [str(each.row.function_id) for each in status(now).definitions]
    assert order == [
        "a.broken",
        "a.overdue",
        "a.paused",
        "a.orphaned",
        "a.off",
        "a.sooner",
        "a.later",
        "a.over",
    ]
    shown = text(status(now))
    for reason in (
        "error: it is broken",
        "overdue: the slot of ",
        "paused by somebody 0 s ago",
        "not in the code any more since ",
        "switched off in the code",
    ):
        assert reason in shown


def test_an_error_is_trouble_unless_the_definition_does_not_fire(now: datetime) -> None:
    new_cluster(beat_at=now)
    broken = new_definition(next_slot_at=now + HOUR, error="it is broken.")
    assert trouble(status(now)) == ["testapp.weekly cannot fire: it is broken."]
    for change in ({"paused_at": now}, {"orphaned_at": now}, {"enabled": False}):
        unset: dict[str, Any] = {"paused_at": None, "orphaned_at": None, "enabled": True}
        CronDefinition.objects.filter(pk=broken.pk).update(**unset | change)
        assert trouble(status(now)) == []


def test_one_that_cannot_be_read_shows_its_error_alone(now: datetime) -> None:
    new_cluster(beat_at=now)
    new_definition("a.expression", "0 99 * * *", next_slot_at=now + HOUR)
    new_definition("a.zone", next_slot_at=now + HOUR, code_timezone="Mars/Olympus")
    new_definition("a.fine", next_slot_at=now + HOUR)
    by_key = {str(each.row.function_id): each for each in status(now).definitions}
    for key in ("a.expression", "a.zone"):
        assert by_key[key].error
        assert not by_key[key].slots
        assert not by_key[key].words
    assert len(by_key["a.fine"].slots) == 5
    assert len(trouble(status(now))) == 2
    assert "no slot any more" not in text(status(now))


def test_any_exception_stays_with_its_definition(
    now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: CronDefinition) -> None:
        raise RuntimeError

    new_definition(next_slot_at=now + HOUR)
    monkeypatch.setattr(CronDefinition, "schedule", property(fail))
    assert status(now).definitions[0].error == "RuntimeError"


def test_the_next_slots_are_in_the_definitions_zone_and_in_utc() -> None:
    new_definition(next_slot_at=NOON + DAY, code_timezone="Europe/Paris")
    shown = text(status(NOON))
    assert "testapp.weekly  0 8 * * MON  Europe/Paris  at 08:00 on Monday\n" in shown
    assert (
        "    next  Mon 2026-11-30 08:00, Mon 2026-12-07 08:00, Mon 2026-12-14 08:00, "
        "Mon 2026-12-21 08:00, Mon 2026-12-28 08:00 Europe/Paris\n"
        "            Mon 07:00, Mon 07:00, Mon 07:00, Mon 07:00, Mon 07:00 UTC"
    ) in shown


def test_a_zone_that_is_utc_is_shown_once_and_a_day_is_named_once() -> None:
    new_definition(expression="0 */6 * * *", next_slot_at=NOON + DAY)
    shown = text(status(NOON))
    assert "next  Wed 2026-11-25 18:00, Thu 2026-11-26 00:00, 06:00, 12:00, 18:00 UTC" in shown
    assert shown.endswith("18:00 UTC")


def test_seconds_are_shown_where_a_slot_has_some() -> None:
    slots = [NOON, NOON + timedelta(seconds=10)]
    assert slots_in_words(slots, "UTC") == "Wed 12:00, 12:00:10 UTC"


def test_a_paused_definition_fires_next_after_its_pause() -> None:
    new_definition(paused_at=NOON - HOUR, paused_by="ada", paused_until=NOON + 10 * DAY)
    (report,) = status(NOON).definitions
    assert report.slots[0] == datetime(2026, 12, 7, 8, tzinfo=UTC)
    assert "would fire  Mon 2026-12-07 08:00" in text(status(NOON))


def test_an_override_is_shown_with_who_when_and_what_the_code_says() -> None:
    new_definition(
        next_slot_at=NOON + DAY,
        expression_override="0 9 * * *",
        overridden_by="ada",
        overridden_at=NOON - HOUR,
    )
    shown = text(status(NOON))
    assert "testapp.weekly  0 9 * * *  UTC" in shown
    assert "overridden by ada 60 min ago; the code says 0 8 * * MON UTC" in shown


def test_a_definition_without_another_slot_says_so() -> None:
    new_definition(ends_at=NOON - DAY)
    assert "no slot any more" in text(status(NOON))


def test_an_interval_is_shown_as_one(now: datetime) -> None:
    every: dict[str, Any] = {"kind": "every", "interval": timedelta(seconds=10), "anchor": NOON}
    new_definition(expression="10s", next_slot_at=NOON, **every)
    shown = text(status(NOON))
    assert "testapp.weekly  every 10s  UTC\n" in shown
    assert "next  Wed 2026-11-25 12:00:10, 12:00:20" in shown


def test_twenty_definitions_are_shown_unless_all_are_wanted(now: datetime) -> None:
    for n in range(25):
        new_definition(f"a.f{n:02}", next_slot_at=now + HOUR)
    assert len(status(now).definitions) == 20
    assert "… and 5 more: --all shows them" in text(status(now))
    assert len(status(now, most=None).definitions) == 25
    assert "--all" not in text(status(now, most=None))


# -- cost ------------------------------------------------------------------------------------------


def test_the_queries_do_not_grow_with_clusters_definitions_or_runs(now: datetime) -> None:
    def ask() -> int:
        with captured() as queries:
            found = status(now, most=None)
            text(found)
            as_json(found)
        return len(queries)

    def add(n: int) -> None:
        new_cluster(beat_at=now)
        new_definition(f"a.f{n}", next_slot_at=now + HOUR, paused_at=now if n % 2 else None)
        for state in (State.QUEUED, State.RUNNING, State.FAILED, State.SCHEDULED, State.PARKED):
            new_run(f"a.f{n}", state=state)

    add(0)
    few = ask()
    for n in range(1, 30):
        add(n)
    assert ask() == few <= 12


def asked(now: datetime) -> list[tuple[str, Any]]:
    """Return the statements about runs that a status makes, with their parameters."""
    found: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if Run._meta.db_table in sql:
            found.append((sql, params))
        return execute(sql, params, many, context)

    with database().execute_wrapper(note):
        status(now)
    assert len(found) >= 6
    return found


@pytest.mark.postgres
def test_no_query_reads_the_whole_run_table(now: datetime) -> None:
    runs.fill(State.SUCCEEDED, 20_000)
    for state in (State.QUEUED, State.RUNNING, State.SCHEDULED, State.PARKED, State.FAILED):
        runs.fill(state, 300, enqueued_at="now()", finished_at="now()")
    for sql, params in asked(now):
        plan = runs.plan_of(sql, params)
        assert f"Seq Scan on {Run._meta.db_table}" not in plan, f"{sql}\n{plan}"


@pytest.mark.sqlite
def test_no_query_reads_the_whole_run_table_on_sqlite(now: datetime) -> None:
    for state in (State.QUEUED, State.RUNNING, State.FAILED):
        new_run(state=state)
    for sql, params in asked(now):
        with database().cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params)
            plan = [str(row[3]) for row in cursor.fetchall()]
        steps = [step for step in plan if Run._meta.db_table in step]
        assert steps
        assert all("INDEX" in step for step in steps), f"{sql}\n{plan}"


# -- JSON ------------------------------------------------------------------------------------------


def test_the_json_has_instants_in_utc_and_seconds_as_numbers() -> None:
    new_cluster(beat_at=NOON - timedelta(seconds=2.5), started_at=NOON, ticked_at=NOON)
    new_definition(next_slot_at=NOON + DAY, code_timezone="Europe/Paris", paused_at=NOON)
    new_run(queued_at=NOON - MINUTE)
    new_run(state=State.FAILED, finished_at=NOON)
    data = json.loads(json.dumps(as_json(status(NOON))))
    assert data["now"] == "2026-11-25T12:00:00Z"
    assert data["ok"] is True
    assert data["clusters"][0]["beat_age"] == 2.5
    assert data["queues"][0]["oldest_wait"] == 60.0
    assert data["failures"]["latest"]["finished_at"] == "2026-11-25T12:00:00Z"
    (definition,) = data["definitions"]
    assert definition["next_slots"][0] == "2026-11-30T07:00:00Z"
    assert definition["paused"] == {
        "by": "",
        "at": "2026-11-25T12:00:00Z",
        "why": "",
        "until": None,
    }


def test_the_json_of_nothing_has_the_same_keys(now: datetime) -> None:
    empty = as_json(status(now))
    new_cluster(beat_at=DatabaseNow())
    new_definition(next_slot_at=now + HOUR)
    assert as_json(status(now)).keys() == empty.keys()
    assert empty["failures"]["latest"] is None
