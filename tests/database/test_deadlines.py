"""`discard_after`: what has not begun by then never does, and is kept as discarded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from django_defer import (
    InvalidOption,
    RunNotReschedulable,
    attempts,
    defer,
    endings,
    operations,
    transitions,
)
from django_defer import executor as executor_module
from django_defer.attempt_facts import Failure, Success
from django_defer.clock import DatabaseNow, database_now
from django_defer.connections import Freshness
from django_defer.models import BackgroundFunction, CronDefinition, Run
from django_defer.scheduler import look, tick
from django_defer.signals import run_discarded
from django_defer.states import WAITING, Outcome, Reason, State
from django_defer.sync import sync
from tests import runs, scratch
from tests.runs import (
    DATABASE,
    captured,
    claim_for,
    claim_of,
    fresh,
    new_cluster,
    new_definition,
    new_run,
    plan_of,
    start,
)
from tests.testapp.defer import add

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.signals import RunEvent
    from tests.runs import Define

pytestmark = runs.committing

HOUR = timedelta(hours=1)
SLACK = timedelta(seconds=5)
FUTURE = datetime(2100, 1, 1, 9, tzinfo=UTC)
OOPS = Failure(outcome=Outcome.FAILED, error_class="ValueError", error_message="no")


@pytest.fixture
def told() -> Iterator[list[RunEvent]]:
    events: list[RunEvent] = []

    def receive(sender: object, event: RunEvent, **kwargs: object) -> None:
        assert not runs.database().in_atomic_block
        events.append(event)

    run_discarded.connect(receive)
    yield events
    run_discarded.disconnect(receive)


def due() -> None:
    pass


def now() -> datetime:
    return database_now(DATABASE)


# -- what is asked for -----------------------------------------------------------------------------


def test_what_the_function_says_counts_from_when_the_run_is_due(define: Define) -> None:
    function = define(due, discard_after="1h")
    assert abs(now() + HOUR - function().discard_after) < SLACK
    later = function.using(delay="3h")()
    assert abs(later.discard_after - later.run_after - HOUR) < SLACK
    then = function.using(run_after=FUTURE)()
    assert then.discard_after == FUTURE + HOUR == fresh(then).discard_after


def test_what_a_call_says_counts_from_the_call(define: Define) -> None:
    function = define(due, discard_after="1h")
    run = function.using(delay="3h", discard_after="4h")()
    assert abs(run.discard_after - run.run_after - HOUR) < SLACK
    assert fresh(run).discard_after == run.discard_after


def test_a_call_may_name_the_instant(define: Define) -> None:
    paris = FUTURE.astimezone(runs.ZONE)
    assert fresh(add.using(discard_after=paris)(1)).discard_after == FUTURE
    assert add(1).discard_after is None


def test_all_runs_of_a_map_have_it() -> None:
    assert add.using(discard_after="1h").map([1, 2]) == 2
    for run in Run.objects.all():
        assert run.discard_after is not None
        assert abs(now() + HOUR - run.discard_after) < SLACK


@pytest.mark.parametrize(
    ("options", "instants"),
    [
        (
            {"run_after": FUTURE, "discard_after": FUTURE - HOUR},
            ["2100-01-01 08:00:00 UTC", "2100-01-01 09:00:00 UTC"],
        ),
        ({"run_after": FUTURE, "discard_after": "1h"}, ["2100-01-01 09:00:00 UTC"]),
        ({"run_after": FUTURE, "discard_after": FUTURE}, ["2100-01-01 09:00:00 UTC"]),
        ({"delay": "2h", "discard_after": "1h"}, []),
        ({"delay": "1h", "discard_after": "1h"}, []),
        ({"delay": "2h", "discard_after": runs.LONG_AGO}, ["2020-01-01 00:00:00 UTC"]),
    ],
)
def test_a_run_that_would_be_discarded_before_it_is_due_is_refused_with_both_instants(
    options: dict[str, Any], instants: list[str]
) -> None:
    with pytest.raises(
        InvalidOption, match=r"would be discarded at .* is not due before"
    ) as refused:
        add.using(**options)(1)
    assert str(refused.value).count(" UTC") == 2
    assert all(instant in str(refused.value) for instant in instants)
    assert not Run.objects.exists()


def test_a_slot_hands_it_on_counted_from_when_it_is_due() -> None:
    slot = datetime(2026, 5, 4, 8, tzinfo=UTC)
    new_definition(next_slot_at=slot, discard_after=HOUR)
    tick(DATABASE, slot)
    assert Run.objects.get().discard_after == slot + HOUR


def test_sync_writes_it_to_both_rows() -> None:
    with scratch.own_registry():
        scratch.define("""
            @defer.cron("0 8 * * *", discard_after="2h")
            def punctual(): ...
            @defer
            def patient(): ...
        """)
        sync(DATABASE)
    assert CronDefinition.objects.get(function="shop.punctual").discard_after == 2 * HOUR
    options = dict(BackgroundFunction.objects.values_list("key", "options"))
    assert options["shop.punctual"]["discard_after"] == "2h"
    assert "discard_after" not in options["shop.patient"]


# -- a run that waits ------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(WAITING))
def test_a_run_that_waits_is_discarded_at_its_very_moment(
    state: State, told: list[RunEvent]
) -> None:
    run = new_run(state=state, discard_after=FUTURE, run_after=FUTURE - HOUR, key="once")
    assert tick(DATABASE, FUTURE - timedelta(microseconds=1)).discarded == 0
    assert tick(DATABASE, FUTURE).discarded == 1
    run = fresh(run)
    assert (run.state, run.reason, run.key) == (State.DISCARDED, Reason.EXPIRED, None)
    assert run.finished_at is not None
    (event,) = told
    assert (event.name, event.run_id, event.function) == ("run.discarded", run.pk, runs.NOOP)
    assert event.error == "it could not begin by its discard_after"


def test_others_are_left_alone() -> None:
    others = [new_run(state=state, discard_after=runs.LONG_AGO) for state in set(State) - WAITING]
    others += [new_run(), new_run(discard_after=FUTURE)]
    before = {run.pk: run.state for run in others}
    tick(DATABASE, now())
    assert {run.pk: run.state for run in Run.objects.all()} == before


def test_all_that_is_late_is_discarded_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_defer.scheduler.DISCARDED_AT_ONCE", 2)
    for _ in range(5):
        new_run(discard_after=runs.LONG_AGO)
    assert tick(DATABASE, now()).discarded == 5


def test_a_look_finds_the_next_deadline() -> None:
    new_run(discard_after=FUTURE)
    new_run(state=State.SUCCEEDED, discard_after=runs.LONG_AGO)
    seen = look(DATABASE)
    assert seen.next_deadline == FUTURE
    assert not seen.has_expired_runs
    new_run(state=State.PARKED, discard_after=now() + timedelta(seconds=0.3))
    assert 0 < look(DATABASE).seconds_until_next(slots=False) <= 0.3
    new_run(discard_after=runs.LONG_AGO)
    assert look(DATABASE).has_expired_runs


def test_the_run_of_a_newer_slot_need_not_wait_for_one_that_is_discarded() -> None:
    definition = new_definition(overlap="queue")
    new_run(definition=definition, slot=runs.LONG_AGO, discard_after=FUTURE)
    waiting = new_run(
        state=State.PARKED, reason=Reason.OVERLAP, definition=definition, slot=FUTURE - HOUR
    )
    tick(DATABASE, FUTURE - HOUR)
    assert fresh(waiting).state == State.PARKED
    tick(DATABASE, FUTURE)
    assert fresh(waiting).state == State.QUEUED


@pytest.mark.parametrize("policy", [{"overlap": "replace"}, {"supersede": True}], ids=str)
def test_a_run_that_comes_too_late_replaces_nothing(policy: dict[str, Any]) -> None:
    definition = new_definition(
        expression="0 9 * * *", next_slot_at=FUTURE, discard_after=HOUR, **policy
    )
    state = State.RUNNING if "overlap" in policy else State.SCHEDULED
    much_later = FUTURE + timedelta(days=365)
    earlier = new_run(
        state=state, failures=1, run_after=much_later, definition=definition, slot=runs.LONG_AGO
    )
    tick(DATABASE, FUTURE + 2 * HOUR)  # nobody was there for two hours
    assert (fresh(earlier).state, fresh(earlier).abort_requested_at) == (state, None)
    tick(DATABASE, FUTURE + 2 * HOUR)
    late = Run.objects.exclude(pk=earlier.pk).get()
    assert (late.state, late.reason) == (State.DISCARDED, Reason.EXPIRED)


@pytest.mark.parametrize("span", ["3000000d", timedelta.max])
def test_a_span_of_more_than_a_hundred_years_is_refused_where_it_is_written(span: Any) -> None:
    with pytest.raises(InvalidOption, match="over a hundred years"):
        add.using(discard_after=span)
    with scratch.own_registry(), pytest.raises(InvalidOption, match="over a hundred years"):
        defer(due, discard_after=span)


@pytest.mark.postgres
def test_the_late_ones_are_found_by_an_index() -> None:
    runs.fill(State.QUEUED, discard_after="CASE WHEN n > 4990 THEN now() END")
    runs.fill(State.SUCCEEDED, discard_after="now()")
    with captured() as queries:
        look(DATABASE)
        tick(DATABASE, now() - 2 * HOUR)
    texts = [query["sql"] for query in queries.captured_queries]
    found = [text for text in texts if "discard_after" in text and "'parked'" in text]
    assert len(found) == 2
    for text in found:
        assert "using defer_run_deadlines" in plan_of(text)


# -- a run that has a worker -----------------------------------------------------------------------


def inline() -> executor_module.Executor:
    from django_defer.testing import InlineExecutor, Unlimited

    return InlineExecutor(
        using=DATABASE,
        worker="0.1",
        inbox=None,
        board=None,
        interrupts=Unlimited(),
        freshness=Freshness(),
    )


def test_one_that_was_claimed_too_late_does_not_begin(
    define: Define, told: list[RunEvent], caplog: pytest.LogCaptureFixture
) -> None:
    called = []

    def late() -> None:
        called.append(True)

    run = define(late)()
    Run.objects.filter(pk=run.pk).update(discard_after=runs.LONG_AGO)
    ((_, claim),) = claim_for(new_cluster(), keys=(str(run.function_id),))
    inline().execute(claim)
    run = fresh(run)
    assert (run.state, run.reason, run.claim_id) == (State.DISCARDED, Reason.EXPIRED, None)
    assert (run.attempt, called, run.attempts) == (0, [], [])
    assert [event.run_id for event in told] == [run.pk]
    assert "run.refused" not in caplog.text


def test_one_that_began_in_time_may_take_longer() -> None:
    run = new_run(state=State.CLAIMED, discard_after=DatabaseNow(HOUR))
    started = start(run)
    Run.objects.filter(pk=run.pk).update(discard_after=runs.LONG_AGO)
    assert attempts.start(DATABASE, claim_of(run), "0.1") is not None  # its answer was lost
    assert not attempts.discard_expired(DATABASE, claim_of(run))
    assert attempts.succeed(DATABASE, Success(started, "1", 0.0))


def test_whose_claim_is_gone_discards_nothing() -> None:
    run = new_run(state=State.CLAIMED, discard_after=runs.LONG_AGO)
    claim = claim_of(run)
    transitions.release(Run.objects.filter(pk=run.pk))
    assert not attempts.discard_expired(DATABASE, claim)
    assert fresh(run).state == State.QUEUED


def end_badly(run: Run, how: str, retry_in: timedelta) -> State | None:
    if how == "fails":
        return endings.fail(DATABASE, start(run), OOPS, retry_in)
    start(run)
    return endings.lose(DATABASE, fresh(run), Failure(outcome=Outcome.LOST))


@pytest.mark.parametrize("how", ["fails", "is lost"])
def test_an_attempt_that_could_begin_in_time_is_made(how: str) -> None:
    run = new_run(state=State.CLAIMED, discard_after=DatabaseNow(HOUR))
    assert end_badly(run, how, timedelta(minutes=59)) == State.SCHEDULED
    assert (fresh(run).reason, fresh(run).finished_at) == ("", None)


@pytest.mark.parametrize("how", ["fails", "is lost"])
def test_a_run_whose_next_attempt_would_be_late_has_failed(how: str) -> None:
    run = new_run(state=State.CLAIMED, discard_after=DatabaseNow(HOUR), key="k")
    started = start(run)
    if how == "fails":
        state = endings.fail(DATABASE, started, OOPS, 2 * HOUR)
    else:
        Run.objects.filter(pk=run.pk).update(discard_after=runs.LONG_AGO)
        state = endings.lose(DATABASE, fresh(run), Failure(outcome=Outcome.LOST))
    assert state == State.FAILED
    run = fresh(run)
    assert (run.reason, run.key) == (Reason.EXPIRED, None)
    assert run.finished_at is not None
    (attempt,) = run.attempts
    assert attempt.outcome == ("failed" if how == "fails" else "lost")
    assert (run.failures, run.losses) == ((1, 0) if how == "fails" else (0, 1))


def test_one_that_is_to_be_aborted_is_aborted_however_late_it_is() -> None:
    run = new_run(state=State.CLAIMED, discard_after=DatabaseNow(HOUR))
    started = start(run)
    transitions.request_abort(DATABASE, Run.objects.filter(pk=run.pk), "enough")
    assert endings.fail(DATABASE, started, OOPS, 2 * HOUR) == State.ABORTED


# -- what an operator does with it -----------------------------------------------------------------


def test_it_cannot_be_rescheduled_beyond_its_deadline() -> None:
    run = new_run(discard_after=FUTURE)
    with pytest.raises(InvalidOption, match=r"2100-01-01 09:00:00 UTC .* 2100-01-01 10:00:00 UTC"):
        operations.reschedule(run, FUTURE + HOUR)
    operations.reschedule(run, FUTURE - HOUR)
    assert fresh(run).run_after == FUTURE - HOUR
    late = new_run(discard_after=runs.LONG_AGO)
    with pytest.raises(InvalidOption, match="2020-01-01 00:00:00 UTC"):
        operations.reschedule(late)


def test_what_is_not_waiting_is_refused_for_that_whatever_its_deadline() -> None:
    run = new_run(state=State.RUNNING, discard_after=FUTURE)
    with pytest.raises(RunNotReschedulable):
        operations.reschedule(run, FUTURE + HOUR)


def test_the_log_says_who_rescheduled_what(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "django_defer")
    run = new_run()
    operations.reschedule(run, FUTURE, actor="ada")
    assert f"run.rescheduled testapp.noop run={run.pk} to {FUTURE} by ada" in caplog.text


def test_a_rerun_has_no_deadline() -> None:
    run = new_run(state=State.DISCARDED, reason=Reason.EXPIRED, discard_after=runs.LONG_AGO)
    assert operations.rerun(run).discard_after is None
