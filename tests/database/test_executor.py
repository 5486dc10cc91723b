"""One attempt, in this process: what is called, what is written, and what is tried again."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.db import DatabaseError, connections, transaction

from django_defer import (
    Cancel,
    DeferError,
    Retry,
    RetryPolicy,
    RunAborted,
    TimeLimitExceeded,
    UnreadablePayload,
    current_run,
    transitions,
    worker_process,
)
from django_defer.claims import Claim
from django_defer.clock import database_now
from django_defer.executor import Executor
from django_defer.failures import MAX_TRACEBACK, describe, storable
from django_defer.models import Run
from django_defer.registry import registry
from django_defer.signals import _SIGNALS, RunEvent
from django_defer.states import Outcome, State
from tests import runs
from tests.runs import DATABASE, claim_for, defer_settings, fresh, new_cluster
from tests.testapp.defer import add, greet
from tests.testapp.models import Customer, Effect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.context import CurrentRun
    from tests.runs import Define

pytestmark = runs.committing

ONCE = RetryPolicy(max_attempts=1)


def claim(run: Run) -> Claim:
    """Make the run due and claim it."""
    if run.state == State.SCHEDULED:
        transitions.reschedule(DATABASE, run.pk, None)
    ((_, claim),) = claim_for(new_cluster(), keys=(str(run.function_id),))
    assert claim.run_id == run.pk
    return claim


def execute(executor: Executor, run: Run) -> Run:
    """Make one attempt at the run."""
    executor.execute(claim(run))
    return fresh(run)


@pytest.fixture
def events() -> Iterator[list[RunEvent]]:
    events: list[RunEvent] = []

    def receive(sender: object, event: RunEvent, **kwargs: object) -> None:
        assert not runs.database().in_atomic_block
        events.append(event)

    for sent, _ in _SIGNALS.values():
        sent.connect(receive)
    yield events
    for sent, _ in _SIGNALS.values():
        sent.disconnect(receive)


def names(events: list[RunEvent]) -> list[str]:
    return [event.name for event in events]


# -- success ---------------------------------------------------------------------------------------


def test_a_function_is_called_with_its_arguments_and_its_result_is_kept(
    executor: Executor, events: list[RunEvent]
) -> None:
    run = execute(executor, add(1, second=2))
    assert (run.state, run.attempt, run.failures) == (State.SUCCEEDED, 1, 0)
    assert run.get_result() == 3
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.claimed_at is not None
    assert run.claimed_at <= run.started_at <= run.finished_at
    assert names(events) == ["run.started", "run.succeeded"]
    assert events[1].seconds is not None
    assert {event.run_id for event in events} == {run.pk}


def test_a_coroutine_function_is_executed_too(executor: Executor, define: Define) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        await Effect.objects.acreate(name="double")
        return 2 * number

    assert execute(executor, define(double)(4)).get_result() == 8
    assert Effect.objects.count() == 1


def test_an_instance_is_loaded_when_the_run_starts(executor: Executor) -> None:
    customer = Customer.objects.create(name="Ann")
    run = greet(customer)
    Customer.objects.update(name="Anna")
    assert execute(executor, run).get_result() == "Hello, Anna"


def test_a_function_knows_its_run(executor: Executor, define: Define) -> None:
    seen: list[CurrentRun | None] = []

    def look() -> None:
        seen.append(current_run())
        if len(seen) == 1:
            raise ValueError

    run = define(look, retry=1)()
    for _ in range(2):
        execute(executor, fresh(run))
    first, second = seen
    assert first is not None
    assert second is not None
    assert (first.id, first.function, first.root_id) == (run.pk, "defined.look", run.pk)
    assert (first.attempt, first.is_last_attempt) == (1, False)
    assert (second.attempt, second.is_last_attempt) == (2, True)
    assert current_run() is None


def test_what_a_function_enqueues_is_its_child(executor: Executor, define: Define) -> None:
    def fan_out() -> None:
        add.using(label="child")(1)

    def root() -> None:
        define(fan_out)()

    run = execute(executor, define(root)())
    middle = Run.objects.get(parent=run)
    execute(executor, middle)
    child = Run.objects.get(label="child")
    assert (child.parent, child.root) == (middle, run)
    assert child.enqueued_by == "defined.fan_out"


# -- failure ---------------------------------------------------------------------------------------


def test_an_error_is_kept_with_its_traceback_and_tried_again(
    executor: Executor, define: Define, events: list[RunEvent]
) -> None:
    def unlucky() -> None:
        raise ConnectionError("no luck")

    policy = RetryPolicy(max_attempts=2, initial_interval="1h", randomization_factor=0)
    before = database_now(DATABASE)
    run = execute(executor, define(unlucky, retry=policy)())
    assert (run.state, run.failures) == (State.SCHEDULED, 1)
    assert run.run_after >= before + timedelta(minutes=59)
    (attempt,) = run.attempts
    assert attempt.outcome == Outcome.RETRIED
    assert (attempt.error_class, attempt.error_message) == ("ConnectionError", "no luck")
    assert 'raise ConnectionError("no luck")' in attempt.traceback
    assert names(events) == ["run.started", "run.retrying"]
    assert events[1].retry_in == timedelta(hours=1)
    run = execute(executor, run)
    assert (run.state, run.failures, run.attempt) == (State.FAILED, 2, 2)
    assert [attempt.outcome for attempt in run.attempts] == [Outcome.RETRIED, Outcome.FAILED]
    assert names(events)[2:] == ["run.started", "run.failed"]


def test_an_error_that_the_policy_gives_up_on_is_not_tried_again(
    executor: Executor, define: Define
) -> None:
    def wrong() -> None:
        raise LookupError

    policy = RetryPolicy(give_up_on=LookupError)
    assert execute(executor, define(wrong, retry=policy)()).state == State.FAILED


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()],
    ids=repr,
)
def test_what_would_end_a_program_ends_the_attempt_and_is_tried_again_like_any_error(
    executor: Executor, define: Define, error: BaseException
) -> None:
    def leave() -> None:
        raise error

    run = execute(executor, define(leave)())
    assert (run.state, run.failures) == (State.SCHEDULED, 1)
    assert run.error_class.endswith(type(error).__name__)


def test_leaving_the_program_follows_the_policy(executor: Executor, define: Define) -> None:
    def leave() -> None:
        sys.exit(1)

    def leave_too() -> None:
        sys.exit(1)

    picky = RetryPolicy(retry_on=ConnectionError)
    assert execute(executor, define(leave, retry=picky)()).state == State.FAILED
    resigned = RetryPolicy(give_up_on=SystemExit)
    assert execute(executor, define(leave_too, retry=resigned)()).state == State.FAILED


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        (Retry("later", after="10m"), timedelta(minutes=10)),
        (Retry(after=0), timedelta(0)),
        (Retry(), timedelta(seconds=30)),
    ],
)
def test_a_function_can_ask_for_a_retry(
    executor: Executor, define: Define, events: list[RunEvent], error: Retry, delay: timedelta
) -> None:
    def later() -> None:
        raise error

    policy = RetryPolicy(max_attempts=2, retry_on=(), randomization_factor=0)
    run = execute(executor, define(later, retry=policy)())
    assert run.state == State.SCHEDULED
    assert events[-1].retry_in == delay
    assert execute(executor, run).state == State.FAILED  # it counts as a failure all the same


def test_a_function_can_cancel_its_run(
    executor: Executor, define: Define, events: list[RunEvent]
) -> None:
    def stop() -> None:
        raise Cancel("not needed\x00 \ud800")

    run = execute(executor, define(stop)())
    assert (run.state, run.failures) == (State.CANCELLED, 0)
    assert run.reason == "not needed\\x00 \\ud800"
    assert run.attempts[0].outcome == Outcome.CANCELLED
    assert names(events) == ["run.started", "run.cancelled"]


def test_a_time_limit_is_a_failure_that_is_tried_again(executor: Executor, define: Define) -> None:
    def slow() -> None:
        time.sleep(5)

    began = time.monotonic()
    run = execute(executor, define(slow, max_duration="50ms")())
    assert time.monotonic() - began < 2
    assert (run.state, run.failures) == (State.SCHEDULED, 1)
    assert run.attempts[0].outcome == Outcome.TIMED_OUT
    assert "max_duration of 0.05 s" in run.error


def test_a_time_limit_can_be_given_up_on(executor: Executor, define: Define) -> None:
    async def slow() -> None:
        await asyncio.sleep(5)

    policy = RetryPolicy(give_up_on=TimeLimitExceeded)
    run = execute(executor, define(slow, max_duration="50ms", retry=policy)())
    assert run.state == State.FAILED


def test_an_abort_is_never_tried_again(
    executor: Executor, define: Define, events: list[RunEvent]
) -> None:
    def aborted() -> None:
        raise RunAborted

    policy = RetryPolicy(retry_on=BaseException)
    run = execute(executor, define(aborted, retry=policy)())
    assert (run.state, run.failures) == (State.ABORTED, 0)
    (attempt,) = run.attempts
    assert attempt.outcome == Outcome.ABORTED
    assert names(events) == ["run.started", "run.aborted"]


def test_one_that_fails_while_it_is_aborted_is_not_said_to_be_tried_again(
    executor: Executor, define: Define, events: list[RunEvent]
) -> None:
    def careless() -> None:
        transitions.request_abort(DATABASE, Run.objects.all(), "by ann")
        raise ConnectionError("another error")

    run = execute(executor, define(careless)())
    assert (run.state, run.failures) == (State.ABORTED, 0)
    assert run.error == "ConnectionError: another error"
    assert names(events) == ["run.started", "run.aborted"]
    assert (events[-1].error, events[-1].retry_in) == ("ConnectionError: another error", None)


def test_an_atomic_function_that_is_aborted_leaves_nothing(
    executor: Executor, define: Define
) -> None:
    def aborted() -> None:
        Effect.objects.using(DATABASE).create(name="never")
        raise RunAborted

    assert execute(executor, define(aborted, atomic=True)()).state == State.ABORTED
    assert not Effect.objects.using(DATABASE).exists()


# -- what another attempt would not mend -----------------------------------------------------------


def test_a_result_that_cannot_be_stored_fails_without_another_attempt(
    executor: Executor, define: Define
) -> None:
    def strange() -> object:
        Effect.objects.create(name="strange")
        return object()

    run = execute(executor, define(strange)())
    assert run.state == State.FAILED
    assert "the result of defined.strange is of type builtins.object" in run.error
    assert Effect.objects.count() == 1


def test_a_result_that_is_too_large_fails_without_another_attempt(
    executor: Executor, define: Define
) -> None:
    def long() -> str:
        return "x" * 1000

    with defer_settings(MAX_RESULT_BYTES=100):
        run = execute(executor, define(long)())
    assert run.state == State.FAILED
    assert "PayloadTooLarge" in run.error


def test_an_argument_that_cannot_be_stored_inside_the_function_is_an_error_like_any_other(
    executor: Executor, define: Define
) -> None:
    def careless() -> None:
        add(object())  # type: ignore[arg-type]

    assert execute(executor, define(careless)()).state == State.SCHEDULED


def test_an_instance_that_was_deleted_meanwhile_fails_without_another_attempt(
    executor: Executor,
) -> None:
    customer = Customer.objects.create(name="Ann")
    run = greet(customer)
    customer.delete()
    run = execute(executor, run)
    assert run.state == State.FAILED
    assert "ReferencedObjectMissing" in run.error
    assert "no longer exists" in run.error


def test_arguments_that_the_function_no_longer_takes_fail_before_it_is_called(
    executor: Executor, define: Define
) -> None:
    called: list[str] = []

    def changed(first: int) -> None:
        called.append("old")

    run = define(changed)(1)

    def changed_since(first: int, *, second: int) -> None:
        called.append("new")

    deferred = define(changed_since)
    registry._functions["defined.changed"] = deferred
    run = execute(executor, run)
    assert (run.state, run.failures) == (State.FAILED, 1)
    assert run.error_class.endswith("UnreadablePayload")
    assert "do not fit defined.changed_since(first: 'int', *, second: 'int')" in run.error
    assert re.search("missing a required .*argument: 'second'", run.error)
    assert called == []


def test_a_type_error_inside_the_function_is_an_error_like_any_other(
    executor: Executor, define: Define
) -> None:
    def wrong() -> None:
        raise TypeError("missing a required argument")

    assert execute(executor, define(wrong)()).state == State.SCHEDULED


def test_a_payload_that_cannot_be_read_fails_without_another_attempt(executor: Executor) -> None:
    run = add(1)
    Run.objects.update(args={"args": [{"$unheard_of": 1}], "kwargs": {}})
    run = execute(executor, run)
    assert run.state == State.FAILED
    assert "UnreadablePayload" in run.error


def test_a_function_that_this_worker_does_not_have_fails(executor: Executor) -> None:
    run = execute(executor, runs.new_run("testapp.gone"))
    assert run.state == State.FAILED
    assert "has no function 'testapp.gone'" in run.error


# -- the text of errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\x00", "\ud800", "a\x00b\udfffc", "\x00" * 3 + "é \U0001f600"])
def test_the_text_of_an_error_can_be_stored_whatever_is_in_it(
    executor: Executor, define: Define, text: str
) -> None:
    def unreadable() -> None:
        raise ValueError(text)

    run = execute(executor, define(unreadable, retry=False)())
    assert run.state == State.FAILED
    assert run.error_message == storable(text)
    assert "\x00" not in run.attempts[0].traceback


def test_storable_text_stays_as_it_is() -> None:
    assert storable("é \n \U0001f600 \\x00") == "é \n \U0001f600 \\x00"
    assert storable("a\x00b\ud800") == "a\\x00b\\ud800"


def test_an_error_without_a_text_is_kept_too(executor: Executor, define: Define) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise KeyError

    def mute() -> None:
        raise Mute

    run = execute(executor, define(mute, retry=False)())
    assert run.state == State.FAILED
    assert "its text could not be read: KeyError" in run.error


def test_long_texts_are_cut() -> None:
    failure = describe(ValueError("x" * 100_000))
    assert len(failure.error_message) == MAX_TRACEBACK
    assert len(failure.traceback) == MAX_TRACEBACK


# -- atomic ------------------------------------------------------------------------------------


@pytest.fixture
def effects_in_our_database() -> Any:
    """Rows that a function writes to the database that `atomic=True` covers."""
    return Effect.objects.using(DATABASE)


def test_an_atomic_function_commits_its_effects_children_and_end_together(
    executor: Executor, define: Define, effects_in_our_database: Any
) -> None:
    seen: list[bool] = []

    def whole() -> int:
        seen.append(runs.database().in_atomic_block)
        effects_in_our_database.create(name="effect")
        add(1)
        return 5

    run = execute(executor, define(whole, atomic=True)())
    assert seen == [True]
    assert run.get_result() == 5
    assert effects_in_our_database.count() == 1
    assert Run.objects.get(parent=run).state == State.QUEUED


@pytest.mark.parametrize("error", [ValueError("late"), SystemExit(1), Cancel("no"), Retry()])
def test_an_atomic_function_that_fails_leaves_nothing(
    executor: Executor, define: Define, effects_in_our_database: Any, error: BaseException
) -> None:
    def half() -> None:
        effects_in_our_database.create(name="effect")
        add(1)
        raise error

    run = execute(executor, define(half, atomic=True)())
    assert run.state in (State.SCHEDULED, State.CANCELLED)
    assert len(run.attempts) == 1
    assert not effects_in_our_database.exists()
    assert not Run.objects.filter(parent=run).exists()


def test_an_atomic_function_whose_result_cannot_be_stored_leaves_nothing(
    executor: Executor, define: Define, effects_in_our_database: Any
) -> None:
    def strange() -> object:
        effects_in_our_database.create(name="effect")
        return object()

    assert execute(executor, define(strange, atomic=True)()).state == State.FAILED
    assert not effects_in_our_database.exists()


def test_an_atomic_function_that_takes_too_long_leaves_nothing(
    executor: Executor, define: Define, effects_in_our_database: Any
) -> None:
    def slow() -> None:
        effects_in_our_database.create(name="effect")
        time.sleep(5)

    run = execute(executor, define(slow, atomic=True, max_duration="50ms")())
    assert run.attempts[0].outcome == Outcome.TIMED_OUT
    assert not effects_in_our_database.exists()


def test_an_atomic_coroutine_function_is_whole_too(
    executor: Executor, define: Define, effects_in_our_database: Any
) -> None:
    async def half() -> None:
        await effects_in_our_database.acreate(name="effect")
        await add.aenqueue(1)
        raise ValueError

    run = execute(executor, define(half, atomic=True)())
    assert not effects_in_our_database.exists()
    assert not Run.objects.filter(parent=run).exists()


def test_an_atomic_function_that_lost_its_claim_leaves_nothing(
    executor: Executor,
    define: Define,
    effects_in_our_database: Any,
    events: list[RunEvent],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def late() -> None:
        effects_in_our_database.create(name="effect")
        Run.objects.update(claim_id=uuid4())  # as if another had taken it over

    run = execute(executor, define(late, atomic=True)())
    assert run.state == State.RUNNING
    assert not effects_in_our_database.exists()
    assert "run.late" in caplog.text
    assert names(events) == ["run.started"]


def test_without_atomic_effects_stay(executor: Executor, define: Define) -> None:
    def half() -> None:
        Effect.objects.create(name="effect")
        raise ValueError

    execute(executor, define(half)())
    assert Effect.objects.count() == 1


# -- a claim that was taken away -------------------------------------------------------------------


def test_a_claim_that_was_taken_back_is_not_executed(
    executor: Executor, events: list[RunEvent], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "django_defer")
    run = add(1)
    mine = claim(run)
    executor.execute(replace(mine, claim_id=uuid4()))
    assert fresh(run).state == State.CLAIMED
    assert events == []
    assert "run.refused" in caplog.text


@pytest.mark.parametrize("error", [None, ValueError("no"), Cancel("no")])
def test_a_result_that_comes_too_late_changes_nothing_and_is_told(
    executor: Executor,
    define: Define,
    events: list[RunEvent],
    caplog: pytest.LogCaptureFixture,
    error: Exception | None,
) -> None:
    def late() -> None:
        Run.objects.update(state=State.SCHEDULED, claim_id=None)
        if error:
            raise error

    run = execute(executor, define(late)())
    assert (run.state, run.failures) == (State.SCHEDULED, 0)
    assert not run.attempts
    assert "run.late" in caplog.text
    assert names(events) == ["run.started"]


# -- what a function may leave behind --------------------------------------------------------------


def test_a_transaction_that_a_function_left_open_is_rolled_back(
    executor: Executor, define: Define
) -> None:
    def careless() -> str:
        transaction.atomic(using=DATABASE).__enter__()
        Effect.objects.using(DATABASE).create(name="never committed")
        return "done"

    run = execute(executor, define(careless)())
    assert run.get_result() == "done"
    assert not runs.database().in_atomic_block
    assert not Effect.objects.using(DATABASE).exists()


def test_a_function_may_close_the_connection(executor: Executor, define: Define) -> None:
    def close() -> str:
        connections[DATABASE].close()
        return "done"

    assert execute(executor, define(close)()).get_result() == "done"


def test_an_error_of_the_database_in_a_function_is_its_failure(
    executor: Executor, define: Define
) -> None:
    def wrong() -> None:
        with connections[DATABASE].cursor() as cursor:
            cursor.execute("SELECT nonsense")

    run = execute(executor, define(wrong)())
    assert run.state == State.SCHEDULED
    assert issubclass(DatabaseError, Exception)
    assert "nonsense" in run.error


def test_the_signal_handlers_of_the_worker_are_put_back(executor: Executor, define: Define) -> None:
    def meddle() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    before = signal.getsignal(signal.SIGTERM)
    execute(executor, define(meddle)())
    assert signal.getsignal(signal.SIGTERM) is before


# -- work ------------------------------------------------------------------------------------------


def test_work_executes_claims_one_after_the_other(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "_executor", executor)
    made = [add(number) for number in range(3)]
    claims = claim_for(new_cluster(), "0.1", "0.1", "0.1", keys=("testapp.add",))
    worker_process.work([mine.as_list() for _, mine in claims])
    assert [fresh(run).get_result() for run in made] == [1, 2, 3]
    assert executor.ended == 3


def test_work_outside_of_a_worker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "_executor", None)
    with pytest.raises(DeferError, match="in a worker of defer_worker only"):
        worker_process.work([])


def test_a_retry_after_a_success_is_impossible(executor: Executor) -> None:
    mine = claim(add(1))
    executor.execute(mine)
    executor.execute(mine)
    assert Run.objects.get().attempt == 1
    assert Run.objects.get().state == State.SUCCEEDED


def test_an_unreadable_payload_is_never_worth_another_attempt(
    executor: Executor, define: Define
) -> None:
    def read() -> None:
        raise UnreadablePayload("gone")

    policy = RetryPolicy(retry_on=BaseException)
    assert execute(executor, define(read, retry=policy)()).state == State.FAILED


def test_a_rerun_of_a_scheduled_run_stands_for_its_slot(executor: Executor, define: Define) -> None:
    seen: list[datetime | None] = []

    def look() -> None:
        current = current_run()
        assert current is not None
        seen.append(current.slot)

    define(look)
    slot = datetime(2026, 5, 4, 8, tzinfo=UTC)
    run = runs.new_run("defined.look", slot=slot)
    execute(executor, run)
    execute(executor, fresh(run).rerun())
    assert seen == [slot, slot]
