"""What the tables refuse, and what their rows say of themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import IntegrityError, models, transaction

from django_defer.cron import CronSchedule
from django_defer.exceptions import RunIsReadOnly
from django_defer.models import Attempt, BackgroundFunction, Queue, Run
from django_defer.states import WAITING, Outcome, State
from tests import runs
from tests.runs import DATABASE, captured, fresh, new_cluster, new_definition, new_run

pytestmark = runs.in_transaction

MOMENT = datetime(2026, 5, 4, 8, tzinfo=UTC)


def test_the_migration_matches_the_models() -> None:
    call_command("makemigrations", "django_defer", check=True, dry_run=True, verbosity=0)


# -- a run is changed by its verbs ---------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"update_fields": ["state"]}, {"force_update": True}])
def test_a_run_that_exists_is_not_saved_by_hand(how: dict[str, Any]) -> None:
    run = new_run()
    run.state = State.SUCCEEDED
    with pytest.raises(RunIsReadOnly, match="changed by its verbs only"):
        run.save(**how)
    with pytest.raises(RunIsReadOnly):
        async_to_sync(run.asave)(**how)
    assert fresh(run).state == State.QUEUED


def test_a_run_is_not_deleted_by_hand() -> None:
    run = new_run()
    with pytest.raises(RunIsReadOnly):
        run.delete()
    assert fresh(run) == run


def test_a_run_with_the_key_of_another_does_not_replace_it() -> None:
    run = new_run(label="first")
    with pytest.raises(IntegrityError), transaction.atomic(using=DATABASE):
        Run(pk=run.pk, function_id="testapp.add", label="second").save(using=DATABASE)
    assert fresh(run).label == "first"


def test_templates_cannot_call_the_verbs() -> None:
    for model, verbs in {
        Run: ("save", "delete", "cancel", "reschedule", "rerun"),
        type(new_definition()): ("pause", "resume", "run_now"),
    }.items():
        for verb in verbs:
            assert getattr(model, verb).alters_data


# -- constraints -----------------------------------------------------------------------------------


def test_a_definition_has_one_run_a_slot() -> None:
    definition = new_definition()
    new_run(definition=definition, slot=MOMENT)
    with pytest.raises(IntegrityError), transaction.atomic(using=DATABASE):
        new_run(definition=definition, slot=MOMENT)
    new_run(definition=definition, slot=MOMENT + timedelta(microseconds=1))
    new_run(definition=new_definition("testapp.other"), slot=MOMENT)
    for _ in range(2):  # run_now, again and again
        new_run(definition=definition)
    assert Run.objects.count() == 5


def test_a_key_is_used_once() -> None:
    new_run(key="order-1")
    with pytest.raises(IntegrityError), transaction.atomic(using=DATABASE):
        new_run(key="order-1")
    new_run()
    new_run()


def test_a_run_may_name_rows_that_do_not_exist() -> None:
    run = new_run(
        "testapp.never_synced", parent_id=uuid4(), root_id=uuid4(), definition_id=123_456_789
    )
    for name in ("function", "parent", "definition"):
        with pytest.raises(models.ObjectDoesNotExist):
            getattr(run, name)
    Attempt.objects.create(run_id=uuid4(), number=1, outcome=Outcome.LOST)


def test_nothing_refers_to_the_user_model() -> None:
    for model in (Run, Attempt, BackgroundFunction, Queue):
        related = {field.related_model for field in model._meta.get_fields() if field.is_relation}
        assert {other._meta.app_label for other in related if other} <= {"django_defer"}


def test_there_are_few_indexes_on_runs_and_all_but_one_are_partial() -> None:
    whole = [index.name for index in Run._meta.indexes if index.condition is None]
    assert whole == ["defer_run_function"]
    assert not any(getattr(field, "db_index", False) for field in Run._meta.concrete_fields)
    holding_ends = [
        index.name
        for index in Run._meta.indexes
        if not any(state in str(index.condition).lower() for state in WAITING)
    ]
    holding_ends.remove("defer_run_aborts")  # hardly any run is ever in it
    holding_ends.remove("defer_run_definition")  # a run of a schedule alone, not what it fans out
    assert len(holding_ends) <= 5  # every one of these is written at each step of a run


# -- what a run says of itself ---------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_a_run_is_finished_when_it_has_ended(state: State) -> None:
    finished = new_run(state=state).is_finished
    assert finished == (state not in ("scheduled", "queued", "parked", "claimed", "running"))


def test_the_error_is_one_line() -> None:
    assert new_run().error == ""
    assert new_run(error_class="ValueError", error_message="no").error == "ValueError: no"


def test_how_long_it_waited_and_took() -> None:
    run = new_run(
        state=State.SUCCEEDED,
        queued_at=MOMENT,
        started_at=MOMENT + timedelta(seconds=2),
        finished_at=MOMENT + timedelta(seconds=5),
    )
    assert run.wait_time == timedelta(seconds=2)
    assert run.duration == timedelta(seconds=3)
    waiting = new_run()
    assert (waiting.wait_time, waiting.duration) == (None, None)


def test_a_run_without_a_failure_needs_no_attempt_row() -> None:
    run = new_run(state=State.SUCCEEDED, attempt=1)
    (attempt,) = run.attempts
    assert attempt.pk is None
    assert (attempt.number, attempt.outcome) == (1, Outcome.SUCCEEDED)
    assert (attempt.started_at, attempt.finished_at) == (run.started_at, run.finished_at)
    assert (attempt.cluster, attempt.worker) == (run.cluster, run.worker)


def test_attempts_come_oldest_first_in_one_query() -> None:
    run = new_run(state=State.FAILED, attempt=3)
    for number in (3, 1, 2):
        Attempt.objects.create(run=run, number=number, outcome=Outcome.FAILED)
    with captured() as queries:
        assert [attempt.number for attempt in run.attempts] == [1, 2, 3]
    assert len(queries) == 1


def test_rows_have_names_for_people() -> None:
    run = new_run(label="Ann")
    assert str(run) == "testapp.noop Ann"
    assert str(new_run()).startswith("testapp.noop ")
    assert str(new_definition()) == "testapp.weekly (0 8 * * MON UTC)"
    assert str(new_cluster(host="web1", pid=7)) == "web1:7"
    assert str(Attempt(number=2, outcome=Outcome.LOST)) == "attempt 2: lost"
    assert str(Queue(name="mail")) == "mail"


# -- definitions -----------------------------------------------------------------------------------


def test_what_an_operator_set_wins_over_the_code() -> None:
    definition = new_definition(code_timezone="UTC")
    assert (definition.expression, definition.timezone) == ("0 8 * * MON", "UTC")
    definition.expression_override = "0 9 * * *"
    definition.timezone_override = "Europe/Paris"
    assert definition.schedule == CronSchedule("0 9 * * *", "Europe/Paris")


def test_the_next_slots_are_instants() -> None:
    definition = new_definition(expression="0 8 * * MON")
    assert definition.next_slots(2, MOMENT) == [MOMENT + timedelta(7), MOMENT + timedelta(14)]
    assert definition.next_slots(0, MOMENT) == []


def test_hashed_times_are_those_of_the_function() -> None:
    first = new_definition("testapp.a", "H H * * *").next_slots(1, MOMENT)
    second = new_definition("testapp.b", "H H * * *").next_slots(1, MOMENT)
    assert first != second


# -- how PostgreSQL keeps the table ----------------------------------------------------------------


@pytest.mark.postgres
def test_dead_versions_of_runs_are_vacuumed_long_before_a_fifth_of_the_table_is_dead() -> None:
    with runs.database().cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = 'django_defer_run'")
        (options,) = cursor.fetchone()
    assert "autovacuum_vacuum_scale_factor=0.02" in options
