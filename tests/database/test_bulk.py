"""From many calls to many rows: the rows of single calls, a batch at a time."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.db import DatabaseError, transaction
from django.db.transaction import TransactionManagementError

from django_defer import (
    CalledInEventLoop,
    InvalidOption,
    NotDiscoverable,
    PayloadTooLarge,
    UnserializableValue,
    bulk,
)
from django_defer.clock import database_now
from django_defer.context import CurrentRun, current_run, running
from django_defer.ids import uuid7
from django_defer.models import Run
from django_defer.payloads import decode_call
from django_defer.states import State
from tests import runs
from tests.runs import (
    DATABASE,
    captured,
    committing,
    committing_to_both,
    database,
    defer_settings,
    fresh,
    rolled_back,
    statements,
)
from tests.testapp.defer import add, greet, noop
from tests.testapp.models import Customer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runs import Define

pytestmark = runs.in_transaction

OTHER = next(alias for alias in ("other", "default") if alias != DATABASE)


def stored_args(run: Run) -> list[Any]:
    return decode_call(fresh(run).args)[0]


def all_args() -> list[Any]:
    return [stored_args(run) for run in Run.objects.order_by("id")]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)


# -- a run a call ----------------------------------------------------------------------------------


def test_map_makes_a_run_an_item_and_says_how_many() -> None:
    assert noop.map(range(3)) == 3
    assert all_args() == [[0], [1], [2]]


def test_starmap_makes_a_run_a_tuple() -> None:
    assert add.starmap([(1, 2), [3]]) == 2  # type: ignore[list-item]
    assert all_args() == [[1, 2], [3]]


def test_map_of_nothing_makes_nothing() -> None:
    assert noop.map([]) == 0
    assert noop.map([], batch_size=10) == 0


def test_map_takes_instances() -> None:
    customer = Customer.objects.create(name="Ann")
    assert greet.map([customer]) == 1
    assert stored_args(Run.objects.get()) == [customer]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"delay": "1h", "label": "50 %s", "priority": -3},
        {"delay": "1h", "discard_after": "2h"},
        {"run_after": datetime(2100, 1, 1, tzinfo=UTC), "queue": "slow"},
        {"run_after": runs.LONG_AGO, "discard_after": datetime(2100, 1, 1, tzinfo=UTC)},
        {"metadata": {"order": "17 %s", "team": None, "quote": "'\"{},\\"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("in_a_run", [False, True])
def test_its_runs_are_those_of_single_calls(
    options: dict[str, Any], in_a_run: bool, define: Define
) -> None:
    def pay(token: str, amount: int = 1) -> None:
        pass

    call = define(
        pay,
        queue="mail",
        priority=7,
        retry=2,
        rerun_if_lost=False,
        discard_after="3d",
        metadata={"team": "billing", "shop": "1"},
        sensitive="token",
    ).using(**options)
    parent = CurrentRun(
        id=uuid7(), function="testapp.weekly", attempt=1, is_last_attempt=False, root_id=uuid7()
    )
    if in_a_run:
        with running(parent):
            single = call("t0ken", 5)
            assert call.starmap([("t0ken", 5)] * 3) == 3
    else:
        single = call("t0ken", 5)
        assert call.starmap([("t0ken", 5)] * 3) == 3
    single = fresh(single)
    for run in Run.objects.exclude(pk=single.pk):
        for field in Run._meta.concrete_fields:
            own, expected = getattr(run, field.attname), getattr(single, field.attname)
            if isinstance(expected, datetime):  # by the database's clock, which went on
                assert abs(own - expected).total_seconds() < 60, field
            elif not field.primary_key:
                assert own == expected, field
        with database().cursor() as cursor:
            cursor.execute("SELECT DISTINCT args FROM django_defer_run")  # the same text on SQLite
            assert len(cursor.fetchall()) == 1
    assert single.args["sensitive"] == {"names": ["token"], "at": [0]}


@pytest.mark.parametrize(
    "value",
    [
        *("ünï{,}\"'\\", "{}", "NULL", "", "%s %%", "a\nb\t\x7f", "nul \0", "🐍", True, None, 1.0),
        *(2**63 - 1, 2**63, [], [[1], {"b": 1, "a": [True]}], {"$tuple": 1}, (1,), Decimal("1.50")),
    ],
    ids=ascii,
)
def test_an_argument_comes_back_as_it_was(value: Any) -> None:
    noop.map([value, 1, True, value])
    assert [repr(args) for args in all_args()] == [repr([each]) for each in (value, 1, True, value)]


def test_an_item_that_is_changed_for_the_next_one_is_stored_as_it_was() -> None:
    def reused() -> Iterator[list[int]]:
        item: list[int] = []
        for number in range(3):
            item.append(number)
            yield item

    noop.map(reused())
    assert all_args() == [[[0]], [[0, 1]], [[0, 1, 2]]]


def test_its_runs_are_in_the_order_of_the_items_and_after_earlier_calls() -> None:
    noop("before")
    noop.map(range(5))
    noop("after")
    assert all_args() == [["before"], [0], [1], [2], [3], [4], ["after"]]


def test_a_delay_is_counted_by_the_clock_of_the_database_when_a_batch_is_inserted(
    small_batches: None,
) -> None:
    def slow() -> Iterator[int]:
        for number in range(4):
            yield number
            noop(str(number))  # says when that was

    noop.using(delay="1h").map(slow())
    first, *_, last = Run.objects.filter(state=State.SCHEDULED).order_by("id")
    assert first.run_after < last.run_after


# -- what is refused -------------------------------------------------------------------------------


def test_arguments_that_do_not_fit_are_refused_with_the_name_of_the_function() -> None:
    with pytest.raises(TypeError, match=r"^testapp\.add\(\) too many positional arguments$"):
        add.starmap([(1,), (1, 2), (1, 2, 3)])
    with pytest.raises(TypeError, match=r"^testapp\.add\(\) missing a .*'first'$"):
        add.starmap([(1,), ()])
    assert not Run.objects.exists()


def test_an_argument_that_cannot_be_stored_is_refused_with_its_name() -> None:
    with pytest.raises(UnserializableValue, match=r"argument `first` of testapp.add"):
        add.map([1, object()])
    assert not Run.objects.exists()


def test_arguments_have_a_largest_size() -> None:
    with defer_settings(MAX_ARGS_BYTES=1000), pytest.raises(PayloadTooLarge):
        noop.map(["x" * 900, "x" * 1000])
    assert not Run.objects.exists()


def test_a_function_that_no_worker_would_find_is_refused(define: Define) -> None:
    def hidden(value: int) -> None:
        pass

    function = define(hidden)
    function.is_discoverable = False
    with pytest.raises(NotDiscoverable):
        function.map([1])


def test_runs_that_would_be_discarded_before_they_are_due_are_refused() -> None:
    with pytest.raises(InvalidOption, match="discarded"):
        noop.using(delay="2h", discard_after="1h").map([1])
    assert not Run.objects.exists()


@pytest.mark.parametrize("batch_size", [0, -1, True, 2.5, "10"])
def test_a_batch_size_is_a_positive_whole_number(batch_size: Any) -> None:
    with pytest.raises(InvalidOption, match="batch_size"):
        noop.map([1], batch_size=batch_size)


# -- transactions ----------------------------------------------------------------------------------


@committing
def test_map_is_one_transaction(small_batches: None) -> None:
    with captured() as queries:
        assert noop.map(range(5)) == 5
    texts = [text.split()[0] for text in statements(queries, besides=("SAVEPOINT",))]
    hint = ["NOTIFY"] if runs.is_postgres() else []
    assert texts == ["BEGIN", "INSERT", "INSERT", "INSERT", "COMMIT", *hint]


@committing
def test_map_with_a_batch_size_is_one_transaction_a_batch() -> None:
    with captured() as queries:
        assert noop.map(range(5), batch_size=2) == 5
    texts = [text.split()[0] for text in statements(queries, besides=("NOTIFY",))]
    assert texts == ["INSERT"] * 3  # one alone needs no more


def broken_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise KeyError


@committing
def test_map_over_something_that_fails_half_way_enqueues_nothing(small_batches: None) -> None:
    with pytest.raises(KeyError):
        noop.map(broken_after(5))
    assert not Run.objects.exists()


@committing
def test_map_in_batches_keeps_the_batches_before_the_failure() -> None:
    with pytest.raises(KeyError):
        noop.map(broken_after(5), batch_size=2)
    assert Run.objects.count() == 4


@committing
def test_a_failure_half_way_leaves_the_callers_transaction_as_it_was(small_batches: None) -> None:
    with transaction.atomic(using=DATABASE):
        noop("before")
        with pytest.raises(KeyError):
            noop.map(broken_after(5))
        noop("after")
    assert all_args() == [["before"], ["after"]]


@committing
@pytest.mark.parametrize("batch_size", [None, 2])
def test_what_the_database_refuses_is_an_error_and_no_half_of_a_batch(
    batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [uuid7() for _ in range(4)]
    Run(pk=ids[3], function_id=runs.NOOP).save()
    monkeypatch.setattr(bulk, "uuid7", partial(next, iter(ids)))
    with pytest.raises(DatabaseError):
        noop.map(range(4), batch_size=batch_size)
    assert Run.objects.count() == (1 if batch_size is None else 3)


@committing
def test_what_the_database_refuses_ends_the_callers_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pk = uuid7()
    Run(pk=pk, function_id=runs.NOOP).save()
    monkeypatch.setattr(bulk, "uuid7", lambda: pk)
    with transaction.atomic(using=DATABASE):
        with pytest.raises(DatabaseError):
            noop.map([1], batch_size=1)
        with pytest.raises(TransactionManagementError):
            Run.objects.exists()


@committing_to_both
def test_beside_the_transaction_of_another_database_it_waits_for_its_commit(
    small_batches: None,
) -> None:
    shown: list[int] = []
    with transaction.atomic(using=OTHER):
        count = add.using(delay="1h").map([1, 2, 3], progress=shown.append)
        assert (count, shown) == (3, [])
        assert not Run.objects.exists()
        with pytest.raises(TypeError):
            add.starmap([(1, 2, 3)])  # what is wrong is said at the call
        called_by = database_now(DATABASE)
    assert shown == [2, 3]
    assert all_args() == [[1], [2], [3]]
    for run in Run.objects.all():
        assert run.state == State.SCHEDULED
        assert run.run_after >= called_by + timedelta(hours=1) - timedelta(milliseconds=1)


@committing_to_both
def test_the_rollback_of_another_database_means_that_the_runs_never_are() -> None:
    with rolled_back(OTHER):
        assert add.map([2, 3], batch_size=1) == 2
    assert not Run.objects.exists()


# -- items are read as they are inserted -----------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 2])
def test_no_more_than_a_batch_is_read_ahead(batch_size: int | None, small_batches: None) -> None:
    ahead: list[int] = []

    def items() -> Iterator[int]:
        for number in range(7):
            ahead.append(number - Run.objects.count())
            yield number

    assert noop.map(items(), batch_size=batch_size) == 7
    assert ahead == [0, 1, 0, 1, 0, 1, 0]


@pytest.mark.postgres
@committing
@pytest.mark.parametrize("batch_size", [None, 2])
def test_the_rows_of_a_queryset_are_not_kept(batch_size: int | None, small_batches: None) -> None:
    for name in ("Ann", "Ben", "Cid"):
        Customer.objects.create(name=name)
    customers = Customer.objects.order_by("id")
    assert greet.map(customers, batch_size=batch_size) == 3
    assert customers._result_cache is None
    assert [customer.name for (customer,) in all_args()] == ["Ann", "Ben", "Cid"]


@committing
@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_queryset_is_read_by_one_query_and_not_again(batch_size: int | None) -> None:
    Customer.objects.create(name="Ann")
    ids = Customer.objects.values_list("id", "name")
    with captured() as queries:
        add.starmap(ids, batch_size=batch_size)
    assert sum("testapp_customer" in text for text in statements(queries)) == 1
    names = Customer.objects.values_list("name", flat=True)
    assert list(names) == ["Ann"]
    with captured() as queries:
        noop.map(names, batch_size=batch_size)
    assert not any("testapp_customer" in text for text in statements(queries))


def test_a_queryset_with_prefetched_rows_can_be_mapped() -> None:
    group = Group.objects.create(name="editors")
    assert noop.map(Group.objects.prefetch_related("permissions")) == 1
    assert all_args() == [[group]]


def test_in_an_event_loop_a_queryset_is_not_read_before_the_call_is_refused() -> None:
    async def call() -> None:
        greet.map(Customer.objects.all())

    with pytest.raises(CalledInEventLoop, match=r"await ….amap"):
        asyncio.run(call())
    assert async_to_sync(greet.amap)(Customer.objects.all()) == 0


@committing
@pytest.mark.parametrize("batch_size", [None, 2])
def test_runs_made_for_runs_are_not_met_again(batch_size: int | None, small_batches: None) -> None:
    """SQLite's open SELECT would find the rows that are inserted meanwhile."""
    noop.map(range(5))
    ids = Run.objects.order_by("id").values_list("id", flat=True)
    assert noop.map(ids[:50], batch_size=batch_size) == 5


