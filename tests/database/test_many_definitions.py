"""What many definitions cost: pages and queries, never seconds."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_defer import inserts
from django_defer import materialise as module
from django_defer.claims import claim
from django_defer.clock import DatabaseNow
from django_defer.materialise import materialise
from django_defer.models import CronDefinition, Run
from django_defer.payloads import encode_call
from django_defer.scheduler import look, tick
from django_defer.states import Reason, State
from tests import runs
from tests.runs import DATABASE, NOOP, captured, fresh, new_cluster, new_run, statements

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = runs.in_transaction

MONDAY = datetime(2026, 5, 4, 8, tzinfo=UTC)
FIRST = datetime(2000, 1, 1, tzinfo=UTC)  # in the index before what earlier tests left there
MINUTE = timedelta(minutes=1)
OVERLAPS = {3: "skip", 5: "queue", 7: "replace"}


def define(count: int, next_slot_at: datetime = MONDAY, name: str = "job", **columns: Any) -> None:
    CronDefinition.objects.bulk_create(
        CronDefinition(
            function_id=f"testapp.{name}_{number}",
            **{
                "code_expression": "* * * * *",
                "next_slot_at": next_slot_at,
                "overlap": OVERLAPS.get(number % 20, "allow"),
                "supersede": number % 20 == 9,
                **columns,
            },
        )
        for number in range(count)
    )


def analyse_look() -> dict[str, Any]:
    """Return PostgreSQL's plan of the query of a look, as it was executed."""
    with captured() as queries:
        look(DATABASE)
    (sql,) = statements(queries)
    with runs.database().cursor() as cursor:
        cursor.execute(f"ANALYZE {CronDefinition._meta.db_table}")
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}")
        plan: dict[str, Any] = cursor.fetchone()[0][0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def pages(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


# -- nothing is due --------------------------------------------------------------------------------


@pytest.mark.postgres
def test_a_look_reads_a_handful_of_pages_however_many_definitions_there_are() -> None:
    before = pages(analyse_look())  # what other tests left in the indexes
    define(10_000, FIRST)
    resting: list[dict[str, Any]] = [
        {"paused_at": MONDAY},
        {"orphaned_at": MONDAY},
        {"enabled": False},
    ]
    for number, columns in enumerate(resting):
        values = {"next_slot_at": None, "name": f"resting_{number}", **columns}
        define(10_000 // 3, **values)
    plan = analyse_look()
    assert pages(plan) < before + 40  # the definitions alone are hundreds
    used = [node for node in nodes(plan) if node.get("Relation Name", "").endswith("definition")]
    assert [node.get("Index Name") for node in used] == ["defer_definition_next"]
    assert used[0]["Actual Rows"] == 1
    assert look(DATABASE).next_slot == FIRST


# -- many are due ----------------------------------------------------------------------------------


@pytest.mark.postgres
def test_a_thousand_due_slots_take_as_many_queries_as_a_hundred() -> None:
    define(100, name="few")
    with captured() as few:
        assert len(materialise(DATABASE, MONDAY)) == 100
    CronDefinition.objects.all().delete()
    define(1000)
    with captured() as queries:
        assert len(materialise(DATABASE, MONDAY)) == 1000
    assert len(queries) == len(few)


def test_what_was_due_earlier_is_claimed_earlier() -> None:
    for number in (2, 0, 1):
        define(3, MONDAY + number * MINUTE, name=f"minute_{number}", overlap="allow")
    materialise(DATABASE, MONDAY + 2 * MINUTE + timedelta(seconds=1))
    cluster, found = new_cluster(), list[str]()
    keys = list(CronDefinition.objects.values_list("function", flat=True))
    while pairs := claim(DATABASE, "default", cluster.pk, ["0.1", "1.1"], keys):
        found += [str(Run.objects.get(pk=mine.run_id).function_id) for _, mine in pairs]
    assert found == [f"testapp.minute_{minute}_{n}" for minute in range(3) for n in range(3)]


def test_a_transaction_that_has_enough_runs_looks_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ENOUGH", 10)
    define(4, catch_up="all", overlap="allow")
    sizes: list[int] = []
    whole: Callable[..., Any] = module._insert

    def spy(using: str, made: list[Run]) -> list[Run]:
        sizes.append(len(made))
        return list(whole(using, made))

    monkeypatch.setattr(module, "_insert", spy)
    made = materialise(DATABASE, MONDAY + 5 * MINUTE)
    assert sizes == [12, 12]
    assert len(made) == Run.objects.count() == 24
    assert not CronDefinition.objects.due(MONDAY + 5 * MINUTE).exists()


# -- inserting -------------------------------------------------------------------------------------


def test_runs_are_inserted_with_all_that_they_say() -> None:
    made = [
        Run(
            function_id=NOOP,
            slot=MONDAY + number * MINUTE,
            definition_id=1,
            run_after=MONDAY,
            priority=number,
            queue="mail",
            args=encode_call(NOOP, (), (number, None, "ünï{,}\"'\\"), {}),
            metadata={"n": number} if number else None,
            state=State.QUEUED if number else State.SKIPPED,
            reason="" if number else Reason.OVERLAP,
            finished_at=None if number else MONDAY,
            rerun_if_lost=bool(number),
        )
        for number in range(3)
    ]
    assert inserts.insert(DATABASE, made) == {run.pk for run in made}
    for run in made:
        stored = fresh(run)
        assert not run._state.adding
        assert stored.enqueued_at is not None
        for field in Run._meta.concrete_fields:
            if field.name != "enqueued_at":
                assert getattr(stored, field.attname) == getattr(run, field.attname), field


def test_one_run_is_inserted_like_many() -> None:
    run = Run(function_id=NOOP, slot=MONDAY, definition_id=1, run_after=MONDAY)
    assert inserts.insert(DATABASE, [run]) == {run.pk}
    assert fresh(run).args == {}
    assert inserts.insert(DATABASE, []) == set()


def test_a_run_whose_slot_is_taken_is_left_out() -> None:
    first, twin, other = (
        Run(function_id=NOOP, slot=MONDAY, definition_id=number, run_after=MONDAY)
        for number in (1, 1, 2)
    )
    inserts.insert(DATABASE, [first])
    assert inserts.insert(DATABASE, [twin, other]) == {other.pk}
    assert Run.objects.count() == 2


# -- a tick ----------------------------------------------------------------------------------------


def test_a_tick_says_at_once_that_there_is_news(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "django_defer")
    told: list[int] = []
    tick(DATABASE, MONDAY, on_news=lambda: told.append(len(caplog.records)))
    assert told == []
    define(1)
    tick(DATABASE, MONDAY, on_news=lambda: told.append(len(caplog.records)))
    assert told == [0]
    assert len(caplog.records) == 1


def test_a_tick_may_leave_runs_alone() -> None:
    run = new_run(state=State.SCHEDULED, run_after=DatabaseNow(-MINUTE))
    assert tick(DATABASE, look(DATABASE).now, runs=False).promoted == 0
    assert look(DATABASE).has_due_runs
    assert tick(DATABASE, look(DATABASE).now).promoted == 1
    assert fresh(run).state == State.QUEUED
    assert not look(DATABASE).has_due_runs
