"""What a person does: run now, pause, resume, cancel, reschedule, rerun, wait."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction

from django_defer import (
    AbortInProgress,
    CalledInEventLoop,
    InvalidOption,
    ResultNotReady,
    ResultUnavailable,
    RunNotCancellable,
    RunNotReschedulable,
    UnknownFunction,
    operations,
    pauses,
    transitions,
)
from django_defer.clock import database_now
from django_defer.context import CurrentRun, running
from django_defer.exceptions import RunNotRerunnable, WaitInsideRun, WaitInsideTransaction
from django_defer.ids import uuid7
from django_defer.materialise import materialise
from django_defer.membership import Membership
from django_defer.models import BackgroundFunction, CronDefinition, Queue, Run
from django_defer.operations import run_now
from django_defer.pauses import pause, pause_queue, resume, resume_overdue
from django_defer.payloads import decode_call, encode_result
from django_defer.states import FINISHED, WAITING, Reason, State
from tests import runs
from tests.runs import (
    DATABASE,
    NOOP,
    captured,
    committing,
    fresh,
    new_cluster,
    new_definition,
    new_run,
    rolled_back,
)
from tests.testapp.defer import add, weekly

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = runs.in_transaction

MONDAY = datetime(2026, 5, 4, 8, tzinfo=UTC)


def values_of(row: Any) -> dict[str, Any]:
    values: dict[str, Any] = type(row).objects.filter(pk=row.pk).values().get()
    return values


# -- run now -------------------------------------------------------------------------------------


@pytest.mark.parametrize("paused_at", [None, MONDAY])
def test_a_run_now_leaves_the_schedule_as_it_is(paused_at: datetime | None) -> None:
    definition = new_definition(next_slot_at=MONDAY, paused_at=paused_at)
    before = values_of(definition)
    run = definition.run_now(actor="ann")
    assert values_of(definition) == before
    stored = fresh(run)
    assert (stored.definition, stored.slot, stored.state) == (definition, None, State.QUEUED)
    assert (stored.function_id, stored.enqueued_by) == ("testapp.weekly", "ann")


def test_a_run_now_does_not_use_up_the_slot() -> None:
    definition = new_definition(next_slot_at=MONDAY)
    definition.run_now()
    definition.run_now()
    assert len(materialise(DATABASE, MONDAY)) == 1
    assert Run.objects.filter(definition=definition).count() == 3


def test_a_run_now_works_before_the_definition_was_synced() -> None:
    assert fresh(weekly.run_now()).definition is None


def test_a_run_now_takes_the_options_of_a_call() -> None:
    run = weekly.using(label="by hand", priority=5, delay="1h").run_now(actor="ann")
    assert (run.label, run.priority, run.enqueued_by) == ("by hand", 5, "ann")
    assert run.state == State.SCHEDULED


def test_a_background_function_can_be_run_by_its_key() -> None:
    run = run_now("testapp.add", call=((1,), {"second": 2}), actor="x" * 300)
    assert decode_call(fresh(run).args) == ([1], {"second": 2})
    assert fresh(run).enqueued_by == "x" * 200


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UnknownFunction, match=r"Did you mean 'testapp\.weekly'"):
        run_now("testapp.weekli")


# -- a definition ----------------------------------------------------------------------------------


def test_a_paused_definition_does_not_fire_and_says_who_paused_it_and_why() -> None:
    definition = new_definition(next_slot_at=MONDAY)
    before = database_now(DATABASE)
    definition.pause(reason="holiday", until=MONDAY, actor="ann")
    for row in (definition, CronDefinition.objects.get()):
        assert row.is_paused
        assert row.paused_at is not None
        assert before <= row.paused_at <= database_now(DATABASE)
        assert (row.paused_by, row.pause_reason, row.paused_until) == ("ann", "holiday", MONDAY)
        assert (row.next_slot_at, row.version) == (None, 1)
    assert materialise(DATABASE, MONDAY) == []


def test_a_resumed_definition_goes_on_from_now_and_what_was_missed_stays_missed() -> None:
    definition = new_definition(next_slot_at=MONDAY, error="of another time")
    definition.pause(reason="holiday", actor="ann")
    definition.resume(actor="bob")
    now = database_now(DATABASE)
    for row in (definition, CronDefinition.objects.get()):
        assert not row.is_paused
        assert (row.paused_by, row.pause_reason, row.paused_until) == ("", "", None)
        assert row.next_slot_at == row.schedule.next_after(now)
        assert (row.version, row.error) == (2, "")
    assert materialise(DATABASE, now) == []


def test_resuming_what_is_not_paused_passes_over_no_slot() -> None:
    definition = new_definition(next_slot_at=MONDAY)
    before = values_of(definition)
    definition.resume()
    assert values_of(definition) == before
    assert len(materialise(DATABASE, MONDAY)) == 1


def test_a_resume_goes_by_the_row_and_not_by_what_was_read_earlier() -> None:
    definition = new_definition(next_slot_at=MONDAY)
    definition.pause()
    CronDefinition.objects.update(expression_override="30 9 * * *")
    definition.resume()
    assert definition.next_slot_at is not None
    assert (definition.next_slot_at.hour, definition.next_slot_at.minute) == (9, 30)


def test_an_orphan_that_is_resumed_does_not_fire() -> None:
    definition = new_definition(paused_at=MONDAY, orphaned_at=MONDAY)
    definition.resume()
    assert (definition.is_paused, definition.next_slot_at) == (False, None)


def test_a_pause_with_an_end_is_over_then_and_not_before() -> None:
    definition = new_definition(next_slot_at=MONDAY)
    definition.pause(until=MONDAY)
    pause_queue("mail", until=MONDAY)
    assert resume_overdue(DATABASE, MONDAY - timedelta(seconds=1)) == 0
    assert resume_overdue(DATABASE, MONDAY) == 2
    definition.refresh_from_db()
    assert not definition.is_paused
    assert definition.next_slot_at is not None
    assert not Queue.objects.get().is_paused
    assert resume_overdue(DATABASE, MONDAY) == 0


def test_a_pause_without_an_end_is_never_overdue() -> None:
    definition = new_definition(next_slot_at=MONDAY)
    definition.pause()
    assert resume_overdue(DATABASE, MONDAY + timedelta(days=3650)) == 0


def test_the_async_twins_of_a_definition() -> None:
    definition = new_definition("testapp.weekly", next_slot_at=MONDAY)
    async_to_sync(definition.apause)(reason="holiday", actor="ann")
    assert (definition.is_paused, definition.paused_by) == (True, "ann")
    async_to_sync(definition.aresume)()
    assert not definition.is_paused
    assert async_to_sync(definition.arun_now)(actor="ann").enqueued_by == "ann"


# -- a function --------------------------------------------------------------------------------


@pytest.fixture
def noop_function() -> BackgroundFunction:
    return BackgroundFunction.objects.create(key=NOOP)


def test_the_runs_of_a_paused_function_are_parked_and_come_back(
    noop_function: BackgroundFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (transitions, pauses):
        monkeypatch.setattr(module, "BATCH", 2)
    mine = [new_run() for _ in range(5)]
    other, scheduled = new_run("testapp.add"), new_run(state=State.SCHEDULED)
    without_code = new_run(state=State.PARKED, reason=Reason.NO_CODE)
    pause(noop_function, reason="broken", actor="ann")
    assert (noop_function.is_paused, noop_function.paused_by) == (True, "ann")
    for run in mine:
        assert (fresh(run).state, fresh(run).reason) == (State.PARKED, Reason.FUNCTION_PAUSED)
    assert fresh(other).state == State.QUEUED
    assert fresh(scheduled).state == State.SCHEDULED
    resume(noop_function)
    assert not noop_function.is_paused
    assert {fresh(run).state for run in mine} == {State.QUEUED}
    assert {fresh(run).reason for run in mine} == {""}
    assert (fresh(without_code).state, fresh(without_code).reason) == (
        State.PARKED,
        Reason.NO_CODE,
    )


def membership() -> Membership:
    cluster = new_cluster()
    return Membership(
        using=DATABASE,
        queues=["default"],
        serves_all=True,
        keys=[NOOP],
        workers=1,
        schedules=True,
        lease=timedelta(seconds=30),
        id=cluster.pk,
    )


def test_a_run_enqueued_during_a_pause_is_parked_by_a_cluster(
    noop_function: BackgroundFunction,
) -> None:
    pause(noop_function)
    run = new_run()
    assert membership().sort_parked(database_now(DATABASE)) == (1, 0)
    assert (fresh(run).state, fresh(run).reason) == (State.PARKED, Reason.FUNCTION_PAUSED)
    resume(noop_function)
    assert fresh(run).state == State.QUEUED


@pytest.mark.parametrize("reason", [Reason.NO_CODE, Reason.FUNCTION_PAUSED])
def test_a_run_that_was_parked_too_late_is_unparked_by_a_cluster(
    noop_function: BackgroundFunction, reason: Reason
) -> None:
    run = new_run(state=State.PARKED, reason=reason)  # and its function is not paused any more
    assert membership().sort_parked(database_now(DATABASE)) == (0, 1)
    assert fresh(run).state == State.QUEUED


def test_what_is_parked_for_a_pause_stays_parked_during_it(
    noop_function: BackgroundFunction,
) -> None:
    run = new_run()
    pause(noop_function)
    assert membership().sort_parked(database_now(DATABASE)) == (0, 0)
    assert fresh(run).state == State.PARKED


def test_a_run_without_code_is_parked_and_comes_back_with_it() -> None:
    unknown = new_run("testapp.of_another_version")
    known = new_run()
    member = membership()
    assert member.sort_parked(database_now(DATABASE)) == (1, 0)
    assert (fresh(unknown).state, fresh(unknown).reason) == (State.PARKED, Reason.NO_CODE)
    assert fresh(known).state == State.QUEUED
    member.keys = [NOOP, "testapp.of_another_version"]
    assert member.sort_parked(database_now(DATABASE)) == (0, 1)
    assert fresh(unknown).state == State.QUEUED


# -- a queue ---------------------------------------------------------------------------------------


def test_a_queue_is_paused_by_name_and_its_runs_stay_where_they_are() -> None:
    run = new_run()
    queue = pause_queue("default", reason="moving", actor="ann")
    stored = Queue.objects.get()
    assert (stored.is_paused, stored.paused_by, stored.pause_reason) == (True, "ann", "moving")
    assert fresh(run).state == State.QUEUED
    resume(queue)
    assert not Queue.objects.get().is_paused
    pause_queue("default")
    assert Queue.objects.get().is_paused


# -- pauses with an end ----------------------------------------------------------------------------


def test_a_pause_ends_when_its_time_has_come_and_not_before() -> None:
    now = database_now(DATABASE)
    definition = new_definition(next_slot_at=MONDAY)
    function = BackgroundFunction.objects.create(key=NOOP)
    run = new_run()
    for target in (definition, function):
        pause(target, until=now, actor="ann")
    pause_queue("default", until=now)
    kept = pause_queue("mail", until=now + timedelta(microseconds=1))
    for_good = pause_queue("slow")
    assert resume_overdue(DATABASE, now - timedelta(microseconds=1)) == 0
    assert fresh(run).state == State.PARKED
    assert resume_overdue(DATABASE, now) == 3
    assert fresh(run).state == State.QUEUED
    definition.refresh_from_db()
    assert definition.next_slot_at is not None
    assert definition.next_slot_at > now
    paused = Queue.objects.filter(paused_at__isnull=False)
    assert set(paused) == {kept, for_good}
    assert resume_overdue(DATABASE, now) == 0


def test_a_pause_that_was_made_anew_meanwhile_goes_on() -> None:
    now = database_now(DATABASE)
    definition = new_definition(next_slot_at=MONDAY)
    definition.pause(until=now)
    pauses._end_pause(definition, CronDefinition.objects.filter(paused_until__lt=now))
    definition.refresh_from_db()
    assert definition.is_paused


# -- cancel ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted({*WAITING, State.CLAIMED}))
def test_a_run_that_has_not_started_is_cancelled(state: State) -> None:
    run = new_run(state=state)
    run.cancel(actor="ann")
    assert (run.state, run.reason) == (State.CANCELLED, "cancelled by ann")
    assert fresh(run).finished_at is not None


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({}, "cancelled"),
        ({"reason": "not needed"}, "not needed"),
        ({"reason": "not needed", "actor": "ann"}, "not needed (cancelled by ann)"),
    ],
)
def test_a_cancelled_run_says_why_and_by_whom(how: dict[str, Any], text: str) -> None:
    run = new_run()
    run.cancel(**how)
    assert fresh(run).reason == text


@pytest.mark.parametrize("state", sorted({*FINISHED, State.RUNNING}))
def test_a_run_that_has_started_is_not_cancelled(state: State) -> None:
    run = new_run(state=state)
    run.state = State.QUEUED  # what its caller last saw
    with pytest.raises(RunNotCancellable, match=f"is {state}: only a run that has not") as caught:
        run.cancel()
    assert (caught.value.run_id, caught.value.state) == (run.pk, state)
    assert fresh(run).state == state


@pytest.mark.parametrize("state", sorted({*WAITING, State.CLAIMED}))
def test_what_has_not_started_is_cancelled_with_force_too(state: State) -> None:
    run = new_run(state=state)
    run.cancel(force=True, actor="ann")
    assert (run.state, run.reason) == (State.CANCELLED, "cancelled by ann")
    assert run.abort_requested_at is None


def test_a_run_that_is_running_is_aborted_with_force_alone() -> None:
    run = new_run(state=State.RUNNING)
    with pytest.raises(RunNotCancellable, match=r"cancel\(force=True\) aborts it"):
        run.cancel()
    assert fresh(run).abort_requested_at is None
    run.cancel(force=True, actor="ann", reason="the provider is down")
    assert (run.state, run.reason) == (State.RUNNING, "the provider is down (aborted by ann)")
    assert run.abort_requested_at is not None
    with pytest.raises(AbortInProgress, match="it is being aborted since 20") as caught:
        run.cancel(force=True)
    assert (caught.value.run_id, caught.value.since) == (run.pk, run.abort_requested_at)
    assert fresh(run).reason == "the provider is down (aborted by ann)"


def test_a_run_is_aborted_from_async_code() -> None:
    run = new_run(state=State.RUNNING)
    async_to_sync(run.acancel)(force=True, actor="ann")
    assert (run.reason, run.abort_requested_at is None) == ("aborted by ann", False)


@pytest.mark.parametrize("state", sorted(FINISHED))
def test_a_run_that_has_ended_is_not_aborted(state: State) -> None:
    run = new_run(state=state)
    run.state = State.RUNNING  # what its caller last saw
    with pytest.raises(RunNotCancellable, match=f"is {state}: only a run that has not"):
        run.cancel(force=True)
    assert fresh(run).abort_requested_at is None


@pytest.mark.parametrize("force", [False, True])
def test_a_run_that_comes_back_to_the_queue_meanwhile_is_cancelled(
    force: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker dies, or it fails and waits for a retry, after the look that found it running."""
    run = new_run(state=State.RUNNING)
    once = transitions.cancel_waiting

    def look_and_lose(using: str, run_id: UUID, reason: str) -> bool:
        seen = once(using, run_id, reason)
        Run.objects.filter(pk=run_id, state=State.RUNNING).update(state=State.SCHEDULED)
        return seen

    monkeypatch.setattr(operations, "cancel_waiting", look_and_lose)
    run.cancel(force=force)
    assert fresh(run).state == State.CANCELLED


