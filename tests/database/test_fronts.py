"""Claims begin at the front of a queue; where that is slow, most go on from the last one."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from django_defer import fronts as module
from django_defer.claims import claim
from django_defer.fronts import Front
from django_defer.models import Run
from django_defer.states import State
from tests import runs
from tests.runs import DATABASE, NOOP, new_cluster, new_run

pytestmark = runs.in_transaction


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the monotonic time; each look at it is a moment later."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def front() -> Front:
    return Front(DATABASE, "default", new_cluster().pk, [NOOP])


def claimed(front: Front, count: int = 1) -> list[UUID]:
    return [mine.run_id for _, mine in front.claim([f"{n}.1" for n in range(count)])]


def make_slow(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Let a claim from the front take 0.1 s; return which claims were from there."""
    real, from_front = claim, []

    def slow(*args: object, beyond: object = None) -> object:
        from_front.append(beyond is None)
        clock[0] += 0.1 if beyond is None else 0.0
        return real(*args, beyond=beyond)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "claim", slow)
    return from_front


def test_where_it_is_quick_each_claim_is_from_the_front(front: Front, clock: list[float]) -> None:
    first, late = new_run(), new_run()
    assert claimed(front) == [first.pk]
    early = new_run(id=UUID(int=first.pk.int - 1))
    urgent = new_run(priority=5)
    assert [*claimed(front), *claimed(front), *claimed(front)] == [urgent.pk, early.pk, late.pk]


@pytest.mark.postgres
def test_where_it_is_slow_claims_go_on_from_the_last(
    front: Front, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from_front = make_slow(clock, monkeypatch)
    runs_ = [new_run() for _ in range(5)]
    assert claimed(front, 2) == [run.pk for run in runs_[:2]]
    early = new_run(id=UUID(int=runs_[0].pk.int - 1))
    urgent = new_run(priority=5)
    assert claimed(front, 2) == [run.pk for run in runs_[2:4]]
    assert front.seconds_until_look() == pytest.approx(0.9)
    clock[0] += 1.0  # it rests nine times as long as it took
    assert claimed(front, 2) == [urgent.pk, early.pk]
    clock[0] += 1.0
    assert claimed(front, 2) == [runs_[4].pk]
    assert from_front == [True, False, True, True]


@pytest.mark.postgres
def test_what_comes_later_is_found_at_once_also_where_it_is_slow(
    front: Front, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from_front = make_slow(clock, monkeypatch)
    new_run()
    assert claimed(front, 2) == [Run.objects.get().pk]
    assert claimed(front) == []
    assert front.seconds_until_look() == pytest.approx(0.9)
    later = new_run()
    assert claimed(front) == [later.pk]
    assert from_front == [True, False, False]


@pytest.mark.postgres
def test_nobody_is_idle_while_runs_of_another_priority_wait(
    front: Front, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from_front = make_slow(clock, monkeypatch)
    low, urgent = [new_run() for _ in range(3)], new_run(priority=5)
    assert claimed(front) == [urgent.pk]
    assert [*claimed(front), *claimed(front), *claimed(front)] == [run.pk for run in low]
    assert claimed(front) == []
    assert from_front == [True, False, True, False, False, False, True]


def test_after_a_claim_from_the_front_no_other_look_is_due(front: Front) -> None:
    assert front.seconds_until_look() is None
    new_run()
    claimed(front)
    assert front.seconds_until_look() is None


@pytest.mark.postgres
def test_one_beyond_a_place_reads_its_part_of_the_index_only() -> None:
    from django_defer import claims
    from tests.database.test_claims import claim_values

    runs.fill(State.QUEUED)
    runs.fill(State.SUCCEEDED)
    sql = claims._POSTGRESQL.format(
        run="django_defer_run",
        function="django_defer_backgroundfunction",
        cluster="django_defer_cluster",
        queue="django_defer_queue",
        limit=2,
        beyond=claims._BEYOND,
    )
    run: Run = new_run(run_after=runs.LONG_AGO + timedelta(days=1))
    plan = runs.plan_of(sql, {**claim_values(), "priority": 1, "id": run.pk})
    (condition,) = [line for line in plan.splitlines() if "Index Cond" in line and "queue" in line]
    assert "priority = 1" in condition
    assert "id > " in condition
