"""Claims: who gets which run, in which order, and what keeps a run from being claimed."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from django_defer import claims, pauses
from django_defer.claims import Claim, waiting_queues
from django_defer.clock import database_now
from django_defer.models import BackgroundFunction, Cluster, Queue, Run
from django_defer.statements import prefer_indexes
from django_defer.states import State
from tests import runs
from tests.runs import DATABASE, NOOP, captured, claim_for, fresh, new_cluster, new_run, plan_of

pytestmark = runs.in_transaction


def claimed_by(cluster: Cluster, *workers: str, **how: Any) -> list[Run]:
    """Claim, and return the runs in the order of the workers."""
    return [Run.objects.get(pk=claim.run_id) for _, claim in claim_for(cluster, *workers, **how)]


def test_a_claim_writes_who_has_the_run() -> None:
    cluster, run = new_cluster(), new_run()
    before = database_now(DATABASE)
    ((worker, claim),) = claim_for(cluster, "3.7")
    assert worker == "3.7"
    assert (claim.run_id, claim.attempt) == (run.pk, 1)
    run = fresh(run)
    assert run.state == State.CLAIMED
    assert (run.cluster, run.worker, run.claim_id, run.attempt) == (
        cluster.pk,
        "3.7",
        claim.claim_id,
        1,
    )
    assert run.claimed_at is not None
    assert run.claimed_at >= before


def test_the_higher_priority_goes_first_and_then_the_older() -> None:
    old, low, high, new = (
        new_run(label="old"),
        new_run(label="low", priority=-5),
        new_run(label="high", priority=5),
        new_run(label="new"),
    )
    workers = ("0.1", "1.1", "2.1", "3.1")
    assert claimed_by(new_cluster(), *workers) == [high, old, new, low]


def test_each_worker_gets_one_and_the_rest_waits() -> None:
    made = [new_run() for _ in range(5)]
    cluster = new_cluster()
    pairs = claim_for(cluster, "0.1", "1.1")
    assert [worker for worker, _ in pairs] == ["0.1", "1.1"]
    assert [claim.run_id for _, claim in pairs] == [run.pk for run in made[:2]]
    assert len({claim.claim_id for _, claim in pairs}) == 2
    assert Run.objects.queued().count() == 3
    assert {fresh(run).worker for run in made[:2]} == {"0.1", "1.1"}


def test_more_workers_than_runs_leaves_the_last_ones_idle() -> None:
    new_run()
    assert [worker for worker, _ in claim_for(new_cluster(), "0.1", "1.1", "2.1")] == ["0.1"]


@pytest.mark.parametrize("state", sorted(set(State) - {State.QUEUED}))
def test_only_what_is_queued_is_claimed(state: State) -> None:
    new_run(state=state)
    assert claim_for(new_cluster()) == []


def test_a_queue_is_claimed_from_alone() -> None:
    new_run(queue="mail")
    cluster = new_cluster()
    assert claim_for(cluster) == []
    assert len(claim_for(cluster, queue="mail")) == 1


def test_only_functions_that_the_code_knows_are_claimed() -> None:
    new_run("testapp.of_another_version")
    known = new_run()
    assert claimed_by(new_cluster(), "0.1", "1.1") == [known]


def test_without_workers_or_functions_nothing_is_asked() -> None:
    new_run()
    cluster = new_cluster()
    with captured() as queries:
        assert claims.claim(DATABASE, "default", cluster.pk, [], [NOOP]) == []
        assert claims.claim(DATABASE, "default", cluster.pk, ["0.1"], []) == []
    assert not queries.captured_queries


def test_a_cluster_without_a_row_claims_nothing() -> None:
    run, cluster = new_run(), new_cluster()
    Cluster.objects.all().delete()
    assert claim_for(cluster) == []
    assert fresh(run).attempt == 0


def test_nothing_is_claimed_from_a_paused_queue() -> None:
    new_run()
    cluster = new_cluster()
    queue = pauses.pause_queue("default")
    assert claim_for(cluster) == []
    pauses.resume(queue)
    assert len(claim_for(cluster)) == 1


def test_the_pause_of_one_queue_leaves_the_others_alone() -> None:
    new_run()
    Queue.objects.create(name="default")  # a row alone is no pause
    pauses.pause_queue("mail")
    assert len(claim_for(new_cluster())) == 1


def test_a_paused_function_is_not_claimed_although_it_is_queued() -> None:
    function = BackgroundFunction.objects.create(key=NOOP)
    pauses.pause(function)
    new_run()  # enqueued after the pause, so not parked yet
    other = new_run("testapp.add")
    cluster, keys = new_cluster(), (NOOP, "testapp.add")
    assert claimed_by(cluster, "0.1", "1.1", keys=keys) == [other]
    pauses.resume(function)
    assert len(claim_for(cluster, keys=keys)) == 1


def test_a_later_attempt_has_the_next_number_and_a_fresh_claim() -> None:
    run = new_run(attempt=2, claim_id=uuid4(), cluster=uuid4())
    ((_, claim),) = claim_for(new_cluster())
    assert claim.attempt == fresh(run).attempt == 3
    assert claim.claim_id != run.claim_id


@pytest.mark.sqlite
def test_an_empty_queue_is_looked_at_without_the_write_lock() -> None:
    cluster = new_cluster()
    with captured() as queries:
        claim_for(cluster)
    assert [query["sql"].split()[0] for query in queries.captured_queries] == ["SELECT"]


def test_a_claim_travels_as_plain_data() -> None:
    claim = Claim(uuid4(), uuid4(), 4)
    data = claim.as_list()
    assert all(type(item) in (str, int) for item in data)
    assert Claim.from_list(data) == claim


def test_the_queues_in_which_runs_wait_are_found() -> None:
    for queue in ("b", "a", "b", "c"):
        new_run(queue=queue)
    new_run(queue="finished", state=State.SUCCEEDED)
    assert waiting_queues(DATABASE) == ["a", "b", "c"]


def test_no_queue_waits_when_nothing_does() -> None:
    assert waiting_queues(DATABASE) == []


# -- how PostgreSQL looks for them -------------------------------------------------------------


@pytest.fixture
def many_runs() -> None:
    runs.fill(State.QUEUED)
    runs.fill(State.SUCCEEDED)


def claim_statement() -> str:
    return claims._POSTGRESQL.format(
        run=Run._meta.db_table,
        function=BackgroundFunction._meta.db_table,
        cluster=Cluster._meta.db_table,
        queue=Queue._meta.db_table,
        limit=2,
        beyond="",
    )


def claim_values() -> dict[str, Any]:
    return {
        "queue": "default",
        "keys": [NOOP, "testapp.add"],
        "cluster": uuid4(),
        "workers": ["0.1", "1.1"],
        "claims": [uuid4(), uuid4()],
    }


@pytest.mark.postgres
@pytest.mark.usefixtures("many_runs")
def test_the_claim_reads_the_index_of_due_runs_in_its_order() -> None:
    plan = plan_of(claim_statement(), claim_values())
    assert "Index Scan using defer_run_due" in plan
    assert "Seq Scan on django_defer_run" not in plan


@pytest.mark.postgres
def test_a_claim_planned_for_a_small_table_reads_that_index_too() -> None:
    runs.fill(State.SUCCEEDED, 20)
    prefer_indexes(DATABASE)
    plan = plan_of(claim_statement(), claim_values())
    assert "Index Scan using defer_run_due" in plan
    assert "Sort" not in plan


@pytest.mark.postgres
@pytest.mark.usefixtures("many_runs")
def test_the_prepared_claim_does_too() -> None:
    numbers = {
        name: f"${n}"
        for n, name in enumerate(("queue", "keys", "cluster", "workers", "claims"), start=1)
    }
    types = "text, text[], uuid, text[], uuid[]"
    with runs.database().cursor() as cursor:
        cursor.execute(f"PREPARE claiming ({types}) AS {claim_statement() % numbers}")
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    try:
        plan = plan_of(
            "EXECUTE claiming ('default', ARRAY['testapp.noop'], gen_random_uuid(), "
            "ARRAY['0.1', '1.1'], ARRAY[gen_random_uuid(), gen_random_uuid()])"
        )
    finally:
        with runs.database().cursor() as cursor:
            cursor.execute("DEALLOCATE claiming")
    assert "Index Scan using defer_run_due" in plan


@pytest.mark.postgres
@pytest.mark.usefixtures("many_runs")
def test_the_waiting_queues_are_looked_up_and_not_counted() -> None:
    plan = plan_of(claims._WAITING_QUEUES.format(run=Run._meta.db_table))
    assert "Index Only Scan using defer_run_due" in plan
    assert "Seq Scan" not in plan