# -- reschedule ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(WAITING))
def test_a_run_that_waits_is_rescheduled(state: State) -> None:
    run = new_run(state=state)
    when = datetime(2100, 1, 1, tzinfo=UTC)
    run.reschedule(when, actor="ann")
    assert (run.state, run.run_after) == (State.SCHEDULED, when)
    run.reschedule()
    assert run.state == State.QUEUED


@pytest.mark.parametrize("state", sorted(set(State) - WAITING))
def test_a_run_that_does_not_wait_is_not_rescheduled(state: State) -> None:
    run = new_run(state=state)
    with pytest.raises(RunNotReschedulable, match="only a run that waits") as caught:
        run.reschedule()
    assert caught.value.state == state


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidOption, match="aware datetime"):
        new_run().reschedule(datetime(2100, 1, 1))  # noqa: DTZ001


# -- rerun -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(FINISHED))
def test_a_run_that_has_ended_is_run_again_as_a_new_one(state: State) -> None:
    definition = new_definition()
    run = new_run(
        state=state,
        args={"args": [1], "kwargs": {}},
        queue="mail",
        priority=4,
        label="Ann",
        max_attempts=3,
        rerun_if_lost=False,
        definition=definition,
        slot=MONDAY,
        missed_slots=2,
        parent_id=uuid4(),
        root_id=uuid4(),
        attempt=3,
        failures=3,
        losses=1,
    )
    again = fresh(run.rerun(actor="ann"))
    assert again.pk != run.pk
    same = ("function_id", "args", "queue", "priority", "label", "max_attempts", "rerun_if_lost")
    for name in (*same, "definition_id", "missed_slots", "parent_id", "root_id"):
        assert getattr(again, name) == getattr(run, name), name
    assert (again.rerun_of, again.enqueued_by, again.state) == (run, "ann", State.QUEUED)
    assert (again.attempt, again.failures, again.losses, again.slot) == (0, 0, 0, None)
    assert fresh(run).state == state
    assert list(run.reruns.all()) == [again]


