"""A run of an earlier slot changes its state while a scheduler looks at it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections

from django_defer.materialise import materialise
from django_defer.models import CronDefinition, Run
from django_defer.overlaps import end_waits
from django_defer.states import ACTIVE, State
from django_defer.transitions import promote, release
from tests import runs
from tests.concurrency.processes import together
from tests.runs import DATABASE, claim_for, database, fresh, new_cluster, new_definition, new_run

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    runs.committing,
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

EIGHT = datetime(2026, 5, 4, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


def elsewhere(action: Callable[[], Any]) -> None:
    """Do it on another connection, unless the rows are held: then it is too late for it."""

    def work() -> None:
        try:
            with connections[DATABASE].cursor() as cursor:
                cursor.execute("SET lock_timeout = '50ms'")
            action()
        except OperationalError as error:
            assert "lock timeout" in str(error)  # noqa: PT017
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(10)


def give_back() -> None:
    release(Run.objects.filter(slot=EIGHT - HOUR))


def claim_it() -> None:
    claim_for(new_cluster(functions=["testapp.weekly"]), keys=("testapp.weekly",))


def succeed() -> None:
    Run.objects.filter(slot=EIGHT - HOUR).update(state=State.SUCCEEDED)


def retry_now() -> None:
    promote(DATABASE, EIGHT + 1000 * HOUR)


@pytest.mark.postgres
@pytest.mark.parametrize("overlap", ["skip", "queue", "replace"])
@pytest.mark.parametrize(
    ("before", "change"),
    [
        ({"state": State.CLAIMED}, give_back),
        ({"state": State.QUEUED}, claim_it),
        ({"state": State.RUNNING}, succeed),
        ({"state": State.SCHEDULED, "losses": 1}, retry_now),
    ],
    ids=["claimed queued", "queued claimed", "running succeeded", "scheduled queued"],
)
def test_whenever_an_earlier_run_moves_the_new_one_does_not_begin_beside_it(
    overlap: str, before: dict[str, Any], change: Callable[[], None]
) -> None:
    for moment in range(1, 40):
        Run.objects.all().delete()
        CronDefinition.objects.all().delete()
        definition = new_definition(expression="0 * * * *", next_slot_at=EIGHT, overlap=overlap)
        earlier = new_run("testapp.weekly", definition=definition, slot=EIGHT - HOUR, **before)
        count = 0

        def before_statement(execute: Any, *arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == moment and database().in_atomic_block:  # noqa: B023
                elsewhere(change)
            return execute(*arguments)

        with database().execute_wrapper(before_statement):
            (made,) = materialise(DATABASE, EIGHT)
        if count < moment:
            assert moment >= 5
            return
        earlier, made = fresh(earlier), fresh(made)
        may_begin = {State.QUEUED, *ACTIVE}
        assert not (earlier.state in may_begin and made.state in may_begin), moment
        if made.state == State.PARKED:  # then there is somebody to wait for, or it is let go
            assert earlier.state in may_begin
    raise AssertionError("there is no end to the statements")


@pytest.mark.parametrize("overlap", ["queue", "replace"])
def test_of_many_slots_and_ends_at_once_one_runs_and_one_waits(overlap: str) -> None:
    """Two schedulers make slots while two workers claim, end and let the next begin."""
    slots = 60
    definition = new_definition(
        expression="* * * * *", next_slot_at=EIGHT, overlap=overlap, catch_up="latest"
    )
    cluster = new_cluster(functions=["testapp.weekly"])
    theirs = Run.objects.filter(definition=definition)

    def schedule() -> None:
        for number in range(slots):
            materialise(DATABASE, EIGHT + timedelta(minutes=number))

    def work(worker: str) -> int:
        done = 0
        for _ in range(slots):
            for _, claimed in claim_for(cluster, worker, keys=("testapp.weekly",)):
                mine = theirs.filter(pk=claimed.run_id)
                running = mine.filter(state=State.CLAIMED)
                if running.update(state=State.RUNNING):
                    assert theirs.filter(state=State.RUNNING).count() == 1
                    mine.update(state=State.SUCCEEDED)
                    done += 1
                end_waits(DATABASE, [definition.pk])
        return done

    together(schedule, schedule, lambda: work("0.1"), lambda: work("1.1"))
    by_state = theirs.count_by_state()
    assert sum(by_state.values()) == definition_slots(definition)
    assert by_state.get("running", 0) + by_state.get("queued", 0) + by_state.get("claimed", 0) <= 1
    assert by_state.get("parked", 0) <= 1
    end_waits(DATABASE)
    (newest,) = theirs.order_by("-slot")[:1]
    assert newest.state not in (State.DISCARDED, State.SKIPPED)


def definition_slots(definition: CronDefinition) -> int:
    """Return how many runs its slots have made, as the definition counts them."""
    return CronDefinition.objects.get(pk=definition.pk).version
