"""What has ended long ago is removed, in small steps; what must be kept is kept."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import OperationalError, ProgrammingError
from django.db.models import signals

from django_defer import InvalidDuration, InvalidOption, defer
from django_defer import prune as module
from django_defer.checks.settings import check_settings
from django_defer.clock import database_now
from django_defer.database_duties import DatabaseDuties
from django_defer.ids import first_uuid7_of
from django_defer.models import Attempt, BackgroundFunction, Run
from django_defer.prune import Pruner, Walk, prune
from django_defer.registry import registry
from django_defer.retention import KEPT_AS, Retention
from django_defer.states import FINISHED, UNFINISHED, State
from django_defer.sync import sync
from tests import runs, scratch
from tests.runs import DATABASE, captured, defer_settings, new_run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = runs.in_transaction

NOW = datetime(2100, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _keep_no_last() -> Iterator[None]:
    with defer_settings(KEEP_LAST=0):
        yield


def ended(state: State = State.SUCCEEDED, days: float = 0, **columns: Any) -> Run:
    """Make a run that ended so many days before NOW."""
    ago = timedelta(days=days)
    return new_run(state=state, finished_at=NOW - ago, id=_id(NOW - ago), **columns)


_made = 0


def _id(instant: datetime) -> UUID:
    global _made
    _made += 1
    return UUID(int=first_uuid7_of(instant).int + _made)


def left() -> list[Run]:
    return list(Run.objects.order_by("pk"))


# -- what is kept ----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(FINISHED))
def test_what_succeeded_is_kept_a_week_and_what_did_not_three_months(state: State) -> None:
    days = {"keep_succeeded": 7, "keep_failed": 90}[KEPT_AS[state]]
    old = ended(state, days)
    young = ended(state, days - 0.001)
    assert prune(DATABASE, NOW) == {(runs.NOOP, state): 1}
    assert left() == [young]
    assert old not in left()


def test_only_a_success_and_a_skipped_slot_are_as_they_should_be() -> None:
    assert {state for state, kept in KEPT_AS.items() if kept == "keep_succeeded"} == {
        State.SUCCEEDED,
        State.SKIPPED,
    }
    assert KEPT_AS.keys() == FINISHED


@pytest.mark.parametrize("state", sorted(UNFINISHED))
def test_what_has_not_ended_is_never_removed(state: State) -> None:
    run = new_run(state=state, id=_id(NOW - 1000 * DAY), finished_at=NOW - 1000 * DAY)
    assert not prune(DATABASE, NOW)
    assert left() == [run]


def test_it_counts_from_the_end_not_from_the_enqueueing() -> None:
    run = new_run(state=State.SUCCEEDED, id=_id(NOW - 30 * DAY), finished_at=NOW - DAY)
    assert not prune(DATABASE, NOW)
    assert left() == [run]


def test_the_settings_say_how_long() -> None:
    ended(State.SUCCEEDED, 2)
    ended(State.FAILED, 2)
    with defer_settings(KEEP_LAST=0, KEEP_SUCCEEDED="2 days", KEEP_FAILED=None):
        assert prune(DATABASE, NOW) == {(runs.NOOP, State.SUCCEEDED): 1}
        assert prune(DATABASE, NOW + 10_000 * DAY) == {}


def test_a_function_says_how_long_for_its_own() -> None:
    own = {"keep_succeeded": "1h", "keep_failed": None}
    BackgroundFunction.objects.create(key="shop.busy", options=own)
    ended(State.SUCCEEDED, 0.1, function="shop.busy")
    kept = [ended(State.FAILED, 1000, function="shop.busy"), ended(State.SUCCEEDED, 0.1)]
    assert prune(DATABASE, NOW) == {("shop.busy", State.SUCCEEDED): 1}
    assert left() == kept


def test_the_last_ones_of_each_function_are_kept_however_old() -> None:
    BackgroundFunction.objects.create(key="shop.rare", options={"keep_last": 1})
    with defer_settings(KEEP_LAST=2):
        many = [ended(days=100 - n) for n in range(5)]
        rare = [ended(State.FAILED, days=200 - n, function="shop.rare") for n in range(3)]
        single = ended(days=300, function="shop.single")
        prune(DATABASE, NOW)
    assert left() == [single, rare[-1], *many[-2:]]


def test_a_row_that_another_version_wrote_removes_nothing_of_its_function() -> None:
    BackgroundFunction.objects.create(key="shop.odd", options={"keep_succeeded": "a while"})
    run = ended(days=1000, function="shop.odd")
    ended(days=1000)
    assert prune(DATABASE, NOW) == {(runs.NOOP, State.SUCCEEDED): 1}
    assert left() == [run]


def test_attempts_go_with_their_run_and_others_stay() -> None:
    old, young = ended(State.FAILED, 91), ended(State.FAILED, 1)
    for run in (old, young):
        Attempt.objects.create(run=run, number=1, outcome="failed")
    prune(DATABASE, NOW)
    assert [attempt.run_id for attempt in Attempt.objects.all()] == [young.pk]


def test_what_a_rerun_repeats_stays_until_that_goes_too() -> None:
    original = ended(State.FAILED, 100, slot=NOW - 101 * DAY)
    again = ended(State.FAILED, 95, rerun_of=original)
    last = new_run(rerun_of=again, id=_id(NOW))
    assert not prune(DATABASE, NOW)
    assert left() == [original, again, last]
    Run.objects.filter(pk=last.pk).update(state=State.SUCCEEDED, finished_at=NOW - 50 * DAY)
    for _ in range(3):
        prune(DATABASE, NOW)
    assert left() == []


def test_a_span_beyond_the_calendar_is_for_ever() -> None:
    with defer_settings(KEEP_LAST=0, KEEP_FAILED="999999d"):
        ended(State.FAILED, 1000)
        assert Retention.read(DATABASE, NOW).first_id_kept() is not None
        assert not prune(DATABASE, NOW)
    with defer_settings(KEEP_LAST=0, KEEP_FAILED="999999d", KEEP_SUCCEEDED="999999d"):
        assert Retention.read(DATABASE, NOW).first_id_kept() is not None


def test_nobody_is_called_for_a_row_that_goes() -> None:
    def refuse(sender: object, **kwargs: object) -> None:
        raise AssertionError("a project's receiver, in the supervisor")

    ended(days=8)
    signals.pre_delete.connect(refuse)
    try:
        assert prune(DATABASE, NOW).total() == 1
    finally:
        signals.pre_delete.disconnect(refuse)


def test_what_the_code_says_reaches_the_row() -> None:
    with scratch.own_registry():
        scratch.define("""
            @defer(keep_succeeded="1h", keep_failed=None, keep_last=3)
            def busy(): ...
        """)
        sync(DATABASE)
    options = BackgroundFunction.objects.get(key="shop.busy").options
    assert options["keep_succeeded"] == "1h"
    assert (options["keep_failed"], options["keep_last"]) == (None, 3)
    retention = Retention.read(DATABASE, NOW)
    assert retention.own["shop.busy"] == {
        "keep_succeeded": timedelta(hours=1),
        "keep_failed": None,
        "keep_last": 3,
    }


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"keep_succeeded": "a while"}, InvalidDuration),
        ({"keep_failed": -1}, InvalidDuration),
        ({"keep_last": -1}, InvalidOption),
        ({"keep_last": None}, InvalidOption),
        ({"keep_last": True}, InvalidOption),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_in_code(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with scratch.own_registry(), pytest.raises(error, match="keep_"):
        defer(test_what_cannot_be_meant_is_refused_in_code, **options)
    assert "tests" not in registry


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"KEEP_SUCCEEDED": "a while"}, "None for ever"),
        ({"KEEP_FAILED": -1}, "None for ever"),
        ({"KEEP_LAST": -1}, "a whole number from 0 up"),
        ({"KEEP_LAST": None}, "a whole number from 0 up"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused_in_the_settings(
    values: dict[str, Any], advice: str
) -> None:
    with defer_settings(**values):
        (error,) = check_settings()
    assert advice in str(error.hint)
    with defer_settings(KEEP_SUCCEEDED=None, KEEP_FAILED=None):
        assert check_settings() == []


# -- a walk ----------------------------------------------------------------------------------------


def test_a_walk_looks_at_all_a_window_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 3)
    for n in range(8):
        ended(State.SUCCEEDED if n % 2 else State.FAILED, days=50)
    walk = Walk(Retention.read(DATABASE, NOW))
    steps = 0
    while not walk.is_over:
        walk.step()
        steps += 1
    assert (steps, walk.removed.total(), len(left())) == (3, 4, 4)


def test_a_dry_walk_removes_nothing() -> None:
    ended(days=50)
    assert prune(DATABASE, NOW, dry_run=True).total() == 1
    assert len(left()) == 1


def test_a_walk_may_end_where_nothing_can_be_over() -> None:
    retention = Retention.read(DATABASE, NOW)
    assert retention.first_id_kept() == first_uuid7_of(NOW - 7 * DAY)
    ended(days=7.001)
    young = new_run(state=State.SUCCEEDED, finished_at=NOW - 8 * DAY, id=_id(NOW - DAY))
    walk = Walk(retention, retention.first_id_kept())
    walk.step()
    assert (walk.is_over, left()) == (True, [young])
    assert prune(DATABASE, NOW).total() == 1  # asked for it, it looks at all


def test_where_all_is_kept_there_is_no_walk() -> None:
    with defer_settings(KEEP_SUCCEEDED=None, KEEP_FAILED=None):
        assert Retention.read(DATABASE, NOW).first_id_kept() is None


def test_a_window_without_anything_to_remove_is_one_query() -> None:
    ended(days=1)
    walk = Walk(Retention.read(DATABASE, NOW))
    with captured() as queries:
        walk.step()
    assert len(queries) == 1


# -- by itself -------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return what the pruner takes for the monotonic time."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(module, "database_now", lambda using: NOW)
    return now


def test_a_walk_begins_soon_and_then_every_ten_minutes_or_so(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "django_defer")
    pruner = Pruner(DATABASE)
    ended(days=8)
    assert 10 <= pruner.seconds_until_next() <= 60
    pruner.step_if_due()
    assert len(left()) == 1
    clock[0] += 60
    pruner.step_if_due()
    assert left() == []
    assert 480 <= pruner.seconds_until_next() <= 720
    assert "prune.completed removed=1" in caplog.text


@pytest.fixture
def five_slow_steps(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Five old runs, each of which takes a walk 20 ms."""
    monkeypatch.setattr(module, "WINDOW", 1)
    step = Walk.step

    def slow_step(walk: Walk) -> None:
        step(walk)
        clock[0] += 0.02

    monkeypatch.setattr(Walk, "step", slow_step)
    for _ in range(5):
        ended(days=8)