@pytest.mark.parametrize("state", sorted(set(State) - FINISHED))
def test_a_run_that_has_not_ended_is_not_run_again(state: State) -> None:
    run = new_run(state=state)
    with pytest.raises(RunNotRerunnable, match="only a run that has ended") as caught:
        run.rerun()
    assert caught.value.state == state
    assert Run.objects.count() == 1


def test_a_rerun_made_by_a_run_is_its_child() -> None:
    current = CurrentRun(
        id=uuid4(), function="shop.repair", attempt=1, is_last_attempt=False, root_id=uuid4()
    )
    run = new_run(state=State.FAILED)
    with running(current):
        again = run.rerun()
    assert (again.parent_id, again.root_id) == (current.id, current.root_id)
    assert again.enqueued_by == "shop.repair"


# -- wait ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(FINISHED))
def test_waiting_for_what_has_ended_returns_it_at_once(state: State) -> None:
    run = new_run(state=state)
    run.state = State.QUEUED
    with captured() as queries:
        assert run.wait() is run
    assert run.state == state
    assert len(queries) == 1


def test_a_result_is_read_back_as_what_it_was() -> None:
    value = {"when": MONDAY, "pair": (1, 2)}
    run = new_run(state=State.SUCCEEDED, result=encode_result(NOOP, value))
    assert run.get_result() == value
    assert async_to_sync(run.aget_result)() == value


