"""Claims by several processes at once: each run goes to one of them, and none is left."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from django.db import OperationalError, connections, transaction

from django_defer.claims import Claim
from django_defer.models import Cluster, Run
from django_defer.states import State
from tests import runs
from tests.concurrency.race import race
from tests.runs import DATABASE, claim_for, fresh, new_cluster, new_run
from tests.testapp.defer import noop

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = runs.committing


def claim_patiently(cluster: Cluster, *workers: str) -> list[tuple[str, Claim]]:
    """Claim again when SQLite's one writer is busy, as the broker does."""
    while True:
        try:
            return claim_for(cluster, *workers)
        except OperationalError as error:
            if "locked" not in str(error):
                raise


def claimer(cluster: Cluster, size: int, found: list[Claim]) -> Callable[[], None]:
    """Claim `size` at a time until nothing is left."""

    def work() -> None:
        workers = [f"{slot}.1" for slot in range(size)]
        while pairs := claim_patiently(cluster, *workers):
            found.extend(claim for _, claim in pairs)
        while Run.objects.queued().exists():  # what was locked by another that then went on
            found.extend(claim for _, claim in claim_patiently(cluster, *workers))

    return work


@pytest.mark.parametrize("size", [1, 3])
def test_each_run_is_claimed_once_whoever_comes_first(size: int) -> None:
    count = 120 if runs.is_postgres() else 40
    noop.map(range(count))
    clusters = [new_cluster() for _ in range(5)]
    found: list[list[Claim]] = [[] for _ in clusters]
    race(*(claimer(cluster, size, mine) for cluster, mine in zip(clusters, found, strict=True)))
    claims = [claim for mine in found for claim in mine]
    assert Counter(Counter(claim.run_id for claim in claims).values()) == {1: count}
    assert len({claim.claim_id for claim in claims}) == count
    for cluster, mine in zip(clusters, found, strict=True):
        held = Run.objects.held_by(cluster.pk)
        assert {run.claim_id for run in held} == {claim.claim_id for claim in mine}
    assert set(Run.objects.values_list("state", "attempt")) == {(State.CLAIMED, 1)}


@pytest.mark.postgres
def test_a_row_that_another_holds_is_passed_over_without_waiting() -> None:
    first, second = new_run(), new_run()
    cluster = new_cluster()
    with transaction.atomic(using=DATABASE):
        Run.objects.select_for_update().get(pk=first.pk)
        ((answer,),) = [race(lambda: claim_for(cluster))]
    ((_, claim),) = answer
    assert claim.run_id == second.pk


@pytest.mark.postgres
def test_a_run_that_is_not_committed_yet_is_invisible() -> None:
    cluster = new_cluster()
    with transaction.atomic(using=DATABASE):
        run = noop(1)
        assert race(lambda: claim_for(cluster)) == [[]]
    ((_, claim),) = claim_for(cluster)
    assert claim.run_id == run.pk


@pytest.mark.postgres
def test_a_claim_beside_the_removal_of_its_cluster_is_given_back() -> None:
    """The claim sees the row that a reaper deletes at the same time, and commits after it."""
    from datetime import timedelta

    from django_defer.clock import database_now
    from django_defer.reap import reap

    run, cluster = new_run(), new_cluster(beat_at=runs.LONG_AGO)
    claimed, reaped = threading.Event(), threading.Event()

    def claim_slowly() -> None:
        with transaction.atomic(using=DATABASE):
            assert len(claim_for(cluster)) == 1
            claimed.set()
            assert reaped.wait(10)

    def reap_meanwhile() -> None:
        assert claimed.wait(10)
        assert reap(DATABASE, database_now(DATABASE), timedelta(seconds=30)) == [cluster]
        reaped.set()

    race(claim_slowly, reap_meanwhile)
    assert fresh(run).state == State.CLAIMED
    reap(DATABASE, database_now(DATABASE), timedelta(seconds=30))
    assert fresh(run).state == State.QUEUED


def test_the_connections_of_a_race_are_its_own() -> None:
    mine = id(connections[DATABASE].connection)
    theirs = race(*[lambda: id(connections[DATABASE].connection)] * 2)
    assert len({mine, *theirs}) == 3