def test_whoever_prunes_by_hand_rests_half_of_the_time(
    clock: list[float], five_slow_steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr("time.sleep", rests.append)
    assert prune(DATABASE, NOW).total() == 5
    assert rests == [pytest.approx(0.06)]


def test_a_long_walk_rests_between_its_steps(clock: list[float], five_slow_steps: None) -> None:
    pruner = Pruner(DATABASE)
    clock[0] += 60
    pruner.step_if_due()
    assert len(left()) == 2  # after 0.06 s it rests
    assert pruner.seconds_until_next() == pytest.approx(0.24)  # four times as long
    clock[0] += 0.24
    pruner.step_if_due()
    assert left() == []


def test_one_scheduler_is_enough(clock: list[float]) -> None:
    ended(days=8)
    pruner = Pruner(DATABASE, may_begin=lambda now: False)
    clock[0] += 60
    pruner.step_if_due()
    assert len(left()) == 1


def test_the_first_live_cluster_that_schedules_is_the_one(duties: DatabaseDuties) -> None:
    member = duties.membership
    now = database_now(DATABASE)
    assert member.is_to_prune(now)
    runs.new_cluster(started_at=now - DAY, schedules=False)
    runs.new_cluster(started_at=now - DAY, beat_at=now - DAY)
    assert member.is_to_prune(now)
    runs.new_cluster(started_at=now - DAY)
    assert not member.is_to_prune(now)


@pytest.fixture
def duties() -> DatabaseDuties:
    from tests.database.test_rounds import duties as make

    return make.__wrapped__()  # type: ignore[attr-defined,no-any-return]


def test_a_supervisor_prunes_when_it_is_time(clock: list[float], duties: DatabaseDuties) -> None:
    ended(days=8)
    clock[0] += 60
    assert duties.seconds_until_next() == 0
    duties.perform()
    assert left() == []


def test_a_drain_does_not_prune(clock: list[float], duties: DatabaseDuties) -> None:
    duties.drain = True
    ended(days=8)
    clock[0] += 60
    duties.perform()
    assert len(left()) == 1


def test_a_lock_that_is_taken_interrupts_a_walk_for_a_second(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(walk: Walk) -> None:
        raise OperationalError("database is locked")

    pruner = Pruner(DATABASE)
    clock[0] += 60
    monkeypatch.setattr(module, "is_busy", lambda error, using: True)
    monkeypatch.setattr(Walk, "step", locked)
    with pytest.raises(OperationalError):
        pruner.step_if_due()
    assert pruner.seconds_until_next() == 1.0


def test_what_it_may_not_do_is_told_and_stops_nothing(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(walk: Walk) -> None:
        raise ProgrammingError("permission denied for table django_defer_run")

    pruner = Pruner(DATABASE)
    clock[0] += 60
    monkeypatch.setattr(Walk, "step", refused)
    pruner.step_if_due()
    assert "prune.failed permission denied" in caplog.text
    assert pruner.seconds_until_next() >= 480


# -- by command ------------------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("defer_prune", *arguments, stdout=out)
    return out.getvalue().splitlines()


def test_the_command_removes_and_counts() -> None:
    ago = timedelta(days=100)
    now = database_now(DATABASE)
    for state in (State.FAILED, State.SUCCEEDED, State.SUCCEEDED):
        new_run(state=state, finished_at=now - ago)
    new_run(state=State.SUCCEEDED)
    told = ["testapp.noop: 1 failed", "testapp.noop: 2 succeeded"]
    assert command("--dry-run") == [*told, "3 runs would be removed."]
    assert len(left()) == 4
    assert command() == [*told, "3 runs removed."]
    assert command() == ["0 runs removed."]
    assert command("--verbosity", "0") == []
    assert len(left()) == 1