@pytest.mark.parametrize("state", sorted(FINISHED - {State.SUCCEEDED}))
def test_a_run_that_ended_without_a_result_says_why(state: State) -> None:
    run = new_run(state=state, error_class="ValueError", error_message="no luck")
    with pytest.raises(ResultUnavailable, match="ValueError: no luck") as caught:
        run.get_result()
    assert caught.value.state == state


def test_a_cancelled_run_gives_its_reason_instead_of_a_result() -> None:
    run = new_run()
    run.cancel(reason="not needed")
    with pytest.raises(ResultUnavailable, match="is cancelled: not needed"):
        run.get_result()


@committing
@pytest.mark.parametrize("timeout", [0.05, "50ms", timedelta(milliseconds=50)])
def test_waiting_ends_with_the_time_given(timeout: Any) -> None:
    run = add(1)
    began = time.monotonic()
    with pytest.raises(ResultNotReady, match="is queued: it has no result yet") as caught:
        run.wait(timeout)
    assert 0.05 <= time.monotonic() - began < 2
    assert (caught.value.run_id, caught.value.state) == (run.pk, State.QUEUED)


def in_thread(act: Callable[[], object]) -> threading.Thread:
    def work() -> None:
        try:
            act()
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@committing
def test_waiting_ends_when_the_run_does() -> None:
    run = new_run(state=State.RUNNING)

    def finish() -> None:
        time.sleep(0.1)
        Run.objects.filter(pk=run.pk).update(state=State.SUCCEEDED, result=7)

    thread = in_thread(finish)
    assert run.get_result(timeout=10) == 7
    thread.join()