@pytest.mark.sqlite
@committing
def test_another_process_may_write_between_two_batches_from_a_queryset(small_batches: None) -> None:
    """SQLite lets nobody write who has read, and reads still, what was before."""
    Customer.objects.bulk_create(Customer(name="Ann") for _ in range(5))

    def write(done: int) -> None:
        with contextlib.closing(sqlite3.connect(database().settings_dict["NAME"])) as other:
            other.execute("UPDATE testapp_customer SET name = ?", [str(done)])
            other.commit()

    assert greet.map(Customer.objects.all(), batch_size=2, progress=write) == 5


@committing
@pytest.mark.parametrize("batch_size", [None, 1])
def test_a_failure_within_a_queryset_is_the_error_that_is_seen(
    batch_size: int | None, small_batches: None
) -> None:
    for number in range(5):
        Customer.objects.create(name="x" * 90 * (number // 3))
    names = Customer.objects.order_by("id").values_list("name", flat=True)
    with defer_settings(MAX_ARGS_BYTES=100), pytest.raises(PayloadTooLarge):
        noop.map(names, batch_size=batch_size)
    assert Run.objects.count() == (0 if batch_size is None else 3)


# -- progress --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 2])
def test_progress_is_told_how_many_are_inserted(
    batch_size: int | None, small_batches: None
) -> None:
    shown: list[tuple[int, int]] = []

    def show(done: int) -> None:
        shown.append((done, Run.objects.count()))

    noop.map(range(5), batch_size=batch_size, progress=show)
    add.starmap([(1, 2)], batch_size=batch_size, progress=show)
    noop.map([], progress=show)
    assert shown == [(2, 2), (4, 4), (5, 5), (1, 6)]


def test_the_progress_of_a_run_can_be_it() -> None:
    parent = CurrentRun(
        id=uuid7(), function="testapp.weekly", attempt=1, is_last_attempt=False, root_id=uuid7()
    )
    recorder = Recorder()
    with running(parent, recorder):
        current = current_run()
        assert current is not None
        noop.map([1, 2], progress=current.progress)
    assert recorder.shown == [(2, None, "")]


class Recorder:
    """Takes down what progress an attempt shows."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, int | None, str]] = []

    def show(self, done: int, total: int | None, message: str) -> None:
        self.shown.append((done, total, message))

    def say(self, level: int, logger: str, message: str, at: float) -> None:
        pass

    def print(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


def test_progress_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(InvalidOption, match="progress"):
        noop.map([1], progress=5)  # type: ignore[arg-type]
    assert not Run.objects.exists()


def test_from_async_code_it_is_shown_too() -> None:
    shown: list[int] = []
    assert async_to_sync(noop.amap)([1], progress=shown.append) == 1
    assert async_to_sync(noop.astarmap)([(1,)], progress=shown.append) == 1
    assert shown == [1, 1]
