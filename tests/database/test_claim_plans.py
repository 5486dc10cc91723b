"""How much of a full table PostgreSQL reads for a claim: what it takes, and no more."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import pytest

from django_defer import attempts
from django_defer.attempt_facts import Success
from django_defer.claims import Claim, claim
from django_defer.models import Cluster
from django_defer.statements import prefer_indexes
from django_defer.states import State
from tests import runs
from tests.runs import (
    DATABASE,
    NOOP,
    captured,
    new_cluster,
    rolled_back,
    statements,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_defer.claims import Place

pytestmark = [runs.in_transaction, pytest.mark.postgres]

TABLE: Final = "django_defer_run"
SIZES: Final = (1, 2, 32)
FULL: Final = {
    State.SUCCEEDED: 30_000,
    State.SCHEDULED: 20_000,
    State.PARKED: 20_000,
    State.QUEUED: 20_000,
}


@pytest.fixture
def cluster() -> Cluster:
    """Fill the table: what has ended, is scheduled or parked would all go before what waits."""
    queue = f"crowded {uuid4()}"  # no other test left entries of it in an index
    for state, count in FULL.items():
        is_queued = state == State.QUEUED
        runs.fill(state, count, queue=f"'{queue}'", priority="n % 3" if is_queued else "9")
    return new_cluster(queues=[queue])


def claimed(
    cluster: Cluster, count: int, *, beyond: Place | None = None
) -> list[tuple[str, Claim]]:
    workers = [f"{n % 2}.1" for n in range(count)]
    return claim(
        DATABASE, cluster.queues[0], cluster.pk, workers, [NOOP, "testapp.add"], beyond=beyond
    )


def analysed(cluster: Cluster, count: int, beyond: Place | None = None) -> dict[str, Any]:
    """Return the plan that PostgreSQL executed for a claim, which is undone."""
    with rolled_back(), captured() as queries:
        assert len(claimed(cluster, count, beyond=beyond)) == count
    (sql,) = statements(queries, besides=("SAVEPOINT", "ROLLBACK", "RELEASE"))
    with rolled_back(), runs.database().cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}")
        plan: dict[str, Any] = cursor.fetchone()[0][0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def pages(node: dict[str, Any]) -> int:
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


def is_asked_once(node: dict[str, Any]) -> bool:
    return node.get("Parent Relationship") == "InitPlan" and node["Subplan Name"] != "CTE picked"


def assert_reads_only_what_it_takes(plan: dict[str, Any], count: int) -> None:
    scans = [node for node in nodes(plan) if node.get("Relation Name") == TABLE]
    scans = [node for node in scans if "Scan" in node["Node Type"]]
    assert {node.get("Index Name") for node in scans} == {"defer_run_due", "django_defer_run_pkey"}
    for node in scans:
        assert node["Actual Rows"] * node["Actual Loops"] == count, node
        assert not node.get("Rows Removed by Filter"), node
        assert not node.get("Rows Removed by Index Recheck"), node
    # What a claim asks once (paused functions, its cluster, its queue) lies in small tables, which
    # are as large as other tests left them. It is read by the node that first needs it.
    asked_once = sum(pages(node) for node in nodes(plan) if is_asked_once(node))
    # An index of 20,000 runs has 200 pages, and they lie on 800 pages of the table.
    (locking,) = [node for node in nodes(plan) if node["Node Type"] == "LockRows"]
    assert pages(locking) - asked_once <= 5 * count + 150
    (writing,) = [node for node in nodes(plan) if node["Node Type"] == "ModifyTable"]
    # A new version of each, and its index entries.
    assert pages(writing) - asked_once <= 60 * count + 40


def test_a_claim_reads_as_many_rows_as_it_takes(cluster: Cluster) -> None:
    with rolled_back():
        place = claimed(cluster, 10)[-1][1].place
    assert place
    for beyond in (None, place):
        for count in SIZES:
            assert_reads_only_what_it_takes(analysed(cluster, count, beyond), count)
    prefer_indexes(DATABASE)  # as a pusher's session does
    for count in SIZES:
        assert_reads_only_what_it_takes(analysed(cluster, count), count)


@contextmanager
def rows_read() -> Iterator[dict[str, int]]:
    """Count the rows of runs that this transaction reads inside, by an index or without."""
    before = _counters()
    found: dict[str, int] = {}
    yield found
    found |= {name: count - before[name] for name, count in _counters().items()}


def _counters() -> dict[str, int]:
    with runs.database().cursor() as cursor:
        cursor.execute(
            "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = %s",
            [TABLE],
        )
        sequential, by_index = cursor.fetchone()
    return {"sequential": sequential, "by index": by_index}


def test_prepared_claims_and_their_attempts_read_no_more(cluster: Cluster) -> None:
    prefer_indexes(DATABASE)
    for count in SIZES:
        for _ in range(10):  # from the sixth on a plan for any values may be kept
            with rows_read() as read:
                (_, mine), *others = claimed(cluster, count)
            assert len(others) == count - 1
            # Beside what waits and its key: the new versions of what was claimed just before.
            assert read["sequential"] == 0
            assert read["by index"] <= 2 * count + 10
            with rows_read() as read:
                started = attempts.start(DATABASE, mine, "0.1")
                assert started
                assert attempts.succeed(DATABASE, Success(started, "1", 0.0))
            assert read == {"sequential": 0, "by index": 2}