@committing
def test_waiting_in_the_transaction_that_enqueued_it_is_refused() -> None:
    with transaction.atomic(using=DATABASE):
        run = add(1)
        with pytest.raises(WaitInsideTransaction, match="still open") as caught:
            run.wait(timeout=5)
        assert caught.value.run_id == run.pk
        with pytest.raises(WaitInsideTransaction):
            run.get_result()
    with pytest.raises(ResultNotReady):
        run.wait(timeout=0.01)


@committing
def test_waiting_is_refused_in_an_inner_block_and_after_one_was_rolled_back() -> None:
    with transaction.atomic(using=DATABASE):
        run = add(1)
        with transaction.atomic(using=DATABASE), pytest.raises(WaitInsideTransaction):
            run.wait(timeout=5)
        with transaction.atomic(using=DATABASE):
            inner = add(2)
        with pytest.raises(WaitInsideTransaction):
            inner.wait(timeout=5)
        with rolled_back():
            pass
        with pytest.raises(WaitInsideTransaction):
            run.wait(timeout=5)


@committing
def test_waiting_for_a_run_that_was_fetched_again_is_refused_as_well() -> None:
    with transaction.atomic(using=DATABASE):
        run = add(1)
        with pytest.raises(WaitInsideTransaction):
            fresh(run).wait(timeout=5)
        with transaction.atomic(using=DATABASE):
            inner = add(2)
            with transaction.atomic(using=DATABASE):
                innermost = add(3)
            for each in (run, inner, innermost):
                with pytest.raises(WaitInsideTransaction):
                    fresh(each).wait(timeout=5)
        add.map([(4,), (5,)])
        for each in Run.objects.all():
            with pytest.raises(WaitInsideTransaction):
                each.wait(timeout=5)


