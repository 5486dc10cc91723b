"""A new slot while a run of an earlier one is unfinished: each policy, each state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_defer.materialise import materialise
from django_defer.models import CronDefinition, Run
from django_defer.overlaps import end_waits
from django_defer.states import Reason, State
from tests import runs
from tests.runs import DATABASE, fresh, new_definition, new_run

pytestmark = runs.in_transaction

EIGHT = datetime(2026, 5, 4, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hourly(**columns: Any) -> CronDefinition:
    return new_definition(expression="0 * * * *", next_slot_at=EIGHT, **columns)


def earlier(definition: CronDefinition, how: str, **columns: Any) -> Run:
    """Insert the run of the slot before."""
    ways: dict[str, dict[str, Any]] = {
        "retrying": {"state": State.SCHEDULED, "failures": 2},
        "retry due": {"state": State.QUEUED, "failures": 2},
        "delayed": {"state": State.SCHEDULED},
    }
    values = ways.get(how) or {"state": State(how)}
    values = {"slot": EIGHT - HOUR, **values, **columns}
    return new_run("testapp.weekly", definition=definition, **values)


NEW, SKIPPED, PARKED = State.QUEUED, State.SKIPPED, State.PARKED
KEPT, DISCARDED, ABORTED = "kept", "discarded", "abort requested"


@pytest.mark.parametrize(
    ("overlap", "state", "old", "new"),
    [
        *(("allow", state, KEPT, NEW) for state in ("queued", "running", "retrying", "delayed")),
        *(("skip", state, KEPT, SKIPPED) for state in ("queued", "parked", "claimed", "running")),
        ("skip", "delayed", KEPT, SKIPPED),
        ("skip", "retry due", KEPT, SKIPPED),
        ("skip", "retrying", KEPT, NEW),
        ("skip", "succeeded", KEPT, NEW),
        ("skip", "failed", KEPT, NEW),
        *(("queue", state, DISCARDED, NEW) for state in ("queued", "parked", "delayed")),
        *(("queue", state, KEPT, PARKED) for state in ("claimed", "running")),
        ("queue", "retrying", KEPT, NEW),
        ("queue", "succeeded", KEPT, NEW),
        *(("replace", state, DISCARDED, NEW) for state in ("queued", "parked", "claimed")),
        ("replace", "delayed", DISCARDED, NEW),
        ("replace", "running", ABORTED, PARKED),
        ("replace", "retrying", KEPT, NEW),
        ("replace", "failed", KEPT, NEW),
    ],
)
def test_each_policy_in_each_state(overlap: str, state: str, old: str, new: State) -> None:
    definition = hourly(overlap=overlap)
    before = earlier(definition, state)
    (made,) = materialise(DATABASE, EIGHT)
    made = fresh(made)
    assert (made.state, made.slot) == (new, EIGHT)
    assert made.reason == ("" if new == NEW else Reason.OVERLAP)
    after = fresh(before)
    if old == DISCARDED:
        assert (after.state, after.reason) == (State.DISCARDED, Reason.OVERLAP)
        assert after.finished_at is not None
    else:
        assert after.state == before.state
        assert (after.abort_requested_at is not None) is (old == ABORTED)
    definition.refresh_from_db()
    assert (definition.last_run, definition.next_slot_at) == (made, EIGHT + HOUR)


@pytest.mark.parametrize("overlap", ["skip", "queue", "replace"])
def test_neither_run_now_nor_a_rerun_is_an_overlap(overlap: str) -> None:
    definition = hourly(overlap=overlap)
    beside = new_run("testapp.weekly", definition=definition, slot=None, state=State.RUNNING)
    (made,) = materialise(DATABASE, EIGHT)
    assert fresh(made).state == State.QUEUED
    assert fresh(beside).abort_requested_at is None


@pytest.mark.parametrize("overlap", ["skip", "queue", "replace"])
def test_other_definitions_are_left_alone(overlap: str) -> None:
    hourly(overlap=overlap)
    other = new_definition("testapp.other", "0 0 1 1 *", overlap=overlap)
    theirs = [
        new_run("testapp.other", definition=other, slot=EIGHT - number * HOUR, state=state)
        for number, state in enumerate((State.QUEUED, State.CLAIMED, State.RUNNING))
    ]
    (made,) = materialise(DATABASE, EIGHT)
    assert fresh(made).state == State.QUEUED
    assert [fresh(run).state for run in theirs] == [run.state for run in theirs]
    assert all(fresh(run).abort_requested_at is None for run in theirs)


@pytest.mark.parametrize("state", ["retrying", "retry due"])
@pytest.mark.parametrize("supersede", [True, False])
def test_a_new_slot_discards_an_older_run_that_waits_for_a_retry_if_told_to(
    state: str, supersede: bool
) -> None:
    definition = hourly(supersede=supersede)
    before = earlier(definition, state)
    by_hand = new_run("testapp.weekly", definition=definition, state=State.SCHEDULED, failures=1)
    (made,) = materialise(DATABASE, EIGHT)
    assert fresh(made).state == State.QUEUED
    after = fresh(before)
    if supersede:
        assert (after.state, after.reason) == (State.DISCARDED, Reason.SUPERSEDED)
    else:
        assert after.state == before.state
    assert fresh(by_hand).state == State.SCHEDULED


def test_what_is_superseded_is_no_overlap() -> None:
    definition = hourly(supersede=True, overlap="skip")
    earlier(definition, "retry due")
    (made,) = materialise(DATABASE, EIGHT)
    assert fresh(made).state == State.QUEUED


@pytest.mark.parametrize(
    ("overlap", "became"),
    [
        ("allow", "run run run"),
        ("skip", "run skipped skipped"),
        ("queue", "skipped skipped run"),
        ("replace", "skipped skipped run"),
    ],
)
def test_missed_slots_that_are_all_caught_up_overlap_each_other(overlap: str, became: str) -> None:
    hourly(overlap=overlap, catch_up="all")
    made = materialise(DATABASE, EIGHT + 2 * HOUR)
    states = ["run" if fresh(run).state == State.QUEUED else str(fresh(run).state) for run in made]
    assert states == became.split()
    assert {run.reason for run in made if run.state == State.SKIPPED} <= {Reason.OVERLAP}


@pytest.mark.parametrize("overlap", ["skip", "queue", "replace"])
def test_a_slot_that_was_missed_and_is_skipped_ends_nothing(overlap: str) -> None:
    definition = hourly(overlap=overlap, catch_up="none", supersede=True)
    waiting = earlier(definition, "queued")
    running = earlier(definition, "running", slot=EIGHT - 2 * HOUR)
    (made,) = materialise(DATABASE, EIGHT + HOUR / 2)
    assert (fresh(made).state, fresh(made).reason) == (State.SKIPPED, Reason.MISSED)
    assert fresh(waiting).state == State.QUEUED
    assert fresh(running).abort_requested_at is None


# -- waiting for the earlier one's end ---------------------------------------------------------


def parked(definition: CronDefinition) -> Run:
    (made,) = materialise(DATABASE, EIGHT)
    assert fresh(made).state == State.PARKED
    return made


@pytest.mark.parametrize("named", [True, False])
def test_a_run_that_waits_for_an_earlier_one_is_queued_when_that_has_ended(named: bool) -> None:
    definition = hourly(overlap="queue")
    before = earlier(definition, "running")
    waiting = parked(definition)
    definitions = [definition.pk] if named else None
    assert end_waits(DATABASE, definitions) == 0
    Run.objects.filter(pk=before.pk).update(state=State.SUCCEEDED)
    assert end_waits(DATABASE, definitions) == 1
    assert (fresh(waiting).state, fresh(waiting).reason) == (State.QUEUED, "")


def test_one_that_waits_for_a_retry_holds_nobody() -> None:
    definition = hourly(overlap="queue")
    before = earlier(definition, "running")
    waiting = parked(definition)
    Run.objects.filter(pk=before.pk).update(state=State.SCHEDULED, failures=1)
    assert end_waits(DATABASE) == 1
    assert fresh(waiting).state == State.QUEUED


def test_one_that_was_lost_and_begins_again_soon_is_waited_for() -> None:
    definition = hourly(overlap="queue")
    before = earlier(definition, "running")
    waiting = parked(definition)
    Run.objects.filter(pk=before.pk).update(state=State.SCHEDULED, losses=1)
    assert end_waits(DATABASE) == 0
    assert fresh(waiting).state == State.PARKED


def test_only_the_newest_waits() -> None:
    definition = hourly(overlap="queue")
    earlier(definition, "running")
    first = parked(definition)
    (second,) = materialise(DATABASE, EIGHT + HOUR)
    assert (fresh(first).state, fresh(first).reason) == (State.DISCARDED, Reason.OVERLAP)
    assert (fresh(second).state, fresh(second).reason) == (State.PARKED, Reason.OVERLAP)


def test_one_that_waits_for_another_reason_is_not_queued() -> None:
    definition = hourly(overlap="queue")
    other = new_run(
        "testapp.weekly",
        definition=definition,
        slot=EIGHT,
        state=State.PARKED,
        reason=Reason.NO_CODE,
    )
    assert end_waits(DATABASE) == 0
    assert fresh(other).state == State.PARKED


def test_what_waits_for_an_earlier_run_is_not_unparked_for_its_code() -> None:
    definition = hourly(overlap="queue")
    earlier(definition, "running")
    waiting = parked(definition)
    assert not Run.objects.parked_for_code(["testapp.weekly"]).filter(pk=waiting.pk).exists()


def test_policies_cost_a_few_queries_however_many_definitions() -> None:
    counts = []
    for size in (2, 20):
        for number in range(size):
            for policy in ("allow", "skip", "queue", "replace"):
                definition = new_definition(
                    f"testapp.{policy}_{size}_{number}",
                    "0 * * * *",
                    EIGHT,
                    overlap=policy,
                    supersede=True,
                )
                earlier(definition, "running")
        with runs.captured() as queries:
            materialise(DATABASE, EIGHT)
        texts = runs.statements(queries)
        counts.append(len([text for text in texts if not text.startswith("INSERT")]))
        CronDefinition.objects.all().delete()
    assert counts[0] == counts[1]
