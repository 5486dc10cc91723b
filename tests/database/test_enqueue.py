"""From a call to a row: one INSERT in the caller's transaction, with all that the call says."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.db import DatabaseError, IntegrityError, connections, transaction
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

import django_defer.enqueue
from django_defer import (
    CalledInEventLoop,
    InvalidOption,
    NotDiscoverable,
    NotMigrated,
    PayloadTooLarge,
    RunError,
    RunNotEnqueued,
    UnserializableValue,
    WaitInsideTransaction,
    function,
)
from django_defer.clock import database_now
from django_defer.context import CurrentRun, running
from django_defer.ids import uuid7
from django_defer.models import Run
from django_defer.payloads import decode_call
from django_defer.scheduler import tick_if_due
from django_defer.states import State
from tests import runs
from tests.runs import (
    DATABASE,
    captured,
    committing,
    committing_to_both,
    defer_settings,
    fresh,
    new_cluster,
    rolled_back,
    statements,
)
from tests.testapp.defer import add, greet, noop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runs import Define

pytestmark = runs.in_transaction

OTHER = next(alias for alias in ("other", "default") if alias != DATABASE)


def stored_args(run: Run) -> tuple[list[Any], dict[str, Any]]:
    return decode_call(fresh(run).args)


# -- one INSERT in the caller's transaction ------------------------------------------------------


@committing
def test_a_call_is_one_insert() -> None:
    with captured() as queries:
        add(1, second=2)
    (insert,) = statements(queries, besides=("NOTIFY",))
    assert insert.startswith("INSERT INTO")


@committing
def test_a_call_in_a_transaction_adds_one_insert_to_it_and_nothing_else() -> None:
    with captured() as queries, transaction.atomic(using=DATABASE):
        add(1)
    texts = [text.split()[0] for text in statements(queries)]
    hint = ["NOTIFY"] if runs.is_postgres() else []  # its lock is none of the caller's
    assert texts == ["BEGIN", "INSERT", "COMMIT", *hint]


@committing
def test_a_committed_run_is_queued() -> None:
    with transaction.atomic(using=DATABASE):
        run = add(1, second=2)
    assert fresh(run).state == State.QUEUED
    assert fresh(run).function_id == "testapp.add"
    assert stored_args(run) == ([1], {"second": 2})


@committing
def test_a_run_that_was_rolled_back_never_was() -> None:
    with rolled_back():
        add(1)
        add.map([2, 3])
    assert not Run.objects.exists()


@committing
def test_the_rollback_of_a_savepoint_takes_its_runs_along() -> None:
    with transaction.atomic(using=DATABASE):
        kept = add(1)
        with rolled_back():
            add(2)
    assert Run.objects.get() == kept


def test_the_call_needs_no_synced_row(define: Define) -> None:
    def unsynced() -> None:
        pass

    assert fresh(define(unsynced)()).function_id == "defined.unsynced"


def test_the_run_that_is_returned_is_complete() -> None:
    run = add(1)
    stored = fresh(run)
    for name in ("state", "run_after", "enqueued_at", "queue", "priority", "max_attempts"):
        assert getattr(run, name) == getattr(stored, name), name


def test_runs_are_made_in_an_order_that_they_keep() -> None:
    made = [add(number).pk for number in range(5)]
    assert list(Run.objects.order_by("id").values_list("pk", flat=True)) == made


def test_a_call_that_the_function_would_refuse_is_refused_with_its_name() -> None:
    with pytest.raises(TypeError, match=r"^testapp\.greet\(\) missing a .* argument: 'customer'$"):
        greet()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("no such table: django_defer_run", None, True),
        ("no such table: shop_order", None, False),
        ("Relation »django_defer_run« existiert nicht", "42P01", True),
        ("Relation »shop_order« existiert nicht", "42P01", False),
        ("column django_defer_run.colour does not exist", "42703", False),
    ],
)
def test_missing_tables_are_told_by_code_not_by_language(
    text: str, code: str | None, expected: bool
) -> None:
    error = DatabaseError(text)
    error.__cause__ = type("Cause", (Exception,), {"sqlstate": code})()
    assert NotMigrated.explains(error) is expected


@committing
def test_missing_tables_are_explained() -> None:
    table = Run._meta.db_table
    connection = connections[DATABASE]
    with connection.schema_editor() as editor:
        editor.alter_db_table(Run, table, "elsewhere")
    try:
        with pytest.raises(NotMigrated, match=r"run `manage.py migrate`"):
            add(1)
        with pytest.raises(NotMigrated):
            add.map([1, 2])
        with pytest.raises(NotMigrated):
            tick_if_due(DATABASE)
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(Run, "elsewhere", table)


def test_another_error_of_the_database_passes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    key = uuid7()
    monkeypatch.setattr(Run._meta.pk, "_get_default", lambda: key)
    add(1)
    with pytest.raises(IntegrityError) as caught, transaction.atomic(using=DATABASE):
        add(2)
    assert not isinstance(caught.value.__cause__, IntegrityError)


def test_a_function_that_workers_do_not_import_is_refused(define: Define) -> None:
    def hidden() -> None:
        pass

    deferred = define(hidden)
    deferred.is_discoverable = False
    with pytest.raises(NotDiscoverable, match="workers do not import"):
        deferred()


# -- options ---------------------------------------------------------------------------------


def test_without_options_the_function_decides(define: Define) -> None:
    def picky() -> None:
        pass

    run = define(picky, queue="mail", priority=7, retry=2, rerun_if_lost=False)()
    assert (run.queue, run.priority, run.max_attempts, run.rerun_if_lost) == ("mail", 7, 3, False)
    assert (run.label, run.enqueued_by, run.parent_id, run.root_id) == ("", "", None, None)


def test_options_of_the_call_win(define: Define) -> None:
    def picky() -> None:
        pass

    deferred = define(picky, queue="mail", priority=7)
    run = deferred.using(queue="slow", priority=0, label="once")()
    assert (run.queue, run.priority, run.label) == ("slow", 0, "once")
    stored = fresh(run)
    assert (stored.queue, stored.priority, stored.label) == ("slow", 0, "once")


def test_later_options_win_over_earlier_ones() -> None:
    run = add.using(priority=1, label="a").using(priority=2)(1)
    assert (run.priority, run.label) == (2, "a")


def test_the_default_queue_is_a_setting() -> None:
    with defer_settings(DEFAULT_QUEUE="elsewhere"):
        assert add(1).queue == "elsewhere"


def test_a_delay_is_counted_by_the_clock_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    before = database_now(DATABASE)
    run = add.using(delay="90s")(1)
    after = database_now(DATABASE)
    assert run.state == State.SCHEDULED
    ninety, slack = timedelta(seconds=90), timedelta(milliseconds=1)
    assert before + ninety - slack <= fresh(run).run_after <= after + ninety + slack


def test_no_delay_at_all_is_queued_at_once() -> None:
    assert fresh(add.using(delay=0)(1)).state == State.QUEUED


def test_run_after_waits_until_then() -> None:
    moment = datetime(2100, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))
    run = fresh(add.using(run_after=moment)(1))
    assert (run.state, run.run_after) == (State.SCHEDULED, moment)
    assert run.run_after.tzinfo is UTC


def test_run_after_in_the_past_is_due_by_the_clock_of_the_database() -> None:
    run = fresh(add.using(run_after=runs.LONG_AGO)(1))
    assert Run.objects.due(database_now(DATABASE)).get() == run


def test_run_after_takes_a_timedelta_as_from_now() -> None:
    run = fresh(add.using(run_after=timedelta(hours=1))(1))
    assert run.state == State.SCHEDULED
    assert run.run_after > database_now(DATABASE) + timedelta(minutes=59)


def test_run_after_replaces_an_earlier_delay() -> None:
    later = datetime(2100, 1, 1, tzinfo=UTC)
    assert fresh(add.using(delay="5m").using(run_after=later)(1)).run_after == later


@pytest.mark.parametrize(
    "options",
    [
        {"delay": "5m", "run_after": datetime(2100, 1, 1, tzinfo=UTC)},
        {"run_after": datetime(2100, 1, 1)},  # noqa: DTZ001 - that is what is refused
        {"run_after": "tomorrow"},
        {"priority": 101},
        {"priority": True},
        {"queue": ""},
        {"queue": "a", "queue_name": "b"},
        {"label": "x" * 201},
        {"key": ""},
        {"colour": "red"},
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused_where_it_is_written(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        add.using(**options)


# -- what the context adds ---------------------------------------------------------------------


@pytest.fixture
def parent() -> Iterator[CurrentRun]:
    parent = CurrentRun(
        id=uuid7(), function="testapp.weekly", attempt=1, is_last_attempt=False, root_id=uuid7()
    )
    with running(parent):
        yield parent


def test_a_run_enqueued_in_a_run_is_its_child(parent: CurrentRun) -> None:
    child = fresh(add(1))
    assert (child.parent_id, child.root_id) == (parent.id, parent.root_id)
    assert child.enqueued_by == "testapp.weekly"


def test_children_in_bulk_are_children_too(parent: CurrentRun) -> None:
    add.map([1, 2])
    children = Run.objects.children_of(parent.id)
    assert {run.root_id for run in children} == {parent.root_id}
    assert {run.enqueued_by for run in children} == {"testapp.weekly"}
    assert children.count() == 2


def test_a_child_enqueued_from_async_code_knows_its_parent(parent: CurrentRun) -> None:
    assert async_to_sync(add.aenqueue)(1).parent_id == parent.id


# -- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [add, add.enqueue, add.using(label="x"), function("testapp.add")])
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"third": 3}), ((1,), {"first": 1})],
)
def test_arguments_that_do_not_fit_are_refused_at_the_call(
    call: Any, args: Any, kwargs: Any
) -> None:
    with pytest.raises(TypeError, match="argument"):
        call(*args, **kwargs)
    assert not Run.objects.exists()


def test_arguments_in_bulk_that_do_not_fit_are_refused_too() -> None:
    with pytest.raises(TypeError, match="argument"):
        add.starmap([(1, 2), (1, 2, 3)])
    assert not Run.objects.exists()


def test_an_argument_that_cannot_be_stored_is_refused_with_its_name() -> None:
    with pytest.raises(UnserializableValue, match=r"argument `first` of testapp.add"):
        add(object())  # type: ignore[arg-type]
    assert not Run.objects.exists()


def test_arguments_have_a_largest_size() -> None:
    with defer_settings(MAX_ARGS_BYTES=1000):
        assert noop("x" * 900).pk
        with pytest.raises(PayloadTooLarge, match=r"MAX_ARGS_BYTES"):
            noop("x" * 1000)
    assert Run.objects.count() == 1


def test_a_user_travels_by_reference_also_as_the_lazy_one_of_a_request() -> None:
    model = get_user_model()
    user = model.objects.create(username="ann")
    loaded: list[Any] = []

    def load() -> Any:
        loaded.append(model.objects.get(pk=user.pk))
        return loaded[0]

    run = noop(SimpleLazyObject(load))
    (decoded,), _ = stored_args(run)
    assert type(decoded) is model
    assert decoded == user
    reference = fresh(run).args["args"][0]["$model"]
    assert reference[0] == model._meta.label
    assert len(loaded) == 1


# -- the hint while developing --------------------------------------------------------------------


@pytest.fixture
def hints(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    django_defer.enqueue._hinted.clear()
    caplog.set_level(logging.WARNING, "django_defer")
    yield lambda: [
        r.message for r in caplog.records if r.__dict__.get("event") == "enqueue.no_worker"
    ]
    django_defer.enqueue._hinted.clear()


@override_settings(DEBUG=True)
def test_without_a_worker_it_says_once_a_queue_which_command_starts_one(hints: Any) -> None:
    add(1)
    add.map([2, 3])
    assert len(hints()) == 1
    assert 'the queue "default"' in hints()[0]
    assert "manage.py defer_worker" in hints()[0]
    add.using(queue="slow")(1)
    assert len(hints()) == 2


@override_settings(DEBUG=True)
def test_with_a_worker_of_the_queue_it_says_nothing(hints: Any) -> None:
    new_cluster(queues=["default"])
    add(1)
    assert hints() == []
    add.using(queue="slow")(1)
    assert len(hints()) == 1


@override_settings(DEBUG=True)
def test_a_worker_that_is_not_heard_of_any_more_does_not_count(hints: Any) -> None:
    new_cluster(beat_at=runs.LONG_AGO)
    add(1)
    assert len(hints()) == 1


def test_without_debug_it_says_nothing(hints: Any) -> None:
    add(1)
    assert hints() == []


# -- another database than the caller's ---------------------------------------------------------


@committing_to_both
def test_beside_the_transaction_of_another_database_the_insert_waits_for_its_commit() -> None:
    with transaction.atomic(using=OTHER):
        run = add.using(delay="1h")(1)
        assert run.pk
        assert run.state is None
        assert not Run.objects.exists()
    assert run.state == State.SCHEDULED
    assert fresh(run).run_after == run.run_after


@committing_to_both
def test_the_rollback_of_another_database_means_that_the_run_never_is() -> None:
    with rolled_back(OTHER):
        run = add(1)
        add.map([2, 3])
    assert not Run.objects.exists()
    assert run.state is None


@committing_to_both
def test_in_bulk_the_insert_waits_too() -> None:
    with transaction.atomic(using=OTHER):
        assert add.map([1, 2, 3]) == 3
        assert not Run.objects.exists()
        with pytest.raises(TypeError):
            add.starmap([(1, 2, 3)])  # what is wrong is said at the call
    assert Run.objects.count() == 3


@committing_to_both
def test_in_a_transaction_of_our_own_database_the_insert_does_not_wait() -> None:
    with transaction.atomic(using=OTHER), transaction.atomic(using=DATABASE):
        assert fresh(add(1)).state == State.QUEUED


@committing_to_both
def test_another_database_without_a_transaction_changes_nothing() -> None:
    connections[OTHER].ensure_connection()
    assert fresh(add(1)).state == State.QUEUED


@committing_to_both
def test_waiting_for_a_run_that_is_not_inserted_yet_is_refused() -> None:
    with transaction.atomic(using=OTHER):
        run = add(1)
        with pytest.raises(WaitInsideTransaction):
            run.wait(0.1)


@committing_to_both
def test_the_database_of_the_setting_is_used_for_everything() -> None:
    with defer_settings(DATABASE=OTHER):
        run = add(1)
        assert run._state.db == OTHER
        assert Run.objects.get() == run
        assert add.map([2, 3]) == 2
    assert not Run.objects.exists()
    assert Run.objects.using(OTHER).count() == 3


# -- async -----------------------------------------------------------------------------------------


def in_loop(verb: Any, *args: Any) -> None:
    async def call() -> None:
        verb(*args)

    asyncio.run(call())


@pytest.mark.parametrize(
    ("verb", "args", "twin"),
    [
        (add, (1,), "aenqueue"),
        (add.enqueue, (1,), "aenqueue"),
        (add.using(label="x"), (1,), "aenqueue"),
        (add.map, ([1],), "amap"),
        (add.starmap, ([(1,)],), "astarmap"),
    ],
)
def test_a_synchronous_call_in_an_event_loop_is_refused_and_names_the_twin(
    verb: Any, args: Any, twin: str
) -> None:
    with pytest.raises(CalledInEventLoop, match=f"await ….{twin}"):
        in_loop(verb, *args)
    assert not Run.objects.exists()


def test_the_async_twins_do_the_same() -> None:
    async def enqueue() -> tuple[Run, int, int]:
        run = await add.using(priority=3).aenqueue(1, second=2)
        return run, await add.amap([1, 2]), await add.astarmap([(1, 2)], batch_size=1)

    run, mapped, starmapped = async_to_sync(enqueue)()
    assert stored_args(run) == ([1], {"second": 2})
    assert fresh(run).priority == 3
    assert (mapped, starmapped, Run.objects.count()) == (2, 1, 4)


def test_an_async_call_checks_its_arguments() -> None:
    with pytest.raises(TypeError, match="argument"):
        async_to_sync(add.aenqueue)(1, 2, 3)  # type: ignore[call-arg]


@committing_to_both
@pytest.mark.parametrize("verb", ["cancel", "reschedule", "rerun"])
def test_a_verb_on_a_run_that_is_not_inserted_yet_says_so(verb: str) -> None:
    with transaction.atomic(using=OTHER):
        run = add(1)
        with pytest.raises(
            RunNotEnqueued, match=rf"waits for the commit .* on '{OTHER}'"
        ) as caught:
            getattr(run, verb)()
        assert isinstance(caught.value, RunError)
        assert caught.value.run_id == run.pk
        assert caught.value.alias == OTHER
    run.cancel()
    assert fresh(run).state == State.CANCELLED


@committing_to_both
@pytest.mark.parametrize("verb", ["wait", "get_result", "cancel", "reschedule", "rerun"])
def test_a_verb_on_a_run_that_was_rolled_back_elsewhere_says_so(verb: str) -> None:
    with transaction.atomic(using=OTHER):
        with rolled_back(OTHER):
            inner = add(1)
        with pytest.raises(RunNotEnqueued, match=r"never enqueued .* was rolled back"):
            getattr(inner, verb)()
    with rolled_back(OTHER):
        run = add(2)
    with pytest.raises(RunNotEnqueued, match=r"never enqueued .* was rolled back"):
        getattr(run, verb)()


@committing_to_both
def test_another_thread_cannot_tell_and_takes_the_transaction_for_open() -> None:
    with rolled_back(OTHER):
        run = add(1)
    errors: list[Exception] = []

    def wait() -> None:
        try:
            run.wait(timeout=1)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert [type(error) for error in errors] == [WaitInsideTransaction]