@committing
def test_waiting_for_what_the_transaction_itself_changed_is_refused() -> None:
    run = add.using(delay="1h")(1)
    with transaction.atomic(using=DATABASE):
        run.reschedule()
        with pytest.raises(WaitInsideTransaction):
            run.wait(timeout=5)


@committing
def test_waiting_for_another_run_inside_a_run_needs_a_timeout() -> None:
    run, done = add(1), new_run(state=State.SUCCEEDED)
    outer = CurrentRun(
        id=uuid7(), function="testapp.fan_out", attempt=1, is_last_attempt=False, root_id=uuid7()
    )
    with running(outer):
        with pytest.raises(WaitInsideRun, match="Give timeout="):
            run.get_result()
        with pytest.raises(WaitInsideRun, match="Give timeout=") as caught:
            run.wait()
        assert (caught.value.run_id, caught.value.waiting_id) == (run.pk, outer.id)
        with pytest.raises(ResultNotReady):
            run.wait(timeout=0.01)
        assert done.wait() == done
    with pytest.raises(ResultNotReady):
        run.wait(timeout=0.01)


@committing
@pytest.mark.postgres
def test_waiting_in_another_transaction_is_possible() -> None:
    run = add(1)
    with transaction.atomic(using=DATABASE):
        with pytest.raises(ResultNotReady):
            run.wait(timeout=0.05)
        add(2)
        for each in (run, fresh(run)):
            with pytest.raises(ResultNotReady):
                each.wait(timeout=0.05)


@committing
@pytest.mark.postgres
def test_waiting_in_a_later_call_of_the_same_decorated_function_is_possible() -> None:
    made: list[Run] = []

    @transaction.atomic(using=DATABASE)
    def enqueue_then_wait_for_the_first() -> None:
        made.append(add(len(made)))
        if len(made) > 1:
            made[0].wait(timeout=0.05)

    enqueue_then_wait_for_the_first()
    with pytest.raises(ResultNotReady):
        enqueue_then_wait_for_the_first()


@committing
@pytest.mark.postgres
def test_waiting_for_what_another_transaction_committed_meanwhile_is_possible() -> None:
    made: list[Run] = []
    with transaction.atomic(using=DATABASE):
        own = add(1)  # this transaction is the older of the two
        in_thread(lambda: made.append(add(2))).join()
        with transaction.atomic(using=DATABASE):
            in_thread(lambda: made.append(add(3))).join()
        for run in made:
            with pytest.raises(ResultNotReady):
                run.wait(timeout=0.05)
        with pytest.raises(WaitInsideTransaction):
            own.wait(timeout=5)


@committing
@pytest.mark.sqlite
def test_waiting_in_any_transaction_is_refused_where_it_would_keep_the_worker_out() -> None:
    run = add(1)
    with transaction.atomic(using=DATABASE), pytest.raises(WaitInsideTransaction):
        run.wait(timeout=5)


# -- async -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["wait", "get_result", "cancel", "reschedule", "rerun"])
def test_a_synchronous_verb_in_an_event_loop_is_refused(verb: str) -> None:
    run = new_run()

    async def call() -> None:
        getattr(run, verb)()

    with pytest.raises(CalledInEventLoop, match="await"):
        asyncio.run(call())


def test_the_async_twins_of_a_run() -> None:
    async def live() -> None:
        run = await add.aenqueue(1)
        await run.areschedule(datetime(2100, 1, 1, tzinfo=UTC))
        assert run.state == State.SCHEDULED
        await run.acancel(reason="enough")
        assert (await run.await_end()).state == State.CANCELLED
        again = await run.arerun(actor="ann")
        assert again.enqueued_by == "ann"

    async_to_sync(live)()
