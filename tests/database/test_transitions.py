"""Every move of a run: what it writes, what it refuses, and the fence around a worker's writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from django_defer import attempts, endings, transitions
from django_defer.attempt_facts import Failure, Started, Success
from django_defer.claims import Claim
from django_defer.clock import database_now
from django_defer.endings import MAX_LOSSES
from django_defer.models import Attempt, Run
from django_defer.states import ACTIVE, FINISHED, MOVES, WAITING, Outcome, Reason, State
from django_defer.transitions import move
from tests import runs
from tests.runs import DATABASE, captured, claim_of, fresh, new_run, plan_of, start

pytestmark = runs.in_transaction

BROKEN = Failure(
    outcome=Outcome.FAILED,
    error_class="ValueError",
    error_message="no luck",
    traceback="Traceback: here",
)
GONE = Failure(
    outcome=Outcome.LOST,
    error_class="Lost",
    error_message="its worker is gone",
    exit_code=-9,
    signal="SIGKILL",
)


def run_in(state: State, **columns: Any) -> Run:
    return new_run(state=state, **columns)


def started_of(run: Run, claim: Claim | None = None) -> Started:
    """Return what a worker that started this run holds in its hands."""
    return Started(
        claim=claim or claim_of(run),
        function=str(run.function_id),
        args=run.args,
        started_at=run.started_at or datetime(2026, 1, 1, tzinfo=UTC),
        slot=None,
        missed_slots=0,
        root_id=run.pk,
        failures=run.failures,
        max_attempts=run.max_attempts,
    )


# -- the table of moves ----------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), list(product(State, State)))
def test_a_move_that_the_table_lacks_is_refused_and_changes_nothing(old: State, new: State) -> None:
    run = run_in(old)
    if new in MOVES[old]:
        assert move(Run.objects.filter(pk=run.pk), {old}, new) == 1
        assert fresh(run).state == new
    elif new != old:
        with pytest.raises(ValueError, match=f"cannot move from {old} to {new}"):
            move(Run.objects.filter(pk=run.pk), {old}, new)
        assert fresh(run).state == old


@pytest.mark.parametrize("old", State)
def test_a_run_that_has_moved_meanwhile_is_not_moved(old: State) -> None:
    run = run_in(old)
    others = {state for state in (State.QUEUED, State.CLAIMED) if state != old}
    assert move(Run.objects.filter(pk=run.pk), others, State.CANCELLED) == 0
    assert fresh(run).state == old


# Each verb with the states that it accepts.
VERBS: dict[str, tuple[Callable[[Run], Any], set[State]]] = {
    "start": (
        lambda run: attempts.start(DATABASE, claim_of(run), "0.1"),
        set(ACTIVE),
    ),
    "succeed": (
        lambda run: attempts.succeed(DATABASE, Success(started_of(run), "1", 0.0)),
        set(ACTIVE),
    ),
    "fail": (
        lambda run: endings.fail(DATABASE, started_of(run), BROKEN, None),
        set(ACTIVE),
    ),
    "retry": (
        lambda run: endings.fail(DATABASE, started_of(run), BROKEN, timedelta(0)),
        set(ACTIVE),
    ),
    "cancel itself": (
        lambda run: endings.cancel_running(DATABASE, started_of(run), "why"),
        set(ACTIVE),
    ),
    "lose": (lambda run: endings.lose(DATABASE, run, GONE), set(ACTIVE)),
    "fail overdue": (
        lambda run: endings.fail_overdue(DATABASE, run, BROKEN, None),
        set(ACTIVE),
    ),
    "abort": (
        lambda run: endings.abort_running(DATABASE, started_of(run), BROKEN),
        set(ACTIVE),
    ),
    "request abort": (
        lambda run: transitions.request_abort(DATABASE, Run.objects.filter(pk=run.pk), "why"),
        {State.RUNNING},
    ),
    "release": (
        lambda run: transitions.release(Run.objects.filter(pk=run.pk)),
        {State.CLAIMED},
    ),
    "park": (
        lambda run: transitions.park(DATABASE, Run.objects.all(), Reason.NO_CODE),
        {State.QUEUED},
    ),
    "unpark": (lambda run: transitions.unpark(DATABASE, Run.objects.all()), {State.PARKED}),
    "cancel": (
        lambda run: transitions.cancel_waiting(DATABASE, run.pk, "why"),
        {*WAITING, State.CLAIMED},
    ),
    "reschedule": (
        lambda run: transitions.reschedule(DATABASE, run.pk, datetime(2100, 1, 1, tzinfo=UTC)),
        set(WAITING),
    ),
    "make due": (lambda run: transitions.reschedule(DATABASE, run.pk, None), set(WAITING)),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_changes_runs_in_the_states_that_it_is_for_and_no_others(
    verb: str, state: State
) -> None:
    act, accepted = VERBS[verb]
    run = run_in(state, claim_id=uuid4(), attempt=1)
    before = Run.objects.filter(pk=run.pk).values().get()
    answer = act(run)
    if state in accepted:
        assert answer
        assert verb == "start" or Run.objects.filter(pk=run.pk).values().get() != before
    else:
        assert not answer
        assert Run.objects.filter(pk=run.pk).values().get() == before
        assert not Attempt.objects.exists()


@pytest.mark.parametrize("state", sorted(ACTIVE))
@pytest.mark.parametrize(
    "verb", ["start", "succeed", "fail", "retry", "cancel itself", "lose", "fail overdue"]
)
def test_whoever_lost_the_claim_changes_nothing(verb: str, state: State) -> None:
    run = run_in(state)
    before = Run.objects.filter(pk=run.pk).values().get()
    stale = fresh(run)
    stale.claim_id = uuid4()
    assert not VERBS[verb][0](stale)
    assert Run.objects.filter(pk=run.pk).values().get() == before
    assert not Attempt.objects.exists()


# -- start ---------------------------------------------------------------------------------------


def test_a_start_is_one_statement_that_returns_all_an_attempt_needs() -> None:
    slot = datetime(2026, 5, 4, 8, 0, 0, 5, tzinfo=UTC)
    root = uuid4()
    run = run_in(
        State.CLAIMED,
        args={"args": [1, "é"], "kwargs": {"x": None}},
        slot=slot,
        missed_slots=3,
        root_id=root,
        failures=2,
        max_attempts=5,
    )
    with captured() as queries:
        started = start(run)
    assert len(queries) <= 1  # a prepared one isn't seen at all
    assert started.claim == claim_of(run)
    assert started.function == run.function_id
    assert started.args == run.args
    assert (started.slot, started.missed_slots) == (slot, 3)
    assert (started.root_id, started.failures, started.max_attempts) == (root, 2, 5)
    stored = fresh(run)
    assert (stored.state, stored.worker) == (State.RUNNING, "0.1")
    assert stored.started_at == started.started_at


def test_a_run_without_a_root_is_its_own() -> None:
    run = run_in(State.CLAIMED)
    assert start(run).root_id == run.pk


def test_a_start_whose_answer_was_lost_can_be_repeated_by_the_same_claim() -> None:
    run = run_in(State.CLAIMED)
    first, second = start(run), start(run)
    assert second.claim == first.claim
    assert fresh(run).attempt == 1


@pytest.mark.parametrize("state", sorted(FINISHED))
def test_a_run_that_has_ended_does_not_start_again(state: State) -> None:
    run = run_in(state)
    assert attempts.start(DATABASE, claim_of(run), "0.1") is None


def test_a_rerun_stands_for_the_slot_of_the_run_that_it_repeats() -> None:
    slot = datetime(2026, 5, 4, 8, tzinfo=UTC)
    first = run_in(State.FAILED, slot=slot)
    second = run_in(State.FAILED, rerun_of=first)
    third = run_in(State.CLAIMED, rerun_of=second)
    assert start(third).slot == slot


def test_a_rerun_of_what_has_been_pruned_starts_without_a_slot() -> None:
    assert start(run_in(State.CLAIMED, rerun_of_id=uuid4())).slot is None


@pytest.mark.postgres
@pytest.mark.parametrize(("again", "durability"), [(True, "off"), (False, "on")])
def test_a_start_waits_for_the_disk_only_where_a_second_one_is_forbidden(
    again: bool, durability: str
) -> None:
    with runs.database().cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = on")
        start(run_in(State.CLAIMED, rerun_if_lost=again))
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == (durability,)


# -- success -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_a_success_writes_the_result_and_both_times(state: State) -> None:
    run = run_in(state, error_class="Old", error_message="of an earlier attempt")
    started = started_of(run)
    assert attempts.succeed(DATABASE, Success(started, '{"a": [1, null, "é"]}', 0.0))
    stored = fresh(run)
    assert stored.state == State.SUCCEEDED
    assert stored.result == {"a": [1, None, "é"]}
    assert stored.started_at == started.started_at  # the start itself may have been forgotten
    assert stored.finished_at is not None
    assert (stored.error_class, stored.error_message) == ("", "")


def test_a_success_counts_once() -> None:
    started = started_of(run_in(State.RUNNING))
    assert attempts.succeed(DATABASE, Success(started, "1", 0.0))
    assert not attempts.succeed(DATABASE, Success(started, "2", 0.0))
    assert Run.objects.get().result == 1


def test_the_attempts_of_a_run_end_with_the_one_that_succeeded() -> None:
    run = run_in(State.RUNNING, attempt=1)
    endings.fail(DATABASE, started_of(run), BROKEN, timedelta(0))
    Run.objects.filter(pk=run.pk).update(state=State.RUNNING, attempt=2)
    run = fresh(run)
    assert [attempt.outcome for attempt in run.attempts] == [Outcome.RETRIED]
    attempts.succeed(DATABASE, Success(started_of(run), "1", 0.0))
    rows = fresh(run).attempts
    assert [(row.number, row.outcome) for row in rows] == [
        (1, Outcome.RETRIED),
        (2, Outcome.SUCCEEDED),
    ]
    assert rows[-1].finished_at == fresh(run).finished_at
    assert Attempt.objects.count() == 1


# -- failure -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_a_failure_that_is_retried_waits_and_is_kept_as_an_attempt(state: State) -> None:
    run = run_in(state, attempt=3, failures=1)
    before = database_now(DATABASE)
    assert endings.fail(DATABASE, started_of(run), BROKEN, timedelta(minutes=5))
    stored = fresh(run)
    assert (stored.state, stored.failures, stored.losses) == (State.SCHEDULED, 2, 0)
    slack = timedelta(milliseconds=1)
    assert stored.run_after >= before + timedelta(minutes=5) - slack
    assert stored.finished_at is None
    assert stored.queued_at is None
    assert stored.error == "ValueError: no luck"
    (attempt,) = stored.attempts
    assert (attempt.number, attempt.outcome) == (3, Outcome.RETRIED)
    assert (attempt.error_class, attempt.error_message) == ("ValueError", "no luck")
    assert attempt.traceback == "Traceback: here"
    assert (attempt.cluster, attempt.worker) == (run.cluster, run.worker)
    assert attempt.started_at == started_of(run).started_at
    assert attempt.finished_at is not None


def test_the_last_failure_ends_the_run() -> None:
    run = run_in(State.RUNNING)
    assert endings.fail(DATABASE, started_of(run), BROKEN, None)
    stored = fresh(run)
    assert (stored.state, stored.failures) == (State.FAILED, 1)
    assert stored.finished_at is not None
    assert stored.attempts[0].outcome == Outcome.FAILED


def test_a_time_out_keeps_its_name_when_it_is_retried() -> None:
    run = run_in(State.RUNNING)
    late = Failure(outcome=Outcome.TIMED_OUT, error_class="TimeLimitExceeded")
    endings.fail(DATABASE, started_of(run), late, timedelta(0))
    assert fresh(run).attempts[0].outcome == Outcome.TIMED_OUT
    assert fresh(run).failures == 1


def test_a_delay_beyond_the_calendar_does_not_break_the_run() -> None:
    run = run_in(State.RUNNING)
    assert endings.fail(DATABASE, started_of(run), BROKEN, timedelta.max)
    assert fresh(run).run_after.year > 2100


def test_a_failure_is_written_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_in(State.RUNNING)

    def fail(*args: object, **kwargs: object) -> None:
        raise KeyError

    monkeypatch.setattr(Attempt, "save_base", fail)
    with pytest.raises(KeyError):
        endings.fail(DATABASE, started_of(run), BROKEN, None)
    assert fresh(run).state == State.RUNNING


def test_a_function_that_cancels_its_run_ends_it_with_a_reason() -> None:
    run = run_in(State.RUNNING)
    assert endings.cancel_running(DATABASE, started_of(run), "x" * 600)
    stored = fresh(run)
    assert (stored.state, stored.failures) == (State.CANCELLED, 0)
    assert stored.reason == "x" * 500
    assert stored.attempts[0].outcome == Outcome.CANCELLED
    assert stored.finished_at is not None


# -- loss ------------------------------------------------------------------------------------------


def test_what_was_lost_is_tried_again_within_two_seconds() -> None:
    run = run_in(State.RUNNING, max_attempts=1)  # a loss is no failure
    before = database_now(DATABASE)
    assert endings.lose(DATABASE, run, GONE)
    stored = fresh(run)
    assert (stored.state, stored.losses, stored.failures) == (State.SCHEDULED, 1, 0)
    assert stored.claim_id is None
    slack = timedelta(milliseconds=1)
    assert before - slack <= stored.run_after <= database_now(DATABASE) + timedelta(seconds=2)
    (attempt,) = stored.attempts
    assert (attempt.outcome, attempt.exit_code, attempt.signal) == (Outcome.LOST, -9, "SIGKILL")


def test_the_third_loss_ends_the_run() -> None:
    run = run_in(State.RUNNING, losses=MAX_LOSSES - 1)
    assert endings.lose(DATABASE, run, GONE)
    stored = fresh(run)
    assert (stored.state, stored.losses) == (State.FAILED, 3)
    assert stored.error == "Lost: lost 3 times, last: its worker is gone"
    assert stored.finished_at is not None


def test_a_loss_by_our_own_shutdown_is_not_counted() -> None:
    run = run_in(State.RUNNING, losses=MAX_LOSSES - 1)
    endings.lose(DATABASE, run, GONE, counted=False)
    stored = fresh(run)
    assert (stored.state, stored.losses) == (State.SCHEDULED, MAX_LOSSES - 1)
    assert stored.attempts[0].outcome == Outcome.LOST


@pytest.mark.parametrize("counted", [True, False])
def test_what_must_not_be_repeated_fails_when_it_is_lost(counted: bool) -> None:
    run = run_in(State.RUNNING, rerun_if_lost=False)
    endings.lose(DATABASE, run, GONE, counted=counted)
    stored = fresh(run)
    assert stored.state == State.FAILED
    assert stored.error == "Lost: its worker is gone"


def test_the_worker_that_was_given_up_can_finish_nothing_any_more() -> None:
    run = run_in(State.RUNNING)
    endings.lose(DATABASE, run, GONE)
    assert not attempts.succeed(DATABASE, Success(started_of(run), "1", 0.0))
    assert fresh(run).state == State.SCHEDULED


def test_a_worker_that_was_killed_for_its_limit_has_failed_and_not_been_lost() -> None:
    run = run_in(State.RUNNING)
    late = Failure(outcome=Outcome.TIMED_OUT, error_class="TimeLimitExceeded", exit_code=-9)
    assert endings.fail_overdue(DATABASE, run, late, timedelta(seconds=1))
    stored = fresh(run)
    assert (stored.state, stored.failures, stored.losses) == (State.SCHEDULED, 1, 0)
    assert stored.claim_id is None
    assert stored.attempts[0].exit_code == -9


# -- release ---------------------------------------------------------------------------------------


def test_a_claim_that_is_given_back_gives_its_number_back() -> None:
    run = run_in(State.CLAIMED, attempt=4)
    assert transitions.release(Run.objects.filter(pk=run.pk)) == 1
    stored = fresh(run)
    assert (stored.state, stored.attempt) == (State.QUEUED, 3)
    assert (stored.claim_id, stored.cluster, stored.worker) == (None, None, "")
    assert attempts.start(DATABASE, claim_of(run), "0.1") is None


# -- in batches ------------------------------------------------------------------------------------


@pytest.fixture
def batches_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "BATCH", 2)


@pytest.mark.usefixtures("batches_of_two")
def test_due_runs_are_promoted_in_batches_the_earliest_first() -> None:
    now = database_now(DATABASE)
    due = [
        run_in(State.SCHEDULED, run_after=now - timedelta(minutes=minutes)) for minutes in (1, 3, 2)
    ]
    later = run_in(State.SCHEDULED, run_after=now + timedelta(microseconds=1))
    assert transitions.promote(DATABASE, now) == 2
    assert [fresh(run).state for run in due] == [State.SCHEDULED, State.QUEUED, State.QUEUED]
    assert transitions.promote(DATABASE, now) == 1
    assert transitions.promote(DATABASE, now) == 0
    assert fresh(later).state == State.SCHEDULED
    queued_at = fresh(due[0]).queued_at
    assert queued_at is not None
    assert queued_at >= now


def test_a_run_is_due_at_its_very_moment() -> None:
    moment = datetime(2026, 5, 4, 8, 0, 0, 1, tzinfo=UTC)
    run_in(State.SCHEDULED, run_after=moment)
    assert transitions.promote(DATABASE, moment - timedelta(microseconds=1)) == 0
    assert transitions.promote(DATABASE, moment) == 1


@pytest.mark.usefixtures("batches_of_two")
def test_runs_are_parked_and_unparked_in_batches() -> None:
    mine = [run_in(State.QUEUED, label="mine") for _ in range(3)]
    run_in(State.QUEUED, label="other")
    chosen = Run.objects.filter(label="mine")
    park = partial(transitions.park, DATABASE, chosen, Reason.NO_CODE)
    assert [park(), park(), park()] == [2, 1, 0]
    assert {(fresh(run).state, fresh(run).reason) for run in mine} == {
        (State.PARKED, Reason.NO_CODE)
    }
    unpark = partial(transitions.unpark, DATABASE, chosen)
    assert [unpark(), unpark(), unpark()] == [2, 1, 0]
    assert {(fresh(run).state, fresh(run).reason) for run in mine} == {(State.QUEUED, "")}


# -- by hand -------------------------------------------------------------------------------------


def test_a_run_that_is_cancelled_is_over_and_cannot_start() -> None:
    run = run_in(State.CLAIMED)
    assert transitions.cancel_waiting(DATABASE, run.pk, "y" * 600)
    stored = fresh(run)
    assert (stored.state, stored.claim_id, stored.reason) == (State.CANCELLED, None, "y" * 500)
    assert stored.finished_at is not None
    assert attempts.start(DATABASE, claim_of(run), "0.1") is None


@pytest.mark.parametrize("state", sorted(WAITING))
def test_a_run_that_waits_can_be_moved_to_another_time(state: State) -> None:
    run = run_in(state, reason="parked", queued_at=runs.LONG_AGO)
    when = datetime(2100, 1, 1, tzinfo=UTC)
    assert transitions.reschedule(DATABASE, run.pk, when)
    stored = fresh(run)
    assert (stored.state, stored.run_after, stored.reason) == (State.SCHEDULED, when, "")
    assert stored.queued_at is None


@pytest.mark.parametrize("state", sorted(WAITING))
def test_a_run_that_waits_can_be_made_due_now(state: State) -> None:
    run = run_in(state, run_after=datetime(2100, 1, 1, tzinfo=UTC))
    assert transitions.reschedule(DATABASE, run.pk, None)
    stored = fresh(run)
    assert stored.state == State.QUEUED
    assert stored.run_after <= database_now(DATABASE)
    assert stored.queued_at is not None


@pytest.mark.parametrize("verb", ["succeed", "fail", "cancel itself", "cancel"])
def test_every_end_is_dated_and_frees_the_key(verb: str) -> None:
    run = run_in(State.CLAIMED, key="order-1")
    assert VERBS[verb][0](run)
    stored = fresh(run)
    assert stored.state in FINISHED
    assert stored.finished_at is not None
    assert stored.key is None


@pytest.mark.postgres
def test_promoting_reads_the_index_of_scheduled_runs() -> None:
    runs.fill(State.SCHEDULED)
    runs.fill(State.SUCCEEDED)
    due = Run.objects.due(database_now(DATABASE)).order_by("run_after")[: transitions.BATCH]
    with captured() as queries:
        transitions.promote(DATABASE, database_now(DATABASE) + timedelta(minutes=10))
    selects = [q["sql"] for q in queries.captured_queries if q["sql"].startswith("SELECT")]
    assert "FOR UPDATE SKIP LOCKED" in selects[-1]
    assert "using defer_run_scheduled" in plan_of(selects[-1])
    assert "using defer_run_scheduled" in due.explain()


@pytest.mark.postgres
def test_a_start_and_a_finish_go_by_the_primary_key_whatever_the_table_holds() -> None:
    """A partial index that the planner takes for empty may be full of dead entries."""
    runs.fill(State.SUCCEEDED, 20_000)
    run = run_in(State.CLAIMED)
    with captured() as queries:
        started = start(run)
        endings.fail(DATABASE, started, BROKEN, None)
        attempts.succeed(DATABASE, Success(started, "1", 0.0))
    values = {
        "id": run.pk,
        "claim": run.claim_id,
        "ended_id": run.pk,
        "ended_claim": run.claim_id,
        "worker": "0.1",
        "started_at": None,
        "result": "1",
    }
    for template in (attempts._START, attempts._SUCCEED, attempts._SUCCEED_AND_START):
        plan = plan_of(attempts._sql(template, "postgresql"), values)
        assert "django_defer_run_pkey" in plan
        assert "Seq Scan on django_defer_run" not in plan
    updates = [text for text in runs.statements(queries) if text.startswith("UPDATE")]
    assert updates
    assert all("django_defer_run_pkey" in plan_of(text) for text in updates)


# -- a run that is to be aborted -------------------------------------------------------------------


def run_to_abort() -> Run:
    run = run_in(State.RUNNING)
    assert transitions.request_abort(DATABASE, Run.objects.filter(pk=run.pk), "by ann") == 1
    return fresh(run)


@pytest.mark.parametrize(
    "end",
    [
        lambda run: endings.abort_running(DATABASE, started_of(run), BROKEN),
        lambda run: endings.fail(DATABASE, started_of(run), BROKEN, timedelta(0)),
        lambda run: endings.fail_overdue(DATABASE, run, BROKEN, timedelta(0)),
        lambda run: endings.lose(DATABASE, run, GONE),
        lambda run: endings.lose(DATABASE, run, GONE, counted=False),
    ],
    ids=["aborted", "retried", "overdue", "lost", "shut down"],
)
def test_what_is_to_be_aborted_is_neither_tried_again_nor_lost(end: Callable[[Run], bool]) -> None:
    run = run_to_abort()
    assert end(run)
    run = fresh(run)
    assert (run.state, run.reason) == (State.ABORTED, "by ann")
    assert run.finished_at is not None
    assert [attempt.outcome for attempt in Attempt.objects.filter(run=run)] == [Outcome.ABORTED]


def test_what_is_to_be_aborted_and_ends_by_itself_has_ended_so() -> None:
    run = run_to_abort()
    assert attempts.succeed(DATABASE, Success(started_of(run), "1", 0.0))
    assert fresh(run).state == State.SUCCEEDED
    run = run_to_abort()
    assert endings.fail(DATABASE, started_of(run), BROKEN, None)
    assert fresh(run).state == State.FAILED


def test_an_abort_is_requested_once() -> None:
    run = run_to_abort()
    since = run.abort_requested_at
    assert transitions.request_abort(DATABASE, Run.objects.filter(pk=run.pk), "again") == 0
    assert (fresh(run).abort_requested_at, fresh(run).reason) == (since, "by ann")
